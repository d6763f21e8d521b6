"""Attention against slow versions: its weights, its two kernels, the norms of q and k."""

from itertools import product
from math import sqrt

import numpy as np
import pytest
import torch

from tests.models.small import POOLS, POSITIONS, SMALL, lively, pictures, vit
from vitrail.models import attention
from vitrail.models.attention import Attention, attend, attention_weights
from vitrail.models.attention_kernel import KERNELS
from vitrail.models.build import build
from vitrail.models.position import Relative


@pytest.mark.parametrize(("kind", "pool", "registers"), list(product(POSITIONS, POOLS, (0, 2))))
def test_weights_are_returned_where_asked_for_and_change_no_output(kind: str, pool: str, registers: int) -> None:
    """What asks for no weights goes through the fused kernel, what asks computes them explicitly."""
    model, images = lively(vit(position=POSITIONS[kind], pool=POOLS[pool], registers=registers)), pictures()
    n = 12 + registers + model.config.class_token
    with torch.no_grad():
        fused, every, some = model(images), model(images, attention=True), model(images, attention=[0, 2])
    assert fused.attention is None
    assert every.attention is not None
    assert some.attention is not None
    assert [w.shape for w in every.attention] == [(2, 3, n, n)] * 3
    assert len(some.attention) == 2
    assert torch.equal(some.attention[0], every.attention[0])
    # layer 1 went through the fused kernel in `some`
    assert (some.attention[1] - every.attention[2]).abs().max() < 1e-5  # measured 5.4e-7
    for weights in every.attention:
        assert (weights >= 0).all()
        assert (weights.sum(dim=-1) - 1).abs().max() < 1e-6  # measured 3.6e-7
    assert (every.attention[0] - 1 / n).abs().max() > 0.1  # they are not trivially uniform: measured 0.46 and more
    for other in (every, some):
        for ours, theirs in zip(fused[:3], other[:3], strict=True):
            assert (ours - theirs).abs().max() < 1e-5  # measured 4.1e-6


@pytest.mark.parametrize("layers", [[3], [-1], [0, 17]])
def test_layers_that_are_not_there_are_refused(layers: list[int]) -> None:
    with pytest.raises(ValueError, match="layers 0 to 2"):
        build(SMALL)(pictures(), attention=layers)


def test_asking_for_the_weights_of_no_layer_is_not_asking() -> None:
    assert lively(SMALL)(pictures(), attention=[]).attention is None
    assert lively(SMALL)(pictures(), attention=False).attention is None


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [(50, 50), (1, 50)])
def test_attention_equals_a_slow_version(queries: int, keys: int, biased: bool) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, queries, 16) * 2, torch.randn(2, 4, keys, 16) * 2, torch.randn(2, 4, keys, 16) * 2
    bias = torch.randn(2, 4, queries, keys) if biased else None
    scores = np.einsum("bhnk,bhmk->bhnm", q.double().numpy(), k.double().numpy()) / 4
    scores += 0 if bias is None else bias.numpy()
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    slow = np.einsum("bhnm,bhmk->bhnk", weights / weights.sum(axis=-1, keepdims=True), v.double().numpy())
    for result in (attend(q, k, v, bias), attention_weights(q, k, bias) @ v):
        assert np.abs(result.numpy() - slow).max() < 1e-5  # measured 4.3e-6, of values up to 8


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("kind", ["1-D", "relative"])
def test_every_layer_runs_under_autocast(kind: str, qk_norm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training runs in bfloat16: norms come out in float32 there, products in bfloat16."""
    model, images = lively(vit(position=POSITIONS[kind], qk_norm=qk_norm)), pictures()
    with torch.no_grad():
        exact = model(images).logits
        for kernel in KERNELS:
            monkeypatch.setattr(attention, "CPU_MULTIPLIES_BFLOAT16", True)
            monkeypatch.setattr(attention, "fastest_kernel", lambda *_, chosen=kernel: chosen)
            with torch.autocast("cpu", torch.bfloat16):
                rounded = model(images).logits.float()
            assert (rounded - exact).abs().max() < 0.05  # measured 0.011


def normalised(x: np.ndarray, norm: torch.nn.LayerNorm) -> np.ndarray:
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-3)
    scaled = (x - x.mean(axis=-1, keepdims=True)) / deviation
    return scaled * norm.weight.detach().double().numpy() + norm.bias.detach().double().numpy()


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_the_whole_layer_equals_a_loop_over_heads(qk_norm: bool, relative: bool) -> None:
    """Equations 5 to 8; with `qk_norm`, each head's q and k are normalised before anything is made of them."""
    torch.manual_seed(0)
    layer = Attention(24, 3, dropout=0.0, qk_norm=qk_norm, eps=1e-3).eval()
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(torch.randn_like(p) * 0.3)
    x_ND, vectors = torch.randn(7, 24), torch.randn(13, 8) if relative else None
    qkv = (x_ND @ layer.qkv.weight.T + layer.qkv.bias).detach().double().numpy()
    heads, weights = [], []
    for head in range(3):
        q, k, v = (qkv[:, part * 24 + head * 8 : part * 24 + head * 8 + 8] for part in range(3))
        if qk_norm:
            q, k = normalised(q, layer.q_norm), normalised(k, layer.k_norm)
        logits = q @ k.T
        if vectors is not None:
            logits += [[q[i] @ vectors[i - j + 6].double().numpy() for j in range(7)] for i in range(7)]
        powers = np.exp(logits / sqrt(8))
        weights.append(powers / powers.sum(axis=1, keepdims=True))
        heads.append(weights[-1] @ v)
    expected = np.concatenate(heads, axis=1) @ layer.proj.weight.detach().double().numpy().T
    expected += layer.proj.bias.detach().double().numpy()
    with torch.no_grad():
        for ask in (True, False):
            got, found = layer(x_ND[None], ask, vectors)
            assert np.abs(got[0].numpy() - expected).max() < 1e-5  # measured 1.7e-6
            assert (found is not None) is ask
            if found is not None:
                assert np.abs(found[0].numpy() - np.stack(weights)).max() < 1e-5  # measured 2e-7


def test_norms_of_q_and_k_make_attention_blind_to_their_scale() -> None:
    torch.manual_seed(0)
    for qk_norm in (True, False):
        layer, x = Attention(24, 3, dropout=0.0, qk_norm=qk_norm).eval(), torch.randn(1, 7, 24)
        with torch.no_grad():
            _, before = layer(x, True)
            layer.qkv.weight[:48] *= 10  # of q and k
            _, after = layer(x, True)
        if qk_norm:
            assert (before - after).abs().max() < 1e-4  # measured 2.5e-6
        else:
            assert (before - after).abs().max() > 0.1  # measured 0.77


def test_relative_positions_are_read_by_normalised_queries() -> None:
    model, images = lively(vit(position=Relative(), qk_norm=True)), pictures()
    with torch.no_grad():
        before = model(images, attention=[0]).attention[0]
        model.pos_embed.mul_(2)
        after = model(images, attention=[0]).attention[0]
    assert (before - after).abs().max() > 0.01  # measured 0.056
