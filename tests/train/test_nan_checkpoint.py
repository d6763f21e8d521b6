"""Weights that are no longer numbers are never saved over those that are."""

from pathlib import Path

import pytest
import torch

from tests.train.small import save_checkpoint
from vitrail.core.errors import BadInput
from vitrail.data.loader.batch import Broken
from vitrail.models.build import build
from vitrail.models.vit import ViTConfig
from vitrail.train.config import TrainConfig
from vitrail.train.step import init_state


def test_nan_is_not_saved(tmp_path: Path) -> None:
    model = build(ViTConfig(patch=4, width=8, depth=1, heads=2, mlp=16, resolution=(8, 8), num_classes=3))
    state = init_state(model, TrainConfig(train="digits"), Broken(10))
    save_checkpoint(tmp_path, state)
    state.step = 1
    with torch.no_grad():
        model.head.weight[0, 0] = float("nan")
    with pytest.raises(BadInput, match="NaN or infinity at step 1"):
        save_checkpoint(tmp_path, state)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000000"]
