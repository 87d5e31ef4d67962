"""Whole models of latent diffusion as they are distributed, for tests/parity/ldm_weights_test.cpp.

  ldm_weights.py write DIR
      sd1/, sd2/           diffusers folders of small models with random weights, as save_pretrained writes them
      sd1-old/             the same as sd1 in pickles with older names: the autoencoder's attention, `text_model.`,
                           `position_ids`
      sd1-sharded/         in several files with an index;  sd1-half/  float16 with its variant's names
      sd1.ckpt             the same in the original layout, among a trainer's other things, with averages
      sd1.safetensors      the original layout without averages, text names without `text_model.`
      sd2.safetensors      the original layout with OpenCLIP's text tower
      NAME.expected        tensors by zoo's names; sd1.averages.expected
      The original names are made by a table of this file and checked by diffusers' own converters.
  ldm_weights.py check DIR EXPECTED
      opens DIR, written by zoo, as a StableDiffusionPipeline, compares its tensors with EXPECTED and makes a picture
"""

import json
import os
import re
import shutil
import sys

import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

CROSS_DOWN, DOWN, CROSS_UP, UP = "CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"
MERGES = ["i n", "t h", "a n", "r e", "th e</w>", "in g</w>"]
WIDTH = {"sd1": 64, "sd2": 128}


def byte_symbols():
    kept = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    others = [byte for byte in range(256) if byte not in kept]
    return [chr(byte) for byte in kept] + [chr(256 + k) for k in range(len(others))]


def vocabulary():
    symbols = byte_symbols()
    words = symbols + [symbol + "</w>" for symbol in symbols] + [merge.replace(" ", "") for merge in MERGES]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return {word: number for number, word in enumerate(words)}


def write_tokenizer(folder):
    os.makedirs(folder)
    with open(os.path.join(folder, "vocab.json"), "w") as file:
        json.dump(vocabulary(), file)
    with open(os.path.join(folder, "merges.txt"), "w") as file:
        file.write("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
        json.dump({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}, file)


def build(kind):
    torch.manual_seed(0)
    linear = kind == "sd2"
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(64, 64, 128, 128),
        down_block_types=(CROSS_DOWN, CROSS_DOWN, CROSS_DOWN, DOWN),
        up_block_types=(UP, CROSS_UP, CROSS_UP, CROSS_UP),
        layers_per_block=2,
        cross_attention_dim=WIDTH[kind],
        attention_head_dim=[1, 1, 2, 2] if linear else 8,
        use_linear_projection=linear,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=2,
        latent_channels=4,
        sample_size=64,
    )
    words = len(vocabulary())
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=words,
            hidden_size=WIDTH[kind],
            intermediate_size=96,
            num_hidden_layers=3,
            num_attention_heads=WIDTH[kind] // 64,
            hidden_act="gelu" if linear else "quick_gelu",
            bos_token_id=words - 2,
            eos_token_id=words - 1,
        )
    )
    return {"unet": unet, "vae": vae, "text_encoder": text}


def plain_text(state):
    return {name.removeprefix("text_model."): tensor for name, tensor in state.items()}


def zoo_names(parts):
    states = {part: model.state_dict() for part, model in parts.items()}
    states["text_encoder"] = plain_text(states["text_encoder"])
    return {
        f"{part}.{name}": tensor.contiguous()
        for part, state in states.items()
        for name, tensor in state.items()
        if not name.endswith("position_ids")
    }


def write_folder(folder, kind, parts, **options):
    for part, model in parts.items():
        model.save_pretrained(os.path.join(folder, part), **options)
    scheduler = DDIMScheduler if kind == "sd2" else PNDMScheduler
    scheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        set_alpha_to_one=False,
        prediction_type="v_prediction" if kind == "sd2" else "epsilon",
        **({"clip_sample": False} if kind == "sd2" else {"skip_prk_steps": True}),
    ).save_pretrained(os.path.join(folder, "scheduler"))
    write_tokenizer(os.path.join(folder, "tokenizer"))
    index = {
        "_class_name": "StableDiffusionPipeline",
        "scheduler": ["diffusers", scheduler.__name__],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    with open(os.path.join(folder, "model_index.json"), "w") as file:
        json.dump(index, file)


def write_old(folder, source, parts):
    """Pickles with the names of older versions."""
    shutil.copytree(source, folder)
    for part, stem in (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model")):
        os.remove(os.path.join(folder, part, stem + ".safetensors"))
        state = parts[part].state_dict()
        if part == "vae":
            for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
                state = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in state.items()}
        if part == "text_encoder":
            state = {"text_model." + name: tensor for name, tensor in plain_text(state).items()}
            state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
            stem = "pytorch_model"
        torch.save(state, os.path.join(folder, part, stem + ".bin"))


# --- The original layout -------------------------------------------------------------------------------------------

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def original_unet_name(name):
    """Stable Diffusion's: four levels, two layers each."""
    fixed = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.resnets.1": "middle_block.2",
    }
    for block in range(4):
        for layer in range(2):
            fixed[f"down_blocks.{block}.resnets.{layer}"] = f"input_blocks.{3 * block + layer + 1}.0"
            fixed[f"down_blocks.{block}.attentions.{layer}"] = f"input_blocks.{3 * block + layer + 1}.1"
        fixed[f"down_blocks.{block}.downsamplers.0.conv"] = f"input_blocks.{3 * block + 3}.0.op"
        for layer in range(3):
            fixed[f"up_blocks.{block}.resnets.{layer}"] = f"output_blocks.{3 * block + layer}.0"
            fixed[f"up_blocks.{block}.attentions.{layer}"] = f"output_blocks.{3 * block + layer}.1"
        place = 1 if block == 0 else 2
        fixed[f"up_blocks.{block}.upsamplers.0.conv"] = f"output_blocks.{3 * block + 2}.{place}.conv"
    for ours in sorted(fixed, key=len, reverse=True):
        if not name.startswith(ours + "."):
            continue
        rest = name[len(ours) + 1 :]
        if ".resnets." in "." + ours:
            rest = re.sub(r"^\w+", lambda match: RESNET[match[0]], rest)
        return f"{fixed[ours]}.{rest}"
    raise KeyError(name)


