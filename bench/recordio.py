"""Records of an insightface .rec per second, read in random order: zoo against a reader with struct and cv2.

    bench/recordio.py [--records 20000] [--program build/release/bench/recordio] [--seconds 3] [--rounds 5] [--json]

Writes a .rec of 112x112 JPEG pictures (quality 95, textured so that they have the size of photographs of faces) with
its .idx, then reads it without decoding (bytes and label) and decoded, zoo by one thread and by two, the reader below
by one, as Python gives it. Both sides are measured in turn, `rounds` times; the table gives medians, ranges and the
median of the rounds' ratios. Needs numpy and cv2, and the program: cmake --build build/release --target recordio.
"""
import argparse
import json
import os
import random
import statistics
import struct
import subprocess
import tempfile
import time

import cv2
import numpy as np

MAGIC = 0xCED7230A
HEADER = struct.Struct("<IfQQ")


def face_like(rng):
    """Smooth blobs of four scales and some grain: about 8 kB at quality 95."""
    picture = np.zeros((112, 112, 3), np.float32)
    for cells, strength in ((4, 60), (9, 35), (20, 18), (50, 8)):
        picture += cv2.resize(rng.normal(0, strength, (cells, cells, 3)).astype(np.float32), (112, 112),
                              interpolation=cv2.INTER_CUBIC)
    return np.clip(picture + 120 + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)


def write_records(stem, count):
    rng = np.random.default_rng(0)
    pictures = [cv2.imencode(".jpg", face_like(rng), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
                for _ in range(min(count, 500))]
    offset = 0
    with open(stem + ".rec", "wb") as records, open(stem + ".idx", "w") as index:
        for key in range(count):
            payload = HEADER.pack(0, float(key // 20), key, 0) + pictures[key % len(pictures)]
            part = struct.pack("<II", MAGIC, len(payload)) + payload + b"\0" * (-len(payload) % 4)
            index.write(f"{key}\t{offset}\n")
            records.write(part)
            offset += len(part)
    return offset / count


class Reader:
    """Random access by the index, parts joined as dmlc-core does it."""

    def __init__(self, stem):
        self.file = open(stem + ".rec", "rb")
        with open(stem + ".idx") as index:
            self.offsets = [int(line.split("\t")[1]) for line in index]

    def payload(self, index):
        self.file.seek(self.offsets[index])
        parts = []
        while True:
            magic, word = struct.unpack("<II", self.file.read(8))
            if magic != MAGIC:
                raise ValueError(f"no record at {self.offsets[index]}")
            kind, length = word >> 29, word & 0x1FFFFFFF
            parts.append(self.file.read(length))
            if kind in (0, 3):
                return struct.pack("<I", MAGIC).join(parts)
            self.file.seek(-length % 4, 1)

    def record(self, index):
        payload = self.payload(index)
        flag, label, _, _ = HEADER.unpack_from(payload)
        if flag > 0:
            label = struct.unpack_from("<f", payload, HEADER.size)[0]
        return label, payload[HEADER.size + 4 * flag:]

    def picture(self, index):
        label, data = self.record(index)
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return label, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def python_rate(read, count, seconds):
    order = list(range(count))
    random.Random(1).shuffle(order)
    done, start = 0, time.perf_counter()
    while True:
        for _ in range(64):
            read(order[done % count])
            done += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return done / elapsed


def zoo_rate(options, stem, mode, threads):
    command = [options.program, stem + ".rec", mode, str(threads), str(options.seconds)]
    result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return result["records"] / result["seconds"]


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20000)
    parser.add_argument("--program", default=os.path.join(here, "../build/release/bench/recordio"))
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    cv2.setNumThreads(1)
    rows = [("records, 1 thread", "records", 1), ("pictures, 1 thread", "pictures", 1),
            ("pictures, 2 threads", "pictures", 2)]
    rates = {name: ([], []) for name, _, _ in rows}
    with tempfile.TemporaryDirectory() as folder:
        stem = os.path.join(folder, "train")
        mean_bytes = write_records(stem, options.records)
        reader = Reader(stem)
        for _ in range(options.rounds):
            for name, mode, threads in rows:
                rates[name][0].append(zoo_rate(options, stem, mode, threads))
                read = reader.record if mode == "records" else reader.picture
                rates[name][1].append(python_rate(read, options.records, options.seconds))
    ratios = {name: statistics.median(a / b for a, b in zip(*both)) for name, both in rates.items()}
    if options.json:
        print(json.dumps({"bytes_per_record": mean_bytes, "ratios": ratios,
                          "rates": {name: {"zoo": a, "python": b} for name, (a, b) in rates.items()}}))
        return
    print(f"{options.records} records of {mean_bytes:.0f} bytes")
    print(f"{'':20} {'zoo, records/s':>28} {'struct and cv2':>28} {'ratio':>7}")
    for name, (ours, theirs) in rates.items():
        cells = [f"{statistics.median(r):9.0f} ({min(r):.0f} to {max(r):.0f})" for r in (ours, theirs)]
        print(f"{name:20} {cells[0]:>28} {cells[1]:>28} {ratios[name]:7.2f}")


if __name__ == "__main__":
    main()
