"""Folders as timm and transformers save them, with the outputs of those libraries; neither is needed here."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity.official import TOLERANCE, agree, compute, relative_error
from vitrail.data.transforms.pipeline import CentreCrop
from vitrail.models.vit import ViT, ViTConfig
from vitrail.weights.load import read_pretrained
from vitrail.weights.transplant import transplant

# Measured on x86, float32, torch 2.13: at most 3.6e-7.
CONFIG = ViTConfig(patch=4, width=32, depth=2, heads=4, mlp=64, resolution=(24, 24), num_classes=5, gelu="exact")


@pytest.mark.parametrize(("name", "eps"), [("hf_vit", 1e-12), ("timm_vit", 1e-6)])
def test_against_outputs_of_the_library(goldens: Path, name: str, eps: float) -> None:
    model, output, expected = compute(goldens / name, goldens / name / "expected.npz", "images_nchw")
    assert isinstance(model, ViT)
    assert model.config == replace(CONFIG, eps=eps)  # exact GELU, and each library's own eps
    agree(name, logits=relative_error(output.logits, expected["logits"]))


def test_class_names_and_preprocessing_come_along(goldens: Path) -> None:
    theirs = read_pretrained(goldens / "hf_vit")
    assert theirs.classes == ("c0", "c1", "c2", "c3", "c4")
    assert theirs.assumed  # the golden has no preprocessor_config.json
    preprocess = read_pretrained(goldens / "timm_vit").preprocess
    assert not read_pretrained(goldens / "timm_vit").assumed
    assert (preprocess.resolution, preprocess.resize) == ((24, 24), CentreCrop(0.9))
    assert (preprocess.mean, preprocess.std, preprocess.interpolation) == ((0.5,) * 3, (0.5,) * 3, "bicubic")


@pytest.mark.parametrize("name", ["hf_vit", "timm_vit"])
def test_the_other_gelu_would_be_noticed(goldens: Path, name: str) -> None:
    expected = np.load(goldens / name / "expected.npz")
    published = read_pretrained(goldens / name)
    assert isinstance(published.config, ViTConfig)
    model, _ = transplant(published, replace(published.config, gelu="tanh"), new_head=False)
    with torch.no_grad():
        error = relative_error(model.eval()(torch.from_numpy(expected["images_nchw"])).logits, expected["logits"])
    print(f"{name}, GELU by tanh: {error:.1e}")
    assert error > TOLERANCE
