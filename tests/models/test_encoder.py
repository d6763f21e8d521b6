"""The MLP and the block against their equations, and what later models put into them."""

from math import erf, pi, sqrt, tanh

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.models.small import lively, pictures, vit
from vitrail.models.encoder import Block, LayerScale, Mlp


def gelu(x: float, kind: str) -> float:
    if kind == "exact":
        return x * 0.5 * (1 + erf(x / sqrt(2)))
    return 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))


def dense(x: np.ndarray, layer: nn.Linear) -> np.ndarray:
    return x @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()


def stirred(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p) * 0.5)
    return module.eval()


@pytest.mark.parametrize("kind", ["tanh", "exact"])
def test_the_mlp_is_two_dense_layers_around_a_gelu(kind: str) -> None:
    mlp, x = stirred(Mlp(6, 10, kind, dropout=0.0)), torch.randn(1, 5, 6)
    hidden = np.vectorize(lambda value: gelu(value, kind))(dense(x[0].double().numpy(), mlp.fc1))
    expected = dense(hidden, mlp.fc2)
    with torch.no_grad():
        assert np.abs(mlp(x)[0].numpy() - expected).max() < 1e-5  # measured 3.9e-7
        other = Mlp(6, 10, "exact" if kind == "tanh" else "tanh", dropout=0.0)
        other.load_state_dict(mlp.state_dict())
        assert 1e-4 < (mlp(x) - other(x)).abs().max() < 1e-2  # measured 7e-4: more than rounding


def test_a_gated_mlp_multiplies_its_second_half_by_the_silu_of_its_first() -> None:
    mlp, x = stirred(Mlp(6, 10, "tanh", dropout=0.0, gated=True)), torch.randn(1, 5, 6)
    assert mlp.fc1.weight.shape == (20, 6)
    assert mlp.fc2.weight.shape == (6, 10)
    both = dense(x[0].double().numpy(), mlp.fc1)
    first, second = both[:, :10], both[:, 10:]
    expected = dense(first / (1 + np.exp(-first)) * second, mlp.fc2)
    with torch.no_grad():
        assert np.abs(mlp(x)[0].numpy() - expected).max() < 1e-5  # measured 6e-7


@pytest.mark.parametrize("layer_scale", [None, 0.1])
def test_the_block_adds_its_two_branches_each_scaled(layer_scale: float | None) -> None:
    """Equations 2 and 3, with layer scale: x + g1 · MSA(LN(x)), then x + g2 · MLP(LN(x))."""
    block = stirred(Block(8, 2, 16, layer_scale=layer_scale, eps=1e-3))
    x = torch.randn(2, 5, 8)
    ones = torch.ones(8)
    gains = [ones, ones] if layer_scale is None else [block.ls1.gamma, block.ls2.gamma]

    def norm(y: Tensor, layer: nn.LayerNorm) -> Tensor:
        centred = y - y.mean(dim=-1, keepdim=True)
        return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-3).sqrt() * layer.weight + layer.bias

    with torch.no_grad():
        y = x + gains[0] * block.attn(norm(x, block.norm1))[0]
        expected = y + gains[1] * block.mlp(norm(y, block.norm2))
        got, weights = block(x)
    assert weights is None
    assert (got - expected).abs().max() < 1e-5  # measured 3e-6
    if layer_scale is not None:
        assert (block.ls1.gamma - block.ls2.gamma).abs().min() > 0, "each branch has its own"


def test_layer_scale_starts_as_asked_and_at_zero_a_block_is_the_identity() -> None:
    assert torch.equal(LayerScale(8, 1e-5).gamma, torch.full((8,), 1e-5))
    x = torch.randn(2, 5, 8)
    block = Block(8, 2, 16, layer_scale=0.0)
    assert torch.equal(block(x)[0], x)


def test_the_config_reaches_every_block() -> None:
    model = lively(vit(layer_scale=0.1, qk_norm=True, gated=True, gelu="exact", eps=1e-3))
    assert len(model.blocks) == 3
    for block in model.blocks:
        assert isinstance(block.ls1, LayerScale)
        assert isinstance(block.ls2, LayerScale)
        assert block.mlp.gated
        norms = (block.norm1, block.norm2, block.attn.q_norm, block.attn.k_norm, model.norm)
        assert [norm.eps for norm in norms] == [1e-3] * 5
        assert block.attn.q_norm.weight.shape == block.attn.k_norm.weight.shape == (8,)
    plain = lively(vit())
    assert not any(part in name for name in plain.state_dict() for part in (".ls1.", ".ls2.", "q_norm", "k_norm"))
    with torch.no_grad():
        assert not torch.equal(model(pictures()).logits, plain(pictures()).logits)
