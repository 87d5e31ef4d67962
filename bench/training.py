"""A training step side by side: zoo against PyTorch, random weights, one run.

    bench/training.py [--model detr-resnet50|iresnet50|oadtr] [--threads 2] [--rounds 3] [--zoo build/release/zoo] [--compile]
                      [--json]

detr-resnet50 against transformers' model: the batch is two pictures of 640x480 and 480x640, padded to 640x640, seven
objects each. A step is forward, matching and losses of all six layers, backward, clipping and AdamW; stem and first
stage stay frozen on both sides, dropout is 0.1.
iresnet50 against the restatement in tests/parity/faces.py: 16 pictures of 112x112, CosFace over 1000 people, clipping
and SGD with momentum.
oadtr against the restatement in bench/oadtr.py: 32 windows of 64 steps, current and future cross-entropy, clipping, AdamW.
Every round takes each engine in turn; the table gives the median of the rounds and the ratio to eager fp32 of the same
run. Sets up nothing: `scripts/bench` installs what it imports.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
import torch
from PIL import Image
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

SIZES = [(640, 480), (480, 640)]  # width, height
OBJECTS = 7


def boxes_of(index, width, height):
    """x, y, w, h in pixels."""
    random = np.random.RandomState(index)
    corner = random.rand(OBJECTS, 2) * [width * 0.6, height * 0.6]
    return np.concatenate([corner, 20 + random.rand(OBJECTS, 2) * [width * 0.3, height * 0.3]], 1)


def write_coco(folder):
    """The two pictures and their boxes as a COCO folder."""
    os.makedirs(f"{folder}/annotations")
    os.makedirs(f"{folder}/train")
    content = {"images": [], "annotations": [], "categories": [{"id": i + 1, "name": f"class {i}"} for i in range(91)]}
    for index, (width, height) in enumerate(SIZES):
        noise = np.random.RandomState(index).randint(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(f"{folder}/train/{index}.png")
        content["images"].append({"id": index + 1, "file_name": f"{index}.png", "width": width, "height": height})
        for box in boxes_of(index, width, height).tolist():
            content["annotations"].append({"id": len(content["annotations"]) + 1, "image_id": index + 1, "bbox": box,
                                           "category_id": 1 + len(content["annotations"]) % 91, "iscrowd": 0,
                                           "area": box[2] * box[3]})
    with open(f"{folder}/annotations/instances_train.json", "w") as file:
        json.dump(content, file)


def transformers_batch():
    pixels, mask = torch.zeros(2, 3, 640, 640), torch.zeros(2, 640, 640, dtype=torch.long)
    labels = []
    for index, (width, height) in enumerate(SIZES):
        pixels[index, :, :height, :width] = torch.randn(3, height, width)
        mask[index, :height, :width] = 1
        boxes = torch.tensor(boxes_of(index, width, height), dtype=torch.float32)
        boxes[:, :2] += boxes[:, 2:] / 2
        boxes /= torch.tensor([width, height, width, height])
        labels.append({"class_labels": torch.arange(OBJECTS) + OBJECTS * index, "boxes": boxes})
    return pixels, mask, labels


class DetrStep:
    """One training step of transformers' model."""

    work = "detr-resnet50, batch 2 padded to 640x640"
    peer = "transformers"

    def __init__(self, last, bf16, compile_):
        backbone = ResNetConfig(depths=[3, 4, 6, 3], out_features=["stage4"])
        config = DetrConfig(use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
                            backbone_config=backbone, num_labels=91, auxiliary_loss=True)
        self.model = DetrForObjectDetection(config).train()
        for name, parameter in self.model.named_parameters():
            trained = "backbone" not in name or any(f"stages.{i}." in name for i in (1, 2, 3))
            parameter.requires_grad_(trained)
        self.pixels, self.mask, self.labels = transformers_batch()
        if last:
            self.model = self.model.to(memory_format=torch.channels_last)
            self.pixels = self.pixels.contiguous(memory_format=torch.channels_last)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, weight_decay=1e-4, fused=True)
        self.bf16 = bf16
        if compile_:
            self.model.model = torch.compile(self.model.model)

    def __call__(self):
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = self.model(pixel_values=self.pixels, pixel_mask=self.mask, labels=self.labels).loss
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 0.1)
        self.optimizer.step()
        return time.perf_counter() - begin


FACES, PEOPLE = 16, 1000


