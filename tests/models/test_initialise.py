"""Every parameter starts as the official code starts it (measured there on S/16)."""

import re
from collections.abc import Callable
from dataclasses import replace
from math import log, sqrt

import pytest
import torch
from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.models.build import ModelConfig, build
from vitrail.models.head import AttentionPool, AveragePool
from vitrail.models.position import Learned2d, Relative
from vitrail.models.resnet import BIT, ResNetConfig, Stages
from vitrail.models.vit import ViTConfig
from vitrail.train.loss import Softmax, loss

WIDTH, MLP = 384, 1536  # S/16
BIAS = -6.9

Check = Callable[[Tensor], None]


def constant(value: float) -> Check:
    def check(weight: Tensor) -> None:
        assert (weight == value).all()

    return check


def sampling(numbers: int) -> float:
    """Four standard errors of a deviation that so many numbers estimate."""
    return 4 / sqrt(2 * numbers)


def uniform(bound: float, parts: int = 1) -> Check:
    def check(weight: Tensor) -> None:
        for part in weight.chunk(parts):
            assert (1 - 8 / part.numel()) * 0.999 * bound < part.abs().max() <= bound
            assert part.std() == pytest.approx(bound / sqrt(3), rel=max(0.01, sampling(part.numel())))
            assert abs(part.mean()) < 3 * bound / sqrt(part.numel())

    return check


def normal(std: float, truncated_at: float | None = None) -> Check:
    def check(weight: Tensor) -> None:
        assert weight.std() == pytest.approx(std, rel=max(0.03, sampling(weight.numel())))
        assert abs(weight.mean()) < max(0.05, 4 / sqrt(weight.numel())) * std
        if truncated_at is None:
            assert weight.abs().max() > 2.3 * std  # lecun-normal ends at 2.27
        else:
            assert 0.99 * truncated_at < weight.abs().max() <= truncated_at

    return check


def lecun_normal(weight: Tensor) -> None:
    """Variance 1 / fan-in after the truncation at two deviations of what was drawn."""
    std = 1 / sqrt(weight[0].numel())
    normal(std, truncated_at=2 * std / 0.87962566)(weight)


# fmt: off
ENCODER: dict[str, Check] = {
    r"patch_embed\.proj\.weight":             lecun_normal,
    r"patch_embed\.proj\.bias":               constant(0),
    r"blocks\.\d\.norm\d\.weight":            constant(1),
    r"blocks\.\d\.norm\d\.bias":              constant(0),
    r"blocks\.\d\.attn\.qkv\.weight":         uniform(0.08839, parts=3),  # q, k and v apart: sqrt(3 / D)
    r"blocks\.\d\.attn\.qkv\.bias":           constant(0),
    r"(blocks\.\d\.attn|attn_pool)\.proj\.weight":    uniform(0.08839),
    r"(blocks\.\d\.attn|attn_pool)\.proj\.bias":      constant(0),
    r"(blocks\.\d|attn_pool)\.mlp\.fc\d\.weight":     uniform(0.05590),
    r"(blocks\.\d|attn_pool)\.mlp\.fc\d\.bias":       normal(1e-6),
    r"norm\.weight":                          constant(1),
    r"norm\.bias":                            constant(0),
    r"head\.weight":                          constant(0),
    r"head\.bias":                            constant(BIAS),
}

TRUNK: dict[str, Check] = {
    r"[\w.]+\.conv\d?\.weight":              lecun_normal,
    r"[\w.]+\.norm[12]?\.weight":            constant(1),
    r"[\w.]+\.norm\d?\.bias":               constant(0),
}

