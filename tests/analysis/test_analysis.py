"""Rollout, attention distance, similarity and filters against slow loops and reference values."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from vitrail.analysis.distance import attention_distance, even_distance, patch_distances
from vitrail.analysis.filters import embedding_filters, for_display
from vitrail.analysis.maps import output_map
from vitrail.analysis.rollout import rollout
from vitrail.analysis.similarity import position_similarity
from vitrail.models.head import AttentionPool, AveragePool, ClassToken, TokenAndAverage


def random_attention(layers: int = 3, tokens: int = 7, batch: int = 2, heads: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(batch, heads, tokens, tokens, generator=generator) * 2).softmax(-1) for _ in range(layers)]


def test_rollout_equals_a_slow_loop_and_its_rows_sum_to_one() -> None:
    attention = random_attention()
    got = rollout(attention)
    for b in range(2):
        result = np.eye(7)
        for weights in attention:
            mean = sum(weights[b, h].double().numpy() for h in range(4)) / 4
            result = (0.5 * mean + 0.5 * np.eye(7)) @ result
        assert np.abs(got[b].numpy() - result).max() < 1e-6  # measured 5.5e-8
    assert (got.sum(dim=-1) - 1).abs().max() < 1e-6  # measured 1.2e-7


def test_rollout_multiplies_later_layers_from_the_left() -> None:
    """Token 0 reads token 1 in the last layer; token 1 read token 2 in the first."""
    first, last = torch.eye(3)[None, None].clone(), torch.eye(3)[None, None].clone()
    first[0, 0, 1] = torch.tensor([0.0, 0.0, 1.0])
    last[0, 0, 0] = torch.tensor([0.0, 1.0, 0.0])
    assert rollout([first, last])[0, 0].tolist() == [0.5, 0.25, 0.25]
    assert rollout([last, first])[0, 0].tolist() == [0.5, 0.5, 0.0]


def test_rollout_takes_layers_one_by_one_and_needs_one() -> None:
    attention = random_attention()
    assert torch.equal(rollout(iter(attention)), rollout(attention))
    with pytest.raises(ValueError, match="at least one layer"):
        rollout([])


def test_the_output_rollout_is_the_row_of_the_class_token_or_the_mean() -> None:
    attention = random_attention(tokens=7)
    token = output_map(rollout(attention), (2, 3), 1, ClassToken())
    assert token.shape == (2, 2, 3)
    assert torch.equal(token.flatten(1), rollout(attention)[:, 0, 1:])
    attention = random_attention(tokens=6)
    mean = output_map(rollout(attention), (3, 2), 0, AveragePool())
    assert torch.allclose(mean.flatten(1), rollout(attention).mean(dim=1))
    assert (mean.sum(dim=(1, 2)) - 1).abs().max() < 1e-6


def test_the_output_rollout_is_of_what_the_classifier_reads() -> None:
    """A class token and two registers come before four patches; the classifier need not read the first row."""
    attention = random_attention(tokens=7)
    rows = rollout(attention)[:, :, 3:]
    token, average = rows[:, 0], rows[:, 3:].mean(dim=1)
    for pool, expected in (
        (ClassToken(), token),
        (AveragePool(class_token=True), average),
        (TokenAndAverage(), (token + average) / 2),
        (AttentionPool(), average),
    ):
        got = output_map(rollout(attention), (2, 2), 3, pool)
        assert torch.allclose(got.flatten(1), expected, atol=1e-7), pool
    assert (token - average).abs().max() > 0.01


@pytest.mark.parametrize(
    ("side", "patch", "uniform", "lost"),
    [(14, 16, 116.492, 115.901), (7, 32, 115.503, 113.193), (16, 14, 116.565, 116.111)],
)
def test_distances_of_uniform_attention_are_the_reference_values(
    side: int, patch: int, uniform: float, lost: float
) -> None:
    n = side * side
    even = torch.full((1, 2, n, n), 1 / n)
    # The reference values are rounded to three places; the sums in float32 measured at most 2e-5 off.
    assert attention_distance(even, (side, side), patch, 0).tolist() == [[pytest.approx(uniform, abs=5.5e-4)] * 2]
    with_token = torch.full((1, 1, n + 1, n + 1), 1 / (n + 1))  # nothing is normalised again
    assert float(attention_distance(with_token, (side, side), patch, 1)) == pytest.approx(lost, abs=5.5e-4)
    assert even_distance((side, side), patch) == pytest.approx(uniform, abs=5e-4)


def test_looking_at_oneself_is_no_distance() -> None:
    eye = torch.eye(6).expand(2, 3, 6, 6)
    assert attention_distance(eye, (2, 3), 16, 0).tolist() == [[0.0] * 3] * 2


def test_distances_on_a_grid_that_is_not_square_equal_a_slow_loop() -> None:
    (weights,) = random_attention(layers=1, tokens=13, heads=2)
    got = attention_distance(weights, (3, 4), 5, 1)
    for b in range(2):
        for h in range(2):
            total = 0.0
            for i in range(12):
                for j in range(12):
                    apart = 5 * np.hypot(i // 4 - j // 4, i % 4 - j % 4)
                    total += float(weights[b, h, 1 + i, 1 + j]) * apart
            assert float(got[b, h]) == pytest.approx(total / 12, rel=1e-5)
    assert float(patch_distances((14, 14), 16).max()) == pytest.approx(294.156, abs=5e-4)


def test_similarity_is_the_cosine_without_the_class_token() -> None:
    table = torch.randn(1, 7, 5, generator=torch.Generator().manual_seed(0))
    got = position_similarity(table, 1)
    assert (got.diagonal() - 1).abs().max() < 1e-6
    for i in range(6):
        for j in range(6):
            a, b = table[0, 1 + i].double().numpy(), table[0, 1 + j].double().numpy()
            assert float(got[i, j]) == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-6)
    assert position_similarity(table, 0).shape == (7, 7)


def test_filters_are_the_principal_components_up_to_sign() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(48, 48)) * np.linspace(3, 0.3, 48)[:, None]
    filters = (rng.normal(size=(100, 48)) @ mixing + 1).astype(np.float32)
    pictures, shares = embedding_filters(torch.from_numpy(filters.reshape(100, 3, 4, 4)), 10)
    reference = PCA(10, svd_solver="full").fit(filters.astype(np.float64))
    assert pictures.shape == (10, 3, 4, 4)
    for ours, theirs in zip(pictures.flatten(1).double().numpy(), reference.components_, strict=True):
        assert np.abs(ours * np.sign(ours @ theirs) - theirs).max() < 1e-5  # measured 1.4e-8
        assert ours[np.abs(ours).argmax()] > 0
    assert shares.tolist() == pytest.approx(reference.explained_variance_ratio_.tolist(), rel=1e-5)


def test_fewer_filters_than_components_give_what_there_is() -> None:
    pictures, shares = embedding_filters(torch.randn(6, 3, 2, 2), 28)
    assert len(pictures) == len(shares) == 6
    flat, none = embedding_filters(torch.ones(6, 3, 2, 2), 3)
    assert torch.isfinite(flat).all()
    assert none.tolist() == [0, 0, 0]


def test_pictures_for_display_fill_nought_to_one() -> None:
    pictures = torch.randn(4, 3, 5, 5) * 10
    pictures[3] = 2.0  # a flat one
    shown = for_display(pictures)
    assert shown.shape == (4, 5, 5, 3)
    assert shown.amin() == 0
    assert shown.amax() == 1
    assert shown[:3].flatten(1).amin(dim=1).tolist() == [0, 0, 0]
    assert shown[:3].flatten(1).amax(dim=1).tolist() == pytest.approx([1, 1, 1])
    assert torch.equal(shown[0].argmax(), pictures[0].permute(1, 2, 0).argmax())
