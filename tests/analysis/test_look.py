"""What is seen of a model layer by layer, against slow loops over the weights of all layers at once."""

import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from tests.models.small import GRID, lively, pictures, vit
from vitrail.analysis.filters import embedding_filters, first_layer
from vitrail.analysis.look import bytes_to_look, look
from vitrail.analysis.maps import pooling_weights
from vitrail.analysis.similarity import position_similarity
from vitrail.models.head import AttentionPool, AveragePool, ClassToken, TokenAndAverage
from vitrail.models.position import Relative, SinCos2d
from vitrail.models.resnet import BIT, ResNetConfig, Stages, standardise
from vitrail.models.vit import ViT, ViTConfig

HYBRID = vit(patch=1, backbone=Stages(units=(1, 1), width=32), resolution=(24, 32))  # stride 8: 3 x 4 patches
MODELS: dict[str, ViTConfig] = {
    "class token": vit(pool=ClassToken()),
    "average": vit(pool=AveragePool()),
    "registers": vit(pool=ClassToken(), registers=2),
    "average beside token and register": vit(pool=AveragePool(class_token=True), registers=1),
    "token and average": vit(pool=TokenAndAverage()),
    "attention pooling": vit(pool=AttentionPool()),
    "relative positions": vit(position=Relative()),
    "hybrid": HYBRID,
}


def slow_distance(weights: np.ndarray, prefix: int, stride: int) -> float:
    """Of one head of one image, weights [N, N]."""
    h, w = GRID
    total = 0.0
    for i in range(h * w):
        for j in range(h * w):
            dy, dx = i // w - j // w, i % w - j % w
            total += weights[prefix + i, prefix + j] * stride * (dy * dy + dx * dx) ** 0.5
    return total / (h * w)


@pytest.mark.parametrize("name", MODELS)
def test_a_look_equals_slow_loops(name: str) -> None:
    config = MODELS[name]
    model = lively(config)
    assert isinstance(model, ViT)
    images = pictures(2, config.resolution)
    seen = look(model, images, layers=[0, 2])
    with torch.no_grad():
        output = model(images, attention=True)
    assert output.attention is not None
    weights = [w.double().numpy() for w in output.attention]
    prefix, stride = config.num_prefix_tokens, {"hybrid": 8}.get(name, 4)
    assert torch.equal(seen.logits, output.logits)
    assert torch.equal(seen.representation, output.representation)
    assert seen.distance.shape == (2, 3, 3)
    assert seen.heads.shape == (2, 2, 3, *GRID)
    for b in range(2):
        product = np.eye(config.tokens)
        for layer in range(3):
            mean = sum(weights[layer][b, head] for head in range(3)) / 3
            mixed = mean + np.eye(config.tokens)
            product = mixed / mixed.sum(axis=1, keepdims=True) @ product
            for head in range(3):
                expected = slow_distance(weights[layer][b, head], prefix, stride)
                assert float(seen.distance[b, layer, head]) == pytest.approx(expected, rel=1e-5)
        assert np.abs(product.sum(axis=1) - 1).max() < 1e-12
        if model.attn_pool is None:
            expected_map = read(product, prefix, config)
        else:
            with torch.no_grad():
                reading = pooling_weights(model.attn_pool, output.tokens[b : b + 1]).mean(dim=1)[0].numpy()
            expected_map = (reading @ product).reshape(GRID)
        assert np.abs(seen.rollout[b].numpy() - expected_map).max() < 1e-6  # measured 6e-8
        for place, layer in enumerate([0, 2]):
            single = read(weights[layer][b, 1], prefix, config)
            assert np.abs(seen.heads[b, place, 1].numpy() - single).max() < 1e-6


def read(weights: np.ndarray, prefix: int, config: ViTConfig) -> np.ndarray:
    """What the classifier reads of a matrix of attention, by a loop."""
    rows = {ClassToken: [0], TokenAndAverage: [0]}.get(type(config.pool), [])
    patches = list(range(prefix, config.tokens))
    mean = sum(weights[i, prefix:] for i in patches) / len(patches)
    row = weights[0, prefix:] if isinstance(config.pool, ClassToken) else mean
    if isinstance(config.pool, TokenAndAverage):
        row = (weights[rows[0], prefix:] + mean) / 2
    return row.reshape(GRID)


def test_a_look_from_one_patch() -> None:
    config = MODELS["registers"]
    model = lively(config)
    assert isinstance(model, ViT)
    seen = look(model, pictures(), layers=[1], place=(2, 1))
    with torch.no_grad():
        weights = model(pictures(), attention=[1]).attention[0]
    got, expected = seen.heads[:, 0].flatten(2), weights[:, :, 3 + 2 * 4 + 1, 3:]
    assert (got - expected).abs().max() < 1e-6  # measured 6e-8: below it layer 0 takes the fused kernel


