"""Soups: the mean of weights, chosen so that held-out images never say that it is worse."""

import pytest
import torch

from vitrail.core.errors import BadInput
from vitrail.models.build import build
from vitrail.models.vit import ViT, ViTConfig
from vitrail.train.soup import greedy_soup, uniform_soup

CONFIG = ViTConfig(patch=4, width=16, depth=1, heads=2, mlp=32, resolution=(8, 8), num_classes=3)


def with_bias(*bias: float) -> ViT:
    """A model whose weights are equal, but for the bias of its classifier."""
    torch.manual_seed(0)
    model = build(CONFIG)
    assert isinstance(model, ViT)
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor(bias))
    return model


def bias_of(model: torch.nn.Module) -> list[float]:
    return model.head.bias.tolist()


def test_a_uniform_soup_is_the_mean_and_leaves_its_models_alone() -> None:
    models = [with_bias(0, 0, 3), with_bias(3, 0, 0), with_bias(0, 6, 0)]
    soup = uniform_soup(models)
    assert bias_of(soup) == [1, 2, 1]
    assert bias_of(models[0]) == [0, 0, 3]
    images = torch.randn(2, 3, 8, 8)
    mean = torch.stack([model(images).logits for model in models]).mean(dim=0)
    torch.testing.assert_close(soup(images).logits, mean)  # only the bias differs, of which logits are linear


def test_a_greedy_soup_takes_what_helps_and_leaves_what_harms() -> None:
    """The score is how near the first bias is to 1: that of the best is 0.5 off, one mends it, one would ruin it."""
    models = [with_bias(9, 0, 0), with_bias(1.5, 0, 0), with_bias(0.25, 0, 0)]
    judged = []

    def judge(model: torch.nn.Module) -> float:
        assert not model.training
        judged.append(bias_of(model)[0])
        return -abs(bias_of(model)[0] - 1)

    soup = greedy_soup(models, judge)
    assert soup.members == (1, 2)
    assert bias_of(soup.model)[0] == 0.875
    assert soup.score == -0.125
    assert soup.scores == (-8, -0.5, -0.75)
    assert judged == [9, 1.5, 0.25, 0.875, pytest.approx(10.75 / 3)]


def test_equal_scores_are_kept_and_one_model_is_its_own_soup() -> None:
    models = [with_bias(1, 0, 0), with_bias(2, 0, 0)]
    assert greedy_soup(models, lambda _: 0.5).members == (0, 1), "as in the paper: not worse is enough"
    alone = greedy_soup(models[:1], lambda _: 0.5)
    assert alone.members == (0,)
    assert bias_of(alone.model) == [1, 0, 0]


def test_models_that_differ_are_refused() -> None:
    from dataclasses import replace

    with pytest.raises(BadInput, match="models that differ cannot be averaged: depth"):
        uniform_soup([with_bias(0, 0, 0), build(replace(CONFIG, depth=2))])
    with pytest.raises(BadInput, match="at least one model"):
        greedy_soup([], lambda _: 0.0)
