"""A training step over 1,000,000 identities side by side: zoo against PyTorch, in one run.

    bench/face_softmax.py [--classes 1000000] [--threads 2] [--rounds 3] [--steps 3] [--program build/release/bench/face_softmax] [--json]

CosFace over rows of 512, a batch of 128 random embeddings; a step goes from the forward pass to SGD with momentum and decay, the
gradient clipped. zoo: plain, in blocks (64 MiB), and in blocks over a tenth of the classes. PyTorch: plain, and Partial FC as its
second version is published (An et al. 2022, arXiv 2203.15565), restated here for one process. Every round takes each engine in
turn, each in a process of its own (its first step is not counted). Extra memory is the process's peak less what it had before the
class weights, and less weights, gradient and momentum. Plain needs about 14 GB. The program is built by
`cmake --build build/release --target face_softmax`.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

BATCH, SIZE, SCALE, MARGIN, RATE = 128, 512, 64.0, 0.4, 0.1


def cosface(torch, x, weight, labels):
    F = torch.nn.functional
    logits = F.linear(F.normalize(x), F.normalize(weight)).clamp(-1, 1)
    rows = torch.arange(len(labels))
    logits[rows, labels] = logits[rows, labels] - MARGIN
    return F.cross_entropy(SCALE * logits, labels)


def sample(torch, weight, labels):
    """Partial FC v2: the batch's classes and the highest of uniform scores; `weight[index]` gives W a dense gradient."""
    with torch.no_grad():
        positive = labels.unique(sorted=True)
        scores = torch.rand(len(weight))
        scores[positive] = 2.0
        index = scores.topk(int(RATE * len(weight))).indices.sort().values
        labels = torch.searchsorted(index, labels)
    return weight[index], labels


def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def pytorch_engine(mode, classes, steps, threads):
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net = torch.nn.Linear(SIZE, SIZE, bias=False)
    net(torch.randn(BATCH, SIZE)).sum().backward()
    base = resident()
    weight = torch.nn.Parameter(torch.empty(classes, SIZE).normal_(0, 0.01))
    parameters = [net.weight, weight]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True)
    seconds = []
    for _ in range(steps + 1):
        x, labels = torch.randn(BATCH, SIZE), torch.randint(classes, (BATCH,))
        begin = time.perf_counter()
        rows, local = sample(torch, weight, labels) if mode == "sampled" else (weight, labels)
        loss = cosface(torch, net(x), rows, local)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        loss.item()
        seconds.append(time.perf_counter() - begin)
    print(json.dumps({"seconds": seconds[1:], "peak_bytes": resident(), "base_bytes": base,
                      "state_bytes": 3 * weight.nbytes}))


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr or f"{command[0]} ended with {done.returncode}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--program", default="build/release/bench/face_softmax")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--engine", help=argparse.SUPPRESS)  # one of PyTorch's, in this process
    options = parser.parse_args()
    if options.engine:
        return pytorch_engine(options.engine, options.classes, options.steps, options.threads)
    if not os.path.exists(options.program):
        raise SystemExit(f"error: {options.program} is not there, cmake --build build/release --target face_softmax makes it")
    arguments = [options.classes, options.steps, options.threads]
    engines = {f"zoo {mode}": [options.program, mode, *arguments] for mode in ("plain", "chunked", "sampled")}
    for mode, name in (("plain", "PyTorch plain"), ("sampled", "PyTorch Partial FC v2")):
        engines[name] = [sys.executable, __file__, "--engine", mode, "--classes", options.classes, "--steps", options.steps,
                         "--threads", options.threads]
    results = {name: [] for name in engines}
    for _ in range(options.rounds):
        for name, command in engines.items():
            results[name].append(run(command))
    rows = {}
    for name, rounds in results.items():
        seconds = [value for one in rounds for value in one["seconds"]]
        extra = max(one["peak_bytes"] - one["base_bytes"] - one["state_bytes"] for one in rounds)
        rows[name] = {"seconds": statistics.median(seconds), "range": [min(seconds), max(seconds)],
                      "peak_bytes": max(one["peak_bytes"] for one in rounds), "extra_bytes": extra}
    if options.json:
        print(json.dumps({"classes": options.classes, "rows": rows, "rounds": results}))
        return
    plain = rows["zoo plain"]["seconds"]
    print(f"| {options.classes:,} x {SIZE}, batch {BATCH}, {options.threads} threads | steps/s | s | range | x zoo plain | peak | extra |")
    print("|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        low, high = row["range"]
        print(f"| {name} | {1 / row['seconds']:.2f} | {row['seconds']:.2f} | {low:.2f}–{high:.2f} | {plain / row['seconds']:.2f} | "
              f"{row['peak_bytes'] / 2**30:.1f} GiB | {row['extra_bytes'] / 2**30:.2f} GiB |")


if __name__ == "__main__":
    main()
