"""Inception v3 as pytorch-fid has it, written out anew with random weights, for tests/parity/inception_test.cpp.

  inception.py DIR
      pt_inception.pth (the published names and shapes) and cases.safetensors: CASE.pictures [B,3,H,W] in 0..1, and for each
      way of resizing CASE.RESIZE.features [B,2048] and CASE.RESIZE.logits [B,1008]
"""

import os
import sys

import numpy
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

weights = {}
generator = torch.Generator().manual_seed(3)


def draw(name, shape, low, high):
    if name not in weights:
        weights[name] = torch.rand(shape, generator=generator) * (high - low) + low
    return weights[name]


def conv(name, x, out, size, stride=1, padding=0):
    height, width = size
    limit = (6.0 / (x.shape[1] * height * width)) ** 0.5
    x = F.conv2d(x, draw(name + ".conv.weight", (out, x.shape[1], height, width), -limit, limit), None, stride, padding)
    mean, var = draw(name + ".bn.running_mean", (out,), -0.2, 0.2), draw(name + ".bn.running_var", (out,), 0.5, 1.5)
    weight, bias = draw(name + ".bn.weight", (out,), 0.6, 1.4), draw(name + ".bn.bias", (out,), -0.2, 0.3)
    return F.relu(F.batch_norm(x, mean, var, weight, bias, training=False, eps=0.001))


def mean_pool(x):
    """The mean of those of the 3x3 neighbours that there are."""
    ones = torch.ones_like(x[:, :1])
    kernel = torch.ones(1, 1, 3, 3)
    sums = F.conv2d(x.flatten(0, 1).unsqueeze(1), kernel, padding=1).view_as(x)
    return sums / F.conv2d(ones, kernel, padding=1)


def block_a(name, x, pooled):
    five = conv(f"{name}.branch5x5_2", conv(f"{name}.branch5x5_1", x, 48, (1, 1)), 64, (5, 5), padding=2)
    three = conv(f"{name}.branch3x3dbl_1", x, 64, (1, 1))
    for i in (2, 3):
        three = conv(f"{name}.branch3x3dbl_{i}", three, 96, (3, 3), padding=1)
    parts = [conv(f"{name}.branch1x1", x, 64, (1, 1)), five, three]
    return torch.cat(parts + [conv(f"{name}.branch_pool", mean_pool(x), pooled, (1, 1))], 1)


def block_b(name, x):
    three = conv(f"{name}.branch3x3dbl_1", x, 64, (1, 1))
    three = conv(f"{name}.branch3x3dbl_2", three, 96, (3, 3), padding=1)
    three = conv(f"{name}.branch3x3dbl_3", three, 96, (3, 3), stride=2)
    return torch.cat([conv(f"{name}.branch3x3", x, 384, (3, 3), stride=2), three, F.max_pool2d(x, 3, 2)], 1)


def chain(name, x, steps):
    for suffix, out, size in steps:
        x = conv(name + suffix, x, out, size, padding=(size[0] // 2, size[1] // 2))
    return x


def block_c(name, x, c):
    seven = chain(f"{name}.branch7x7_", x, [("1", c, (1, 1)), ("2", c, (1, 7)), ("3", 192, (7, 1))])
    double = chain(
        f"{name}.branch7x7dbl_",
        x,
        [("1", c, (1, 1)), ("2", c, (7, 1)), ("3", c, (1, 7)), ("4", c, (7, 1)), ("5", 192, (1, 7))],
    )
    parts = [conv(f"{name}.branch1x1", x, 192, (1, 1)), seven, double]
    return torch.cat(parts + [conv(f"{name}.branch_pool", mean_pool(x), 192, (1, 1))], 1)


def block_d(name, x):
    three = conv(f"{name}.branch3x3_2", conv(f"{name}.branch3x3_1", x, 192, (1, 1)), 320, (3, 3), stride=2)
    seven = chain(f"{name}.branch7x7x3_", x, [("1", 192, (1, 1)), ("2", 192, (1, 7)), ("3", 192, (7, 1))])
    return torch.cat([three, conv(f"{name}.branch7x7x3_4", seven, 192, (3, 3), stride=2), F.max_pool2d(x, 3, 2)], 1)


def fork(name, x):
    return [conv(name + "a", x, 384, (1, 3), padding=(0, 1)), conv(name + "b", x, 384, (3, 1), padding=(1, 0))]


def block_e(name, x, pool):
    three = fork(f"{name}.branch3x3_2", conv(f"{name}.branch3x3_1", x, 384, (1, 1)))
    double = conv(f"{name}.branch3x3dbl_1", x, 448, (1, 1))
    double = fork(f"{name}.branch3x3dbl_3", conv(f"{name}.branch3x3dbl_2", double, 384, (3, 3), padding=1))
    parts = [conv(f"{name}.branch1x1", x, 320, (1, 1)), *three, *double]
    return torch.cat(parts + [conv(f"{name}.branch_pool", pool(x), 192, (1, 1))], 1)


def network(x):
    x = conv("Conv2d_1a_3x3", x, 32, (3, 3), stride=2)
    x = conv("Conv2d_2a_3x3", x, 32, (3, 3))
    x = F.max_pool2d(conv("Conv2d_2b_3x3", x, 64, (3, 3), padding=1), 3, 2)
    x = conv("Conv2d_3b_1x1", x, 80, (1, 1))
    x = F.max_pool2d(conv("Conv2d_4a_3x3", x, 192, (3, 3)), 3, 2)
    for letter, pooled in (("b", 32), ("c", 64), ("d", 64)):
        x = block_a("Mixed_5" + letter, x, pooled)
    x = block_b("Mixed_6a", x)
    for letter, inner in (("b", 128), ("c", 160), ("d", 160), ("e", 192)):
        x = block_c("Mixed_6" + letter, x, inner)
    x = block_d("Mixed_7a", x)
    x = block_e("Mixed_7b", x, mean_pool)
    x = block_e("Mixed_7c", x, lambda y: F.max_pool2d(y, 3, 1, 1))
    features = x.mean((2, 3))
    weight, bias = draw("fc.weight", (1008, 2048), -0.05, 0.05), draw("fc.bias", (1008,), -0.5, 0.5)
    return features, F.linear(features, weight, bias)


def bilinear(pictures):
    return 2 * F.interpolate(pictures, size=(299, 299), mode="bilinear", align_corners=False) - 1


def clean(pictures):
    """clean-fid: each channel as floats by Pillow, cut to bytes' range but not rounded."""
    rows = []
    for picture in (pictures * 255).round().to(torch.uint8).numpy():
        channels = [
            Image.fromarray(channel.astype(numpy.float32), mode="F").resize((299, 299), Image.BICUBIC) for channel in picture
        ]
        rows.append(numpy.stack([numpy.asarray(channel).clip(0, 255) for channel in channels]))
    return (torch.from_numpy(numpy.stack(rows)) - 128) / 128


def main(folder):
    cases = {}
    for case, shape in {"small": (2, 3, 40, 56), "large": (1, 3, 350, 310)}.items():
        pictures = torch.randint(0, 256, shape, generator=generator).float() / 255
        cases[case + ".pictures"] = pictures
        for name, resize in {"bilinear": bilinear, "clean": clean}.items():
            features, logits = network(resize(pictures))
            cases[f"{case}.{name}.features"], cases[f"{case}.{name}.logits"] = features, logits
    save_file({name: value.contiguous() for name, value in cases.items()}, os.path.join(folder, "cases.safetensors"))
    torch.save(weights, os.path.join(folder, "pt_inception.pth"))


if __name__ == "__main__":
    with torch.no_grad():
        main(sys.argv[1])