def test_without_layers_no_head_is_mapped() -> None:
    model = lively(vit())
    assert isinstance(model, ViT)
    assert look(model, pictures()).heads.shape == (2, 0, 3, *GRID)


def test_the_weights_of_a_layer_are_gone_when_the_next_makes_its_own() -> None:
    """So that memory holds one layer, however deep the model is; numbers stay those of the plain pass."""
    model = lively(vit(depth=4))
    assert isinstance(model, ViT)
    seen: list[Any] = []
    gathered: list[Tensor] = []

    def before_a_layer(block: Any, inputs: Any) -> None:
        assert [alive() for alive in seen] == [None] * len(seen)

    for block in model.blocks:
        block.register_forward_pre_hook(before_a_layer)

    def watch(layer: int, weights: Tensor) -> None:
        assert layer == len(seen)
        seen.append(weakref.ref(weights))
        gathered.append(weights.clone())

    with torch.no_grad():
        output = model(pictures(), attention=True, watch=watch)
        assert len(seen) == 4
        seen.clear()
        plain = model(pictures(), attention=True)
        fused = model(pictures())
    assert output.attention is None
    assert torch.equal(output.logits, plain.logits)
    assert (output.logits - fused.logits).abs().max() < 1e-5
    for ours, theirs in zip(gathered, plain.attention, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("place", [None, (1, 2)])
def test_maps_of_heads_do_not_hold_the_weights_they_are_cut_from(place: tuple[int, int] | None) -> None:
    """The row of the class token is a part of a layer's weights: kept as it is, it would keep them all."""
    model = lively(vit(pool=ClassToken()))
    assert isinstance(model, ViT)
    seen = look(model, pictures(), layers=[0, 1, 2], place=place)
    for kept in (seen.heads, seen.rollout):
        assert kept.untyped_storage().nbytes() == kept.nbytes
    held: list[StorageWeakRef] = []
    real = model.forward

    def spied(images: Tensor, *, attention: bool, watch: Any) -> Any:
        def both(layer: int, weights: Tensor) -> None:
            held.append(StorageWeakRef(weights.untyped_storage()))
            watch(layer, weights)

        return real(images, attention=attention, watch=both)

    def before_a_layer(block: Any, inputs: Any) -> None:
        assert all(one.expired() for one in held)

    model.forward = spied  # type: ignore[method-assign, assignment]
    for block in model.blocks:
        block.register_forward_pre_hook(before_a_layer)
    look(model, pictures(), layers=[0, 1, 2], place=place)
    assert len(held) == 3


def test_the_memory_of_a_look_does_not_grow_with_depth() -> None:
    assert bytes_to_look(vit(depth=3)) == bytes_to_look(vit(depth=30))
    large = ViTConfig(width=1024, depth=24, heads=16, mlp=4096)
    assert 8e6 < bytes_to_look(large) < 32e6  # all 24 layers would be 60 MB of weights alone


def test_similarity_of_sines_and_cosines_follows_their_formula() -> None:
    """cos a cos b + sin a sin b = cos(a - b), so cosine = mean over ω of cos(ω Δx) and cos(ω Δy)."""
    config = vit(position=SinCos2d(), pool=ClassToken(), registers=1)
    model = lively(config)
    assert isinstance(model, ViT)
    with torch.no_grad():
        table = torch.zeros_like(model.pos_embed)
        table.copy_(ViT(config).pos_embed)
        model.pos_embed.copy_(table)
        got = position_similarity(model.position_table(), config.num_prefix_tokens).numpy()
    omega = 10_000.0 ** -(np.arange(6) / 5)
    h, w = GRID
    for i in range(h * w):
        for j in range(h * w):
            dy, dx = i // w - j // w, i % w - j % w
            expected = (np.cos(omega * dx).sum() + np.cos(omega * dy).sum()) / 12
            assert got[i, j] == pytest.approx(expected, abs=1e-6)  # measured 1.5e-7


def test_the_first_layer_is_what_meets_the_pixels() -> None:
    plain = lively(vit())
    assert isinstance(plain, ViT)
    assert first_layer(plain) is plain.patch_embed.proj.weight
    hybrid = lively(HYBRID)
    assert isinstance(hybrid, ViT)
    assert first_layer(hybrid).shape == (32, 3, 7, 7)
    resnet: Any = lively(ResNetConfig(replace(BIT, units=(1,), width=32), (32, 32)))
    used = first_layer(resnet)
    assert torch.equal(used, standardise(resnet.stem.conv.weight, 1e-10, True))
    assert used.flatten(1).mean(dim=1).abs().max() < 1e-6
    pictures_of, shares = embedding_filters(used, 40)
    assert len(pictures_of) == len(shares) == 32