def original_vae_name(name):
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets", r"encoder.down.\1.block", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda match: f"up.{3 - int(match[1])}.block", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda match: f"up.{3 - int(match[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", name)
    for old, new in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
        name = name.replace(f"mid_block.attentions.0.{old}", f"mid.attn_1.{new}")
    return name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")


def original_vae(state):
    def shaped(name, tensor):
        return tensor[:, :, None, None] if "attentions" in name and tensor.dim() == 2 else tensor

    return {original_vae_name(name): shaped(name, tensor) for name, tensor in state.items()}


def openclip_text(state):
    names = {
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    inner = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "self_attn.out_proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    tensors = {}
    layers = 0
    for name, tensor in state.items():
        match = re.match(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)$", name)
        if not match:
            tensors[names[name]] = tensor
            continue
        layers = max(layers, int(match[1]) + 1)
        block = f"transformer.resblocks.{match[1]}."
        if match[2] in inner:
            tensors[f"{block}{inner[match[2]]}.{match[3]}"] = tensor
        elif match[2] == "self_attn.q_proj":
            stacked = [state[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            tensors[f"{block}attn.in_proj_{match[3]}"] = torch.cat(stacked)
    # The last layer, which Stable Diffusion 2 does not use, and the projection.
    for name in [name for name in tensors if name.startswith("transformer.resblocks.0.")]:
        tensors[name.replace("resblocks.0.", f"resblocks.{layers}.")] = torch.randn_like(tensors[name])
    tensors["text_projection"] = torch.randn(4, 4)
    tensors["logit_scale"] = torch.tensor(1.0)
    return tensors


def with_prefix(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def original(parts, text):
    unet = {original_unet_name(name): tensor for name, tensor in parts["unet"].state_dict().items()}
    tensors = with_prefix("model.diffusion_model.", unet)
    tensors |= with_prefix("first_stage_model.", original_vae(parts["vae"].state_dict()))
    tensors |= text
    tensors |= {"betas": torch.rand(1000), "alphas_cumprod": torch.rand(1000), "scale_factor": torch.tensor(0.18215)}
    verify_names(tensors, parts)
    return tensors


def verify_names(tensors, parts):
    """By diffusers' own converters."""
    unet = convert_ldm_unet_checkpoint(dict(tensors), dict(parts["unet"].config))
    vae = convert_ldm_vae_checkpoint(dict(tensors), dict(parts["vae"].config))
    for found, part in ((unet, "unet"), (vae, "vae")):
        wanted = parts[part].state_dict()
        assert set(found) == set(wanted), set(found) ^ set(wanted)
        for name, tensor in wanted.items():
            assert torch.equal(found[name].reshape(tensor.shape), tensor), name


def averages(tensors):
    prefix = "model.diffusion_model."
    made = {
        "model_ema.diffusion_model" + name[len(prefix) :].replace(".", ""): tensor + 1
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    return made | {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(3)}


def contiguous(tensors):
    return {name: tensor.clone().contiguous() for name, tensor in tensors.items()}


def write(root):
    for kind in ("sd1", "sd2"):
        parts = build(kind)
        folder = os.path.join(root, kind)
        write_folder(folder, kind, parts)
        expected = contiguous(zoo_names(parts))
        save_file(expected, folder + ".expected")
        text = plain_text(parts["text_encoder"].state_dict())
        if kind == "sd2":
            open_text = with_prefix("cond_stage_model.model.", openclip_text(text))
            save_file(contiguous(original(parts, open_text)), folder + ".safetensors")
            continue
        write_old(os.path.join(root, "sd1-old"), folder, parts)
        write_folder(os.path.join(root, "sd1-sharded"), kind, parts, max_shard_size="900KB")
        single = original(parts, with_prefix("cond_stage_model.transformer.", text))
        save_file(contiguous(single), folder + ".safetensors")
        single = original(parts, with_prefix("cond_stage_model.transformer.text_model.", text))
        checkpoint = {"state_dict": single | averages(single), "global_step": 7, "callbacks": {"a": [1, None]}}
        torch.save(checkpoint, folder + ".ckpt")
        moved = {name: tensor + 1 if name.startswith("unet.") else tensor for name, tensor in expected.items()}
        save_file(moved, folder + ".averages.expected")
        halves = {name: model.half() for name, model in parts.items()}
        write_folder(os.path.join(root, "sd1-half"), kind, halves, variant="fp16")


def check(folder, expected):
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    parts = {"unet": pipeline.unet, "vae": pipeline.vae, "text_encoder": pipeline.text_encoder}
    found, wanted = zoo_names(parts), load_file(expected)
    assert set(found) == set(wanted), set(found) ^ set(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name
    assert pipeline.tokenizer("thing").input_ids[0] == len(vocabulary()) - 2
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("the thing", num_inference_steps=2, height=64, width=64, output_type="np").images
    assert picture.shape == (1, 64, 64, 3), picture.shape
    print(pipeline.scheduler.__class__.__name__, pipeline.scheduler.config.prediction_type)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    {"write": write, "check": check}[sys.argv[1]](*sys.argv[2:])
