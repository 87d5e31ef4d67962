"""pycocotools' verdict on random detection sets: coco_eval.py FOLDER COUNT

Writes into FOLDER, for n in 0..COUNT-1 and for n = zero, truth_n.json, results_n.json and expected_n.json: the twelve
numbers and AP per category id, null where pycocotools says -1. In the set zero the annotation has the id 0.
"""
import contextlib
import io
import json
import pathlib
import random
import sys

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

NAMES = "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl".split()


def random_box(rng, whole):
    scale = rng.choice([8, 30, 80, 300])
    box = [rng.uniform(0, 600), rng.uniform(0, 400), rng.uniform(0.5, scale), rng.uniform(0.5, scale)]
    return [round(v) if whole else round(v, rng.choice([2, 15])) for v in box]


def near(rng, box, noise, whole):
    moved = [v + noise * rng.gauss(0, 1) * max(box[2], box[3]) for v in box[:2]]
    moved += [abs(v * (1 + noise * rng.gauss(0, 1))) for v in box[2:]]
    return [round(v) if whole else v for v in moved]


def random_set(seed):
    """Images without objects and without detections, crowds, equal boxes and scores, areas unlike the boxes, ids with
    gaps, detections of unknown categories, more than 100 detections in one image, categories without any object."""
    rng = random.Random(seed)
    whole = seed % 3 == 0  # integer boxes: equal IoUs
    images = rng.sample(range(10**rng.choice([2, 6])), rng.choice([1, 4, 25]))
    categories = rng.sample(range(1, 1000), rng.choice([1, 3, 12]))
    truth, results = [], []
    noise = rng.choice([0, 0.02, 0.1, 0.3])
    score = [rng.random, lambda: rng.choice([0.1, 0.5, 0.9]), lambda: round(rng.random(), 2)][seed % 3 if seed % 2 else 0]
    for image in images:
        if rng.random() < 0.2:
            continue
        used = rng.sample(categories, rng.randint(1, min(3, len(categories))))
        for _ in range(rng.choice([0, 1, 5, 20])):
            box = truth[-1]["bbox"] if truth and rng.random() < 0.1 else random_box(rng, whole)
            area = box[2] * box[3] * rng.choice([1, 1, 0.6, 1.3])
            if rng.random() < 0.1:
                area = rng.choice([1024, 9216, 1024.0000001, 1e10, 2e10, 0])
            truth.append(dict(id=len(truth) + 1, image_id=image, category_id=rng.choice(used), bbox=box, area=area,
                              iscrowd=int(rng.random() < 0.15)))
            for _ in range(rng.choice([0, 1, 1, 3])):
                category = truth[-1]["category_id"] if rng.random() < 0.9 else rng.choice(used)
                results.append(dict(image_id=image, category_id=category, bbox=near(rng, box, noise, whole), score=score()))
    for _ in range(rng.choice([1, 40, 400])):
        category = 5000 if seed % 7 == 0 and rng.random() < 0.3 else rng.choice(categories)
        results.append(dict(image_id=rng.choice(images), category_id=category, bbox=random_box(rng, whole), score=score()))
    if seed % 5 == 0:  # an image with more detections than count
        for _ in range(250):
            results.append(dict(image_id=images[0], category_id=categories[0], score=score(),
                                bbox=near(rng, truth[0]["bbox"] if truth else [0, 0, 9, 9], 0.2, whole)))
    rng.shuffle(results)
    document = dict(images=[dict(id=i, file_name=f"{i}.jpg", width=640, height=480) for i in images], annotations=truth,
                    categories=[dict(id=c, name=f"class {c}") for c in categories])
    return document, results


def verdict(document, results):
    coco = COCO()
    coco.dataset = document
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(json.loads(json.dumps(results))), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    number = lambda x: None if x == -1 else float(x)
    expected = {name: number(value) for name, value in zip(NAMES, evaluation.stats)}
    expected["per_class"] = {}
    for k, category in enumerate(evaluation.params.catIds):
        precision = evaluation.eval["precision"][:, :, k, 0, 2]
        present = precision[precision > -1]
        expected["per_class"][str(category)] = float(np.mean(present)) if present.size else None
    return expected


def zero_id_set():
    """One object, found exactly, whose annotation has the id 0."""
    record = dict(image_id=1, category_id=1, bbox=[10, 10, 20, 20])
    truth = dict(images=[dict(id=1)], categories=[dict(id=1, name="class 1")],
                 annotations=[dict(record, id=0, area=400, iscrowd=0)])
    return truth, [dict(record, score=0.9)]


def main():
    folder, count = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    for name, (document, results) in [("zero", zero_id_set())] + [(n, random_set(n)) for n in range(count)]:
        with contextlib.redirect_stdout(io.StringIO()):
            expected = verdict(document, results)
        for part, content in ("truth", document), ("results", results), ("expected", expected):
            (folder / f"{part}_{name}.json").write_text(json.dumps(content))


if __name__ == "__main__":
    main()
