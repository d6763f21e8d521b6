"""The BiT ResNet against outputs of the official code, and the quirks of the published files' names."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vitrail
from tests.parity.official import TOLERANCE, agree, compute, nchw, relative_error
from vitrail.models.resnet import BIT, ResNetConfig
from vitrail.weights.load import read_pretrained
from vitrail.weights.transplant import transplant

# Measured on x86, float32, torch 2.13: at most 2.4e-6.


def test_against_official_outputs(goldens: Path) -> None:
    model, output, expected = compute(goldens / "bit.ckpt.npz", goldens / "bit.expected.npz", resolution=64)
    assert model.config == ResNetConfig(replace(BIT, units=(1, 1, 1, 1), width=32), (64, 64), num_classes=6)
    agree(
        "bit",
        pre_logits=relative_error(output.representation, expected["pre_logits"]),
        logits=relative_error(output.logits, expected["logits"]),
    )


@pytest.mark.parametrize("change", [{"eps": 1e-3}, {"weight_eps": 1e-3}], ids=["eps", "weight eps"])
def test_other_constants_would_be_noticed(goldens: Path, change: dict) -> None:
    expected = np.load(goldens / "bit.expected.npz")
    published = read_pretrained(goldens / "bit.ckpt.npz", resolution=64)
    assert isinstance(published.config, ResNetConfig)
    other = replace(published.config, stages=replace(published.config.stages, **change))
    model, _ = transplant(published, other, new_head=False)
    with torch.no_grad():
        error = relative_error(model.eval()(nchw(expected["images"])).logits, expected["logits"])
    print(f"{change}: {error:.1e}")
    assert error > TOLERANCE


def counted(name: str) -> str:
    """Some published files count the modules of a graph: `standardized_conv2d_17`."""
    return re.sub(r"(standardized_conv2d|group_norm|conv2d)/", r"\1_17/", name)


QUIRKS: dict[str, Callable[[str], str]] = {
    "counters after the modules": counted,
    "units of one digit": lambda name: re.sub(r"/unit0(\d)/", r"/unit\1/", name),
    "both": lambda name: counted(re.sub(r"/unit0(\d)/", r"/unit\1/", name)),
}


@pytest.mark.parametrize("quirk", QUIRKS)
def test_other_names_of_the_published_files_load_the_same(goldens: Path, tmp_path: Path, quirk: str) -> None:
    arrays = dict(np.load(goldens / "bit.ckpt.npz"))
    renamed = {QUIRKS[quirk](name): array for name, array in arrays.items()}
    assert renamed.keys() != arrays.keys()
    np.savez(tmp_path / "model.npz", **renamed)
    plain, other = (vitrail.load(p) for p in (goldens / "bit.ckpt.npz", tmp_path / "model.npz"))
    assert plain.config == other.config
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in plain.state_dict().items())
