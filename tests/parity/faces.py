"""Face networks restated in PyTorch, for tests/parity/faces_test.cpp.

  faces.py write DIR NAME_HEIGHTxWIDTH...
      for each network a folder of that name with random weights under its published names (model.safetensors) and
      cases.safetensors: images in batches of 1 and 3, and their embeddings in double precision
  faces.py check OURS DIR NAME_HEIGHTxWIDTH...
      opens OURS/NAME_HEIGHTxWIDTH.pth, written by zoo, as its users do, and compares embeddings with the cases
  faces.py embed FILE.pt OUT
      embeddings of blobs by the trained MobileFaceNet in FILE.pt

Batch norms have the statistics of some images, disturbed at random, and no gain or slope is near zero or one, so that
no part can be left out unseen and no map grows with the depth.
"""

import os
import sys

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

IRESNETS = {
    "iresnet18": ([2, 2, 2, 2], [64, 128, 256, 512]),
    "iresnet50_narrow": ([3, 4, 14, 3], [8, 12, 16, 24]),
}
BATCHES = (1, 3)


class Residual(nn.Module):
    """The improved residual unit of ArcFace: norm, conv, norm, PReLU, conv, norm."""

    def __init__(self, inside, outside, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.prelu = nn.PReLU(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outside)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x):
        main = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return main + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    def __init__(self, blocks, widths, size):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU(widths[0])
        inside, cells = widths[0], size
        for i, (count, width) in enumerate(zip(blocks, widths)):
            units = [Residual(inside if j == 0 else width, width, 2 if j == 0 else 1) for j in range(count)]
            setattr(self, f"layer{i + 1}", nn.Sequential(*units))
            inside, cells = width, [(side + 1) // 2 for side in cells]
        self.bn2 = nn.BatchNorm2d(inside)
        self.fc = nn.Linear(inside * cells[0] * cells[1], 512)
        self.features = nn.BatchNorm1d(512)

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return self.features(self.fc(torch.flatten(self.bn2(x), 1)))


def conv_norm(inside, outside, kernel=1, stride=1, groups=1, activation=None):
    layers = [nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outside)]
    return nn.Sequential(*layers, *([activation] if activation else []))


class Inverted(nn.Module):
    def __init__(self, inside, outside, expansion, stride):
        super().__init__()
        hidden = inside * expansion
        self.keeps_shape = stride == 1 and inside == outside
        self.conv = nn.Sequential(
            conv_norm(inside, hidden, activation=nn.ReLU6()),
            conv_norm(hidden, hidden, 3, stride, hidden, nn.ReLU6()),
            *conv_norm(hidden, outside),
        )

    def forward(self, x):
        return x + self.conv(x) if self.keeps_shape else self.conv(x)


