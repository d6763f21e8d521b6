"""Every parameter starts as the official code starts it (measured there on S/16)."""

import re
from collections.abc import Callable
from math import log, sqrt

import pytest
import torch
from torch import Tensor

from vitrail.models.build import build
from vitrail.models.head import AveragePool
from vitrail.models.vit import ViT, ViTConfig
from vitrail.train.loss import Softmax, loss

WIDTH, MLP = 384, 1536  # S/16
BIAS = -6.9

Check = Callable[[Tensor], None]


def constant(value: float) -> Check:
    def check(weight: Tensor) -> None:
        assert (weight == value).all()

    return check


def uniform(bound: float, parts: int = 1) -> Check:
    def check(weight: Tensor) -> None:
        for part in weight.chunk(parts):
            assert 0.999 * bound < part.abs().max() <= bound
            assert part.std() == pytest.approx(bound / sqrt(3), rel=0.01)
            assert abs(part.mean()) < 0.01 * bound

    return check


def normal(std: float, truncated_at: float | None = None) -> Check:
    def check(weight: Tensor) -> None:
        assert weight.std() == pytest.approx(std, rel=0.03)  # 600 to 300,000 numbers
        assert abs(weight.mean()) < 0.15 * std
        if truncated_at is None:
            assert weight.abs().max() > 2.6 * std
        else:
            assert 0.99 * truncated_at < weight.abs().max() <= truncated_at

    return check


# fmt: off
TABLE: dict[str, Check] = {
    r"patch_embed\.proj\.weight":    normal(0.03608, truncated_at=0.08204),
    r"patch_embed\.proj\.bias":      constant(0),
    r"cls_token":                    constant(0),
    r"pos_embed":                    normal(0.02),
    r"blocks\.\d\.norm\d\.weight":   constant(1),
    r"blocks\.\d\.norm\d\.bias":     constant(0),
    r"blocks\.\d\.attn\.qkv\.weight":  uniform(0.08839, parts=3),  # q, k and v apart: sqrt(3 / D)
    r"blocks\.\d\.attn\.qkv\.bias":    constant(0),
    r"blocks\.\d\.attn\.proj\.weight": uniform(0.08839),
    r"blocks\.\d\.attn\.proj\.bias":   constant(0),
    r"blocks\.\d\.mlp\.fc\d\.weight":  uniform(0.05590),
    r"blocks\.\d\.mlp\.fc1\.bias":     normal(1e-6),
    r"blocks\.\d\.mlp\.fc2\.bias":     normal(1e-6),
    r"norm\.weight":                 constant(1),
    r"norm\.bias":                   constant(0),
    r"pre_logits\.weight":           normal(1 / sqrt(WIDTH), truncated_at=2 / sqrt(WIDTH) / 0.87962566),
    r"pre_logits\.bias":             constant(0),
    r"head\.weight":                 constant(0),
    r"head\.bias":                   constant(BIAS),
}
# fmt: on


@pytest.fixture(scope="module")
def model() -> ViT:
    torch.manual_seed(0)
    return build(ViTConfig(16, WIDTH, 2, 6, MLP, num_classes=1000, hidden=WIDTH, head_bias=BIAS))


def test_every_parameter_starts_as_in_the_official_code(model: ViT) -> None:
    used = set()
    for name, parameter in model.named_parameters():
        (pattern,) = (p for p in TABLE if re.fullmatch(p, name))
        used.add(pattern)
        try:
            # bounds are given to four digits
            TABLE[pattern](parameter.detach() * (1 - 2e-4 if parameter.abs().max() < 0.5 else 1))
        except AssertionError as problem:
            raise AssertionError(f"{name}: {problem}") from None
    assert used == set(TABLE)


def test_all_logits_start_at_the_bias(model: ViT) -> None:
    logits = model.eval()(torch.randn(2, 3, 224, 224)).logits
    assert torch.equal(logits, torch.full((2, 1000), BIAS))


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_the_softmax_loss_starts_at_ln_k(classes: int) -> None:
    model = build(ViTConfig(4, 16, 1, 2, 32, (8, 8), classes, pool=AveragePool()))
    logits = model(torch.randn(3, 3, 8, 8)).logits.detach()
    assert float(loss(logits, torch.tensor([0, 1, 1]), Softmax())) == pytest.approx(log(classes), abs=1e-5)


def test_the_same_seed_starts_the_same_model() -> None:
    config = ViTConfig(4, 16, 1, 2, 32, (8, 8), 3)

    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in build(config).parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))
