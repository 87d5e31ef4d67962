"""Whole runs of diffusers' schedulers with a toy network, for tests/parity/samplers_test.cpp.

  samplers.py DIR    writes runs.json (how each was made, its times and levels) and runs.safetensors (where each ended)
"""

import json
import os
import sys

import diffusers
import torch
from safetensors.torch import save_file

COMMON = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
CLASSES = {
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "plms": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
STEPS = [1, 2, 9, 20, 50]
NO_SAMPLE_PREDICTION = ["plms", "euler_a", "heun", "lms"]  # of the reference


def network(x, t):
    """What tests/parity/samplers_test.cpp has too."""
    index = torch.arange(x[0].numel(), dtype=x.dtype).reshape(x.shape[1:])
    return 0.6 * torch.tanh(x) + 0.02 * x + 0.1 * (float(t) / 1000) + 0.05 * torch.sin(7 * index)


def cases():
    for sampler in CLASSES:
        for spacing in ["auto", "leading", "linspace", "trailing"]:
            for prediction in ["epsilon", "v_prediction", "sample"]:
                if prediction == "sample" and sampler in NO_SAMPLE_PREDICTION:
                    continue
                for steps in [9] if spacing == "auto" or prediction == "sample" else STEPS:
                    yield sampler, {"timestep_spacing": spacing, "prediction_type": prediction}, steps, 1
    for schedule in [{"beta_schedule": "linear"}, {"beta_schedule": "squaredcos_cap_v2"}, {"steps_offset": 0}]:
        for sampler in CLASSES:
            # The reference's float32 levels end beside whole times there and are rounded to the next.
            if sampler != "dpmpp_2m_karras" or "squaredcos_cap_v2" not in schedule.values():
                yield sampler, schedule, 9, 1
    for sampler in ["euler", "heun", "lms", "dpmpp_2m", "unipc"]:
        for spacing in ["leading", "linspace", "trailing"]:
            for steps in STEPS:
                yield sampler, {"use_karras_sigmas": True, "timestep_spacing": spacing}, steps, 1
    for sampler in ["ddpm", "ddim", "euler", "euler_a", "dpmpp_2m", "dpmpp_2m_karras", "unipc"]:
        for spacing in ["auto", "trailing"]:
            options = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": spacing}
            yield sampler, options, 10, 1
    for steps in [9, 14, 15, 20]:
        yield "dpmpp_2m", {"final_sigmas_type": "sigma_min"}, steps, 1
    yield "unipc", {"final_sigmas_type": "sigma_min"}, 9, 1
    for sampler in ["ddim", "plms"]:
        yield sampler, {"set_alpha_to_one": True}, 9, 1
    for sampler in ["ddpm", "ddim"]:
        yield sampler, {"clip_sample": True, "clip_sample_range": 0.7}, 9, 1
    for eta in [0.4, 1.0]:
        yield "ddim", {"eta": eta}, 9, 1
    for sampler in CLASSES:
        if sampler in ["plms", "lms"]:  # both are wrong there in the reference: docs/latent-diffusion.md
            continue
        for strength in [0.65, 0.3, 1]:
            yield sampler, {"timestep_spacing": "auto"}, 10, -strength


def run(sampler, options, steps, strength, noise, clean):
    name, defaults = CLASSES[sampler]
    eta = {"eta": options["eta"]} if "eta" in options else {}
    given = {k: v for k, v in options.items() if k != "eta" and v != "auto"}
    scheduler = getattr(diffusers, name).from_config({**COMMON, **defaults, **given})
    scheduler.set_timesteps(steps)
    generators = [torch.Generator("cpu").manual_seed(11 + i) for i in range(len(noise))]
    draws = {"generator": generators} if sampler in ["ddpm", "ddim", "euler_a"] else {}
    first = 0 if strength > 0 else (steps - min(int(steps * -strength), steps)) * scheduler.order
    if hasattr(scheduler, "set_begin_index"):  # else a first time that is there twice is taken for its second place
        scheduler.set_begin_index(first)
    times = scheduler.timesteps[first:]
    if strength > 0:
        x = noise * scheduler.init_noise_sigma
    else:  # from a picture
        x = scheduler.add_noise(clean, noise, times[:1].repeat(len(noise)))
    for t in times:
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x, **draws, **eta).prev_sample
    sigmas = getattr(scheduler, "sigmas", None) if sampler not in ["ddpm", "ddim", "plms"] else None
    record = {
        "sampler": sampler,
        "options": {**COMMON, **{k: v for k, v in defaults.items() if k in ["set_alpha_to_one"]}, **options},
        "steps": steps,
        "strength": abs(strength),
        "from_picture": strength < 0,
        "timesteps": [float(t) for t in times],
        "sigmas": None if sigmas is None else [float(s) for s in sigmas[first:]],
        "start_factor": float(scheduler.init_noise_sigma),
    }
    return record, x


def training(tensors, noise, clean):
    """Noised latents and targets of all predictions, and min-SNR weights."""
    t = torch.tensor([13, 742])
    scheduler = diffusers.DDPMScheduler.from_config(COMMON)
    tensors["train.noised"] = scheduler.add_noise(clean, noise, t)
    tensors["train.v"] = scheduler.get_velocity(clean, noise, t)
    snr = diffusers.training_utils.compute_snr(scheduler, torch.arange(1000))
    tensors["train.epsilon_weights"] = snr.clamp(max=5) / snr
    tensors["train.v_weights"] = snr.clamp(max=5) / (snr + 1)


def main(folder):
    torch.manual_seed(3)
    noise, clean = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    records, tensors = [], {"noise": noise, "clean": clean}
    training(tensors, noise, clean)
    for number, case in enumerate(cases()):
        record, x = run(*case, noise, clean)
        records.append(record)
        tensors[f"run.{number}"] = x.contiguous()
    save_file(tensors, os.path.join(folder, "runs.safetensors"))
    with open(os.path.join(folder, "runs.json"), "w") as file:
        json.dump(records, file)


if __name__ == "__main__":
    with torch.no_grad():
        main(sys.argv[1])
