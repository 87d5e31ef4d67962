"""LoRA files by diffusers, for tests/parity/lora_test.cpp.

  lora.py write DIR
      base.safetensors (zoo's names), adapters in every layout, and NAME.expected: the weights that diffusers' own loader
      makes of them, merged
  lora.py check DIR FILE
      loads FILE, written by zoo for the base in DIR, with diffusers and compares the merged weights with FILE.expected
"""

import os
import sys

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

RANK = 3
UNET_LAYERS = ("attn1.to_q", "attn1.to_v", "attn2.to_k", "attn2.to_out.0")


def build():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=24,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(block_out_channels=(16,), norm_num_groups=8)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=60, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            bos_token_id=58, eos_token_id=59,
        )
    )
    return {"unet": unet, "vae": vae, "text_encoder": text}


def pipeline(parts):
    return StableDiffusionPipeline(
        **parts,
        tokenizer=None,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def zoo_state(parts):
    tensors = {}
    for part, model in parts.items():
        for name, tensor in model.state_dict().items():
            if "position_ids" not in name:
                tensors[f"{part}.{name.removeprefix('text_model.')}"] = tensor.clone().contiguous()
    return tensors


def unet_linear(unet):
    """Names of layers that get an adapter, with their weights."""
    for name, module in unet.named_modules():
        if any(name.endswith(layer) for layer in UNET_LAYERS):
            yield name, module.weight


def text_linear(text):
    for name, module in text.named_modules():
        if name.endswith(("self_attn.q_proj", "self_attn.out_proj")):
            yield name.removeprefix("text_model."), module.weight


def pair(weight, rank=RANK):
    if weight.dim() == 4:
        down = torch.randn(rank, *weight.shape[1:])
        return down * 0.3, torch.randn(weight.shape[0], rank, 1, 1) * 0.3
    return torch.randn(rank, weight.shape[1]) * 0.3, torch.randn(weight.shape[0], rank) * 0.3


def peft(parts):
    tensors = {}
    for name, weight in unet_linear(parts["unet"]):
        tensors[f"unet.{name}.lora_A.weight"], tensors[f"unet.{name}.lora_B.weight"] = pair(weight)
    # Beyond attention: a linear layer, and a convolution.
    for name, module in parts["unet"].named_modules():
        if name.endswith(("ff.net.0.proj", "resnets.0.conv1", "attentions.0.proj_in")):
            tensors[f"unet.{name}.lora_A.weight"], tensors[f"unet.{name}.lora_B.weight"] = pair(module.weight)
    for name, weight in text_linear(parts["text_encoder"]):
        base = f"text_encoder.text_model.{name}"
        tensors[f"{base}.lora_A.weight"], tensors[f"{base}.lora_B.weight"] = pair(weight)
    return tensors


def scripts(parts):
    tensors = {}
    for name, weight in unet_linear(parts["unet"]):
        tensors[f"unet.{name}.lora.down.weight"], tensors[f"unet.{name}.lora.up.weight"] = pair(weight)
    for name, weight in text_linear(parts["text_encoder"]):
        base = f"text_encoder.text_model.{name}.lora_linear_layer"
        tensors[f"{base}.down.weight"], tensors[f"{base}.up.weight"] = pair(weight)
    return tensors


def processors(parts):
    tensors = {}
    for name, weight in unet_linear(parts["unet"]):
        owner, _, layer = name.removesuffix(".0").rpartition(".")
        base = f"unet.{owner}.processor.{layer}_lora"
        tensors[f"{base}.down.weight"], tensors[f"{base}.up.weight"] = pair(weight)
    return tensors


def kohya(parts):
    tensors = {}
    for name, weight in unet_linear(parts["unet"]):
        base = "lora_unet_" + name.replace(".", "_")
        tensors[f"{base}.lora_down.weight"], tensors[f"{base}.lora_up.weight"] = pair(weight)
        tensors[f"{base}.alpha"] = torch.tensor(1.5)
    for name, weight in text_linear(parts["text_encoder"]):
        base = "lora_te_text_model_" + name.replace(".", "_")
        tensors[f"{base}.lora_down.weight"], tensors[f"{base}.lora_up.weight"] = pair(weight)
        tensors[f"{base}.alpha"] = torch.tensor(6.0)
    return tensors


def fused(file):
    """By diffusers' loader."""
    pipe = pipeline(build())
    pipe.load_lora_weights(file)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    return zoo_state({"unet": pipe.unet, "vae": pipe.vae, "text_encoder": pipe.text_encoder})


def write(root):
    save_file(zoo_state(build()), os.path.join(root, "base.safetensors"))
    for name, layout in (("peft", peft), ("scripts", scripts), ("processors", processors), ("kohya", kohya)):
        state = {key: tensor.clone().contiguous() for key, tensor in layout(build()).items()}
        file = os.path.join(root, name + ".safetensors")
        save_file(state, file)
        expected = fused(file)
        base = zoo_state(build())
        changed = [key for key in base if not torch.equal(base[key], expected[key])]
        assert len(changed) * 2 == sum("alpha" not in key for key in state), (name, len(changed), len(state))
        save_file({key: expected[key] for key in changed}, os.path.join(root, name + ".expected"))


def check(root, file):
    found, wanted = fused(file), load_file(file + ".expected")
    assert set(found) == set(wanted), set(found) ^ set(wanted)
    for name, tensor in wanted.items():
        assert torch.allclose(found[name], tensor, atol=1e-5), name


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    # transformers asks for a newer peft for text encoders than there is; what is used of it has not changed.
    import transformers.integrations.peft as integration

    integration.check_peft_version = lambda *args, **kwargs: None
    {"write": write, "check": check}[sys.argv[1]](*sys.argv[2:])
