"""The networks of latent diffusion by diffusers and transformers, for tests/parity/ldm_test.cpp.

  ldm.py write DIR
      for every variant a folder as the library saves it (config.json, weights) and cases.safetensors: inputs of two
      sizes and batches, what the network makes of them in double precision, and how much an output changes where one
      thing that it should depend on is left out (reaction.*, times the output's deviation)

The weights are such that the outputs depend on everything, which those of a fresh model hardly do.
"""

import os
import sys

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, VQModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

CROSS_DOWN, DOWN, CROSS_UP, UP = "CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"

UNETS = {
    "unet_sd1": dict(
        block_out_channels=(16, 32, 48, 48),
        down_block_types=(CROSS_DOWN, CROSS_DOWN, CROSS_DOWN, DOWN),
        up_block_types=(UP, CROSS_UP, CROSS_UP, CROSS_UP),
        layers_per_block=2,
        cross_attention_dim=24,
        attention_head_dim=4,
        norm_num_groups=8,
    ),
    "unet_sd2": dict(
        block_out_channels=(16, 32, 48, 64),
        down_block_types=(CROSS_DOWN, CROSS_DOWN, CROSS_DOWN, DOWN),
        up_block_types=(UP, CROSS_UP, CROSS_UP, CROSS_UP),
        layers_per_block=1,
        cross_attention_dim=40,
        attention_head_dim=(1, 2, 3, 8),
        norm_num_groups=16,
        use_linear_projection=True,
        upcast_attention=True,
    ),
    "unet_other": dict(  # what no published model has together
        in_channels=9,
        out_channels=3,
        block_out_channels=(24, 48),
        down_block_types=(DOWN, CROSS_DOWN),
        up_block_types=(CROSS_UP, UP),
        layers_per_block=3,
        cross_attention_dim=20,
        attention_head_dim=(2, 6),
        transformer_layers_per_block=2,
        norm_num_groups=12,
        norm_eps=1e-3,
        flip_sin_to_cos=False,
        freq_shift=1,
    ),
}
VAES = {
    "vae_sd": dict(block_out_channels=(16, 32, 32, 48), layers_per_block=2, latent_channels=4, norm_num_groups=8),
    "vae_small": dict(
        block_out_channels=(16, 32, 24),
        layers_per_block=1,
        latent_channels=3,
        norm_num_groups=4,
        mid_block_add_attention=False,
        scaling_factor=0.5,
    ),
    "vae_vq": dict(block_out_channels=(16, 32), layers_per_block=2, latent_channels=3, norm_num_groups=8),
}
TEXTS = {
    "text_sd1": dict(hidden_size=32, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4),
    "text_sd2": dict(
        hidden_size=48, intermediate_size=96, num_hidden_layers=4, num_attention_heads=3, hidden_act="gelu"
    ),
}
VOCABULARY = 300


def randomise(model):
    for name, tensor in model.named_parameters():
        if "embedding" in name and tensor.dim() == 2 and "linear" not in name:
            tensor.normal_(0, 0.5)
        elif tensor.dim() > 1:
            scale = 2 if any(part in name for part in ("to_q", "to_k", "q_proj", "k_proj")) else 1
            tensor.normal_(0, scale / tensor[0].numel() ** 0.5)
        elif "norm" in name and name.endswith("weight"):
            tensor.uniform_(0.8, 1.2)
        else:
            tensor.normal_(0, 0.1)
    return model.eval()


def blobs(batch, channels, height, width):
    coarse = torch.nn.functional.interpolate(
        torch.randn(batch, channels, 4, 5), size=(height, width), mode="bicubic"
    )
    return coarse + 0.1 * torch.randn(batch, channels, height, width)


def change(output, reference):
    return ((output - reference).abs().max() / reference.std()).reshape(1)


def unet_reactions(model, latents, times, states, reference):
    reactions = {
        "text": model(latents, times, states.flip(0)).sample,
        "time": model(latents, times + 1, states).sample,
    }
    skips = sum(len(block.resnets) for block in model.up_blocks)
    for skip in range(skips):
        reactions[f"skip{skip}"] = without_skip(model, skip, latents, times, states)
    return {f"reaction.{name}": change(output, reference) for name, output in reactions.items()}


