"""Every kind of position embedding, wherever it acts, against loops over patches, pairs and layers."""

from itertools import product
from math import exp, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.models.small import GRID, POSITIONS, SMALL, lively, pictures, shuffled_patches, vit
from vitrail.core.errors import BadInput
from vitrail.models.build import build
from vitrail.models.head import AttentionPool, AveragePool, ClassToken, PoolConfig, TokenAndAverage
from vitrail.models.patches import patchify
from vitrail.models.position import (
    Learned1d,
    Learned2d,
    NoPosition,
    PositionConfig,
    Relative,
    SinCos2d,
    relative_logits,
    sincos2d,
)
from vitrail.models.vit import ViT

WHERE = ("stem", "layers", "shared")
H, W = GRID


def prefixed(model: ViT, patches: Tensor) -> Tensor:
    """Class token, registers, patches, image by image."""
    sequences = []
    for image in patches:
        rows = [] if model.cls_token is None else [model.cls_token[0, 0]]
        rows += [] if model.reg_token is None else list(model.reg_token[0])
        sequences.append(torch.stack([*rows, *image]))
    return torch.stack(sequences)


# added to the tokens: 1-D, 2-D, sines and cosines


def slow_table(model: ViT, layer: int) -> Tensor:
    """What is added to the tokens, row by row, from the parameters of a layer."""
    config, parameters, width = model.config, model.pos_embed, model.config.width
    sincos = isinstance(config.position, SinCos2d)
    entry = config.class_token and (sincos or config.position.class_entry)
    rows = []
    if config.class_token:
        of_class = parameters.token if isinstance(config.position, Learned2d) else parameters
        rows.append(of_class[layer][0] if entry else torch.zeros(width))
    rows += [torch.zeros(width)] * config.registers
    for row in range(H):
        for column in range(W):
            if isinstance(config.position, Learned2d):
                rows.append(torch.cat([parameters.x[layer][column], parameters.y[layer][row]]))
            else:
                rows.append(parameters[layer][row * W + column + entry])
    return torch.stack(rows)


ADDED = [kind(where, entry) for kind, where, entry in product((Learned1d, Learned2d), WHERE, (True, False))]


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("pool", [ClassToken(), AveragePool()], ids=["class token", "average"])
@pytest.mark.parametrize("position", [*ADDED, SinCos2d(), SinCos2d(learned=True)], ids=str)
def test_positions_are_added_once_or_before_every_layer(
    position: PositionConfig, pool: PoolConfig, registers: int
) -> None:
    model, images = lively(vit(position=position, pool=pool, registers=registers)), pictures()
    where = "stem" if isinstance(position, SinCos2d) else position.where
    with torch.no_grad():
        x = prefixed(model, model.patch_embed(images))
        for i, block in enumerate(model.blocks):
            if where == "layers":
                x = x + slow_table(model, i)
            elif where == "shared" or i == 0:
                x = x + slow_table(model, 0)
            x, _ = block(x)
        expected = model.norm(x)
        got = model(images).tokens
    assert got.shape == (2, 12 + registers + (pool == ClassToken()), 24)
    assert (got - expected).abs().max() < 1e-5  # measured 0: the same operations


@pytest.mark.parametrize("kind", [Learned1d, Learned2d])
def test_every_place_of_the_same_table_computes_something_else(kind: type[Learned1d | Learned2d]) -> None:
    """With the same numbers in all parameters, once differs from before every layer."""
    models = {where: lively(vit(position=kind(where))) for where in WHERE}
    for name, tensor in models["stem"].state_dict().items():
        for where in WHERE:
            target = models[where].state_dict()[name]
            target.copy_(tensor if target.shape == tensor.shape else tensor.expand_as(target))
    with torch.no_grad():
        logits = {where: model(pictures()).logits for where, model in models.items()}
    assert torch.equal(logits["shared"], logits["layers"]), "all layers now have the same table"
    assert (logits["shared"] - logits["stem"]).abs().max() > 0.01  # measured 0.15 and 0.24
    fresh = build(vit(position=kind("layers")))
    table = fresh.pos_embed() if isinstance(fresh.pos_embed, nn.Module) else fresh.pos_embed
    assert table.shape == (3, 13, 24)
    assert not torch.equal(table[0], table[1])


