"""Reference for face_losses_test.cpp: every face loss from its formula, in float64, one-hot and whole.

Usage: face_losses.py FOLDER
Writes FOLDER/cases.json ([{"loss", "options"}]) and FOLDER/cases.safetensors: `weight` [C,D], `bias` [C], BATCH.x, BATCH.labels of
every batch, and CASE.BATCH.loss, CASE.BATCH.x.grad, CASE.weight.grad and CASE.bias.grad (of the last batch). States of a loss
(annealing, running statistics, centres) go on from batch to batch; weights do not move.
"""

import json
import math
import sys

import torch
from safetensors.torch import save_file

CLASSES, SIZE, SAMPLES, BATCHES = 4200, 8, 10, 3
torch.set_default_dtype(torch.float64)


def unit(x):
    return x / x.norm(dim=1, keepdim=True)


def batches(weight):
    """Samples of a few classes at all angles to their rows, norms around 20; some classes are there twice."""
    generator = torch.Generator().manual_seed(5)
    random = lambda *shape: torch.randn(*shape, generator=generator)
    for _ in range(BATCHES):
        labels = torch.randint(6, (SAMPLES,), generator=generator) * 700
        labels[-2:] = torch.tensor([CLASSES - 1, CLASSES - 3])
        across = random(SAMPLES, SIZE)
        rows = unit(weight[labels])
        across = unit(across - (across * rows).sum(1, keepdim=True) * rows)
        angle = torch.linspace(0.05, math.pi - 0.1, SAMPLES)[torch.randperm(SAMPLES, generator=generator)]
        x = rows * angle.cos()[:, None] + across * angle.sin()[:, None]
        yield x * (20 + 8 * random(SAMPLES, 1)).abs(), labels


