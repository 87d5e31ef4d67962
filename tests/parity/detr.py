"""DETR by transformers, for tests/parity/detr_test.cpp.

  detr.py write DIR --backbone resnet50|resnet101 [--dilation]
      random weights as transformers saves them (model.safetensors, config.json), and cases.safetensors: pictures with
      padding and what the model makes of them in double precision, in the order of the network
  detr.py check DIR REFERENCE
      opens DIR, written by zoo, with transformers and compares its outputs with the cases of REFERENCE
  detr.py names DIR OUT
      the names and shapes that facebook/detr-resnet-50 has on the hub, made from a file in transformers' own names
  detr.py sine OUT
      the sine encoding in numpy

The weights are such that the outputs depend on queries, positions and mask, which those of a fresh model hardly do.
"""

import argparse
import json
import os
import re

import numpy
import torch
from safetensors.torch import load_file, save_file
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

DEPTHS = {"resnet50": [3, 4, 6, 3], "resnet101": [3, 4, 23, 3]}
# (height, width of the batch), [(height, width of each picture)]
CASES = [((128, 160), [(128, 120), (90, 160)]), ((138, 106), [(138, 106), (70, 90), (121, 47)])]


def build(backbone, dilation):
    config = DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=ResNetConfig(depths=DEPTHS[backbone], out_features=["stage4"]),
        num_labels=91,
    )
    model = DetrForObjectDetection(config).eval()
    if dilation:
        dilate(model)
    return model


def dilate(model):
    """torchvision's replace_stride_with_dilation for the last stage, which transformers' ResNet does not offer."""
    stage = model.model.backbone.model.encoder.stages[3]
    stage.layers[0].shortcut.convolution.stride = (1, 1)
    stage.layers[0].layer[1].convolution.stride = (1, 1)
    for block in stage.layers[1:]:
        block.layer[1].convolution.dilation = (2, 2)
        block.layer[1].convolution.padding = (2, 2)


def randomise(model, picture):
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, tensor in tensors.items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.1)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("query_position_embeddings.weight"):
            tensor.normal_()
        elif tensor.dim() > 1:
            fan_in = tensor[0].numel()
            # Three, and float32 no longer keeps 1e-4: attention turns sharp and rounding grows thirty-fold.
            scale = 2 if "q_proj" in name or "k_proj" in name else 1
            tensor.normal_(0, scale / fan_in**0.5)
        elif "norm" in name and name.endswith("weight"):
            tensor.uniform_(0.8, 1.2)
        else:
            tensor.normal_(0, 0.1)
    projection = model.model.input_projection
    features = {}
    handle = projection.register_forward_hook(lambda module, inputs, output: features.update(out=output))
    model(pixel_values=picture)
    handle.remove()
    mean, deviation = features["out"].mean((0, 2, 3)), features["out"].std((0, 2, 3))
    projection.weight.div_(deviation[:, None, None, None])
    projection.bias.sub_(mean).div_(deviation)


def pictures(size, sizes):
    """Coarse blobs and a little noise, padded with zeros; mask 1 on real pixels."""
    blobs = torch.randn(len(sizes), 3, 6, 8)
    pixels = torch.nn.functional.interpolate(blobs, size=size, mode="bicubic") + 0.1 * torch.randn(len(sizes), 3, *size)
    mask = torch.zeros(len(sizes), *size, dtype=torch.int64)
    for i, (height, width) in enumerate(sizes):
        mask[i, :height, :width] = 1
    return pixels * mask[:, None], mask


def run(model, pixels, mask):
    """Outputs by stage, in the order of the network."""
    found, layers = {}, []
    keep = lambda name: lambda module, inputs, output: found.update({name: output})  # noqa: E731
    handles = [
        model.model.input_projection.register_forward_hook(keep("projected")),
        *(layer.register_forward_hook(lambda m, i, output: layers.append(output)) for layer in model.model.decoder.layers),
    ]
    output = model(pixel_values=pixels, pixel_mask=mask)
    for handle in handles:
        handle.remove()
    layers = [layer[0] if isinstance(layer, tuple) else layer for layer in layers]
    states = torch.stack([model.model.decoder.layernorm(layer) for layer in layers])
    return {
        "projected": found["projected"],
        "memory": output.encoder_last_hidden_state,
        "states": states,
        "all_logits": model.class_labels_classifier(states),
        "all_boxes": model.bbox_predictor(states).sigmoid(),
        "logits": output.logits,
        "boxes": output.pred_boxes,
    }


