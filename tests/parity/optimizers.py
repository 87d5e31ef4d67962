"""Reference for optimizers_test.cpp: torch.optim over some steps, and the factors of torch.optim.lr_scheduler.

Usage: optimizers.py FOLDER
Writes FOLDER/optimizers.safetensors (CASE.STEP.gradient.NAME, CASE.STEP.NAME; step 0 holds the first values) and
FOLDER/schedules.json ([{"options": {...}, "total": N, "factors": [...]}]).
"""

import json
import sys
import warnings

import torch
from safetensors.torch import save_file

STEPS = 12
SHAPES = {"conv.weight": (6, 3, 3, 3), "linear.weight": (5, 7), "linear.bias": (5,), "late.weight": (4,)}

OPTIMIZERS = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=1, betas=(0.9, 0.999), eps=1e-8),
    "adamw_betas": lambda groups: torch.optim.AdamW(groups, lr=1, betas=(0.8, 0.95), eps=1e-6),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=1),
    "sgd_momentum": lambda groups: torch.optim.SGD(groups, lr=1, momentum=0.9),
    "sgd_nesterov": lambda groups: torch.optim.SGD(groups, lr=1, momentum=0.8, nesterov=True),
}


def run_optimizer(case, clip, tensors):
    generator = torch.Generator().manual_seed(1)
    parameters = {name: torch.nn.Parameter(torch.randn(shape, generator=generator) * 0.3) for name, shape in SHAPES.items()}
    first, second = ["conv.weight", "late.weight"], ["linear.weight", "linear.bias"]
    groups = [
        {"params": [parameters[name] for name in first], "lr": 3e-3, "weight_decay": 0.05},
        {"params": [parameters[name] for name in second], "lr": 1e-2, "weight_decay": 0.0},
    ]
    optimizer = OPTIMIZERS[case](groups)
    case = case + ("_clipped" if clip else "")
    for name, parameter in parameters.items():
        tensors[f"{case}.0.{name}"] = parameter.detach().clone()
    for step in range(1, STEPS + 1):
        for name, parameter in parameters.items():
            # One parameter takes part in every third step only: its state must not move in between.
            missing = name == "late.weight" and step % 3 != 0
            parameter.grad = None if missing else torch.randn(parameter.shape, generator=generator)
            if not missing:
                tensors[f"{case}.{step}.gradient.{name}"] = parameter.grad.clone()
        if clip:
            tensors[f"{case}.{step}.norm"] = torch.nn.utils.clip_grad_norm_(parameters.values(), 2.0)
        optimizer.step()
        for name, parameter in parameters.items():
            tensors[f"{case}.{step}.{name}"] = parameter.detach().clone()


def factors(make, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    values = []
    for _ in range(total):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


def schedules():
    lr = torch.optim.lr_scheduler
    warmup = lambda optimizer, steps, factor: lr.LinearLR(optimizer, start_factor=factor, end_factor=1.0, total_iters=steps)
    chained = lambda steps, factor, make: lambda o: lr.ChainedScheduler([warmup(o, steps, factor), make(o)])
    sequential = lambda steps, factor, make: lambda o: lr.SequentialLR(o, [warmup(o, steps, factor), make(o)], [steps])
    total = 40
    rows = [
        ({"name": "constant"}, lambda o: lr.ConstantLR(o, 1.0)),
        ({"name": "constant", "warmup": 0.25, "warmup_factor": 0.1}, lambda o: warmup(o, 10, 0.1)),
        ({"name": "step", "step": 0.25, "gamma": 0.3}, lambda o: lr.StepLR(o, 10, 0.3)),
        ({"name": "step", "step": 7, "gamma": 0.5}, lambda o: lr.StepLR(o, 7, 0.5)),
        ({"name": "step", "step": 0.5, "gamma": 0.1, "warmup": 5, "warmup_factor": 0.01},
         chained(5, 0.01, lambda o: lr.StepLR(o, 20, 0.1))),
        ({"name": "multistep", "milestones": [0.5, 30.0], "gamma": 0.2}, lambda o: lr.MultiStepLR(o, [20, 30], 0.2)),
        ({"name": "multistep", "milestones": [0.6, 0.85], "gamma": 0.1, "warmup": 0.1, "warmup_factor": 0.2},
         chained(4, 0.2, lambda o: lr.MultiStepLR(o, [24, 34], 0.1))),
        ({"name": "cosine", "min_factor": 0.0}, lambda o: lr.CosineAnnealingLR(o, total, 0.0)),
        ({"name": "cosine", "min_factor": 0.05, "warmup": 8, "warmup_factor": 0.01},
         sequential(8, 0.01, lambda o: lr.CosineAnnealingLR(o, total - 8, 0.05))),
        ({"name": "polynomial"}, lambda o: lr.PolynomialLR(o, total, 1.0)),
        ({"name": "polynomial", "power": 2.0, "warmup": 8, "warmup_factor": 0.01},
         sequential(8, 0.01, lambda o: lr.PolynomialLR(o, total - 8, 2.0))),
        ({"name": "onecycle"}, lambda o: lr.OneCycleLR(o, 1.0, total)),
        ({"name": "onecycle", "peak": 0.1, "initial_factor": 0.1, "final_factor": 0.001},
         lambda o: lr.OneCycleLR(o, 1.0, total, pct_start=0.1, div_factor=10, final_div_factor=100)),
    ]
    return [{"options": options, "total": total, "factors": factors(make, total)} for options, make in rows]


def main():
    warnings.simplefilter("ignore")
    folder = sys.argv[1]
    tensors = {}
    for case in OPTIMIZERS:
        run_optimizer(case, False, tensors)
        run_optimizer(case, True, tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, f"{folder}/optimizers.safetensors")
    with open(f"{folder}/schedules.json", "w") as file:
        json.dump(schedules(), file)


if __name__ == "__main__":
    main()
