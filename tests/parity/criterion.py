"""The set loss by transformers and the assignment by scipy, for tests/parity/criterion_test.cpp.

  criterion.py loss OUT.safetensors
      predictions, targets, DETR's loss terms and the gradients of their weighted sum, in double precision
  criterion.py assignment OUT.safetensors
      cost matrices and the totals of scipy's assignments (NaN where scipy finds none)
  criterion.py time L B Q C T
      prints the median seconds of a forward and backward pass of the loss in float32
"""

import statistics
import sys
import time
from types import SimpleNamespace

import numpy
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from scipy.optimize import linear_sum_assignment
from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss

WEIGHTS = {"loss_ce": 1, "loss_bbox": 5, "loss_giou": 2}
# layers, queries, classes, targets of each image
CASES = [(1, 10, 3, [4]), (6, 100, 91, [7, 1, 20, 3]), (3, 25, 5, [0, 6]), (2, 6, 4, [6, 9, 0]), (3, 7, 5, [0, 0])]


def config(layers, classes):
    return SimpleNamespace(
        class_cost=1,
        bbox_cost=5,
        giou_cost=2,
        num_labels=classes,
        eos_coefficient=0.1,
        auxiliary_loss=True,
        decoder_layers=layers,
        bbox_loss_coefficient=5,
        giou_loss_coefficient=2,
        mask_loss_coefficient=1,
        dice_loss_coefficient=1,
    )


def sample(layers, queries, classes, counts, dtype):
    generator = torch.Generator().manual_seed(queries * 1000 + layers)
    random = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)
    boxes = lambda *shape: torch.cat([0.2 + 0.6 * random(*shape, 2), 0.02 + 0.4 * random(*shape, 2)], -1)
    logits = (4 * random(layers, len(counts), queries, classes + 1) - 2).to(dtype).requires_grad_()
    predicted = boxes(layers, len(counts), queries).to(dtype).requires_grad_()
    targets = [
        {
            "class_labels": torch.randint(classes, (count,), generator=generator),
            "boxes": boxes(count).to(dtype),
        }
        for count in counts
    ]
    return logits, predicted, targets


def without_targets(logits, boxes):
    """What the published criterion gives; transformers' matcher cannot reshape a cost matrix without elements."""
    terms = {}
    no_object = torch.full(logits.shape[1:3], logits.shape[-1] - 1)
    for layer in range(len(logits)):
        suffix = "" if layer == len(logits) - 1 else f"_{layer}"
        terms["loss_ce" + suffix] = torch.nn.functional.cross_entropy(logits[layer].transpose(1, 2), no_object)
        terms["loss_bbox" + suffix] = terms["loss_giou" + suffix] = boxes[layer, :, :0].sum()
        found = (logits[layer].argmax(-1) != logits.shape[-1] - 1).sum(1)
        terms["cardinality_error" + suffix] = found.to(logits.dtype).mean()
    return sum(WEIGHTS.get(name.rstrip("_0123456789"), 0) * term for name, term in terms.items()), terms


def loss_of(logits, boxes, targets):
    if sum(len(target["boxes"]) for target in targets) == 0:
        return without_targets(logits, boxes)
    settings = config(len(logits), logits.shape[-1] - 1)
    total, terms, _ = ForObjectDetectionLoss(logits[-1], targets, "cpu", boxes[-1], settings, logits, boxes)
    return total, terms


def write_loss(path):
    torch.set_default_dtype(torch.float64)  # of transformers' class weights
    tensors = {}
    for case, (layers, queries, classes, counts) in enumerate(CASES):
        logits, boxes, targets = sample(layers, queries, classes, counts, torch.float64)
        total, terms = loss_of(logits, boxes, targets)
        total.backward()
        named = {"logits": logits, "boxes": boxes, "total": total, "logits.grad": logits.grad, "boxes.grad": boxes.grad}
        named |= {f"term.{name}": term for name, term in terms.items()}
        for i, target in enumerate(targets):
            named |= {f"{i}.labels": target["class_labels"], f"{i}.boxes": target["boxes"]}
        tensors |= {f"{case}.{name}": tensor.detach().clone().contiguous() for name, tensor in named.items()}
    save_file(tensors, path)


def matrices():
    random = numpy.random.default_rng(3)
    for rows, columns in [(1, 1), (5, 5), (7, 100), (100, 7), (60, 60), (200, 300), (300, 200), (1, 50), (50, 1)]:
        yield random.random((rows, columns))
        yield random.normal(size=(rows, columns)) * 1e6
        yield random.integers(0, 4, (rows, columns)).astype(float)  # ties
        yield numpy.full((rows, columns), 1.5)
        yield numpy.outer(numpy.arange(rows), numpy.arange(columns)).astype(float)  # the classical hard case
        sparse = random.random((rows, columns))
        sparse[random.random((rows, columns)) < 0.7] = numpy.inf  # often without any assignment
        yield sparse
    for shape in [(6, 6), (6, 9), (9, 6)]:  # three rows share two columns
        crowded = random.random(shape)
        crowded[:3, 2:] = numpy.inf
        yield crowded
        yield crowded.T.copy()
    for shape in [(0, 0), (0, 4), (4, 0)]:
        yield numpy.zeros(shape)


def write_assignments(path):
    arrays = {}
    for case, cost in enumerate(matrices()):
        try:
            total = cost[linear_sum_assignment(cost)].sum()
        except ValueError:
            total = numpy.nan
        arrays[f"{case}.cost"] = cost
        arrays[f"{case}.total"] = numpy.array(total)
    save_arrays(arrays, path)


def measure(layers, images, queries, classes, count):
    torch.set_num_threads(2)
    logits, boxes, targets = sample(layers, queries, classes, [count] * images, torch.float32)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        loss_of(logits, boxes, targets)[0].backward()
        seconds.append(time.perf_counter() - start)
    print(statistics.median(seconds))


if __name__ == "__main__":
    if sys.argv[1] == "loss":
        write_loss(sys.argv[2])
    elif sys.argv[1] == "assignment":
        write_assignments(sys.argv[2])
    else:
        measure(*map(int, sys.argv[2:]))
