"""Inference side by side: zoo against PyTorch (eager, bf16, torch.compile) and OpenVINO, random weights, one run.

    bench/inference.py [--model detr-resnet50|iresnet50|oadtr] [--size N] [--batch 1] [--threads 2] [--rounds 5]
                       [--zoo build/release/zoo] [--skip-compile] [--json]

Every round takes each engine in turn: the Python ones in this process, zoo as `zoo bench` (whose own median over some
seconds counts for its round). All get the same pictures without padding and warm up first. The table gives the median
of the rounds, their range, the ratio to eager fp32 of the same run and the rate of arithmetic; below it the rate that a
plain 3x3 convolution reaches in the same run. detr-resnet50 is transformers' model, iresnet50 the restatement in
tests/parity/faces.py, oadtr the one in bench/oadtr.py on a window of features. A processor without bf16 arithmetic measures fp32 alone.
Sets up nothing: `scripts/bench` installs what it imports.
"""
import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import time
import warnings

import torch


class Detr(torch.nn.Module):
    """transformers' model with the exported signature."""

    def __init__(self):
        from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

        super().__init__()
        backbone = ResNetConfig(depths=[3, 4, 6, 3], out_features=["stage4"])
        config = DetrConfig(use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
                            backbone_config=backbone, num_labels=91)
        self.model = DetrForObjectDetection(config)

    def forward(self, pixels, mask):
        output = self.model(pixel_values=pixels, pixel_mask=mask)
        return output.logits, output.pred_boxes


def detr(batch, size):
    mask = torch.ones(batch, size, size, dtype=torch.long)
    return Detr(), (torch.randn(batch, 3, size, size), mask)


def iresnet50(batch, size):
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "tests", "parity"))
    from faces import IResNet

    return IResNet([3, 4, 14, 3], [64, 128, 256, 512], (size, size)), (torch.randn(batch, 3, size, size),)


def oadtr(batch, size):
    from oadtr import OadTr

    return OadTr(window=size), (torch.randn(batch, size, 3072),)


# Recipe: the peer and its inputs, the usual size, GFLOP of a picture of that size (2 x the multiply-accumulates that
# `zoo summary` counts).
MODELS = {"detr-resnet50": (detr, 640, 77.06), "iresnet50": (iresnet50, 112, 12.62), "oadtr": (oadtr, 64, 4.95)}


def timed(function):
    def measure():
        begin = time.perf_counter()
        function()
        return time.perf_counter() - begin

    return measure


def median_of(function, seconds=3.0):
    """Median time of calls over some seconds, at least three."""
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        times.append(function())
    return statistics.median(times)


def has_bf16():
    with open("/proc/cpuinfo") as info:
        return any(flag in info.read() for flag in ("avx512_bf16", "amx_bf16"))


def pytorch_engines(plain, inputs, skip_compile, bf16):
    pictures = inputs[0].dim() == 4
    layout = torch.channels_last if pictures else torch.contiguous_format
    wide = (inputs[0].contiguous(memory_format=layout), *inputs[1:])
    last = copy.deepcopy(plain).to(memory_format=layout)
    compiled = None if skip_compile else torch.compile(last)

    def autocast(model):
        def run():
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                return model(*wide)

        return run

    precision = "bf16" if bf16 else "fp32"
    engines = {"PyTorch eager fp32": lambda: plain(*inputs), f"PyTorch {precision} channels_last": autocast(last)}
    if compiled is not None:
        engines[f"torch.compile {precision} channels_last"] = autocast(compiled)
    return engines


def openvino_engines(model, inputs, threads, bf16):
    import openvino

    converted = openvino.convert_model(model, example_input=inputs)
    engines = {}
    for precision in ("f32", "bf16") if bf16 else ("f32",):
        compiled = openvino.Core().compile_model(
            converted, "CPU", {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads,
                               "PERFORMANCE_HINT": "LATENCY"})
        runs = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        arrays = [x.numpy() for x in inputs]
        engines[f"OpenVINO {precision} (runs {runs})"] = lambda compiled=compiled: compiled(arrays)
    return engines


def shape_of(options):
    return f"{options.size}x{3072 if options.model == 'oadtr' else options.size}"


def zoo_engine(options, precision):
    command = [options.zoo, "bench", "--model", options.model, "--input-size", shape_of(options),
               "--batch-size", str(options.batch), "--threads", str(options.threads), "--precision", precision, "--json"]

    def run():
        metrics = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["metrics"]
        if metrics["fallback"] is not None:
            raise SystemExit(f"zoo fell back: {metrics['fallback']}")
        return metrics["seconds_per_step"]

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="detr-resnet50")
    parser.add_argument("--size", type=int)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--zoo", default="build/release/zoo")
    parser.add_argument("--skip-compile", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    make, usual_size, _ = MODELS[options.model]
    bf16 = has_bf16()
    options.size = options.size or usual_size
    with torch.no_grad():
        plain, inputs = make(options.batch, options.size)
        engines = pytorch_engines(plain.eval(), inputs, options.skip_compile, bf16)
        engines.update(openvino_engines(plain, inputs, options.threads, bf16))
        convolution = torch.nn.Conv2d(256, 256, 3, padding=1).bfloat16().to(memory_format=torch.channels_last)
        map_ = torch.randn(1, 256, 80, 80).bfloat16().contiguous(memory_format=torch.channels_last)
        engines["(3x3 convolution bf16)"] = lambda: convolution(map_)
        for engine in engines.values():
            for _ in range(3):
                engine()
        rounds = {name: (lambda e=engine: median_of(timed(e))) for name, engine in engines.items()}
        for precision in ("fp32", "bf16") if bf16 else ("fp32",):
            rounds[f"zoo {precision}"] = zoo_engine(options, precision)
        seconds = {name: [] for name in rounds}
        for _ in range(options.rounds):
            for name, run in rounds.items():
                seconds[name].append(run())
    report(seconds, options)


def report(seconds, options):
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    eager = medians["PyTorch eager fp32"]
    _, usual_size, gflop = MODELS[options.model]
    gflop *= options.batch * (options.size / usual_size) ** 2
    rate = 2 * 256 * 256 * 9 * 6400 / medians.pop("(3x3 convolution bf16)") / 1e9
    if options.json:
        print(json.dumps({"seconds": seconds, "medians": medians, "convolution_gflops": rate}))
        return
    print(f"| {options.model} {shape_of(options)}, batch {options.batch}, {options.threads} threads | ms | range | x eager | GFLOP/s |")
    print("|---|---|---|---|---|")
    for name, median in medians.items():
        low, high = min(seconds[name]), max(seconds[name])
        print(f"| {name} | {1e3 * median:.1f} | {1e3 * low:.1f}–{1e3 * high:.1f} | {eager / median:.2f} | {gflop / median:.0f} |")
    print(f"\n3x3 convolution of 256 channels at 80x80 in bf16: {rate:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
