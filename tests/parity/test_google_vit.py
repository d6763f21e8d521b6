"""Plain and hybrid ViT against outputs of the official JAX code on random weights in its own file layout."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vitrail
from tests.parity.official import TOLERANCE, agree, compute, nchw, relative_error
from vitrail.models.vit import ViT, ViTConfig
from vitrail.weights.load import read_pretrained
from vitrail.weights.transplant import transplant

# Measured on x86, float32, torch 2.13: at most 1.0e-6, hybrids 4.6e-6.
PLAIN = ("vit_token", "vit_gap", "vit_token_representation")
HYBRID = ("hybrid_r26", "hybrid_stem")


@pytest.mark.parametrize("name", PLAIN + HYBRID)
def test_against_official_outputs(goldens: Path, name: str) -> None:
    model, output, expected = compute(goldens / f"{name}.ckpt.npz", goldens / f"{name}.expected.npz")
    assert isinstance(model, ViT)
    grid = expected["embedded_grid"]
    with torch.no_grad():
        embedded = model.patch_embed(nchw(expected["images"])).reshape(grid.shape)
    agree(
        name,
        embedded=relative_error(embedded, grid),
        encoded=relative_error(output.tokens, expected["encoded"]),
        logits=relative_error(output.logits, expected["logits"]),
    )


@pytest.mark.parametrize("name", ["vit_token", "vit_gap", "hybrid_r26"])
def test_against_official_outputs_at_a_higher_resolution(goldens: Path, name: str) -> None:
    expected = goldens / f"{name}.expected.npz"
    side = np.load(expected)["images_big"].shape[1]
    model, output, wanted = compute(goldens / f"{name}.ckpt.npz", expected, "images_big", resolution=side)
    assert isinstance(model.pos_embed, torch.Tensor)
    agree(
        f"{name} larger",
        positions=relative_error(model.pos_embed, wanted["pos_embedding_big"]),
        logits=relative_error(output.logits, wanted["logits_big"]),
    )


def test_the_representation_is_what_the_classifier_reads(goldens: Path) -> None:
    """The official `pre_logits`: tanh of a dense layer of the class token, in plain numpy from the file's arrays."""
    name = "vit_token_representation"
    _, output, expected = compute(goldens / f"{name}.ckpt.npz", goldens / f"{name}.expected.npz")
    arrays = np.load(goldens / f"{name}.ckpt.npz")
    pre_logits = np.tanh(expected["encoded"][:, 0] @ arrays["pre_logits/kernel"] + arrays["pre_logits/bias"])
    agree(name, pre_logits=relative_error(output.representation, pre_logits))


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
    expected = np.load(goldens / "vit_token.expected.npz")
    published = read_pretrained(goldens / "vit_token.ckpt.npz")
    model, _ = transplant(published, replace(published.config, gelu="exact"), new_head=False)
    with torch.no_grad():
        error = relative_error(model.eval()(nchw(expected["images"])).logits, expected["logits"])
    print(f"exact GELU: {error:.1e}")
    assert error > TOLERANCE


@pytest.mark.parametrize(
    "stages",
    [{"weight_eps_on": "variance"}, {"weight_eps": 1e-3}, {"eps": 1e-3}],
    ids=lambda change: next(iter(change)),
)
def test_other_constants_of_the_resnet_would_be_noticed(goldens: Path, stages: dict) -> None:
    """Their effect is small: after a standardised convolution comes a norm that undoes a scale."""
    expected = np.load(goldens / "hybrid_r26.expected.npz")
    published = read_pretrained(goldens / "hybrid_r26.ckpt.npz")
    assert isinstance(published.config, ViTConfig)
    assert published.config.backbone is not None
    other = replace(published.config, backbone=replace(published.config.backbone, **stages))
    model, _ = transplant(published, other, new_head=False)
    with torch.no_grad():
        error = relative_error(model.eval()(nchw(expected["images"])).logits, expected["logits"])
    print(f"{stages}: {error:.1e}")
    assert error > TOLERANCE
