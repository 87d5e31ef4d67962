"""Images decoded, augmented and batched per second: zoo against torch's DataLoader, side by side.

    bench/data_path.py --data FOLDER [--split train2017] [--zoo build/release/zoo] [--workers 2] [--batch-size 4]
                       [--seconds 10] [--rounds 5] [--json]

FOLDER is a COCO folder (annotations/instances_SPLIT.json, SPLIT/). Both sides do DETR's training transforms: decode,
mirror, resize or (resize, crop, resize) with Pillow's antialiased filter, normalise, pad to the largest of the batch,
with the boxes. Both are measured for `seconds` in turn, `rounds` times, from the second batch on; the table gives the
median of the rounds, their range, and the median of the rounds' ratios. Needs torch, numpy and Pillow, and
for zoo a build that is up to date.
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import time

import numpy as np
import torch
from PIL import Image

SIZES = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]
CROP_RESIZE, CROP_MIN, CROP_MAX, LONGEST = [400, 500, 600], 384, 600, 1333
MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def resize(image, boxes, size, longest):
    w, h = image.size
    if longest is not None and max(w, h) / min(w, h) * size > longest:
        size = int(round(longest * min(w, h) / max(w, h)))
    if min(w, h) != size:
        new = (size, int(size * h / w)) if w < h else (int(size * w / h), size)
        image = image.resize(new, Image.BILINEAR)
        boxes = boxes * torch.tensor([new[0] / w, new[1] / h] * 2)
    return image, boxes


def crop(image, boxes, labels):
    w, h = image.size
    cw = random.randint(min(CROP_MIN, w), min(w, CROP_MAX))
    ch = random.randint(min(CROP_MIN, h), min(h, CROP_MAX))
    left, top = random.randint(0, w - cw), random.randint(0, h - ch)
    image = image.crop((left, top, left + cw, top + ch))
    boxes = boxes - torch.tensor([left, top] * 2, dtype=torch.float32)
    boxes = torch.min(boxes.view(-1, 2, 2), torch.tensor([cw, ch], dtype=torch.float32)).clamp(min=0)
    keep = (boxes[:, 1] > boxes[:, 0]).all(1)
    return image, boxes.view(-1, 4)[keep], labels[keep]


class Coco(torch.utils.data.Dataset):
    def __init__(self, folder, split):
        with open(f"{folder}/annotations/instances_{split}.json") as file:
            content = json.load(file)
        self.paths = {i["id"]: f"{folder}/{split}/{i['file_name']}" for i in content["images"]}
        self.ids = list(self.paths)
        self.objects = {i: [] for i in self.ids}
        for a in content["annotations"]:
            if not a.get("iscrowd", 0):
                self.objects[a["image_id"]].append(a)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        image_id = self.ids[index]
        image = Image.open(self.paths[image_id]).convert("RGB")
        w, h = image.size
        boxes = torch.tensor([a["bbox"] for a in self.objects[image_id]], dtype=torch.float32).view(-1, 4)
        labels = torch.tensor([a["category_id"] for a in self.objects[image_id]], dtype=torch.int64)
        boxes[:, 2:] += boxes[:, :2]
        boxes[:, 0::2].clamp_(min=0, max=w)
        boxes[:, 1::2].clamp_(min=0, max=h)
        keep = (boxes[:, 3] > boxes[:, 1]) & (boxes[:, 2] > boxes[:, 0])
        boxes, labels = boxes[keep], labels[keep]
        if random.random() < 0.5:
            image = image.transpose(Image.FLIP_LEFT_RIGHT)
            boxes = boxes[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1]) + torch.tensor([w, 0, w, 0])
        if random.random() < 0.5:
            image, boxes = resize(image, boxes, random.choice(CROP_RESIZE), None)
            image, boxes, labels = crop(image, boxes, labels)
        image, boxes = resize(image, boxes, random.choice(SIZES), LONGEST)
        # As torchvision's to_tensor and normalize do it.
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        pixels.sub_(MEAN).div_(STD)
        x0, y0, x1, y1 = boxes.unbind(-1)
        boxes = torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], -1)
        boxes = boxes / torch.tensor([*image.size, *image.size], dtype=torch.float32)
        return pixels, {"boxes": boxes, "labels": labels, "image_id": image_id, "orig_size": (h, w)}


def collate(samples):
    height, width = (max(s[0].shape[d] for s in samples) for d in (1, 2))
    pixels = torch.zeros(len(samples), 3, height, width)
    mask = torch.ones(len(samples), height, width, dtype=torch.bool)
    for i, (image, _) in enumerate(samples):
        pixels[i, :, : image.shape[1], : image.shape[2]].copy_(image)
        mask[i, : image.shape[1], : image.shape[2]] = False
    return pixels, mask, [s[1] for s in samples]


def endless(loader):
    while True:
        yield from loader


def torch_rate(loader, seconds):
    batches = endless(loader)
    next(batches)
    images, start = 0, time.perf_counter()
    while True:
        images += len(next(batches)[0])
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return images / elapsed


def zoo_rate(options):
    command = [options.zoo, "bench", "--model", "detr-resnet50", "--mode", "data", "--json",
               "--data", f"coco:{options.data},split={options.split}",
               "--workers", str(options.workers), "--batch-size", str(options.batch_size)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output)["metrics"]["samples_per_second"]


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="train2017")
    parser.add_argument("--zoo", default=os.path.join(here, "../build/release/zoo"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    loader = torch.utils.data.DataLoader(Coco(options.data, options.split), options.batch_size, shuffle=True,
                                         num_workers=options.workers, collate_fn=collate, drop_last=True,
                                         persistent_workers=options.workers > 0)
    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(zoo_rate(options))
        theirs.append(torch_rate(loader, options.seconds))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs))
    if options.json:
        print(json.dumps({"zoo": ours, "torch": theirs, "ratio": ratio}))
        return
    for name, rates in (("zoo", ours), ("torch DataLoader", theirs)):
        print(f"{name:17} {statistics.median(rates):7.1f} images/s ({min(rates):.1f} to {max(rates):.1f})")
    print(f"ratio             {ratio:7.2f}")


if __name__ == "__main__":
    main()
