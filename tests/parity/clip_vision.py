"""CLIPModel of transformers with random weights, for tests/parity/clip_vision_test.cpp.

  clip_vision.py FOLDER KIND
      FOLDER has vocab.json and merges.txt; adds config.json, model.safetensors, and cases.expected: rgb0, rgb1 (bytes
      [3,H,W]), pixels [2,3,S,S] of them, ids [2,20], picture_features, text_features [2,P] and cosines [2]. KIND is
      quick (quick_gelu) or gelu.
"""

import json
import os
import sys

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

TEXTS = ["a red circle", "Two BLUE squares, and a very long list of things: " + "red blue " * 60]


def main(folder, kind):
    torch.manual_seed(5)
    with open(os.path.join(folder, "vocab.json"), encoding="utf-8") as file:
        size = len(json.load(file))
    act = "quick_gelu" if kind == "quick" else "gelu"
    side, patch = (32, 8) if kind == "quick" else (42, 14)
    text = dict(
        vocab_size=size, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=20, hidden_act=act, bos_token_id=size - 2, eos_token_id=size - 1, pad_token_id=size - 1,
    )
    vision = dict(
        hidden_size=48, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3, image_size=side,
        patch_size=patch, hidden_act=act,
    )
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).eval()
    for parameter in model.parameters():
        if parameter.dim() > 0:
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)

    # Sizes that Pillow resizes along rows first, as torchvision and older Pillows always do; of some others it begins with
    # the columns, and rounding in between then gives other bytes.
    rgb = [torch.randint(0, 256, shape, dtype=torch.uint8) for shape in ((3, 61, 90), (3, 90, 61))]
    processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    images = [Image.fromarray(each.permute(1, 2, 0).numpy()) for each in rgb]
    pixels = processor(images=images, return_tensors="pt")["pixel_values"]
    tokens = CLIPTokenizer.from_pretrained(folder, model_max_length=20)(
        TEXTS, padding="max_length", truncation=True, return_tensors="pt"
    )
    seen = model.visual_projection(model.vision_model(pixels).pooler_output)
    said = model.text_projection(model.text_model(**tokens).pooler_output)
    cosines = (seen / seen.norm(dim=-1, keepdim=True) * (said / said.norm(dim=-1, keepdim=True))).sum(-1)
    cases = {
        "rgb0": rgb[0], "rgb1": rgb[1], "pixels": pixels, "ids": tokens["input_ids"], "picture_features": seen,
        "text_features": said, "cosines": cosines,
    }
    save_file({name: value.contiguous() for name, value in cases.items()}, os.path.join(folder, "cases.expected"))


if __name__ == "__main__":
    with torch.no_grad():
        main(*sys.argv[1:])
