"""Average precisions of online action detection by scikit-learn, calibrated and per-stage ones by numpy.

online_action_metrics.py FOLDER writes FOLDER/{plain,ties,floats}.safetensors (scores, labels, ambiguous, in the form
that `zoo eval --predictions` reads, and future scores) and FOLDER/expected.json. Verified with scikit-learn 1.9.
"""

import json
import sys

import numpy as np
from safetensors.numpy import save_file
from sklearn.metrics import average_precision_score

HORIZONS = 3


def one_by_one(scores, positive):
    """Precision at the rank of every positive, equal scores in their order."""
    order = np.argsort(-scores, kind="stable")
    hits = positive[order]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits > 0].mean())


def calibrated(scores, positive):
    """De Geest et al. (2016), one by one in stable order, w = negatives/positives."""
    order = np.argsort(-scores, kind="stable")
    hits = positive[order]
    w = (hits == 0).sum() / hits.sum()
    tp, fp = np.cumsum(hits), np.cumsum(1 - hits)
    return float((w * tp / (w * tp + fp))[hits > 0].mean())


def stages(scores, positive):
    """LSTR's perstage of one class: a list of ten average precisions."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], positive, [0]])))
    runs = list(zip(edges[::2], edges[1::2] - 1))
    negatives = np.flatnonzero(positive == 0)
    results = []
    for i in range(10):
        steps = []
        for first, last in runs:
            begin = first + int((last - first) * (i / 10))
            end = max(begin + 1, first + int((last - first) * ((i + 1) / 10)))
            steps.extend(range(begin, end))
        rows = np.concatenate([np.unique(steps), negatives]).astype(int)
        results.append(average_precision_score(positive[rows], scores[rows]))
    return results


def figures(scores, labels, ambiguous, future):
    kept = ambiguous == 0
    s, y = scores[kept], labels[kept]
    present = [c for c in range(1, labels.shape[1]) if y[:, c].any()]
    result = {
        "per_class": [
            float(average_precision_score(y[:, c], s[:, c])) if c in present else None for c in range(1, labels.shape[1])
        ],
        "one_by_one": float(np.mean([one_by_one(s[:, c], y[:, c].astype(int)) for c in present])),
        "calibrated": float(np.mean([calibrated(s[:, c], y[:, c].astype(int)) for c in present])),
        "stages": np.mean([stages(s[:, c], y[:, c].astype(int)) for c in present], axis=0).tolist(),
        "anticipation": [],
    }
    for k in range(HORIZONS):
        target = np.arange(len(labels) - 1 - k) + 1 + k
        rows = ambiguous[target] == 0
        y, s = labels[target][rows], future[: len(target), k][rows]
        aps = [average_precision_score(y[:, c], s[:, c]) for c in range(1, y.shape[1]) if y[:, c].any()]
        result["anticipation"].append(float(np.mean(aps)))
    return result


def video(rng, steps, classes):
    """Runs of classes, some overlapping, one class that never comes."""
    labels = np.zeros((steps, classes), np.uint8)
    for _ in range(steps // 25):
        start, length = rng.integers(0, steps), rng.integers(1, 40)
        labels[start : start + length, rng.integers(1, classes - 1)] = 1
    labels[:, 0] = labels[:, 1:].sum(1) == 0
    return labels


def main():
    folder = sys.argv[1]
    rng = np.random.default_rng(6)
    expected = {}
    for name, steps, dtype in [("plain", 3000, np.float64), ("ties", 2500, np.float64), ("floats", 4000, np.float32)]:
        labels = video(rng, steps, 7)
        noise = rng.standard_normal((HORIZONS + 1, steps, 7))
        logits = labels[None] * 1.5 + noise
        scores = (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(dtype)
        if name == "ties":
            scores = np.round(scores, 1)
        ambiguous = (rng.random(steps) < 0.03).astype(np.uint8)
        future = np.ascontiguousarray(scores[1:].transpose(1, 0, 2))
        tensors = {"scores": scores[0], "labels": labels, "ambiguous": ambiguous, "future": future}
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, f"{folder}/{name}.safetensors")
        expected[name] = figures(scores[0], labels, ambiguous, future)
    with open(f"{folder}/expected.json", "w") as file:
        json.dump(expected, file)


if __name__ == "__main__":
    main()