PLAIN = ViTConfig(16, WIDTH, 2, 6, MLP, num_classes=1000, hidden=WIDTH, head_bias=BIAS)
MODELS: dict[str, tuple[ModelConfig, dict[str, Check]]] = {
    "S/16": (PLAIN, ENCODER | {
        r"patch_embed\.proj\.weight":         normal(0.03608, truncated_at=0.08204),  # as measured there
        r"cls_token":                        constant(0),
        r"pos_embed":                        normal(0.02),
        r"pre_logits\.weight":               lecun_normal,
        r"pre_logits\.bias":                 constant(0),
    }),
    "attention pool": (replace(PLAIN, hidden=None, pool=AttentionPool(), position=Learned2d("layers")), ENCODER | {
        r"pos_embed\.[xy]":                  normal(0.02),
        r"attn_pool\.latent":                uniform(sqrt(6 / (1 + WIDTH))),  # flax: a matrix of one row
        r"attn_pool\.q\.weight":             uniform(0.08839),
        r"attn_pool\.kv\.weight":            uniform(0.08839, parts=2),
        r"attn_pool\.(q|kv)\.bias":          constant(0),
        r"attn_pool\.norm\.weight":          constant(1),
        r"attn_pool\.norm\.bias":            constant(0),
    }),
    "later models": (
        replace(PLAIN, hidden=None, registers=4, layer_scale=1e-5, qk_norm=True, position=Learned2d()), ENCODER | {
        r"pos_embed\.(x|y|token)":           normal(0.02),
        r"cls_token":                        constant(0),
        r"reg_token":                        normal(1e-6),
        r"blocks\.\d\.ls[12]\.gamma":        constant(1e-5),
        r"blocks\.\d\.attn\.[qk]_norm\.weight": constant(1),
        r"blocks\.\d\.attn\.[qk]_norm\.bias":   constant(0),
    }),
    "relative": (replace(PLAIN, hidden=None, position=Relative()), ENCODER | {
        r"pos_embed":                        normal(0.02),
        r"cls_token":                        constant(0),
    }),
    "hybrid": (replace(PLAIN, hidden=None, patch=1, resolution=(64, 64), backbone=Stages((2, 1))), ENCODER | {
        r"pos_embed":                        normal(0.02),
        r"cls_token":                        constant(0),
    } | {r"patch_embed\.backbone\." + name: check for name, check in TRUNK.items()} | {
        r"[\w.]+\.norm3\.weight":            constant(0),  # a unit starts as its shortcut
    }),
    "ResNet, pre-activation": (ResNetConfig(replace(BIT, units=(2, 1)), (64, 64), 10, BIAS), TRUNK | {
        r"[\w.]+\.norm3\.weight":            constant(1),
        r"norm\.weight":                     constant(1),
        r"norm\.bias":                       constant(0),
        r"head\.fc\.weight":                 constant(0),
        r"head\.fc\.bias":                   constant(BIAS),
    }),
    "ResNet, post-activation": (ResNetConfig(Stages((2, 1)), (64, 64), 10, BIAS), TRUNK | {
        r"[\w.]+\.norm3\.weight":            constant(0),
        r"head\.fc\.weight":                 constant(0),
        r"head\.fc\.bias":                   constant(BIAS),
    }),
}
# fmt: on


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_starts_as_in_the_official_code(name: str) -> None:
    torch.manual_seed(0)
    config, table = MODELS[name]
    used = set()
    for key, parameter in build(config).named_parameters():
        (pattern,) = (p for p in table if re.fullmatch(p, key))
        used.add(pattern)
        try:
            # bounds are given to four digits
            table[pattern](parameter.detach() * (1 - 2e-4 if 1e-4 < parameter.abs().max() < 0.5 else 1))
        except AssertionError as problem:
            raise AssertionError(f"{key}: {problem}") from None
    assert used == set(table)


@pytest.mark.parametrize("name", MODELS)
def test_all_logits_start_at_the_bias(name: str) -> None:
    config, _ = MODELS[name]
    logits = build(config).eval()(torch.randn(2, 3, *config.resolution)).logits
    assert torch.equal(logits, torch.full((2, config.num_classes), BIAS))


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


def test_a_mimetic_start_has_the_products_of_the_paper() -> None:
    config = replace(ViTConfig(), width=192, heads=3, depth=2, mlp=192, resolution=(32, 32), patch=8, mimetic=True)
    torch.manual_seed(0)
    model = build(config)
    for block in model.blocks:  # type: ignore[union-attr]
        q, k, v = block.attn.qkv.weight.detach().chunk(3)
        outwards = block.attn.proj.weight.detach() @ v
        noise = outwards / 0.4 + torch.eye(192)
        assert noise.std() == pytest.approx(1 / sqrt(192), rel=0.02)
        assert noise.diagonal().mean() == pytest.approx(0, abs=4 / 192)
        for head in range(3):
            rows = slice(64 * head, 64 * head + 64)
            product = q[rows].T @ k[rows]
            values = torch.linalg.svdvals(product)
            assert (values[64:] < 1e-5).all()  # a head's part is of rank 64
            # of all matrices of that rank it is the nearest to 0.7 (noise + identity), which has such values itself
            whole = torch.linalg.svdvals(0.7 * (torch.randn(192, 192) / sqrt(192) + torch.eye(192)))
            assert values[:64].numpy() == pytest.approx(whole[:64].numpy(), rel=0.1)
            assert product.diagonal().mean() > 0.3 * 0.7
    with pytest.raises(BadInput, match="--model.mimetic False"):
        replace(config, axial=True).check()
