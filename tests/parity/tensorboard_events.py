"""What TensorBoard's own reader finds in a folder of event files: tensorboard_events.py FOLDER OUTPUT.json"""
import base64
import io
import json
import sys

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "images": 0, "tensors": 0})
events.Reload()
tags = events.Tags()
found = {"scalars": {}, "images": {}, "texts": {}}
for tag in tags["scalars"]:
    found["scalars"][tag] = [[e.step, e.value] for e in events.Scalars(tag)]
for tag in tags["images"]:
    found["images"][tag] = [[e.step, e.width, e.height, *Image.open(io.BytesIO(e.encoded_image_string)).size,
                             base64.b64encode(e.encoded_image_string).decode()] for e in events.Images(tag)]
for tag in tags["tensors"]:
    plugin = events.SummaryMetadata(tag).plugin_data.plugin_name
    found["texts"][tag] = [[e.step, plugin, e.tensor_proto.string_val[0].decode()] for e in events.Tensors(tag)]
found["wall_time"] = events.FirstEventTimestamp()
with open(sys.argv[2], "w") as file:
    json.dump(found, file)
