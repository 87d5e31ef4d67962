"""Figures of generated pictures by numpy, scipy and scikit-learn, for tests/parity/generation_test.cpp.

  generation.py DIR    writes cases.safetensors (what goes in) and figures.json (what comes out)
"""

import json
import os
import sys

import numpy as np
import scipy.linalg
import scipy.ndimage
from safetensors.numpy import save_file
from sklearn.metrics.pairwise import polynomial_kernel


def fid(x, y):
    """As pytorch-fid has it: the matrix root itself."""
    first, second = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(first @ second).real
    shift = x.mean(0) - y.mean(0)
    return float(shift @ shift + np.trace(first) + np.trace(second) - 2 * np.trace(root))


def kid(x, y):
    kernel = dict(degree=3, gamma=1 / x.shape[1], coef0=1)
    a, b, c = polynomial_kernel(x, x, **kernel), polynomial_kernel(y, y, **kernel), polynomial_kernel(x, y, **kernel)
    m, n = len(x), len(y)
    return float((a.sum() - np.trace(a)) / (m * (m - 1)) + (b.sum() - np.trace(b)) / (n * (n - 1)) - 2 * c.mean())


def inception_score(logits, splits):
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    scores = []
    for part in np.array_split(p, splits):
        marginal = part.mean(0)
        scores.append(np.exp(-(marginal * np.log(marginal)).sum() + (part * np.log(part)).sum(1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def ssim(x, y):
    """Of one picture [H,W,3] uint8, as scikit-image with gaussian_weights and population statistics."""
    blur = lambda z: scipy.ndimage.gaussian_filter(z, 1.5, truncate=3.5)
    values = []
    for channel in range(3):
        a, b = x[..., channel].astype(float), y[..., channel].astype(float)
        ma, mb = blur(a), blur(b)
        va, vb, cov = blur(a * a) - ma * ma, blur(b * b) - mb * mb, blur(a * b) - ma * mb
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        plane = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
        values.append(plane[5:-5, 5:-5].mean())
    return float(np.mean(values))


def main(folder):
    draw = np.random.default_rng(2)
    tensors, figures = {}, {}
    for name, m, n, d in [("wide", 300, 260, 24), ("few", 40, 40, 16), ("large", 500, 500, 64)]:
        mix = draw.normal(size=(d, d)) / d**0.5
        x, y = draw.normal(size=(m, d)) @ mix, 0.3 + 1.2 * draw.normal(size=(n, d)) @ mix.T
        tensors[f"{name}.real"], tensors[f"{name}.fake"] = x, y
        figures[name] = {"FID": fid(x, y), "KID": kid(x, y)}
    logits = 3 * draw.normal(size=(200, 10))
    tensors["logits"] = logits
    figures["IS"] = inception_score(logits, 10)
    pictures = draw.integers(0, 256, size=(3, 29, 37, 3), dtype=np.uint8)
    smooth = scipy.ndimage.gaussian_filter(pictures.astype(float), (0, 2, 2, 0)) * 1.5 - 60
    original = np.clip(smooth, 0, 255).astype(np.uint8)
    noisy = np.clip(original + draw.normal(size=original.shape) * np.array([2, 8, 30]).reshape(3, 1, 1, 1), 0, 255)
    noisy = noisy.astype(np.uint8)
    for name, value in [("original", original), ("noisy", noisy)]:
        tensors[name] = np.ascontiguousarray(value.transpose(0, 3, 1, 2))
    error = ((original.astype(float) - noisy) ** 2).mean((1, 2, 3))
    figures["PSNR"] = list(10 * np.log10(255**2 / error))
    figures["SSIM"] = [ssim(a, b) for a, b in zip(original, noisy)]
    save_file(tensors, os.path.join(folder, "cases.safetensors"))
    with open(os.path.join(folder, "figures.json"), "w") as file:
        json.dump(figures, file)


if __name__ == "__main__":
    main(sys.argv[1])