class MobileFaceNet(nn.Module):
    def __init__(self, size=(112, 112)):
        super().__init__()
        self.conv1 = conv_norm(3, 64, 3, 2, activation=nn.ReLU6())
        self.dw_conv = nn.ModuleDict({
            "depthwise": nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False),
            "pointwise": nn.Conv2d(64, 64, 1, bias=False),
            "bn1": nn.BatchNorm2d(64),
            "bn2": nn.BatchNorm2d(64),
        })
        rows = [(2, 64, 2)] + [(2, 64, 1)] * 4 + [(4, 128, 2)] + [(2, 128, 1)] * 6 + [(4, 128, 2)] + [(2, 128, 1)] * 2
        insides = [64] + [row[1] for row in rows]
        self.features = nn.Sequential(*(Inverted(i, out, t, s) for i, (t, out, s) in zip(insides, rows)))
        self.conv2 = conv_norm(128, 512, activation=nn.ReLU6())
        kernel = [(side + 15) // 16 for side in size]
        self.gdconv = nn.ModuleDict({
            "depthwise": nn.Conv2d(512, 512, kernel, groups=512, bias=False),
            "bn": nn.BatchNorm2d(512),
        })
        self.conv3 = nn.Conv2d(512, 128, 1)
        self.bn = nn.BatchNorm2d(128)

    def forward(self, x):
        x = self.conv1(x)
        x = F.relu(self.dw_conv["bn1"](self.dw_conv["depthwise"](x)))
        x = F.relu(self.dw_conv["bn2"](self.dw_conv["pointwise"](x)))
        x = self.conv2(self.features(x))
        x = self.gdconv["bn"](self.gdconv["depthwise"](x))
        return self.bn(self.conv3(x)).flatten(1)


class Layers(nn.Module):
    """insightface's habit: a list of layers below `layers`, here with or without a shortcut around them."""

    def __init__(self, *layers, shortcut=False):
        super().__init__()
        self.layers, self.shortcut = nn.Sequential(*layers), shortcut

    def forward(self, x):
        return x + self.layers(x) if self.shortcut else self.layers(x)


def mbf_conv(inside, outside, kernel=1, stride=1, groups=1, linear=False):
    return Layers(*conv_norm(inside, outside, kernel, stride, groups, None if linear else nn.PReLU(outside)))


def mbf_block(inside, outside, hidden, stride, shortcut=False):
    return Layers(
        mbf_conv(inside, hidden), mbf_conv(hidden, hidden, 3, stride, hidden), mbf_conv(hidden, outside, linear=True),
        shortcut=shortcut,
    )


def mbf_residual(channels, count, hidden):
    return Layers(*(mbf_block(channels, channels, hidden, 1, shortcut=True) for _ in range(count)))


class Mbf(nn.Module):
    def __init__(self, blocks, scale, size):
        super().__init__()
        narrow, wide = 64 * scale, 128 * scale
        second = mbf_conv(narrow, narrow, 3, 1, 64) if blocks[0] == 1 else mbf_residual(narrow, blocks[0], 128)
        self.layers = nn.Sequential(
            mbf_conv(3, narrow, 3, 2), second,
            mbf_block(narrow, narrow, 128, 2), mbf_residual(narrow, blocks[1], 128),
            mbf_block(narrow, wide, 256, 2), mbf_residual(wide, blocks[2], 256),
            mbf_block(wide, wide, 512, 2), mbf_residual(wide, blocks[3], 256),
        )
        self.conv_sep = mbf_conv(wide, 512)
        kernel = [(side + 15) // 16 for side in size]
        depthwise = Layers(nn.Conv2d(512, 512, kernel, groups=512, bias=False), nn.BatchNorm2d(512))
        self.features = Layers(depthwise, nn.Flatten(), nn.Linear(512, 512, bias=False), nn.BatchNorm1d(512))

    def forward(self, x):
        return self.features(self.conv_sep(self.layers(x)))


class Local(nn.Module):
    """A layer without shared weights, by one product of all unfolded windows."""

    def __init__(self, inside, outside, kernel, stride, size):
        super().__init__()
        self.kernel, self.stride, self.inside = kernel, stride, inside
        self.size = [(side - kernel) // stride + 1 for side in size]
        positions = self.size[0] * self.size[1]
        self.weight = nn.Parameter(torch.empty(positions, outside, kernel * kernel * inside))
        self.bias = nn.Parameter(torch.empty(positions, outside))

    def forward(self, x):
        windows = F.unfold(x, self.kernel, stride=self.stride)  # channel, row, column
        windows = windows.unflatten(1, (self.inside, self.kernel**2)).transpose(1, 2).flatten(1, 2)
        y = torch.einsum("loi,bil->bol", self.weight, windows) + self.bias.t()
        return y.unflatten(2, self.size)


class DeepFace(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.C1, self.C3 = nn.Conv2d(3, 32, 11), nn.Conv2d(32, 16, 9)
        size = [side - 10 for side in size]
        size = [(side + 1) // 2 - 8 for side in size]  # TensorFlow's "same", then C3
        self.L4 = Local(16, 16, 9, 1, size)
        self.L5 = Local(16, 16, 7, 2, self.L4.size)
        self.L6 = Local(16, 16, 5, 1, self.L5.size)
        self.F7 = nn.Linear(16 * self.L6.size[0] * self.L6.size[1], 4096)

    def forward(self, x):
        x = F.relu(self.C1(x))
        pads = [(side + 1) // 2 * 2 + 1 - side for side in x.shape[-2:]]  # to the right and below
        x = F.max_pool2d(F.pad(x, (0, pads[1], 0, pads[0]), value=-torch.inf), 3, 2)
        for layer in (self.C3, self.L4, self.L5, self.L6):
            x = F.relu(layer(x))
        return F.relu(self.F7(x.flatten(1)))


class DeepId(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 20, 4), nn.Conv2d(20, 40, 3)
        self.blocks = [(((side - 3) // 2 - 2) // 2 - 2) // 2 for side in size]
        count = self.blocks[0] * self.blocks[1]
        self.conv3 = nn.Conv2d(40, 60 * count, 3)
        self.conv4 = Local(60, 80, 2, 1, self.blocks)
        self.deepid = nn.Linear(60 * count + 80 * self.conv4.size[0] * self.conv4.size[1], 160)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        # Each block's 60 channels of a full convolution, of which only its own 2x2 outputs are kept.
        whole = self.conv3(x).unflatten(1, (-1, 60))
        rows = [
            torch.cat([whole[:, i * self.blocks[1] + j, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] for j in range(self.blocks[1])], 3)
            for i in range(self.blocks[0])
        ]
        x = F.max_pool2d(F.relu(torch.cat(rows, 2)), 2)
        return F.relu(self.deepid(torch.cat([x.flatten(1), F.relu(self.conv4(x)).flatten(1)], 1)))


def build(name, size):
    if name in IRESNETS:
        return IResNet(*IRESNETS[name], size)
    return {
        "mobilefacenet": MobileFaceNet,
        "mbf": lambda size: Mbf((1, 4, 6, 2), 2, size),
        "mbf_large": lambda size: Mbf((2, 8, 12, 4), 4, size),
        "deepface": DeepFace,
        "deepid": DeepId,
    }[name](size)


def randomise(model, images):
    for name, tensor in model.named_parameters():
        if name.endswith("bias"):
            tensor.normal_(0, 0.1)
        elif tensor.dim() == 1:  # gains and slopes
            tensor.uniform_(0.8, 1.2)
        else:
            fan_in = tensor.shape[-1] if tensor.dim() == 3 else tensor[0].numel()
            tensor.normal_(0, (2 / fan_in) ** 0.5)
    modules = list(model.modules())
    for module in modules:
        if isinstance(module, nn.PReLU):
            module.weight.uniform_(0.1, 0.4)
    norms = [module for module in modules if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]
    for norm in norms:
        norm.momentum = 1
    model.train()(images)
    for norm in norms:
        norm.running_mean.add_(0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean))
        norm.running_var.mul_(torch.empty_like(norm.running_var).uniform_(0.7, 1.4))
    model.eval()


def blobs(count, size):
    coarse = F.interpolate(torch.randn(count, 3, 6, 5), size=size, mode="bicubic")
    return coarse + 0.1 * torch.randn(count, 3, *size)


def build_titled(title):
    name, size = title.rsplit("_", 1)
    size = tuple(int(side) for side in size.split("x"))
    return build(name, size), size


def write(root, *titles):
    for title in titles:
        torch.manual_seed(0)
        model, size = build_titled(title)
        randomise(model, blobs(16, size))
        folder = os.path.join(root, title)
        os.mkdir(folder)
        save_file(model.state_dict(), os.path.join(folder, "model.safetensors"))
        model.double()
        tensors = {}
        for i, count in enumerate(BATCHES):
            images = blobs(count, size)
            tensors |= {f"{i}.images": images, f"{i}.embeddings": model(images.double())}
        save_file(tensors, os.path.join(folder, "cases.safetensors"))


def check(ours, root, *titles):
    for title in titles:
        model = build_titled(title)[0].eval()
        model.load_state_dict(torch.load(os.path.join(ours, title + ".pth"), weights_only=True), strict=True)
        cases = load_file(os.path.join(root, title, "cases.safetensors"))
        for i in range(len(BATCHES)):
            difference = (model(cases[f"{i}.images"]) - cases[f"{i}.embeddings"]).abs().max().item()
            assert difference <= 1e-4, f"{title} case {i}: {difference}"


def embed(file, out):
    torch.manual_seed(0)
    model = MobileFaceNet().eval()
    model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True), strict=True)
    images = blobs(3, (112, 112))
    save_file({"images": images, "embeddings": model.double()(images.double())}, out)


if __name__ == "__main__":
    with torch.no_grad():
        {"write": write, "check": check, "embed": embed}[sys.argv[1]](*sys.argv[2:])
