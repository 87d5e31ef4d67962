"""The parts of Stable Diffusion 1.5 side by side, with random weights: zoo against diffusers and transformers, in one run.

    bench/ldm.py [--parts unet vae_decoder text_encoder] [--threads 2] [--rounds 2] [--steps 2] [--no-bf16]
                 [--program build/release/bench/ldm] [--json]

unet: one step with guidance, 2x4x64x64 latents; vae_decoder: one picture of 512x512; text_encoder: two prompts. diffusers runs
eager in fp32, and in its best setting: channels_last, bfloat16 (not with --no-bf16), torch.compile. Every round takes each engine in
turn, each in a process of its own, whose first two runs are not counted. Extra memory is the process's peak less what it had with
the weights made. The program is built by `cmake --build build/release --target ldm`.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time


def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make_part(part):
    """The network, its inputs, and what calls it."""
    import torch

    torch.manual_seed(0)
    if part == "text_encoder":
        from transformers import CLIPTextConfig, CLIPTextModel

        config = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        return CLIPTextModel(config), [torch.randint(0, 49408, (2, 77))], lambda net: net
    if part == "vae_decoder":
        from diffusers import AutoencoderKL

        net = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
        )
        return net, [torch.randn(1, 4, 64, 64)], lambda net: net.decode
    from diffusers import UNet2DConditionModel

    net = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    return net, [torch.randn(2, 4, 64, 64), torch.full((2,), 500.0), torch.randn(2, 77, 768)], lambda net: net


def peer_engine(part, setting, steps, threads):
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    net, inputs, method = make_part(part)
    net.eval()
    if "bf16" in setting:
        net.to(torch.bfloat16)
        inputs = [x.bfloat16() if x.is_floating_point() else x for x in inputs]
    if "best" in setting and part != "text_encoder":
        net.to(memory_format=torch.channels_last)
    base, seconds = resident(), []
    call = method(net)
    if "best" in setting:
        call = torch.compile(call)
    for step in range(steps + 2):
        start = time.perf_counter()
        call(*inputs)
        if step >= 2:
            seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds, "peak_bytes": resident(), "base_bytes": base}))


def run(command, threads):
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def engines(part, arguments):
    counts = [str(arguments.steps), str(arguments.threads)]
    peer = [sys.executable, __file__, "--engine", part]
    yield "diffusers fp32", [*peer, "fp32", *counts]
    best = "best" if arguments.no_bf16 else "best-bf16"
    yield f"diffusers {best}", [*peer, best, *counts]
    yield "zoo fp32", [arguments.program, part, "fp32", *counts]
    if not arguments.no_bf16:
        yield "zoo bf16", [arguments.program, part, "bf16", *counts]


def measure(part, arguments):
    rows = {}
    for _ in range(arguments.rounds):
        for name, command in engines(part, arguments):
            found = run(command, arguments.threads)
            row = rows.setdefault(name, {"seconds": [], "extra_bytes": 0, "fallback": found.get("fallback", "")})
            row["seconds"] += found["seconds"]
            row["extra_bytes"] = max(row["extra_bytes"], found["peak_bytes"] - found["base_bytes"])
    for row in rows.values():
        row["median"] = statistics.median(row["seconds"])
        row["speed"] = rows["diffusers fp32"]["median"] / row["median"]
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["unet", "vae_decoder", "text_encoder"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--no-bf16", action="store_true")
    parser.add_argument("--program", default="build/release/bench/ldm")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--engine", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.engine:
        part, setting, steps, threads = arguments.engine
        return peer_engine(part, setting, int(steps), int(threads))
    results = {part: measure(part, arguments) for part in arguments.parts}
    if arguments.json:
        return print(json.dumps(results, indent=2))
    for part, rows in results.items():
        print(part)
        for name, row in rows.items():
            extra = row["extra_bytes"] / 2**30
            print(f"  {name:22} {row['median']:8.3f} s  {row['speed']:5.2f}x  {extra:6.2f} GiB extra  {row['fallback']}")


if __name__ == "__main__":
    main()
