"""The Vision Transformer from pixels to dropout: patches, borders, and where dropout acts."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.models.small import SMALL, lively, pictures, vit
from vitrail.models.build import build
from vitrail.models.head import AttentionPool
from vitrail.models.patches import PatchEmbedding, patchify
from vitrail.models.position import Learned1d, Relative
from vitrail.models.vit import cropped_border

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
    config = vit(resolution=(14, 19))
    model, images = lively(config), pictures(2, (14, 19))
    changed = images.clone()
    changed[:, :, 12:, :] += 5
    changed[:, :, :, 16:] -= 5
    with torch.no_grad():
        assert torch.equal(model(images).logits, model(changed).logits)
    sentence = cropped_border(config)
    assert sentence is not None
    assert "the last 2 rows and 3 columns of pixels are dropped, the grid is 3 x 4" in sentence
    assert cropped_border(SMALL) is None


def test_another_image_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(ValueError, match=r"\(16, 12\) pixels .* reads \(12, 16\)"):
        build(SMALL)(pictures(1, (16, 12)))


# dropout


def test_dropout_acts_in_training_only() -> None:
    model, images = lively(vit(dropout=0.3)), pictures()
    without = lively(SMALL)
    with torch.no_grad():
        assert torch.equal(model(images).logits, model(images).logits)
        assert torch.equal(model(images).logits, without(images).logits)
        model.train()
        assert not torch.equal(model(images).logits, model(images).logits)
        without.train()
        assert torch.equal(without(images).logits, without(images).logits)


DROPOUT = {
    "class token": vit(),
    "positions before every layer": vit(position=Learned1d("layers")),
    "relative": vit(position=Relative()),
    "attention pool": vit(pool=AttentionPool(), registers=1),
}


@pytest.mark.parametrize("case", DROPOUT)
def test_dropout_acts_after_positions_projection_gelu_and_mlp_but_not_on_the_head(case: str) -> None:
    """Once on what enters the encoder, and three times a layer; not on weights of attention, nor in any head."""
    model = build(replace(DROPOUT[case], dropout=0.3, depth=2, hidden=8)).train()
    seen: list[tuple[int, ...]] = []
    for module in model.modules():
        if isinstance(module, nn.Dropout) and module.p:
            module.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape[1:])))
    model(pictures())
    assert seen == [(13, 24)] + [(13, 24), (13, 48), (13, 24)] * 2
