"""The transforms of DETR restated with Pillow and torch.

transforms.py resize FOLDER       pictures and what Pillow's BILINEAR makes of them; the list is FOLDER/cases.json
transforms.py sizes FILE          the size rule on a grid: [[height, width, size, max_size, new_height, new_width]]
transforms.py apply CASES RESULT  carries out given plans (flip, resize, crop, resize) on given pictures and objects
"""
import json
import sys

import numpy as np
import torch
from PIL import Image


def new_size(image_size, size, max_size=None):
    """(height, width) for (width, height); the rule of facebookresearch/detr, datasets/transforms.py."""
    w, h = image_size
    if max_size is not None:
        shorter, longer = float(min(w, h)), float(max(w, h))
        if longer / shorter * size > max_size:
            size = int(round(max_size * shorter / longer))
    if (w <= h and w == size) or (h <= w and h == size):
        return h, w
    if w < h:
        return int(size * h / w), size
    return size, int(size * w / h)


def write_resized(folder):
    rng = np.random.default_rng(11)
    cases = []
    shapes = [(97, 131), (64, 64), (1, 40), (40, 1), (2, 3), (211, 53), (120, 160)]
    for number, (height, width) in enumerate(shapes):
        for mode, channels in (("RGB", 3), ("L", 1)):
            pixels = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
            if number % 2:  # sharp edges: the extremes of the sums
                pixels = (pixels // 128 * 255).astype(np.uint8)
            image = Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels, mode)
            source = f"{folder}/source{number}{mode}.png"
            image.save(source)
            targets = [(height, width), (height, 2 * width + 1), (3 * height, width), (height // 2 + 1, width // 3 + 1),
                       (1, 1), (7, 200), (200, 7)]
            targets += [tuple(int(v) for v in rng.integers(1, 260, 2)) for _ in range(25)]
            for new_height, new_width in targets:
                result = f"{folder}/result{len(cases)}.png"
                image.resize((new_width, new_height), Image.BILINEAR).save(result)
                cases.append({"source": source, "result": result, "height": new_height, "width": new_width})
    with open(f"{folder}/cases.json", "w") as file:
        json.dump(cases, file)


def write_sizes(path):
    rows = []
    for size, max_size in ((800, 1333), (480, 1333), (600, None), (128, 256), (640, 640), (333, 500)):
        for height in range(20, 1400, 33):
            for width in range(23, 1400, 31):
                rows.append([height, width, size, max_size or 0, *new_size((width, height), size, max_size)])
    for short in range(1, 300):  # ties of the rounding: 25 * short / 1000 = k + 1/2
        rows.append([short, 1000, 800, 25, *(max(1, v) for v in new_size((1000, short), 800, 25))]
                    if 25 * short / 1000 > 0.5 else [short, short, 7, 9, *new_size((short, short), 7, 9)])
    with open(path, "w") as file:
        json.dump(rows, file)


def resize(image, boxes, size, max_size):
    height, width = new_size(image.size, size, max_size)
    old_width, old_height = image.size
    image = image.resize((width, height), Image.BILINEAR)
    x, y = float(width) / float(old_width), float(height) / float(old_height)
    return image, boxes * torch.as_tensor([x, y, x, y])


def apply_plan(case):
    image = Image.open(case["image"]).convert("RGB")
    w, h = image.size
    objects = [o for o in case["objects"] if not o["crowd"]]
    boxes = torch.as_tensor([o["box"] for o in objects], dtype=torch.float32).reshape(-1, 4)
    labels = torch.as_tensor([o["category"] for o in objects], dtype=torch.int64)
    boxes[:, 2:] += boxes[:, :2]
    boxes[:, 0::2].clamp_(min=0, max=w)
    boxes[:, 1::2].clamp_(min=0, max=h)
    keep = (boxes[:, 3] > boxes[:, 1]) & (boxes[:, 2] > boxes[:, 0])
    boxes, labels = boxes[keep], labels[keep]
    if case["flip"]:
        image = image.transpose(Image.FLIP_LEFT_RIGHT)
        boxes = boxes[:, [2, 1, 0, 3]] * torch.as_tensor([-1, 1, -1, 1]) + torch.as_tensor([w, 0, w, 0])
    if case["crop_resize"]:
        image, boxes = resize(image, boxes, case["crop_resize"], None)
        left, top, width, height = case["window"]
        image = image.crop((left, top, left + width, top + height))
        boxes = (boxes - torch.as_tensor([left, top, left, top])).reshape(-1, 2, 2)
        boxes = torch.min(boxes, torch.as_tensor([width, height], dtype=torch.float32)).clamp(min=0)
        keep = torch.all(boxes[:, 1, :] > boxes[:, 0, :], dim=1)
        boxes, labels = boxes.reshape(-1, 4)[keep], labels[keep]
    image, boxes = resize(image, boxes, case["size"], case["max_size"] or None)
    x0, y0, x1, y1 = boxes.unbind(-1)
    boxes = torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dim=-1)
    boxes = boxes / torch.tensor([*image.size, *image.size], dtype=torch.float32)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = (pixels - mean) / std
    result = case["image"] + ".result.png"
    image.save(result)
    spots = pixels.flatten()[:: max(1, pixels.numel() // 97)]
    return {"boxes": boxes.tolist(), "labels": labels.tolist(), "image": result, "normalized": spots.tolist()}


def main():
    mode, arguments = sys.argv[1], sys.argv[2:]
    if mode == "resize":
        write_resized(*arguments)
    elif mode == "sizes":
        write_sizes(*arguments)
    else:
        with open(arguments[0]) as file:
            results = [apply_plan(case) for case in json.load(file)]
        with open(arguments[1], "w") as file:
            json.dump(results, file)


main()
