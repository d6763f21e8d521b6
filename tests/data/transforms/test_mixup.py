"""Mixup and CutMix against slow loops; parts of a batch mix as the whole; boxes and targets agree."""

import itertools
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from tests.parity.live.foreign import require
from vitrail.core.config import from_json, to_json
from vitrail.core.errors import BadInput
from vitrail.data.transforms.mixup import Mixing, cutmix_box, mix, mixup_ratio

CLASSES = 7
MIXUP, CUTMIX, BOTH = Mixing(mixup=0.8), Mixing(cutmix=1.0), Mixing(mixup=0.8, cutmix=1.0)


def batch(size: int, seed: int = 0, height: int = 13, width: int = 17) -> tuple[Tensor, Tensor]:
    """A whole batch of uint8 images and their labels."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (size, 3, height, width), dtype=np.uint8)
    return torch.from_numpy(images), torch.from_numpy(rng.integers(0, CLASSES, size))


def with_the_one_before(things: Tensor, start: int, stop: int) -> Tensor:
    """Rows start - 1 to stop - 1 of a batch; the last one comes before the first."""
    return things[torch.arange(start - 1, stop) % len(things)]


def mixed(config: Mixing, seed: int, size: int = 8) -> tuple[Tensor, Tensor]:
    images, labels = (with_the_one_before(things, 0, size) for things in batch(size))
    return mix(images, labels, CLASSES, config, np.random.default_rng(seed))


def kept(targets: Tensor, labels: Tensor) -> float:
    """What the first image with another label than its predecessor's keeps."""
    row = next(i for i in range(len(labels)) if labels[i] != labels[i - 1])
    return float(targets[row, labels[row]])


