"""big_vision's ViT against outputs of its own code: attention pooling, and fixed sines and cosines with an average."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vitrail
from tests.parity.official import agree, compute, relative_error
from vitrail.core.errors import BadInput
from vitrail.models.head import AttentionPool, AveragePool
from vitrail.models.position import SinCos2d, sincos2d
from vitrail.models.vit import ViTConfig

# Measured on x86, float32, torch 2.13: at most 4.0e-7.


@pytest.mark.parametrize(("name", "resolution"), [("bv_map", None), ("bv_gap_sincos", 24)])
def test_against_official_outputs(goldens: Path, name: str, resolution: int | None) -> None:
    _, output, expected = compute(goldens / f"{name}.ckpt.npz", goldens / f"{name}.expected.npz", resolution=resolution)
    agree(
        name,
        pre_logits=relative_error(output.representation, expected["pre_logits"]),
        logits=relative_error(output.logits, expected["logits"]),
    )


def test_shapes_and_names_say_the_architecture(goldens: Path) -> None:
    pooled = vitrail.load(goldens / "bv_map.ckpt.npz").config
    wanted = ViTConfig(patch=4, width=32, depth=2, heads=4, mlp=64, resolution=(24, 24), num_classes=5)
    assert pooled == replace(wanted, pool=AttentionPool())
    computed = vitrail.load(goldens / "bv_gap_sincos.ckpt.npz", resolution=24).config
    assert computed == replace(wanted, pool=AveragePool(), position=SinCos2d())


def test_positions_that_are_computed_need_the_resolution(goldens: Path) -> None:
    with pytest.raises(BadInput, match=r"bv_gap_sincos.*computed and not stored .* --resolution 224"):
        vitrail.load(goldens / "bv_gap_sincos.ckpt.npz")


def test_fixed_sines_and_cosines_are_computed_anew_for_a_larger_image(goldens: Path) -> None:
    """As big_vision does: its files hold no table, so another resolution has another one, not a resampled one."""
    model = vitrail.load(goldens / "bv_gap_sincos.ckpt.npz", resolution=(40, 32))
    assert isinstance(model.pos_embed, torch.Tensor)
    assert torch.equal(model.pos_embed[0], sincos2d((10, 8), 32))


def test_blocks_that_a_scan_stacked_load_the_same(goldens: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(goldens / "bv_map.ckpt.npz"))
    block = "params/Transformer/encoderblock_"
    parts = {name.removeprefix(f"{block}0/") for name in arrays if name.startswith(f"{block}0/")}
    scanned = {name: array for name, array in arrays.items() if not name.startswith(block)}
    for part in parts:
        scanned[f"params/Transformer/encoderblock/{part}"] = np.stack([arrays[f"{block}{i}/{part}"] for i in (0, 1)])
    np.savez(tmp_path / "scanned.npz", **scanned)
    plain, stacked = (vitrail.load(p).state_dict() for p in (goldens / "bv_map.ckpt.npz", tmp_path / "scanned.npz"))
    assert plain.keys() == stacked.keys()
    assert all(torch.equal(tensor, stacked[name]) for name, tensor in plain.items())


def test_the_image_tower_of_a_file_of_two_is_found(goldens: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(goldens / "bv_map.ckpt.npz"))
    towers = {name.replace("params/", "params/img/", 1): array for name, array in arrays.items()}
    towers["params/txt/Embed_0/embedding"] = np.ones((3, 4), np.float32)
    towers["params/t"] = np.ones(1, np.float32)
    np.savez(tmp_path / "towers.npz", **towers)
    plain, tower = (vitrail.load(p).state_dict() for p in (goldens / "bv_map.ckpt.npz", tmp_path / "towers.npz"))
    assert plain.keys() - tower.keys() == {"head.weight", "head.bias"}  # a projection to what the towers share
    assert all(torch.equal(tensor, plain[name]) for name, tensor in tower.items())
