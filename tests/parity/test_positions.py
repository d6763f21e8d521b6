"""Position tables at another resolution, through a file and the public API, against the official resize."""

from pathlib import Path

import numpy as np
import pytest
import torch

import vitrail
from tests.parity.official import agree, relative_error
from vitrail.models.build import build
from vitrail.models.head import AveragePool, ClassToken
from vitrail.models.vit import ViTConfig
from vitrail.weights.google import write_google
from vitrail.weights.tensors import write_npz

# Measured on x86, float32, torch 2.13: at most 1.9e-6; scipy computes in float64.


@pytest.mark.parametrize("case", ["14_to_24_cls1", "7_to_12_cls1", "16_to_37_cls0", "24_to_14_cls1"])
def test_positions_are_resampled_as_officially(goldens: Path, tmp_path: Path, case: str) -> None:
    tables = np.load(goldens / "posembed_resize.npz")
    old, new = (int(side) for side in case.split("_cls")[0].split("_to_"))
    pool = ClassToken() if case.endswith("cls1") else AveragePool()
    config = ViTConfig(patch=1, width=6, depth=1, heads=2, mlp=8, resolution=(old, old), num_classes=2, pool=pool)
    state = {**build(config).state_dict(), "pos_embed": torch.from_numpy(tables[f"{case}_in"])}
    write_npz(tmp_path / "model.npz", write_google(config, state))
    model = vitrail.load(tmp_path / "model.npz", resolution=new)
    assert isinstance(model.pos_embed, torch.Tensor)
    agree(case, positions=relative_error(model.pos_embed, tables[f"{case}_out"]))