def reactions(model, pixels, mask, reference):
    """How much the logits and boxes change without queries, positions and mask."""
    queries = model.model.query_position_embeddings.weight
    kept = queries.clone()
    queries.zero_()
    without = {"queries": run(model, pixels, mask)}
    queries.copy_(kept)
    handle = model.model.position_embedding.register_forward_hook(lambda m, i, output: torch.zeros_like(output))
    without["positions"] = run(model, pixels, mask)
    handle.remove()
    without["mask"] = run(model, pixels, torch.ones_like(mask))
    return {
        f"reaction.{what}.{name}": (outputs[name] - reference[name]).abs().max().reshape(1)
        for what, outputs in without.items()
        for name in ("logits", "boxes")
    }


def write(folder, backbone, dilation):
    torch.manual_seed(0)
    model = build(backbone, dilation)
    randomise(model, pictures((192, 192), [(192, 192)])[0])
    model.save_pretrained(folder)
    model.double()
    tensors = {}
    for i, (size, sizes) in enumerate(CASES):
        pixels, mask = pictures(size, sizes)
        outputs = run(model, pixels.double(), mask)
        if i == 0:
            outputs |= reactions(model, pixels.double(), mask, outputs)
        outputs |= {"pixels": pixels, "mask": mask.bool()}
        tensors |= {f"{i}.{name}": tensor.contiguous() for name, tensor in outputs.items()}
    save_file(tensors, os.path.join(folder, "cases.safetensors"))


def check(folder, reference):
    model, info = DetrForObjectDetection.from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    cases = load_file(os.path.join(reference, "cases.safetensors"))
    for i in range(len(CASES)):
        outputs = run(model.eval(), cases[f"{i}.pixels"], cases[f"{i}.mask"].long())
        for name in ("logits", "boxes"):
            difference = (outputs[name] - cases[f"{i}.{name}"]).abs().max().item()
            assert difference <= 1e-4, f"case {i} {name}: {difference}"
    with open(os.path.join(folder, "config.json")) as file:
        assert json.load(file)["id2label"] == {str(k): v for k, v in model.config.id2label.items()}


def names(folder, out):
    """The rule of detr-resnet-50 on the hub: a timm ResNet below model.backbone.conv_encoder.model."""
    replacements = [
        (r"embedder\.embedder\.convolution", "conv1"),
        (r"embedder\.embedder\.normalization", "bn1"),
        (r"encoder\.stages\.(\d)\.layers\.(\d+)\.shortcut\.convolution", r"layer@\1.\2.downsample.0"),
        (r"encoder\.stages\.(\d)\.layers\.(\d+)\.shortcut\.normalization", r"layer@\1.\2.downsample.1"),
        (r"encoder\.stages\.(\d)\.layers\.(\d+)\.layer\.(\d)\.convolution", r"layer@\1.\2.conv@\3"),
        (r"encoder\.stages\.(\d)\.layers\.(\d+)\.layer\.(\d)\.normalization", r"layer@\1.\2.bn@\3"),
    ]
    tensors = {}
    for name, tensor in load_file(os.path.join(folder, "model.safetensors")).items():
        if "conv_encoder" in name:
            for pattern, replacement in replacements:
                name = re.sub(pattern, replacement, name)
            name = re.sub(r"@(\d)", lambda match: str(int(match[1]) + 1), name)
        tensors[name] = tensor
    save_file(tensors, out)


def sine(out):
    """Appendix A.4 of the paper, one channel at a time."""
    valid = numpy.zeros((3, 7, 9), dtype=numpy.float32)
    valid[0], valid[1, :5, :9], valid[2, :7, :4] = 1, 1, 1
    dim = 32
    result = numpy.zeros((3, 7, 9, dim))
    for axis, first in ((1, 0), (2, dim // 2)):
        count = numpy.cumsum(valid, axis, dtype=numpy.float64)
        last = numpy.take(count, [-1], axis)
        angle = count / (last + 1e-6) * 2 * numpy.pi
        for k in range(dim // 2):
            function = numpy.cos if k % 2 else numpy.sin
            result[..., first + k] = function(angle / 10000 ** (2 * (k // 2) / (dim // 2)))
    save_file({"valid": torch.tensor(valid), "position": torch.tensor(result, dtype=torch.float32)}, out)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.set_num_threads(2)
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["write", "check", "names", "sine"])
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--dilation", action="store_true")
    arguments = parser.parse_args()
    if arguments.command == "write":
        write(arguments.paths[0], arguments.backbone, arguments.dilation)
    else:
        {"check": check, "names": names, "sine": sine}[arguments.command](*arguments.paths)
