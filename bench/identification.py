#!/usr/bin/env python3
"""1:N identification over a gallery of a million people: `zoo eval --predictions` as a whole process, reading
included, beside numpy on arrays that are in memory already.

scripts/bench identification [--gallery 1000000] [--probes 64] [--size 512] [--rounds 3]
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

import numpy as np
from safetensors.numpy import save_file


def embeddings(arguments):
    """Random people, and probes near some of them."""
    random = np.random.default_rng(0)
    gallery = random.standard_normal((arguments.gallery, arguments.size), dtype=np.float32)
    labels = random.integers(0, arguments.gallery, arguments.probes)
    noise = random.standard_normal((arguments.probes, arguments.size), dtype=np.float32)
    return {
        "gallery": gallery,
        "gallery_labels": np.arange(arguments.gallery),
        "probes": gallery[labels] + 4.5 * noise,
        "probe_labels": labels,
    }


def by_numpy(data):
    """Rates of ranks 1 and 5."""
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = unit(data["probes"]) @ unit(data["gallery"]).T
    own = cosines[np.arange(len(cosines)), data["probe_labels"]]
    better = (cosines > own[:, None]).sum(1)
    return float((better < 1).mean()), float((better < 5).mean())


def by_zoo(zoo, path):
    command = [zoo, "eval", "--predictions", path, "--json"]
    metrics = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["metrics"]
    return metrics["rank1"], metrics["rank5"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gallery", type=int, default=1_000_000)
    parser.add_argument("--probes", type=int, default=64)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--zoo", default="build/release/zoo")
    arguments = parser.parse_args()
    data = embeddings(arguments)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "faces.safetensors")
        save_file(data, path)
        runs = {"numpy, in memory": lambda: by_numpy(data), "zoo, whole process": lambda: by_zoo(arguments.zoo, path)}
        seconds = {name: [] for name in runs}
        rates = {}
        for _ in range(arguments.rounds):
            for name, run in runs.items():
                start = time.perf_counter()
                rates[name] = run()
                seconds[name].append(time.perf_counter() - start)
    print(f"| {arguments.gallery:,} x {arguments.size} gallery, {arguments.probes} probes | s | s a probe | rank 1 | rank 5 |")
    print("|---|---|---|---|---|")
    for name in runs:
        median = statistics.median(seconds[name])
        rank1, rank5 = rates[name]
        print(f"| {name} | {median:.2f} | {median / arguments.probes:.4f} | {rank1:.3f} | {rank5:.3f} |")


if __name__ == "__main__":
    main()
