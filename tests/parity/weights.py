"""Weight files by torch and safetensors, for tests/models/weights_test.cpp.

  weights.py write DIR         files in all containers, each with CASE.expected.safetensors beside it
  weights.py expect FILE OUT   what torch.load gives of FILE, as safetensors
  weights.py check DIR         reads ours.pth and ours.safetensors, compares them, writes reference.safetensors
"""

import argparse
import json
import os
import sys
from collections import OrderedDict

import numpy
import safetensors.torch
import torch

DTYPES = "bool uint8 int8 int16 int32 int64 uint16 uint32 uint64 float16 bfloat16 float32 float64".split()


def all_kinds():
    """One tensor of each element type, and each way of lying in a storage."""
    tensors = OrderedDict()
    for name in DTYPES:
        tensors[f"kind.{name}"] = (torch.arange(12).reshape(3, 4) % 5).to(getattr(torch, name))
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors["turned"] = base.t()
    tensors["part"] = base[1:3, 2:5]
    tensors["every_second"] = base[:, ::2]
    tensors["repeated"] = base[0, :3].expand(2, 3)
    tensors["shared"] = base
    tensors["channels_last"] = torch.arange(48.0).reshape(1, 2, 4, 6).to(memory_format=torch.channels_last)
    tensors["scalar"] = torch.tensor(7)
    tensors["empty"] = torch.zeros(0, 5)
    tensors["parameter"] = torch.nn.Parameter(torch.tensor([1.5, -2.5], dtype=torch.bfloat16))
    return tensors


def save_expected(folder, case, tensors):
    plain = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(plain, os.path.join(folder, case + ".expected.safetensors"))


def checkpoint(model):
    """What a training script leaves behind."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    return {
        "optimizer": optimizer.state_dict(),
        "model": model.state_dict(),
        "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 10).state_dict(),
        "epoch": 12,
        "best": numpy.float64(0.5),
        "rng": numpy.random.RandomState(0).get_state(),
        "args": argparse.Namespace(lr=1e-4, names=["a", "b"], size=torch.Size([1, 2]), device=torch.device("cpu")),
    }


def write(folder):
    torch.manual_seed(0)
    kinds = all_kinds()
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten())
    cases = {
        "zip": (kinds, kinds, {}),
        "legacy": (kinds, kinds, {"_use_new_zipfile_serialization": False}),
        "plain_dict": (dict(kinds), kinds, {}),
        "protocol4": (kinds, kinds, {"pickle_protocol": 4}),
        "protocol5": (kinds, kinds, {"pickle_protocol": 5}),
        "legacy_protocol4": (kinds, kinds, {"_use_new_zipfile_serialization": False, "pickle_protocol": 4}),
    }
    nested = checkpoint(model)
    weights = nested["model"]
    cases["nested"] = (nested, weights, {})
    cases["nested_legacy"] = (nested, weights, {"_use_new_zipfile_serialization": False})
    cases["parallel"] = (torch.nn.DataParallel(model).state_dict(), weights, {})
    cases["ema"] = ({"epoch": 1, "ema": {"module": weights}}, weights, {})
    for case, (what, tensors, options) in cases.items():
        torch.save(what, os.path.join(folder, case + ".pth"), **options)
        save_expected(folder, case, tensors)
    write_shards(folder, kinds)
    write_refused(folder, model)
    print(" ".join(list(cases)))


def write_shards(folder, tensors):
    folder = os.path.join(folder, "sharded")
    os.makedirs(folder)
    weight_map = {}
    names = list(tensors)
    for number, part in enumerate([names[::2], names[1::2]]):
        file = f"model-0000{number + 1}-of-00002.safetensors"
        save = {name: tensors[name].detach().clone().contiguous() for name in part}
        safetensors.torch.save_file(save, os.path.join(folder, file), metadata={"format": "pt"})
        weight_map.update({name: file for name in part})
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as file:
        json.dump({"metadata": {"total_size": 1}, "weight_map": weight_map}, file)


def write_refused(folder, model):
    torch.jit.script(torch.nn.ReLU()).save(os.path.join(folder, "script.refused"))
    torch.save(model, os.path.join(folder, "module.refused"))
    torch.save({"w": torch.eye(2).to_sparse()}, os.path.join(folder, "sparse.refused"))
    torch.save({"w": torch.ones(2, dtype=torch.complex64)}, os.path.join(folder, "complex.refused"))
    torch.save([1, 2], os.path.join(folder, "list.refused"))
    numpy.savez(os.path.join(folder, "arrays.npz"), a=numpy.ones(2))
    os.rename(os.path.join(folder, "arrays.npz"), os.path.join(folder, "arrays.refused"))


def expect(file, out):
    state = torch.load(file, map_location="cpu", weights_only=True)
    safetensors.torch.save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, out)


def check(folder):
    ours = safetensors.torch.load_file(os.path.join(folder, "ours.safetensors"))
    pickled = torch.load(os.path.join(folder, "ours.pth"), weights_only=True)
    assert isinstance(pickled, OrderedDict), type(pickled)
    assert set(ours) == set(pickled), (sorted(ours), sorted(pickled))
    for name, tensor in ours.items():
        assert tensor.dtype == pickled[name].dtype, name
        assert torch.equal(tensor, pickled[name]), name
    assert ours["arange"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], ours["arange"]
    assert ours["turned"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]], ours["turned"]
    assert ours["scalar"].item() == 42 and ours["scalar"].shape == ()
    assert ours["empty"].shape == (0, 3)
    with safetensors.safe_open(os.path.join(folder, "ours.safetensors"), "pt") as file:
        metadata = file.metadata()
    safetensors.torch.save_file(ours, os.path.join(folder, "reference.safetensors"), metadata=metadata)


if __name__ == "__main__":
    {"write": write, "expect": expect, "check": check}[sys.argv[1]](*sys.argv[2:])