@pytest.mark.parametrize("seed", range(5))
def test_mixup_is_a_weighted_sum_of_each_image_and_the_one_before(seed: int) -> None:
    images, labels = batch(8)
    got, targets = mixed(MIXUP, seed)
    a = kept(targets, labels)
    assert 0.5 <= a < 1
    assert got.dtype == targets.dtype == torch.float32
    for i in range(8):
        slow = a * images[i].numpy().astype(float) + (1 - a) * images[i - 1].numpy().astype(float)
        assert np.abs(got[i].numpy() - slow).max() < 1e-4  # measured 3e-5
        expected = np.zeros(CLASSES)
        expected[labels[i]] += a
        expected[labels[i - 1]] += 1 - a
        assert np.abs(targets[i].numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_pastes_a_box_of_the_image_before_and_targets_are_its_area(seed: int) -> None:
    images, labels = batch(8)
    got, targets = mixed(CUTMIX, seed)
    # what came from the image before is one box, the same in every image
    foreign = (got != images).any(1).any(0).numpy()
    rows, columns = np.flatnonzero(foreign.any(1)), np.flatnonzero(foreign.any(0))
    box = np.zeros((13, 17), bool)
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    assert np.array_equal(foreign, box)
    for i in range(8):
        for y, x in itertools.product(range(13), range(17)):
            source = images[i - 1] if box[y, x] else images[i]
            assert torch.equal(got[i, :, y, x], source[:, y, x].float())
    assert kept(targets, labels) == pytest.approx(1 - box.mean(), abs=1e-6)
    assert torch.allclose(targets.sum(1), torch.ones(8))


def test_both_are_drawn_and_the_switch_is_their_share() -> None:
    images, _ = batch(4)
    inputs = [with_the_one_before(things, 0, 4) for things in batch(4)]
    for switch, probability in ((0.5, 1.0), (0.2, 0.6)):
        config = replace(BOTH, switch=switch, probability=probability)
        counts = {"nothing": 0, "mixup": 0, "cutmix": 0}
        rng = np.random.default_rng(0)
        for _ in range(1500):
            got, targets = mix(inputs[0], inputs[1], CLASSES, config, rng)
            if torch.equal(got, images.float()):
                counts["nothing"] += 1  # or a box without a pixel: about one in a hundred
                assert targets.max(1).values.eq(1).all()
            else:
                counts["cutmix" if torch.equal(got, got.round()) else "mixup"] += 1
        expected = [1 - probability, probability * (1 - switch), probability * switch]
        for count, share in zip(counts.values(), expected, strict=True):
            assert abs(count / 1500 - share) < 0.05


@pytest.mark.parametrize("config", [MIXUP, CUTMIX, BOTH, Mixing(), replace(BOTH, probability=0.5)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_parts_of_a_batch_mix_as_the_whole(config: Mixing, dtype: torch.dtype) -> None:
    images, labels = batch(8)
    images = images.to(dtype) if dtype == torch.uint8 else ((images.float() - 127.5) / 77).to(dtype)
    for seed in range(6):
        results = []
        for parts in (1, 2, 4, 8):
            size = 8 // parts
            pieces = [
                mix(
                    with_the_one_before(images, rank * size, (rank + 1) * size),
                    with_the_one_before(labels, rank * size, (rank + 1) * size),
                    CLASSES,
                    config,
                    np.random.default_rng(seed),
                )
                for rank in range(parts)
            ]
            results.append([torch.cat(things) for things in zip(*pieces, strict=True)])
        for got, targets in results[1:]:
            assert torch.equal(got, results[0][0])
            assert torch.equal(targets, results[0][1])
        assert results[0][0].dtype == (torch.float32 if dtype == torch.uint8 else dtype)
        assert results[0][0].shape == images.shape


def test_without_mixing_targets_are_one_hot_and_no_number_is_drawn() -> None:
    images, labels = (with_the_one_before(things, 0, 8) for things in batch(8))
    rng = np.random.default_rng(0)
    got, targets = mix(images, labels, CLASSES, Mixing(), rng)
    assert torch.equal(got, images[1:].float())
    assert torch.equal(targets, torch.eye(CLASSES)[labels[1:]])
    assert rng.random() == np.random.default_rng(0).random()


def test_images_of_one_class_keep_their_target() -> None:
    images, _ = batch(5)
    labels = torch.full((5,), 3)
    for config in (MIXUP, CUTMIX):
        _, targets = mix(images, labels, CLASSES, config, np.random.default_rng(1))
        assert torch.allclose(targets, torch.eye(CLASSES)[labels[1:]], atol=1e-6)


def test_the_images_given_are_left_alone() -> None:
    for dtype in (torch.uint8, torch.float32):
        images, labels = batch(5)
        images = images.to(dtype)
        before = images.clone()
        for config, seed in itertools.product((MIXUP, CUTMIX), range(5)):
            mix(images, labels, CLASSES, config, np.random.default_rng(seed))
        assert torch.equal(images, before)


@pytest.mark.parametrize("parameter", [0.2, 0.8, 1.0])
def test_the_ratio_of_mixup_is_the_larger_part_of_a_beta_draw(parameter: float) -> None:
    rng = np.random.default_rng(0)
    ratios = np.array([mixup_ratio(parameter, rng) for _ in range(4000)])
    assert ratios.min() >= 0.5
    folded = stats.beta(parameter, parameter)
    assert stats.kstest(ratios, lambda a: 2 * folded.cdf(a) - 1).pvalue > 1e-3
    expected = folded.expect(lambda a: max(a, 1 - a))
    assert ratios.mean() == pytest.approx(expected, abs=4 * ratios.std() / np.sqrt(4000))


def test_a_batch_keeps_what_the_parameters_say() -> None:
    images, labels = torch.zeros(2, 3, 40, 50, dtype=torch.uint8), torch.tensor([0, 1])
    rng = np.random.default_rng(0)

    def shares(config: Mixing) -> list[float]:
        return [float(mix(images, labels, 2, config, rng)[1][0, 1]) for _ in range(1500)]

    folded = stats.beta(0.2, 0.2)
    assert stats.kstest(shares(Mixing(mixup=0.2)), lambda a: 2 * folded.cdf(a) - 1).pvalue > 1e-3
    # a box of 1 - a of the image loses what lies outside: slowly, on a continuum of places
    a = rng.beta(0.4, 0.4, 50_000)
    half = np.sqrt(1 - a) / 2
    y, x = rng.random((2, 50_000))
    sides = [np.minimum(1, middle + half) - np.maximum(0, middle - half) for middle in (y, x)]
    distance = stats.ks_2samp(shares(Mixing(cutmix=0.4)), 1 - sides[0] * sides[1]).statistic
    assert distance < 0.06  # measured 0.03 to 0.04: pixels are whole; Beta(0.8, 0.8) gives 0.11


@pytest.mark.parametrize("shape", [(32, 32), (20, 31)])
def test_boxes_are_centred_anywhere_and_cut_at_the_borders(shape: tuple[int, int]) -> None:
    height, width = shape
    rng = np.random.default_rng(0)
    hits = np.zeros(shape)
    for ratio in (0.0, 0.3, 0.75, 0.999, 1.0):
        rows, columns = int(height * np.sqrt(1 - ratio)), int(width * np.sqrt(1 - ratio))
        for _ in range(400):
            (top, bottom, left, right), share = cutmix_box(height, width, ratio, rng)
            assert 0 <= top <= bottom <= height
            assert 0 <= left <= right <= width
            assert bottom - top <= rows
            assert right - left <= columns
            if top > 0 and bottom < height:
                assert bottom - top == rows
            if left > 0 and right < width:
                assert right - left == columns
            mask = np.zeros(shape, bool)
            mask[top:bottom, left:right] = True
            assert share == pytest.approx(1 - mask.mean())
            hits += mask if ratio == 0.75 else 0
    # slow: how often a pixel is covered by boxes about every possible middle
    half_rows, half_columns = int(height * 0.5), int(width * 0.5)
    slow = np.zeros(shape)
    for y, x in itertools.product(range(height), range(width)):
        slow[max(0, y - half_rows // 2) : y + (half_rows + 1) // 2, :][
            :, max(0, x - half_columns // 2) : x + (half_columns + 1) // 2
        ] += 1
    assert np.abs(hits / 400 - slow / (height * width)).max() < 0.12
    assert hits.sum() / 400 == pytest.approx(slow.sum() / (height * width), rel=0.03)


def test_a_batch_of_one_mixes_with_itself() -> None:
    images, labels = batch(1)
    for config in (MIXUP, CUTMIX):
        got, targets = mix(images[[0, 0]], labels[[0, 0]], CLASSES, config, np.random.default_rng(0))
        assert torch.allclose(got, images.float(), atol=1e-4)
        assert torch.allclose(targets, torch.eye(CLASSES)[labels], atol=1e-6)


def test_configs_are_checked_and_read_back() -> None:
    BOTH.check()
    assert from_json(Mixing, to_json(BOTH)) == BOTH
    assert from_json(Mixing, {"mixup": 0.2}) == Mixing(mixup=0.2)
    with pytest.raises(BadInput, match="positive, or 0"):
        Mixing(mixup=-0.2).check()
    for wrong in (replace(BOTH, probability=1.2), replace(BOTH, switch=-0.1)):
        with pytest.raises(BadInput, match="between 0 and 1"):
            wrong.check()


@pytest.mark.slow
def test_timm_draws_the_same_boxes() -> None:
    require("timm")
    timm = import_module("timm.data.mixup")
    with pytest.MonkeyPatch.context() as patch:
        for y, x, ratio in itertools.product((0, 7, 19), (0, 15, 30), (0.0, 0.31, 0.8, 1.0)):
            places = iter((y, x))
            patch.setattr(np.random, "randint", lambda *_, places=places, **__: next(places))
            (top, bottom, left, right), share = timm.cutmix_bbox_and_lam((3, 20, 31), ratio)
            box, ours = cutmix_box(20, 31, ratio, Places(y, x))
            assert box == (top, bottom, left, right)
            assert ours == pytest.approx(share)


class Places(np.random.Generator):
    """A generator that gives the whole numbers that it was given."""

    def __init__(self, *places: int):
        super().__init__(np.random.PCG64(0))
        self.places = list(places)

    def integers(self, *_: int, **__: int) -> int:  # type: ignore[override]
        return self.places.pop(0)
