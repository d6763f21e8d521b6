"""Patches, positions, attention, dropout: what the model computes, against slow and obvious versions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitrail.models import attention
from vitrail.models.attention import attend
from vitrail.models.build import build
from vitrail.models.head import AveragePool
from vitrail.models.patches import PatchEmbedding, patchify
from vitrail.models.position import Learned1d, NoPosition, PositionConfig, resample, resample_grid
from vitrail.models.vit import ViT, ViTConfig, dropped_border

SMALL = ViTConfig(patch=4, width=24, depth=3, heads=3, mlp=48, resolution=(12, 16), num_classes=5)


def lively(config: ViTConfig, seed: int = 0) -> ViT:
    """A model without a zero anywhere, so that everything matters; in evaluation mode."""
    torch.manual_seed(seed)
    model = build(config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return model.eval()


def pictures(count: int = 2, size: tuple[int, int] = (12, 16)) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


# patches


def test_patchify_equals_a_slow_loop() -> None:
    images = pictures(2, (9, 14))  # a border of 1 row and 2 columns
    slow = []
    for image in images:
        rows = [image[:, y : y + 4, x : x + 4].flatten() for y in (0, 4) for x in (0, 4, 8)]
        slow.append(torch.stack(rows))
    assert torch.equal(patchify(images, 4), torch.stack(slow))


def test_the_patch_embedding_equals_a_strided_convolution() -> None:
    torch.manual_seed(0)
    embedding = PatchEmbedding(4, 24)
    nn.init.normal_(embedding.proj.bias)
    images = pictures(2, (13, 18))
    expected = embedding.proj(images).flatten(2).transpose(1, 2)
    assert torch.allclose(embedding(images), expected, atol=1e-5)  # measured 1.2e-6


def test_border_pixels_that_fill_no_patch_change_nothing() -> None:
    config = replace(SMALL, resolution=(14, 19))
    model, images = lively(config), pictures(2, (14, 19))
    changed = images.clone()
    changed[:, :, 12:, :] += 5
    changed[:, :, :, 16:] -= 5
    with torch.no_grad():
        assert torch.equal(model(images).logits, model(changed).logits)
    sentence = dropped_border(config)
    assert sentence is not None
    assert "the last 2 rows and 3 columns of pixels are dropped, the grid is 3 x 4" in sentence
    assert dropped_border(SMALL) is None


def test_another_image_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(ValueError, match=r"\(16, 12\) pixels .* reads \(12, 16\)"):
        build(SMALL)(pictures(1, (16, 12)))


# attention


def test_weights_are_returned_for_the_layers_asked_for_and_rows_sum_to_one() -> None:
    model, images = lively(SMALL), pictures()
    with torch.no_grad():
        assert model(images).attention is None
        every = model(images, attention=True).attention
        some = model(images, attention=[0, 2]).attention
    assert every is not None
    assert some is not None
    assert [w.shape for w in every] == [(2, 3, 13, 13)] * 3
    assert len(some) == 2
    assert torch.equal(some[0], every[0])
    # layer 1 went through the fused kernel in `some` and through the explicit one in `every`
    assert (some[1] - every[2]).abs().max() < 1e-5  # measured below 1e-6
    for weights in every:
        assert (weights >= 0).all()
        assert (weights.sum(dim=-1) - 1).abs().max() < 1e-6  # measured 1.8e-7
    assert (every[0] - 1 / 13).abs().max() > 0.05  # and they are not trivially uniform


def test_asking_for_weights_changes_no_output() -> None:
    model, images = lively(SMALL), pictures()
    with torch.no_grad():
        plain, asked, one = model(images), model(images, attention=True), model(images, attention=[1])
    for other in (asked, one):
        for ours, theirs in zip(plain[:3], other[:3], strict=True):
            assert (ours - theirs).abs().max() < 1e-5  # the kernels differ: measured below 2e-6


@pytest.mark.parametrize("layers", [[3], [-1], [0, 17]])
def test_layers_that_are_not_there_are_refused(layers: list[int]) -> None:
    with pytest.raises(ValueError, match="layers 0 to 2"):
        build(SMALL)(pictures(), attention=layers)


def test_both_kernels_of_attention_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 50, 16).mul(2).unbind(0)
    results = []
    for explicit in (False, True):
        monkeypatch.setattr(attention, "_explicit_is_faster", lambda _, chosen=explicit: chosen)
        results.append(attend(q, k, v))
    assert (results[0] - results[1]).abs().max() < 1e-5  # measured 1.9e-6
    scores = np.einsum("bhnk,bhmk->bhnm", q.double().numpy(), k.double().numpy()) / 4
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    slow = np.einsum("bhnm,bhmk->bhnk", weights / weights.sum(axis=-1, keepdims=True), v.double().numpy())
    assert np.abs(results[1].numpy() - slow).max() < 1e-5  # measured 4.1e-6, of values up to 8


# positions and pooling


def shuffled_patches(images: Tensor, order: list[int]) -> Tensor:
    patches = patchify(images, 4)[:, order]
    return patches.unflatten(2, (3, 4, 4)).unflatten(1, (3, 4)).permute(0, 3, 1, 4, 2, 5).reshape(images.shape)


@pytest.mark.parametrize(("position", "invariant"), [(NoPosition(), True), (Learned1d(), False)])
def test_without_positions_the_order_of_patches_does_not_matter(position: PositionConfig, invariant: bool) -> None:
    model = lively(replace(SMALL, pool=AveragePool(), position=position))
    images = pictures()
    order = np.random.default_rng(0).permutation(12).tolist()
    mixed = shuffled_patches(images, order)
    assert torch.equal(patchify(mixed, 4), patchify(images, 4)[:, order])
    with torch.no_grad():
        difference = (model(images).logits - model(mixed).logits).abs().max()
    if invariant:
        assert difference < 1e-5  # measured 1.2e-7
    else:
        assert difference > 1e-2  # measured 0.08


def test_the_representation_is_the_class_token_or_the_mean() -> None:
    images = pictures()
    with torch.no_grad():
        token = lively(SMALL)(images)
        mean = lively(replace(SMALL, pool=AveragePool()))(images)
        bare = lively(replace(SMALL, num_classes=0))(images)
        model = lively(replace(SMALL, hidden=8))
        hidden = model(images)
    assert torch.equal(token.representation, token.tokens[:, 0])
    assert token.tokens.shape == (2, 13, 24)
    assert torch.allclose(mean.representation, mean.tokens.mean(dim=1))
    assert mean.tokens.shape == (2, 12, 24)
    assert torch.equal(bare.logits, bare.representation)
    assert model.pre_logits is not None
    assert torch.equal(hidden.representation, model.pre_logits(hidden.tokens[:, 0]).tanh())


def test_resampled_positions_are_the_official_ones(goldens: Path) -> None:
    golden = np.load(goldens / "posembed_resize.npz")
    cases = sorted({key.rsplit("_", 1)[0] for key in golden})
    assert len(cases) >= 4
    for case in cases:
        old, _, new, prefix = case.split("_")
        sides = (int(old), int(old)), (int(new), int(new))
        got = resample(torch.from_numpy(golden[f"{case}_in"]), *sides, int(prefix.removeprefix("cls")))
        error = np.abs(got.numpy() - golden[f"{case}_out"]).max()
        assert error < 1e-5, case  # measured at most 4.4e-6


def slow_bilinear(table: np.ndarray, new: tuple[int, int]) -> np.ndarray:
    """Corners on corners: place i of n lies at i · (m - 1) / (n - 1) of the old grid."""
    old = table.shape[:2]
    result = np.zeros((*new, table.shape[2]))
    for i in range(new[0]):
        for j in range(new[1]):
            y = i * (old[0] - 1) / max(1, new[0] - 1)
            x = j * (old[1] - 1) / max(1, new[1] - 1)
            top, left = min(int(y), old[0] - 1), min(int(x), old[1] - 1)
            bottom, right = min(top + 1, old[0] - 1), min(left + 1, old[1] - 1)
            dy, dx = y - top, x - left
            upper = table[top, left] * (1 - dx) + table[top, right] * dx
            lower = table[bottom, left] * (1 - dx) + table[bottom, right] * dx
            result[i, j] = upper * (1 - dy) + lower * dy
    return result


@pytest.mark.parametrize(("old", "new"), [((3, 5), (7, 4)), ((4, 4), (9, 2)), ((6, 3), (6, 8)), ((2, 2), (1, 5))])
def test_grids_that_are_not_square_resample_like_a_slow_version(old: tuple[int, int], new: tuple[int, int]) -> None:
    table = np.random.default_rng(0).normal(size=(*old, 6)).astype(np.float32)
    got = resample_grid(torch.from_numpy(table.reshape(-1, 6)), old, new)
    assert np.abs(got.numpy().reshape(*new, 6) - slow_bilinear(table, new)).max() < 1e-5  # measured 4.8e-7


def test_positions_of_the_same_grid_are_left_alone_and_others_must_fill_theirs() -> None:
    table = torch.randn(12, 6)
    assert resample_grid(table, (3, 4), (3, 4)) is table
    with pytest.raises(ValueError, match="12 positions do not fill a grid of 3 x 5"):
        resample_grid(table, (3, 5), (6, 6))


# dropout


def test_dropout_acts_in_training_only() -> None:
    model, images = lively(replace(SMALL, dropout=0.3)), pictures()
    without = lively(SMALL)
    with torch.no_grad():
        assert torch.equal(model(images).logits, model(images).logits)
        assert torch.equal(model(images).logits, without(images).logits)
        model.train()
        assert not torch.equal(model(images).logits, model(images).logits)
        without.train()
        assert torch.equal(without(images).logits, without(images).logits)


def test_dropout_acts_after_positions_projection_gelu_and_mlp_but_not_on_the_head() -> None:
    config = replace(SMALL, dropout=0.3, depth=1, hidden=8)
    model = build(config).train()
    seen: list[tuple[int, ...]] = []
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape[1:])))
    model(pictures())
    assert seen == [(13, 24), (13, 24), (13, 48), (13, 24)]