def without_skip(model, skip, latents, times, states):
    """Counted in the order in which the way back takes them."""
    handles, first = [], 0
    for block in model.up_blocks:
        count = len(block.resnets)
        if first <= skip < first + count:

            def hook(module, args, kwargs, index=count - 1 - (skip - first)):
                kept = list(kwargs["res_hidden_states_tuple"])
                kept[index] = torch.zeros_like(kept[index])
                return args, kwargs | {"res_hidden_states_tuple": tuple(kept)}

            handles.append(block.register_forward_pre_hook(hook, with_kwargs=True))
        first += count
    output = model(latents, times, states).sample
    for handle in handles:
        handle.remove()
    return output


def write_unet(folder, options):
    model = randomise(UNet2DConditionModel(**options))
    model.save_pretrained(folder)
    model.double()
    tensors = {}
    # The second size is no multiple of what the levels halve.
    for i, (batch, height, width, times) in enumerate([(2, 16, 16, [999.0, 12.0]), (3, 12, 20, [874.125, 1.0, 500.5])]):
        latents = blobs(batch, model.config.in_channels, height, width).double()
        states = torch.randn(batch, 7 + i, model.config.cross_attention_dim).double()
        times = torch.tensor(times, dtype=torch.float64)
        output = model(latents, times, states).sample
        tensors |= {f"{i}.latents": latents, f"{i}.times": times, f"{i}.states": states, f"{i}.prediction": output}
        if i == 0:
            tensors |= unet_reactions(model, latents, times, states, output)
    return tensors


def write_vae(folder, options):
    types = dict(
        down_block_types=("DownEncoderBlock2D",) * len(options["block_out_channels"]),
        up_block_types=("UpDecoderBlock2D",) * len(options["block_out_channels"]),
    )
    kind = VQModel if folder.endswith("vq") else AutoencoderKL
    model = randomise(kind(**types, **options))
    model.save_pretrained(folder)
    model.double()
    factor = 2 ** (len(options["block_out_channels"]) - 1)
    tensors = {}
    # The second size is no multiple of the factor, which the encoder takes as it comes.
    for i, (batch, height, width) in enumerate([(2, 6 * factor, 4 * factor), (1, 4 * factor + 3, 5 * factor + 1)]):
        images = blobs(batch, 3, height, width).double()
        tensors[f"{i}.images"] = images
        if kind is VQModel:
            latents = model.encode(images).latents
            tensors[f"{i}.moments"] = latents
            _, _, (_, _, indices) = model.quantize(latents)
            tensors[f"{i}.indices"] = indices.reshape(batch, latents.shape[2], latents.shape[3])
        else:
            posterior = model.encode(images).latent_dist
            noise = torch.randn(posterior.mean.shape).double()
            latents = posterior.mean + posterior.std * noise
            tensors[f"{i}.moments"] = posterior.parameters
            tensors |= {f"{i}.noise": noise, f"{i}.kl": posterior.kl(), f"{i}.latents": latents}
        tensors[f"{i}.decoded"] = model.decode(latents).sample
    tensors["reaction.images"] = change(tensors["0.moments"][:1], tensors["0.moments"][1:])
    tensors["reaction.latents"] = change(tensors["0.decoded"][:1], tensors["0.decoded"][1:])
    return tensors


def write_text(folder, options):
    config = CLIPTextConfig(
        vocab_size=VOCABULARY, max_position_embeddings=16, bos_token_id=298, eos_token_id=299, **options
    )
    model = randomise(CLIPTextModel(config))
    model.save_pretrained(folder)
    model.double()
    tensors = {}
    for i, (batch, length) in enumerate([(2, 16), (3, 9)]):
        ids = torch.randint(0, VOCABULARY, (batch, length))
        output = model(ids, output_hidden_states=True)
        inner = getattr(model, "text_model", model)
        skipped = inner.final_layer_norm(output.hidden_states[-2])
        tensors |= {f"{i}.ids": ids, f"{i}.states": output.last_hidden_state, f"{i}.clip_skip_1": skipped}
        if i == 0:
            swapped = ids.clone()
            swapped[:, 1:3] = ids[:, 1:3].flip(1)
            after = model(swapped).last_hidden_state
            tensors["reaction.order"] = change(after[:, 3:], output.last_hidden_state[:, 3:])
            assert torch.equal(after[:, :1], output.last_hidden_state[:, :1]), "the reference is not causal"
    return tensors


def write(root):
    torch.manual_seed(0)
    for writer, variants in ((write_unet, UNETS), (write_vae, VAES), (write_text, TEXTS)):
        for name, options in variants.items():
            folder = os.path.join(root, name)
            tensors = writer(folder, options)
            tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
            save_file(tensors, os.path.join(folder, "cases.safetensors"))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    {"write": write}[sys.argv[1]](*sys.argv[2:])
