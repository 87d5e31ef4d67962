"""From nothing to the first prediction: a process of zoo against a Python script with transformers, side by side.

    bench/start.py [--threads 2] [--rounds 5] [--zoo build/release/zoo] [--json]

Both load the same random DETR-R50 in transformers' layout (model.safetensors, config.json) and predict one photograph
of 640x480, resized to 800x1066 as the paper does, in fp32. Timed is the whole process, from its start to its end; the
peak is its largest resident memory. The table gives medians of the rounds. `scripts/bench` installs what it imports.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

SCRIPT = """
import sys, numpy as np, torch
from PIL import Image
from transformers import DetrForObjectDetection
torch.set_num_threads(int(sys.argv[3]))
model = DetrForObjectDetection.from_pretrained(sys.argv[1]).eval()
image = Image.open(sys.argv[2]).convert("RGB").resize((1066, 800), Image.BILINEAR)
pixels = torch.from_numpy(np.asarray(image)).permute(2, 0, 1).float() / 255
pixels = (pixels - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
with torch.no_grad():
    output = model(pixel_values=pixels[None])
scores = output.logits.softmax(-1)[0, :, :-1].max(-1).values
print(len(scores))
"""


def write_model(folder):
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(depths=[3, 4, 6, 3], out_features=["stage4"])
    config = DetrConfig(use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone,
                        num_labels=91)
    DetrForObjectDetection(config).save_pretrained(folder)


def run(command):
    """Seconds and peak bytes of a process."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(errors.decode())
    return time.perf_counter() - begin, usage.ru_maxrss * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--zoo", default="build/release/zoo")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, image = os.path.join(folder, "model"), os.path.join(folder, "image.jpg")
        write_model(model)
        Image.fromarray(np.random.RandomState(0).randint(0, 255, (480, 640, 3), dtype=np.uint8)).save(image)
        script = os.path.join(folder, "predict.py")
        with open(script, "w") as file:
            file.write(SCRIPT)
        commands = {
            "transformers": [sys.executable, script, model, image, str(options.threads)],
            "zoo": [options.zoo, "predict", "--weights", model, "--no-images", "--threads", str(options.threads),
                    "--output", os.path.join(folder, "out"), image]}
        found = {name: [] for name in commands}
        for _ in range(options.rounds + 1):
            for name, command in commands.items():
                found[name].append(run(command))
    medians = {name: [statistics.median(column) for column in zip(*rows[1:])] for name, rows in found.items()}
    if options.json:
        print(json.dumps(medians))
        return
    seconds, peak = medians["transformers"]
    print(f"| start to first prediction, DETR-R50 at 800x1066, {options.threads} threads | s | times faster | peak MiB | of the peer's |")
    print("|---|---|---|---|---|")
    for name, (s, bytes_) in medians.items():
        print(f"| {name} | {s:.2f} | {seconds / s:.1f} | {bytes_ / 2**20:.0f} | {bytes_ / peak:.2f} |")


if __name__ == "__main__":
    main()