def test_a_table_of_every_layer_learns_and_a_fixed_one_does_not() -> None:
    for name, position in POSITIONS.items():
        model = lively(vit(position=position))
        model(pictures()).logits.square().sum().backward()
        for key, parameter in model.named_parameters():
            if "pos_embed" not in key:
                continue
            if position == SinCos2d():
                assert parameter.grad is None
            else:
                assert parameter.grad is not None, name
                assert (parameter.grad.flatten(1).abs().amax(dim=1) > 0).all(), f"{name}: {key} of some layer"


def test_the_tables_have_the_sizes_of_the_papers_ablation() -> None:
    """Appendix D.4 on B/16: 197 vectors of 768; or 14 + 14 of half the width, and the class token's own."""

    def count(position: PositionConfig, **changes: object) -> int:
        big = vit(patch=16, width=768, depth=12, heads=12, mlp=8, resolution=(224, 224), position=position, **changes)
        with torch.device("meta"):
            return sum(p.numel() for name, p in build(big).named_parameters() if name.startswith("pos_embed"))

    assert count(NoPosition()) == 0
    assert count(Learned1d()) == count(Learned1d("shared")) == 197 * 768
    assert count(Learned1d("layers")) == 12 * 197 * 768
    assert count(Learned2d()) == 28 * 384 + 768
    assert count(Learned2d("layers")) == 12 * (28 * 384 + 768)
    assert count(Learned2d(class_entry=False)) == count(Learned2d(), pool=AveragePool()) == 28 * 384
    assert count(Relative()) == 12 * (2 * 197 - 1) * 64
    assert count(Relative(shared=True), pool=AveragePool()) == (2 * 196 - 1) * 64
    assert count(SinCos2d()) == 197 * 768


def test_sines_and_cosines_are_where_learning_starts() -> None:
    for position in (SinCos2d(), SinCos2d(learned=True)):
        model = build(vit(position=position, registers=2))
        assert torch.equal(model.pos_embed[0, 0], torch.zeros(24))
        assert torch.equal(model.pos_embed[0, 1:], sincos2d(GRID, 24))


def test_a_width_that_two_does_not_divide_is_refused() -> None:
    with pytest.raises(BadInput, match="2-D positions halve the width, 27 is odd"):
        build(vit(width=27, position=Learned2d()))


# relative


def slow_relative_logits(q: Tensor, relative: Tensor) -> Tensor:
    """q_i · r_(i - j) / sqrt(K), pair by pair; the first vector is that of the offset -(N - 1)."""
    b, heads, n, width = q.shape
    images = []
    for image in range(b):
        of_image = []
        for head in range(heads):
            rows = []
            for i in range(n):
                rows.append(torch.stack([q[image, head, i] @ relative[(i - j) + n - 1] for j in range(n)]))
            of_image.append(torch.stack(rows))
        images.append(torch.stack(of_image))
    return torch.stack(images) / sqrt(width)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_relative_logits_and_their_gradients_equal_a_loop_over_pairs(n: int) -> None:
    torch.manual_seed(0)
    q, relative = torch.randn(2, 3, n, 8, requires_grad=True), torch.randn(2 * n - 1, 8, requires_grad=True)
    upstream = torch.randn(2, 3, n, n)
    fast, slow = relative_logits(q, relative), slow_relative_logits(q, relative)
    assert (fast - slow).abs().max() < 1e-5  # measured 4.8e-7
    fast_grads, slow_grads = (torch.autograd.grad((x * upstream).sum(), (q, relative)) for x in (fast, slow))
    for ours, theirs in zip(fast_grads, slow_grads, strict=True):
        assert theirs.abs().amax(dim=-1).min() > 0, "every query and every offset matters"
        assert (ours - theirs).abs().max() < 1e-5  # measured 9.5e-7


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("pool", "registers"), [(ClassToken(), 0), (AveragePool(), 0), (TokenAndAverage(), 2)], ids=str
)
def test_relative_positions_equal_a_double_loop(pool: PoolConfig, registers: int, shared: bool) -> None:
    """logits_ij = (q_i · k_j + q_i · r_(i - j)) / sqrt(K), where i and j count all tokens of the sequence."""
    model = lively(vit(pool=pool, registers=registers, position=Relative(shared=shared)))
    n, heads, width = model.config.tokens, 3, 8
    assert model.pos_embed.shape == (1 if shared else 3, 2 * n - 1, width)
    read: list[Tensor] = []
    for block in model.blocks:
        block.norm1.register_forward_hook(lambda _, __, output: read.append(output))
    with torch.no_grad():
        found = model(pictures(1), attention=True).attention
    assert found is not None
    for layer, (block, x) in enumerate(zip(model.blocks, read, strict=True)):
        qkv = (x[0] @ block.attn.qkv.weight.T + block.attn.qkv.bias).double().detach().numpy()
        vectors = model.pos_embed[0 if shared else layer].double().detach().numpy()
        for head in range(heads):
            q = qkv[:, head * width : (head + 1) * width]
            k = qkv[:, 24 + head * width : 24 + (head + 1) * width]
            for i in range(n):
                powers = [exp((q[i] @ k[j] + q[i] @ vectors[i - j + n - 1]) / sqrt(width)) for j in range(n)]
                expected = np.array(powers) / sum(powers)
                assert np.abs(found[layer][0, head, i].numpy() - expected).max() < 1e-6  # measured 1.5e-7
    assert np.abs(vectors).max() > 0.1, "the vectors matter"


