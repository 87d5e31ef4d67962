"""What pycocotools sees in an instances file: coco_records.py FILE

Prints a line per image (id file_name width height) and below it one per object of it
(id category_id x y width height area iscrowd), numbers in Python's shortest exact form.
"""
import contextlib
import io
import sys

from pycocotools.coco import COCO

with contextlib.redirect_stdout(io.StringIO()):
    coco = COCO(sys.argv[1])
for image in coco.dataset["images"]:
    print("image", image["id"], image["file_name"], image["width"], image["height"])
    for a in coco.imgToAnns[image["id"]]:
        print("object", a["id"], a["category_id"], *map(float, a["bbox"]), float(a["area"]), a["iscrowd"])
for category in coco.dataset["categories"]:
    print("category", category["id"], category["name"])