class FaceStep:
    """One training step of IResNet-50 under CosFace."""

    work = f"iresnet50, batch {FACES} of 112x112, {PEOPLE} classes"
    peer = "PyTorch"

    def __init__(self, last, bf16, compile_):
        sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "tests", "parity"))
        from faces import IResNet

        self.model = IResNet([3, 4, 14, 3], [64, 128, 256, 512], (112, 112)).train()
        self.rows = torch.nn.Parameter(torch.randn(PEOPLE, 512) * 0.01)
        self.pixels = torch.randn(FACES, 3, 112, 112)
        self.labels = torch.randint(PEOPLE, (FACES,))
        if last:
            self.model = self.model.to(memory_format=torch.channels_last)
            self.pixels = self.pixels.contiguous(memory_format=torch.channels_last)
        self.parameters = [*self.model.parameters(), self.rows]
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
        self.bf16 = bf16
        self.embed = torch.compile(self.model) if compile_ else self.model

    def __call__(self):
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            embeddings = self.embed(self.pixels)
        normalize = torch.nn.functional.normalize
        cosines = normalize(embeddings.float()) @ normalize(self.rows).t()
        margins = 0.35 * torch.nn.functional.one_hot(self.labels, PEOPLE)
        loss = torch.nn.functional.cross_entropy(64 * (cosines - margins), self.labels)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 5.0)
        self.optimizer.step()
        return time.perf_counter() - begin


WINDOWS = 32


class ActionStep:
    """One training step of OadTR."""

    work = f"oadtr, batch {WINDOWS} of 64 steps"
    peer = "PyTorch"

    def __init__(self, last, bf16, compile_):
        from oadtr import OadTr

        del last  # there are no maps
        self.model = OadTr().train()
        self.features = torch.randn(WINDOWS, 64, 3072)
        self.labels = torch.randint(21, (WINDOWS, 9))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=1e-4, fused=True)
        self.bf16 = bf16
        self.run = torch.compile(self.model) if compile_ else self.model

    def __call__(self):
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            current, future = self.run(self.features)
        entropy = torch.nn.functional.cross_entropy
        loss = entropy(current[:, :21].float(), self.labels[:, 0])
        loss = loss + 0.5 * entropy(future[..., :21].float().flatten(0, 1), self.labels[:, 1:].flatten())
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return time.perf_counter() - begin


def detr_options(folder):
    write_coco(folder)
    return ["--batch-size", "2", "--input-size", "640x640", "--set", f"data.train=coco:{folder},split=train",
            "--set", f"data.val=coco:{folder},split=train"]


def face_options(_):
    return ["--batch-size", str(FACES), "--input-size", "112x112", "--data", f"faces,size=112,identities={PEOPLE}",
            "--set", "loss.name=cosface"]


def action_options(_):
    return ["--batch-size", str(WINDOWS)]


MODELS = {"detr-resnet50": (DetrStep, detr_options), "iresnet50": (FaceStep, face_options),
          "oadtr": (ActionStep, action_options)}


def zoo_engine(options, arguments, precision):
    command = [options.zoo, "bench", "--mode", "train", "--model", options.model, *arguments,
               "--precision", precision, "--threads", str(options.threads), "--json"]

    def run():
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        return json.loads(done.stdout)["metrics"]["seconds_per_step"]

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="detr-resnet50")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--zoo", default="build/release/zoo")
    parser.add_argument("--compile", action="store_true", help="torch.compile too (minutes)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    Step, zoo_options = MODELS[options.model]
    steps = {f"{Step.peer} eager fp32": Step(False, False, False),
             f"{Step.peer} fp32 channels_last": Step(True, False, False),
             f"{Step.peer} bf16 channels_last": Step(True, True, False)}
    if options.compile:
        steps["torch.compile bf16 channels_last"] = Step(True, True, True)
    for step in steps.values():
        step()
        step()
    rounds = {name: (lambda s=step: statistics.median(s() for _ in range(3))) for name, step in steps.items()}
    with tempfile.TemporaryDirectory() as folder:
        arguments = zoo_options(folder)
        for precision in ("fp32", "bf16"):
            rounds[f"zoo {precision}"] = zoo_engine(options, arguments, precision)
        seconds = {name: [] for name in rounds}
        for _ in range(options.rounds):
            for name, run in rounds.items():
                seconds[name].append(run())
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    if options.json:
        print(json.dumps({"seconds": seconds, "medians": medians}))
        return
    eager = medians[f"{Step.peer} eager fp32"]
    print(f"| training step of {Step.work}, {options.threads} threads | s | range | x eager |")
    print("|---|---|---|---|")
    for name, median in medians.items():
        low, high = min(seconds[name]), max(seconds[name])
        print(f"| {name} | {median:.2f} | {low:.2f}–{high:.2f} | {eager / median:.2f} |")


if __name__ == "__main__":
    main()
