"""From nothing to the first denoised step of Stable Diffusion 1.5: zoo against diffusers, side by side.

    bench/ldm_start.py [--threads 2] [--rounds 3] [--folder DIR] [--zoo build/release/zoo] [--json]

Both read the same folder of random weights in float32 (4.2 GB, made first and kept where --folder names one) and take one step
with guidance at 64x64 pixels, so that the arithmetic is small beside the loading; nothing is decoded. Timed is the whole
process; the peak is its largest resident memory, for zoo mostly the mapped files themselves. The files lie in the system's
cache, as after a first use. diffusers has accelerate, without which it draws random weights first.
"""
import argparse
import json
import os
import statistics
import sys
import tempfile

from start import run

SCRIPT = """
import sys, torch
from diffusers import StableDiffusionPipeline
torch.set_num_threads(int(sys.argv[2]))
pipeline = StableDiffusionPipeline.from_pretrained(sys.argv[1], tokenizer=None, safety_checker=None, feature_extractor=None)
ids = torch.full((2, 77), 513)
ids[:, 0] = 512
with torch.no_grad():
    states = pipeline.text_encoder(ids)[0]
pipeline.set_progress_bar_config(disable=True)
latents = pipeline(prompt_embeds=states[:1], negative_prompt_embeds=states[1:], height=64, width=64, num_inference_steps=1,
                   output_type="latent").images
print(latents.shape)
"""


def write_tokenizer(folder):
    """Bytes alone, without merges."""
    kept = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    others = [byte for byte in range(256) if byte not in kept]
    letters = [chr(byte) for byte in kept] + [chr(256 + i) for i in range(len(others))]
    names = letters + [letter + "</w>" for letter in letters] + ["<|startoftext|>", "<|endoftext|>"]
    os.makedirs(folder)
    with open(os.path.join(folder, "vocab.json"), "w", encoding="utf-8") as file:
        json.dump({name: number for number, name in enumerate(names)}, file)
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as file:
        file.write("#version: 0.2\n")


def write_model(folder):
    from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8).save_pretrained(folder + "/unet")
    levels = 4
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        sample_size=512,
    ).save_pretrained(folder + "/vae")
    config = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
                            projection_dim=768)
    CLIPTextModel(config).save_pretrained(folder + "/text_encoder")
    PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True,
                  steps_offset=1).save_pretrained(folder + "/scheduler")
    write_tokenizer(folder + "/tokenizer")
    parts = {"scheduler": ["diffusers", "PNDMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
             "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
             "vae": ["diffusers", "AutoencoderKL"], "safety_checker": [None, None], "feature_extractor": [None, None]}
    with open(folder + "/model_index.json", "w", encoding="utf-8") as file:
        json.dump({"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False, **parts}, file)


def weight_bytes(folder):
    return sum(
        os.path.getsize(os.path.join(root, name))
        for root, _, names in os.walk(folder) for name in names if name.endswith(".safetensors"))


def compare(folder, options):
    with tempfile.TemporaryDirectory() as work:
        script = os.path.join(work, "first_step.py")
        with open(script, "w", encoding="utf-8") as file:
            file.write(SCRIPT)
        threads = str(options.threads)
        commands = {
            "diffusers": [sys.executable, script, folder, threads],
            "zoo": [options.zoo, "predict", "--weights", folder, "a", "--size", "64x64", "--steps", "1", "--output-type", "latent",
                    "--threads", threads, "--output", os.path.join(work, "out")]}
        found = {name: [] for name in commands}
        for _ in range(options.rounds + 1):
            for name, command in commands.items():
                found[name].append(run(command))
    return {name: [statistics.median(column) for column in zip(*rows[1:])] for name, rows in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="where the weights are, or are to be kept")
    parser.add_argument("--zoo", default="build/release/zoo")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as own:
        folder = options.folder or own
        if not os.path.exists(folder + "/model_index.json"):
            write_model(folder)
        medians, weights = compare(folder, options), weight_bytes(folder)
    if options.json:
        print(json.dumps({"weights": weights, "medians": medians}))
        return
    peer = medians["diffusers"][0]
    print(f"start to the first step, Stable Diffusion 1.5, {weights / 2**30:.2f} GiB of weights, {options.threads} threads")
    for name, (seconds, peak) in medians.items():
        print(f"  {name:10} {seconds:7.2f} s  {peer / seconds:5.1f}x  peak {peak / 2**30:5.2f} GiB, {peak / weights:.2f} of the weights")


if __name__ == "__main__":
    main()