class Case:
    """Keeps what a loss keeps between steps."""

    def __init__(self, name, options, weight, bias):
        self.name, self.weight, self.bias, self.options = name, weight, bias, options
        self.state = {}

    def loss(self, x, labels):
        return getattr(self, self.name)(x, labels, **self.options)

    def cosines(self, x):
        return unit(x) @ unit(self.weight).T

    def with_own(self, logits, labels, own):
        hot = torch.nn.functional.one_hot(labels, CLASSES).bool()
        return torch.nn.functional.cross_entropy(torch.where(hot, own, logits), labels)

    def softmax(self, x, labels, bias=True):
        return torch.nn.functional.cross_entropy(x @ self.weight.T + (self.bias if bias else 0), labels)

    def normface(self, x, labels, scale=0, posterior=0.99):
        bound = (CLASSES - 1) / CLASSES * math.log((CLASSES - 1) * posterior / (1 - posterior))
        return torch.nn.functional.cross_entropy((scale or bound) * self.cosines(x), labels)

    def l2softmax(self, x, labels, scale=0, posterior=0.9):
        alpha = scale or math.log(posterior * (CLASSES - 2) / (1 - posterior))
        return torch.nn.functional.cross_entropy(alpha * unit(x) @ self.weight.T + self.bias, labels)

    def asoftmax(self, x, labels, margin=4, lambda_max=1000, lambda_min=5, gamma=0.12, power=1):
        self.state["step"] = step = self.state.get("step", 0) + 1
        weight = max(lambda_min, lambda_max * (1 + gamma * step) ** -power)
        norms, c = x.norm(dim=1, keepdim=True), self.cosines(x)
        theta = c.acos()
        k = (margin * theta / math.pi).floor().detach()
        psi = (-1) ** k * (margin * theta).cos() - 2 * k
        return self.with_own(norms * c, labels, norms * (weight * c + psi) / (1 + weight))

    def cosface(self, x, labels, scale=64, margin=0.4):
        c = self.cosines(x)
        return self.with_own(scale * c, labels, scale * (c - margin))

    def bent(self, c, margin, easy):
        theta = c.acos()
        if easy:
            return torch.where(c > 0, (theta + margin).cos(), c)
        return torch.where(theta + margin < math.pi, (theta + margin).cos(), c - margin * torch.as_tensor(margin).sin())

    def arcface(self, x, labels, scale=64, margin=0.5, easy_margin=False, margin_grad="exact"):
        c = self.cosines(x)
        own = self.bent(c, margin, easy_margin)
        if margin_grad == "straight_through":
            own = c + (own - c).detach()
        return self.with_own(scale * c, labels, scale * own)

    def combined(self, x, labels, scale=64, m1=1, m2=0.3, m3=0.2, margin_grad="exact"):
        c = self.cosines(x)
        own = (m1 * c.acos() + m2).clamp(max=math.pi).cos() - m3
        if margin_grad == "straight_through":
            own = c + (own - c).detach()
        return self.with_own(scale * c, labels, scale * own)

    def adaface(self, x, labels, scale=64, margin=0.4, concentration=0.333, momentum=0.01):
        norms = x.detach().norm(dim=1).clamp(0.001, 100)
        mean, deviation = self.state.get("mean", 20), self.state.get("deviation", 100)
        mean = momentum * norms.mean() + (1 - momentum) * mean
        deviation = momentum * norms.std() + (1 - momentum) * deviation
        self.state.update(mean=mean, deviation=deviation)
        quality = ((norms - mean) / (deviation + 1e-3) * concentration).clamp(-1, 1)[:, None]
        c = self.cosines(x)
        theta = c.clamp(-1 + 1e-3, 1 - 1e-3).acos()
        own = (theta - margin * quality).clamp(1e-3, math.pi - 1e-3).cos() - (margin + margin * quality)
        return self.with_own(scale * c, labels, scale * own)

    def magface(self, x, labels, scale=64, lower_norm=10, upper_norm=110, lower_margin=0.45, upper_margin=0.8, norm_weight=35,
                easy_margin=True):
        a = x.norm(dim=1, keepdim=True).clamp(lower_norm, upper_norm)
        margin = (upper_margin - lower_margin) / (upper_norm - lower_norm) * (a - lower_norm) + lower_margin
        c = self.cosines(x)
        g = a / upper_norm ** 2 + 1 / a
        return self.with_own(scale * c, labels, scale * self.bent(c, margin, easy_margin)) + norm_weight * g.mean()

    def curricularface(self, x, labels, scale=64, margin=0.5, momentum=0.01):
        c = self.cosines(x)
        own = c.gather(1, labels[:, None])
        t = momentum * own.detach().mean() + (1 - momentum) * self.state.get("t", 0)
        self.state["t"] = t
        hard = c > (own.acos() + margin).cos()
        others = torch.where(hard, c * (t + c), c)
        return self.with_own(scale * others, labels, scale * self.bent(own, margin, False))

    def elasticface(self, x, labels, kind="arc", scale=64, margin=0.5, deviation=0):
        return self.arcface(x, labels, scale, margin) if kind == "arc" else self.cosface(x, labels, scale, margin)

    def sphereface2(self, x, labels, balance=0.7, scale=40, margin=0.4, power=3, weight=50):
        g = lambda c: 2 * ((c + 1) / 2) ** power - 1
        ratio = balance / ((1 - balance) * (CLASSES - 1))
        own_middle, other_middle = scale * (g(0) - margin), scale * (g(0) + margin)
        bias = (math.log(2 * ratio) - other_middle
                - math.log(1 - ratio + math.sqrt((1 - ratio) ** 2 + 4 * ratio * math.exp(own_middle - other_middle))))
        bias = torch.tensor(bias, dtype=torch.float32).double()  # it starts as float32 there
        hot = torch.nn.functional.one_hot(labels, CLASSES).double()
        logits = scale * (g(self.cosines(x)) + margin * (1 - 2 * hot)) + bias
        each = torch.nn.functional.binary_cross_entropy_with_logits(logits, hot, reduction="none")
        return weight * ((hot * balance + (1 - hot) * (1 - balance)) * each / scale).sum(1).mean()

    def circle(self, x, labels, scale=256, margin=0.25):
        c = self.cosines(x)
        others = scale * (c.detach() + margin).relu() * (c - margin)
        return self.with_own(others, labels, scale * (1 + margin - c.detach()).relu() * (c - (1 - margin)))

    def circle_pairs(self, x, labels, scale=256, margin=0.25):
        s, losses = unit(x) @ unit(x).T, []
        for i in range(len(x)):
            positives = [j for j in range(len(x)) if j != i and labels[j] == labels[i]]
            negatives = [j for j in range(len(x)) if labels[j] != labels[i]]
            if not positives or not negatives:
                continue
            # equation 6 of the paper, with weights of equation 10 as constants
            p = sum((-scale * (1 + margin - s[i, j].detach()).relu() * (s[i, j] - (1 - margin))).exp() for j in positives)
            n = sum((scale * (s[i, j].detach() + margin).relu() * (s[i, j] - margin)).exp() for j in negatives)
            losses.append((1 + p * n).log())
        return sum(losses) / len(losses)

    def contrastive(self, x, labels, weight=0.05, margin=1, margin_every=0):
        same, different = [], []
        for i in range(len(x)):
            for j in range(i):
                d = (x[i] - x[j]).norm()
                same.append(d ** 2 / 2) if labels[i] == labels[j] else different.append((margin - d).relu() ** 2 / 2)
        return self.softmax(x, labels) + weight * (sum(same) / len(same) + sum(different) / len(different)) / 2

    def triplet(self, x, labels, margin=0.2, mining="all"):
        u, losses = unit(x), []
        for a in range(len(x)):
            for p in range(len(x)):
                if a == p or labels[a] != labels[p]:
                    continue
                excess = [(u[a] - u[p]).square().sum() - (u[a] - u[n]).square().sum() + margin
                          for n in range(len(x)) if labels[n] != labels[a]]
                excess = [e for e in excess if e > 0]
                losses += [max(excess)] if mining == "hard" and excess else excess
        return sum(losses) / len(losses)

    def center(self, x, labels, weight=0.003, alpha=0.5):
        centers = self.state.setdefault("centers", torch.zeros(CLASSES, SIZE))
        loss = self.softmax(x, labels) + weight * (x - centers[labels]).square().sum(1).mean() / 2
        before = centers.clone()
        for label in labels.unique():
            mine = x.detach()[labels == label]
            centers[label] -= alpha * (before[label] - mine).sum(0) / (1 + len(mine))
        return loss


