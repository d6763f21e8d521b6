"""Masked patch prediction: corruption, targets and the head, against slow loops in numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.small import SMALL, lively, pictures
from vitrail.core.errors import BadInput
from vitrail.data.transforms.counter_rng import CounterRNG
from vitrail.models.head import AttentionPool
from vitrail.models.masked_patches import (
    Corruption,
    MaskedPatches,
    PatchPredictor,
    check_encoder,
    colour_of,
    corrupt,
    draw_corruption,
    mean_colours,
    neighbours_colour,
    small_colours,
)
from vitrail.models.position import NoPosition
from vitrail.models.resnet import ResNetConfig, Stages
from vitrail.models.vit import ViT

PATCHES = 12  # of SMALL
BARE = replace(SMALL, num_classes=0)


def numbers(images: int, patches: int = PATCHES, key: int = 7) -> Tensor:
    places = torch.arange(images)
    return CounterRNG(key, torch.zeros_like(places), places).uniform(0, 3 * patches)


def slow_corruption(objective: MaskedPatches, u: np.ndarray, patches: int) -> tuple[list[int], list[bool], list[int]]:
    """Of one image: the places, where [mask] is, whose embedding is seen."""
    which, kind, other = u[:patches], u[patches : 2 * patches], u[2 * patches :]
    places = sorted(sorted(range(patches), key=lambda i: which[i])[: round(objective.share * patches)])
    masked, source = [False] * patches, list(range(patches))
    for i in places:
        if kind[i] < objective.masked:
            masked[i] = True
        elif kind[i] < objective.masked + objective.foreign:
            others = [*range(i + 1, patches), *range(i)]
            source[i] = others[int(other[i] * len(others))]
    return places, masked, source


@pytest.mark.parametrize(
    "objective", [MaskedPatches(), MaskedPatches(share=0.15), MaskedPatches(masked=0.2, foreign=0.6)]
)
def test_the_corruption_is_that_of_a_loop(objective: MaskedPatches) -> None:
    u = numbers(50)
    found = draw_corruption(objective, u)
    for image in range(50):
        places, masked, source = slow_corruption(objective, u[image].numpy(), PATCHES)
        assert found.places[image].tolist() == places
        assert found.masked[image].tolist() == masked
        assert found.source[image].tolist() == source


def test_half_of_the_patches_and_their_fates_over_10_000_images() -> None:
    images, patches = 10_000, 16
    found = draw_corruption(MaskedPatches(), numbers(images, patches))
    assert found.places.shape == (images, 8), "exactly half, in every image"
    own = torch.arange(patches)
    foreign = found.source != own
    corrupted = torch.zeros(images, patches, dtype=torch.bool).scatter_(1, found.places, True)
    assert not (found.masked & foreign).any()
    assert not ((found.masked | foreign) & ~corrupted).any()
    trials = images * 8
    for share, count in ((0.8, found.masked.sum()), (0.1, foreign.sum())):
        deviation = (trials * share * (1 - share)) ** 0.5
        assert abs(int(count) - trials * share) < 4 * deviation
    each = corrupted.double().mean(dim=0)  # every place as often as any other
    assert (each - 0.5).abs().max() < 4 * 0.5 / images**0.5
    strangers = torch.bincount(((found.source - own) % patches)[foreign], minlength=patches)
    assert strangers[0] == 0, "never its own"
    wanted = float(strangers.sum()) / (patches - 1)
    assert (strangers[1:] - wanted).abs().max() < 4.5 * wanted**0.5


def test_embeddings_are_replaced_and_kept_as_they_were() -> None:
    patches, mask = torch.randn(2, 4, 3), torch.full((1, 1, 3), 9.0)
    masked = torch.tensor([[True, False, False, False], [False, False, True, False]])
    source = torch.tensor([[0, 3, 2, 3], [0, 1, 2, 0]])
    seen = corrupt(patches, mask, Corruption(torch.zeros(2, 1, dtype=torch.int64), masked, source))
    assert torch.equal(seen[0], torch.stack([mask[0, 0], patches[0, 3], patches[0, 2], patches[0, 3]]))
    assert torch.equal(seen[1], torch.stack([patches[1, 0], patches[1, 1], mask[0, 0], patches[1, 0]]))


def pixels(seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, 3, 24, 32), dtype=np.uint8))


def slow_class(block: np.ndarray) -> int:
    """Of pixels [3, y, x]."""
    levels = [int(channel.astype(np.float64).mean() // 32) for channel in block]
    return levels[0] + 8 * levels[1] + 64 * levels[2]


def test_colour_classes_are_those_of_a_loop() -> None:
    images, patch = pixels(), 8
    whole, small = mean_colours(images, patch), small_colours(images, patch)
    for image in range(3):
        for n in range(12):
            y, x = n // 4 * patch, n % 4 * patch
            block = images[image, :, y : y + patch, x : x + patch].numpy()
            assert int(whole[image, n]) == slow_class(block)
            for m in range(16):
                top, left = m // 4 * 2, m % 4 * 2
                assert int(small[image, n, m]) == slow_class(block[:, top : top + 2, left : left + 2])


def test_the_extreme_colours_have_classes_too() -> None:
    for value, wanted in ((0, 0), (255, 511), (31, 0), (32, 73)):
        assert mean_colours(torch.full((1, 3, 4, 4), value, dtype=torch.uint8), 4).item() == wanted
    every = torch.arange(512)
    flat = colour_of(every)[:, :, None, None].expand(-1, -1, 4, 4)
    assert torch.equal(mean_colours(flat, 4)[:, 0], every), "the middle of a class is in it"


def test_neighbours_are_those_that_are_seen() -> None:
    images, patch = pixels(1), 8
    seen = torch.from_numpy(np.random.default_rng(2).random((3, 12)) < 0.4)
    seen[2] = False
    seen[2, 0] = True  # most patches have no neighbour that is seen
    found = neighbours_colour(images, patch, seen)
    blocks = images.unfold(2, patch, patch).unfold(3, patch, patch).numpy()  # [b 3 h w p p]
    for image in range(3):
        for n in range(12):
            row, column = divmod(n, 4)
            near = [
                (y, x)
                for y in range(row - 1, row + 2)
                for x in range(column - 1, column + 2)
                if (y, x) != (row, column) and 0 <= y < 3 and 0 <= x < 4 and seen[image, y * 4 + x]
            ]
            near = near or [divmod(i, 4) for i in range(12) if seen[image, i]]
            values = np.concatenate([blocks[image, :, y, x].reshape(3, -1) for y, x in near], axis=1)
            assert int(found[image, n]) == slow_class(values[:, None])


def predictor(objective: MaskedPatches = MaskedPatches(), **changes: object) -> PatchPredictor:
    model = lively(replace(BARE, **changes))
    assert isinstance(model, ViT)
    torch.manual_seed(3)
    return PatchPredictor(model, objective).eval()


def test_the_head_reads_every_corrupted_patch_from_its_own_output() -> None:
    model = predictor()
    drawn = draw_corruption(model.objective, numbers(2))
    found = model(pictures(), *drawn)
    assert found.shape == (2, 6, 512)
    patches = model.encoder.patch_embed(pictures())
    seen = corrupt(patches, model.mask_token, drawn)
    tokens = model.encoder.encode(lambda: seen).tokens
    for image in range(2):
        for m, n in enumerate(drawn.places[image].tolist()):
            assert torch.allclose(found[image, m], model.head(tokens[image, 1 + n]), atol=1e-6)


def test_positions_are_added_after_the_corruption() -> None:
    hidden = draw_corruption(MaskedPatches(masked=1.0, foreign=0.0), numbers(2))
    told = predictor(MaskedPatches(masked=1.0, foreign=0.0))(pictures(), *hidden)
    assert (told[0, 0] - told[0, 1]).abs().max() > 1e-3, "two masked patches differ by their places"
    blind = predictor(MaskedPatches(masked=1.0, foreign=0.0), position=NoPosition())(pictures(), *hidden)
    assert (blind[0, 0] - blind[0, 1]).abs().max() < 1e-5


def test_the_class_token_learns_through_attention_alone() -> None:
    model = predictor().train()
    drawn = draw_corruption(model.objective, numbers(2))
    model(pictures(), *drawn).sum().backward()
    token = model.encoder.cls_token
    assert token is not None
    assert token.grad is not None
    assert token.grad.abs().max() > 0
    cut = predictor().train()
    with torch.no_grad():
        for block in cut.encoder.blocks:
            block.attn.proj.weight.zero_()  # type: ignore[union-attr]
    cut(pictures(), *drawn).sum().backward()
    assert cut.encoder.cls_token is not None
    assert cut.encoder.cls_token.grad is None or not cut.encoder.cls_token.grad.any()


@pytest.mark.parametrize(
    ("objective", "changes", "said"),
    [
        (MaskedPatches(share=0.0), {}, "shares of 1"),
        (MaskedPatches(masked=0.9, foreign=0.2), {}, "at most 1"),
        (MaskedPatches(target="small-colours"), {"patch": 2}, "multiple of 4, not 2"),
        (MaskedPatches(), {"pool": AttentionPool()}, "token or average"),
        (MaskedPatches(), {"channels": 1}, "3 channels"),
        (MaskedPatches(), {"resolution": (4, 4)}, "at least 2 patches"),
        (MaskedPatches(), {"backbone": Stages(units=()), "patch": 1}, "plain ViT"),
    ],
)
def test_what_does_not_fit_is_refused(objective: MaskedPatches, changes: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        objective.check(replace(BARE, **changes))  # type: ignore[arg-type]


def test_a_resnet_is_refused() -> None:
    with pytest.raises(BadInput, match="plain ViT"):
        check_encoder(ResNetConfig(), "masked-patches")
