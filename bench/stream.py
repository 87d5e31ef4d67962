"""Latency and memory of an endless stream: pipes frames into `zoo predict --stream`, one line of JSON back each, and
prints the median and the 99th percentile of the round trip and the program's resident memory by tenths of the stream.

  scripts/bench stream --weights RUN [--frames 1000000] [--threads 1]
"""
import argparse
import json
import os
import subprocess
import time

import numpy as np


def resident_mib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def feature_size(run):
    with open(os.path.join(run, "config.json")) as config:
        return json.load(config)["model"]["feature_size"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", default="build/release/zoo")
    parser.add_argument("--weights", required=True, help="a run of an online action model")
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--threads", default="1")
    arguments = parser.parse_args()

    rows = np.random.default_rng(0).standard_normal((4096, feature_size(arguments.weights))).astype(np.float32)
    command = [arguments.zoo, "predict", "--weights", arguments.weights, "-", "--stream", "--threads", arguments.threads]
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    tenth = arguments.frames // 10
    print("| frames | p50 ms | p99 ms | resident MiB |\n|---|---|---|---|")
    for part in range(10):
        times = np.empty(tenth)
        for i in range(tenth):
            start = time.perf_counter()
            program.stdin.write(rows[(part * tenth + i) % len(rows)].tobytes())
            program.stdin.flush()
            line = program.stdout.readline()
            times[i] = time.perf_counter() - start
        assert json.loads(line)["step"] == (part + 1) * tenth - 1
        p50, p99 = np.percentile(times, [50, 99]) * 1e3
        print(f"| {(part + 1) * tenth:,} | {p50:.3f} | {p99:.3f} | {resident_mib(program.pid):.1f} |", flush=True)
    program.stdin.close()
    assert program.wait() == 0


main()
