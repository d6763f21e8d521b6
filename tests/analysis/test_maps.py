"""Maps of attention: of the class token, the mean, a patch, attention pooling; how concentrated, how alike."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.small import lively, pictures, vit
from vitrail.analysis.maps import half_share, likeness, output_map, patch_map, pooling_weights
from vitrail.models.head import AttentionPool, AttentionPooling, AveragePool, ClassToken
from vitrail.models.vit import ViT


def attention(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).softmax(-1)


def test_a_patch_is_found_by_its_row_and_column() -> None:
    weights = attention(2, 3, 14, 14)  # class token, register, 3 x 4 patches
    got = patch_map(weights, (3, 4), 2, (1, 3))
    assert torch.equal(got.flatten(2), weights[:, :, 2 + 1 * 4 + 3, 2:])
    for place in ((3, 0), (0, 4), (-1, 0)):
        with pytest.raises(ValueError, match="the grid has 3 rows and 4 columns"):
            patch_map(weights, (3, 4), 2, place)


def test_maps_of_an_average_do_not_count_the_rows_of_other_tokens() -> None:
    weights = attention(13, 13)
    assert torch.equal(output_map(weights, (3, 4), 1, ClassToken()).flatten(), weights[0, 1:])
    mean = output_map(weights, (3, 4), 1, AveragePool(class_token=True))
    assert torch.allclose(mean.flatten(), weights[1:, 1:].mean(dim=0))


def test_attention_pooling_weighs_the_patches_as_the_head_does() -> None:
    """The head's output is the weighted mean of the values: computed here from the weights, by a loop over heads."""
    model = lively(vit(pool=AttentionPool(), registers=1))
    assert isinstance(model, ViT)
    pooling = model.attn_pool
    assert isinstance(pooling, AttentionPooling)
    with torch.no_grad():
        output = model(pictures())
        patches = output.tokens[:, 1:]
        weights = pooling_weights(pooling, patches)
        assert weights.shape == (2, 3, 12)
        assert (weights.sum(dim=-1) - 1).abs().max() < 1e-6
        values = pooling.kv(patches)[..., 24:]
        mixed = torch.cat(
            [torch.einsum("bn,bnk->bk", weights[:, h], values[..., 8 * h : 8 * h + 8]) for h in range(3)], dim=-1
        )
        x = pooling.proj(mixed)[:, None]
        representation = (x + pooling.mlp(pooling.norm(x)))[:, 0]
    assert (representation - output.representation).abs().max() < 1e-5  # measured 4e-7
    between = attention(2, 13, 13)
    got = output_map(between, (3, 4), 1, AttentionPool(), weights.mean(dim=1))
    for b in range(2):
        expected = sum(float(weights.mean(dim=1)[b, i]) * between[b, 1 + i, 1:].numpy() for i in range(12))
        assert np.abs(got[b].flatten().numpy() - expected).max() < 1e-6


def test_half_of_a_map_lies_on_few_or_many_patches() -> None:
    even, one = torch.ones(4, 5), torch.zeros(4, 5)
    one[2, 3] = 7.0
    steps = torch.zeros(4, 5)
    steps[0, :4] = torch.tensor([4.0, 3.0, 2.0, 1.0])  # 4 + 3 is more than half of 10
    got = half_share(torch.stack([even, one, steps]))
    assert got.tolist() == pytest.approx([0.5, 1 / 20, 2 / 20])


def test_likeness_is_the_mean_correlation_with_the_other_maps() -> None:
    maps = torch.rand(6, 3, 4, generator=torch.Generator().manual_seed(1)) ** 3
    correlations = np.corrcoef(maps.flatten(1).double().numpy())
    expected = (correlations.sum(axis=1) - 1) / 5
    assert np.abs(likeness(maps).numpy() - expected).max() < 1e-6  # measured 3e-8
    same = maps[:1].repeat(3, 1, 1) * torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    assert likeness(same).tolist() == pytest.approx([1, 1, 1])
    flat = torch.stack([torch.full((3, 4), 0.2), maps[0]])
    assert likeness(flat).tolist() == [0, 0]
