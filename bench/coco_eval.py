"""COCO evaluation at val2017's size: zoo against pycocotools and faster-coco-eval, side by side.

    bench/coco_eval.py [--zoo build/release/zoo] [--images 5000] [--rounds 3] [--json]

Makes a random set (80 categories, about 7 objects and exactly 100 detections an image) and scores it with each program
in turn, `rounds` times. The two Python packages are timed in a process of their own, their reading (json, index,
loadRes) and their evaluating (evaluate, accumulate, summarize) apart, without the start of Python and its imports.
zoo is timed as a whole process, start and reading included, and that time is set against both. The table gives
medians; all figures must agree. Installs the packages into .deps/bench-venv the first time.
"""
import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMES = "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl".split()
PEERS = {"pycocotools": ("pycocotools.coco", "pycocotools.cocoeval", "COCOeval"),
         "faster-coco-eval": ("faster_coco_eval", "faster_coco_eval", "COCOeval_faster")}

# Runs in the interpreter of the peers: reads, evaluates, prints seconds and figures as its last line.
PEER = """
import contextlib, importlib, io, json, sys, time
coco_module, eval_module, eval_class, truth, results = sys.argv[1:]
COCO = importlib.import_module(coco_module).COCO
COCOeval = getattr(importlib.import_module(eval_module), eval_class)
with contextlib.redirect_stdout(io.StringIO()):
    begin = time.perf_counter()
    coco = COCO(truth)
    found = coco.loadRes(results)
    read = time.perf_counter()
    evaluation = COCOeval(coco, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    end = time.perf_counter()
print(json.dumps({"read": read - begin, "evaluate": end - read, "figures": [float(x) for x in evaluation.stats[:12]]}))
"""


def random_box(rng):
    scale = rng.choice([20, 60, 200])
    return [rng.uniform(0, 500), rng.uniform(0, 350), rng.uniform(2, scale), rng.uniform(2, scale)]


def jitter(rng, box):
    size = rng.choice([0.01, 0.05, 0.2])
    moved = [box[i] + size * box[2 + i] * rng.gauss(0, 1) for i in range(2)]
    return moved + [abs(v * (1 + size * rng.gauss(0, 1))) for v in box[2:]]


def make_set(folder, images):
    """Half of the detections lie near an object and mostly have its category, half are anywhere."""
    rng = random.Random(2017)
    ids = sorted(rng.sample(range(1, 600000), images))
    categories = sorted(rng.sample(range(1, 91), 80))
    truth, results = [], []
    for image in ids:
        first = len(truth)
        for _ in range(min(60, int(rng.expovariate(1 / 7.8)))):
            box = [round(v, 2) for v in random_box(rng)]
            truth.append(dict(id=len(truth) + 1, image_id=image, category_id=rng.choice(categories[:1 + rng.randrange(80)]),
                              bbox=box, area=round(box[2] * box[3] * 0.6, 4), iscrowd=int(rng.random() < 0.01)))
        for n in range(100):
            known = n % 2 == 0 and len(truth) > first
            seen = truth[rng.randrange(first, len(truth))] if known else None
            category = seen["category_id"] if known and rng.random() < 0.8 else rng.choice(categories)
            score = rng.betavariate(4, 2) if known else rng.betavariate(1, 8)
            results.append(dict(image_id=image, category_id=category, score=score,
                                bbox=jitter(rng, seen["bbox"]) if known else random_box(rng)))
    document = dict(images=[dict(id=i, file_name=f"{i:012d}.jpg", width=640, height=480) for i in ids], annotations=truth,
                    categories=[dict(id=c, name=f"class {c}") for c in categories])
    paths = [os.path.join(folder, name) for name in ("truth.json", "results.json")]
    for path, content in zip(paths, (document, results)):
        with open(path, "w") as file:
            json.dump(content, file)
    print(f"{images} images, {len(truth)} objects, {len(results)} detections, "
          f"{os.path.getsize(paths[1]) / 1e6:.0f} MB of results", file=sys.stderr)
    return paths


def peer_python():
    folder = ROOT / ".deps/bench-venv"
    python = folder / "bin/python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    has_peers = [python, "-c", "import pycocotools, faster_coco_eval"]
    if subprocess.run(has_peers, stderr=subprocess.DEVNULL).returncode != 0:
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", "-c",
                        ROOT / "tests/requirements.txt", "pycocotools", "faster-coco-eval"], check=True)
    return python


def time_peer(python, name, truth, results):
    output = subprocess.run([python, "-c", PEER, *PEERS[name], truth, results], check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output.splitlines()[-1])


def time_zoo(program, truth, results):
    begin = time.perf_counter()
    command = [program, "eval", "--predictions", results, "--data", f"coco:{truth}", "--json"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    seconds = time.perf_counter() - begin
    metrics = json.loads(output)["metrics"]
    return {"total": seconds, "figures": [metrics[name] for name in NAMES]}


def measure(options):
    python = peer_python()
    runs = {name: [] for name in ("zoo", *PEERS)}
    with tempfile.TemporaryDirectory() as folder:
        truth, results = make_set(folder, options.images)
        for _ in range(options.rounds):
            runs["zoo"].append(time_zoo(options.zoo, truth, results))
            for name in PEERS:
                run = time_peer(python, name, truth, results)
                run["total"] = run["read"] + run["evaluate"]
                runs[name].append(run)
    return runs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", default=str(ROOT / "build/release/zoo"))
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs = measure(options)

    median = {name: {part: statistics.median(run[part] for run in of) for part in of[0] if part != "figures"}
              for name, of in runs.items()}
    expected = runs["pycocotools"][0]["figures"]
    for name, of in runs.items():
        median[name]["difference"] = max(abs(a - b) for run in of for a, b in zip(run["figures"], expected))
    if options.json:
        print(json.dumps(median))
        return
    ours = median["zoo"]["total"]
    print(f"{'seconds':17} {'read':>8} {'evaluate':>9} {'together':>9}   {'evaluate':>9} {'together':>9}   difference")
    for name, times in median.items():
        parts = f"{times['read']:8.2f} {times['evaluate']:9.2f}" if "read" in times else " " * 18
        ratios = f"{times['evaluate'] / ours:8.1f}x" if "evaluate" in times else " " * 9
        print(f"{name:17} {parts} {times['total']:9.2f}   {ratios} {times['total'] / ours:8.1f}x   {times['difference']:.1e}")
    print("(ratios: the time of that part by the time of zoo's whole process)")


if __name__ == "__main__":
    main()