def test_the_relative_vectors_that_the_class_token_never_uses_have_no_gradient() -> None:
    """Logits read the class token, at place 0: in the last layer only offsets 0 - j do anything."""
    model = lively(vit(position=Relative()))
    model(pictures()).logits.square().sum().backward()
    grads = model.pos_embed.grad.abs().amax(dim=-1)
    assert grads.shape == (3, 25)
    assert (grads[:2] > 0).all()
    assert (grads[2, :13] > 0).all()
    assert (grads[2, 13:] == 0).all()


def test_relative_vectors_are_shared_by_all_layers_or_belong_to_one() -> None:
    for shared in (False, True):
        model, images = lively(vit(position=Relative(shared=shared))), pictures()
        with torch.no_grad():
            before = model(images, attention=True).attention
            model.pos_embed[-1] *= 2
            after = model(images, attention=True).attention
        changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert changed == ([True, True, True] if shared else [False, False, True])


# what the order of patches means


INVARIANT_POOLS = [ClassToken(), AveragePool(), AttentionPool(), TokenAndAverage()]
ORDER = np.random.default_rng(0).permutation(12).tolist()


@pytest.mark.parametrize("pool", INVARIANT_POOLS, ids=lambda pool: type(pool).__name__)
@pytest.mark.parametrize("kind", POSITIONS)
def test_only_without_positions_does_the_order_of_patches_not_matter(kind: str, pool: PoolConfig) -> None:
    model, images = lively(vit(pool=pool, position=POSITIONS[kind])), pictures()
    mixed = shuffled_patches(images, ORDER)
    assert torch.equal(patchify(mixed, 4), patchify(images, 4)[:, ORDER])
    with torch.no_grad():
        difference = (model(images).representation - model(mixed).representation).abs().max()
    if kind == "none":
        assert difference < 1e-5  # measured at most 7e-7
    else:
        assert difference > 0.02  # measured 0.038 (relative, average) and more


def test_without_positions_the_tokens_move_with_their_patches() -> None:
    model, images = lively(vit(position=NoPosition())), pictures()
    with torch.no_grad():
        tokens, mixed = model(images).tokens, model(shuffled_patches(images, ORDER)).tokens
    assert (tokens[:, 1:][:, ORDER] - mixed[:, 1:]).abs().max() < 1e-5  # measured 1.1e-6
    assert (tokens[:, 1:] - mixed[:, 1:]).abs().max() > 0.1  # measured 4.3


def test_the_default_is_the_papers() -> None:
    assert SMALL.position == Learned1d(where="stem", class_entry=True)
