"""Pictures by diffusers' Stable Diffusion pipelines with small random parts, for tests/parity/pipeline_test.cpp.

  pipeline.py DIR    DIR/tokenizer is there; writes DIR/paint and DIR/show (models of 4 and 9 channels), DIR/cases.json
                     (what was asked for) and DIR/cases.safetensors (pictures, masks, noise, and what came out)
"""

import json
import os
import sys

import torch
from diffusers import AutoencoderKL, StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
import diffusers
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from samplers import CLASSES, COMMON

PROMPTS, NEGATIVES = ["a red circle above a blue one", "two circles"], ["blue", ""]
HEIGHT, WIDTH = 48, 32


def parts(folder, channels):
    torch.manual_seed(channels)
    tokenizer = CLIPTokenizer.from_pretrained(os.path.join(folder, "tokenizer"))
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=channels, out_channels=4, layers_per_block=1, block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32, attention_head_dim=4, norm_num_groups=8)
    vae = AutoencoderKL(
        block_out_channels=(16, 32, 32), down_block_types=("DownEncoderBlock2D",) * 3, latent_channels=4,
        up_block_types=("UpDecoderBlock2D",) * 3, layers_per_block=1, norm_num_groups=8, sample_size=32)
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id))
    for part in (unet, text):  # so that prompts and latents matter
        for name, parameter in part.named_parameters():
            if parameter.dim() > 1:
                parameter.data *= 1.6
    scheduler = diffusers.PNDMScheduler.from_config({**COMMON, "skip_prk_steps": True})
    made = dict(vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler, safety_checker=None,
                feature_extractor=None)
    StableDiffusionPipeline(**made, requires_safety_checker=False).save_pretrained(
        os.path.join(folder, "paint" if channels == 4 else "show"))
    return made


def cases():
    for sampler in ["ddim", "plms", "euler", "heun", "unipc"]:
        yield dict(kind="text", sampler=sampler, guidance=5.0, latents=True)
    yield dict(kind="text", sampler="ddim", guidance=1.0, latents=True)
    yield dict(kind="text", sampler="ddim", guidance=6.0, latents=True, rescale=0.7)
    yield dict(kind="text", sampler="euler_a", guidance=4.0)
    for sampler in ["ddim", "euler", "heun", "dpmpp_2m", "ddpm"]:
        yield dict(kind="image", sampler=sampler, guidance=3.0, strength=0.65)
    for channels in [4, 9]:
        for sampler in ["ddim", "euler", "heun", "dpmpp_2m"]:
            for strength in [1.0, 0.6]:
                yield dict(kind="paint", sampler=sampler, guidance=3.0, strength=strength, channels=channels)


def run(folder, models, case, tensors):
    made = dict(models[case.get("channels", 4)])
    name, defaults = CLASSES[case["sampler"]]
    made["scheduler"] = getattr(diffusers, name).from_pretrained(os.path.join(folder, "paint/scheduler"), **defaults)
    common = dict(prompt=PROMPTS, negative_prompt=NEGATIVES, num_inference_steps=10, guidance_scale=case["guidance"],
                  generator=[torch.Generator("cpu").manual_seed(21 + i) for i in range(2)], output_type="latent")
    if case["kind"] == "text":
        pipe = StableDiffusionPipeline(**made, requires_safety_checker=False)
        common.update(height=HEIGHT, width=WIDTH, guidance_rescale=case.get("rescale", 0.0))
        if case.get("latents"):
            common["latents"] = tensors["noise"]
    elif case["kind"] == "image":
        pipe = StableDiffusionImg2ImgPipeline(**made, requires_safety_checker=False)
        common.update(image=tensors["image"].repeat(2, 1, 1, 1), strength=case["strength"])
    else:
        pipe = StableDiffusionInpaintPipeline(**made, requires_safety_checker=False)
        common.update(image=tensors["image"].repeat(2, 1, 1, 1), mask_image=tensors["mask"].repeat(2, 1, 1, 1),
                      strength=case["strength"], height=HEIGHT, width=WIDTH)
    pipe.set_progress_bar_config(disable=True)
    return pipe(**common).images


def main(folder):
    models = {channels: parts(folder, channels) for channels in (4, 9)}
    torch.manual_seed(7)
    tensors = {"noise": torch.randn(2, 4, 12, 8), "image": torch.rand(1, 3, HEIGHT, WIDTH)}
    tensors["mask"] = torch.zeros(1, 1, HEIGHT, WIDTH)
    tensors["mask"][..., 10:30, 5:20] = 1
    records = list(cases())
    for number, case in enumerate(records):
        tensors[f"case.{number}"] = run(folder, models, case, tensors).contiguous()
    vae = models[4]["vae"]
    latents = torch.randn(1, 4, 21, 13)
    tensors["decode.latents"] = latents * vae.config.scaling_factor
    picture = lambda: (vae.decode(latents).sample / 2 + 0.5).clamp(0, 1)
    tensors["decode.whole"] = picture()
    vae.enable_tiling()
    tensors["decode.tiled"] = picture()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, os.path.join(folder, "cases.safetensors"))
    with open(os.path.join(folder, "cases.json"), "w") as file:
        json.dump({"prompts": PROMPTS, "negatives": NEGATIVES, "cases": records}, file)


if __name__ == "__main__":
    torch.set_num_threads(1)  # the parts are so small that threads only wait for each other
    with torch.no_grad():
        main(sys.argv[1])
