"""Verification and identification by cli.md's rule with numpy.

verification.py FOLDER writes FOLDER/{even,uneven,folds,gallery}.safetensors (embeddings in the form that `zoo eval
--predictions` reads) and FOLDER/expected.json with the figures of each. Verified with numpy 2.
"""

import json
import sys

import numpy as np
from safetensors.numpy import save_file

FARS = ["1e-6", "1e-5", "1e-4", "1e-3", "1e-2", "1e-1"]


def folds_of(count):
    """Ten contiguous folds, the first `count % 10` one longer."""
    sizes = [count // 10 + (fold < count % 10) for fold in range(10)]
    return np.repeat(np.arange(10), sizes)


def accuracy(cosines, same, folds):
    """Mean and deviation over folds, and the mean threshold as a cosine."""
    distances = 2 - 2 * cosines
    thresholds = np.arange(0, 4, 0.01)
    right = (distances[None, :] < thresholds[:, None]) == same[None, :]
    scores, chosen = [], []
    for fold in np.unique(folds):
        best = np.argmax(right[:, folds != fold].mean(axis=1))
        scores.append(right[best, folds == fold].mean())
        chosen.append(1 - thresholds[best] / 2)
    return np.mean(scores), np.std(scores), np.mean(chosen)


def roc(cosines, same):
    """False and true accept rates at every different score, from the strictest on."""
    points = [(0.0, 0.0)]
    for threshold in np.unique(cosines)[::-1]:
        accepted = cosines >= threshold
        points.append((accepted[~same].mean(), accepted[same].mean()))
    return np.array(points).T


def equal_error_rate(far, tar):
    """Where the polygon of the points, with its vertical runs, meets 1 - far."""
    excess = far + tar - 1
    after = np.flatnonzero(excess >= 0)[0]
    share = -excess[after - 1] / (excess[after] - excess[after - 1])
    return far[after - 1] + share * (far[after] - far[after - 1])


def verification(a, b, same, folds):
    a, b = a.astype(np.float64), b.astype(np.float64)
    cosines = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
    mean, deviation, threshold = accuracy(cosines, same, folds)
    far, tar = roc(cosines, same)
    impostors = np.sort(cosines[~same])[::-1]
    rates = {}
    for name in FARS:
        limit = impostors[int(np.floor(float(name) * len(impostors)))]
        rates[name] = float((cosines[same] > limit).mean())
    return {
        "accuracy": float(mean),
        "accuracy_std": float(deviation),
        "threshold": float(threshold),
        "auc": float(np.trapezoid(tar, far)),
        "eer": float(equal_error_rate(far, tar)),
        "tar_at_far": rates,
    }


def pairs(rng, count, size, noise, ties):
    """Genuine pairs share a person; `ties` of the pairs are copies of others, so that scores are equal."""
    person = rng.standard_normal((count, size))
    same = rng.random(count) < 0.5
    a = person + noise * rng.standard_normal((count, size))
    b = np.where(same[:, None], person, rng.standard_normal((count, size)))
    b = b + noise * rng.standard_normal((count, size))
    copies = rng.integers(0, count, (2, ties))
    a[copies[0]], b[copies[0]] = a[copies[1]], b[copies[1]]
    return a.astype(np.float32), b.astype(np.float32), same


def identification(rng):
    people, size = 300, 32
    person = rng.standard_normal((people, size))
    labels = rng.integers(0, people, 1000)
    gallery = (person[labels] + rng.standard_normal((1000, size))).astype(np.float32)
    gallery[500:520] = gallery[:20]  # equal cosines
    probe_labels = rng.choice(labels, 200)
    probes = (person[probe_labels] + 1.2 * rng.standard_normal((200, size))).astype(np.float32)
    g, p = gallery.astype(np.float64), probes.astype(np.float64)
    products = np.array([(g * row).sum(1) / np.sqrt((g * g).sum(1) * (row * row).sum()) for row in p])
    order = np.argsort(-products, axis=1, kind="stable")
    hits = labels[order] == probe_labels[:, None]
    curve = [float(hits[:, :rank].any(1).mean()) for rank in range(1, 21)]
    tensors = {"gallery": gallery, "gallery_labels": labels, "probes": probes, "probe_labels": probe_labels}
    return tensors, {"rank1": curve[0], "rank5": curve[4], "cmc": curve}


def main():
    folder = sys.argv[1]
    rng = np.random.default_rng(20)
    expected = {}
    for name, count, noise, ties in [("even", 3000, 1.2, 400), ("uneven", 1237, 0.8, 0), ("folds", 500, 1.0, 200)]:
        a, b, same = pairs(rng, count, 48, noise, ties)
        tensors = {"a": a, "b": b, "same": same.astype(np.uint8)}
        folds = folds_of(count)
        if name == "folds":
            tensors["fold"] = folds = rng.choice(np.array([-4, 3, 17, 100]), count)
        save_file(tensors, f"{folder}/{name}.safetensors")
        expected[name] = verification(a, b, same, folds)
    tensors, expected["gallery"] = identification(rng)
    save_file(tensors, f"{folder}/gallery.safetensors")
    with open(f"{folder}/expected.json", "w") as file:
        json.dump(expected, file)


if __name__ == "__main__":
    main()