CASES = [
    ("softmax", {}), ("softmax", {"bias": False}), ("normface", {}), ("normface", {"scale": 30}), ("l2softmax", {}),
    ("l2softmax", {"scale": 20}), ("asoftmax", {}), ("asoftmax", {"margin": 3, "lambda_max": 100, "gamma": 30}),
    ("asoftmax", {"margin": 1}), ("cosface", {}), ("cosface", {"scale": 30, "margin": 0.35}), ("arcface", {}),
    ("arcface", {"scale": 16, "margin": 0.3}), ("arcface", {"easy_margin": True}), ("arcface", {"margin_grad": "straight_through"}),
    ("combined", {}), ("combined", {"m1": 0.9, "m2": 0.4, "m3": 0.15}), ("combined", {"margin_grad": "straight_through"}),
    ("adaface", {}), ("adaface", {"momentum": 0.5, "concentration": 1.5}), ("magface", {}), ("magface", {"easy_margin": False}),
    ("curricularface", {}), ("curricularface", {"momentum": 0.9}), ("elasticface", {"deviation": 0}),
    ("elasticface", {"kind": "cos", "margin": 0.35, "deviation": 0}), ("sphereface2", {}), ("circle", {}), ("circle_pairs", {"scale": 80}),
    ("contrastive", {"margin": 30, "margin_every": 0}), ("triplet", {"mining": "all"}), ("triplet", {"mining": "hard", "margin": 0.5}),
    ("center", {}), ("center", {"weight": 0.1, "alpha": 0.9}),
]


def main():
    folder = sys.argv[1]
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(CLASSES, SIZE, generator=generator) * 0.3
    bias = torch.randn(CLASSES, generator=generator)
    tensors = {"weight": weight, "bias": bias}
    samples = list(batches(weight))
    for b, (x, labels) in enumerate(samples):
        tensors |= {f"{b}.x": x, f"{b}.labels": labels}
    for number, (name, options) in enumerate(CASES):
        case = Case(name, options, weight.clone().requires_grad_(), bias.clone().requires_grad_())
        for b, (x, labels) in enumerate(samples):
            x = x.clone().requires_grad_()
            case.weight.grad = case.bias.grad = None
            loss = case.loss(x, labels)
            loss.backward()
            tensors |= {f"{number}.{b}.loss": loss.detach(), f"{number}.{b}.x.grad": x.grad}
        for kind in ("weight", "bias"):
            gradient = getattr(case, kind).grad
            if gradient is not None:
                tensors[f"{number}.{kind}.grad"] = gradient
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, f"{folder}/cases.safetensors")
    with open(f"{folder}/cases.json", "w") as file:
        json.dump([{"loss": name, "options": options} for name, options in CASES], file)


if __name__ == "__main__":
    main()
