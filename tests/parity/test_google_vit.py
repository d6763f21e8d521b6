"""The plain ViT against outputs of the official JAX code on random weights in its own file layout."""

from pathlib import Path

import numpy as np
import pytest
import torch

import vitrail

TOLERANCE = 1e-4  # promised; measured on x86, float32, torch 2.13: at most 1.0e-6


def relative_error(got: torch.Tensor, want: np.ndarray) -> float:
    """The largest difference, relative to the largest expected value."""
    return float(np.abs(got.detach().numpy() - want).max() / np.abs(want).max())


def nchw(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


@pytest.mark.parametrize("name", ["vit_token", "vit_gap", "vit_token_representation"])
def test_against_official_outputs(goldens: Path, name: str) -> None:
    expected = np.load(goldens / f"{name}.expected.npz")
    model = vitrail.load(goldens / f"{name}.ckpt.npz")
    with torch.no_grad():
        output = model(nchw(expected["images"]))
    errors = {
        "logits": relative_error(output.logits, expected["logits"]),
        "encoded": relative_error(output.tokens, expected["encoded"]),
    }
    print(f"{name}: " + ", ".join(f"{key} {error:.1e}" for key, error in errors.items()))
    assert max(errors.values()) < TOLERANCE


@pytest.mark.parametrize("name", ["vit_token", "vit_gap"])
def test_against_official_outputs_at_a_higher_resolution(goldens: Path, name: str) -> None:
    expected = np.load(goldens / f"{name}.expected.npz")
    images = nchw(expected["images_big"])
    model = vitrail.load(goldens / f"{name}.ckpt.npz", resolution=images.shape[-1])
    with torch.no_grad():
        output = model(images)
    errors = {
        "logits": relative_error(output.logits, expected["logits_big"]),
        "positions": relative_error(model.pos_embed, expected["pos_embedding_big"]),
    }
    print(f"{name} larger: " + ", ".join(f"{key} {error:.1e}" for key, error in errors.items()))
    assert max(errors.values()) < TOLERANCE


def test_names_of_blocks_from_before_linen_load_the_same(goldens: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(goldens / "vit_token.ckpt.npz"))
    older = {
        "MultiHeadDotProductAttention_0": "MultiHeadDotProductAttention_1",
        "LayerNorm_1": "LayerNorm_2",
        "MlpBlock_0": "MlpBlock_3",
    }
    renamed = {}
    for key, array in arrays.items():
        for new, old in older.items():
            key = key.replace(f"/{new}/", f"/{old}/")
        renamed[key] = array
    assert renamed.keys() != arrays.keys()
    np.savez(tmp_path / "older.npz", **renamed)
    images = nchw(np.load(goldens / "vit_token.expected.npz")["images"])
    with torch.no_grad():
        new_logits = vitrail.load(goldens / "vit_token.ckpt.npz")(images).logits
        old_logits = vitrail.load(tmp_path / "older.npz")(images).logits
    assert torch.equal(old_logits, new_logits)


def test_exact_gelu_would_be_noticed(goldens: Path) -> None:
    """The parity above is tight enough to tell the official tanh-GELU from the exact one."""
    from dataclasses import replace

    from vitrail.weights.load import read_published
    from vitrail.weights.transplant import transplant

    expected = np.load(goldens / "vit_token.expected.npz")
    published = read_published(goldens / "vit_token.ckpt.npz")
    model, _ = transplant(published, replace(published.config, gelu="exact"), new_head=False)
    with torch.no_grad():
        error = relative_error(model.eval()(nchw(expected["images"])).logits, expected["logits"])
    assert error > 5 * 1e-6
