"""Every named model has exactly the published number of parameters, and its multiply-adds."""

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch

from vitrail.core.errors import BadInput
from vitrail.models.build import build, create_model
from vitrail.models.cost import multiply_adds, parameters, training_flops
from vitrail.models.head import AveragePool
from vitrail.models.position import NoPosition
from vitrail.models.table import describe, names
from vitrail.models.variants import variant
from vitrail.models.vit import ViTConfig


class Size(NamedTuple):
    """Parameters of five forms, and 10^9 multiply-adds of two."""

    bare: int
    imagenet: int
    imagenet_384: int
    imagenet21k: int
    imagenet21k_hidden: int
    gmacs: float
    gmacs_384: float


# Counted by instantiating the official flax models.
# fmt: off
SIZES = {
    #               bare        K=1000       @384         K=21843      + hidden     GMACs    @384
    "Ti/16": Size(  5_524_416,   5_717_416,   5_790_376,   9_740_115,   9_777_171,   1.254,   4.682),
    "S/32":  Size( 22_493_952,  22_878_952,  22_915_432,  30_903_507,  31_051_347,   1.143,   3.443),
    "S/16":  Size( 21_665_664,  22_050_664,  22_196_584,  30_075_219,  30_223_059,   4.599,  15.490),
    "B/32":  Size( 87_455_232,  88_224_232,  88_297_192, 104_252_499, 104_843_091,   4.409,  13.044),
    "B/16":  Size( 85_798_656,  86_567_656,  86_859_496, 102_595_923, 103_186_515,  17.564,  55.484),
    "B/8":   Size( 85_807_872,  86_576_872,  87_744_232, 102_605_139, 103_195_731,  78.148, 294.045),
    "L/32":  Size(305_510_400, 306_535_400, 306_632_680, 327_899_475, 328_949_075,  15.378,  45.276),
    "L/16":  Size(303_301_632, 304_326_632, 304_715_752, 325_690_707, 326_740_307,  61.555, 191.066),
    "H/14":  Size(630_764_800, 632_045_800, 632_651_240, 658_745_683, 660_385_363, 167.295, 503.481),
}
# fmt: on


def forms(name: str) -> dict[str, ViTConfig]:
    config = variant(name)
    return {
        "bare": config,
        "imagenet": replace(config, num_classes=1000),
        "imagenet_384": replace(config, num_classes=1000, resolution=(384, 384)),
        "imagenet21k": replace(config, num_classes=21_843),
        "imagenet21k_hidden": replace(config, num_classes=21_843, hidden=config.width),
    }


def instantiated(config: ViTConfig) -> int:
    """The number of parameters of a model whose weights take no memory."""
    with torch.device("meta"):
        return sum(p.numel() for p in build(config).parameters())


def test_no_named_model_lacks_a_row() -> None:
    assert set(names()) == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_the_formula_gives_the_published_counts(name: str) -> None:
    counts = {form: parameters(config) for form, config in forms(name).items()}
    assert counts == {form: getattr(SIZES[name], form) for form in counts}


@pytest.mark.parametrize("name", SIZES)
def test_the_models_themselves_have_the_published_counts(name: str) -> None:
    counts = {form: instantiated(config) for form, config in forms(name).items()}
    assert counts == {form: getattr(SIZES[name], form) for form in counts}


@pytest.mark.parametrize("name", SIZES)
def test_multiply_adds_are_the_published_ones(name: str) -> None:
    configs = forms(name)
    assert multiply_adds(configs["imagenet"]) / 1e9 == pytest.approx(SIZES[name].gmacs, rel=1e-3)
    assert multiply_adds(configs["imagenet_384"]) / 1e9 == pytest.approx(SIZES[name].gmacs_384, rel=1e-3)
    assert training_flops(configs["imagenet"]) == 6 * multiply_adds(configs["imagenet"])


@pytest.mark.parametrize(
    "config",
    [
        ViTConfig(4, 16, 2, 2, 32, (8, 12), 3, pool=AveragePool()),
        ViTConfig(4, 16, 2, 2, 32, (8, 12), 3, position=NoPosition()),
        ViTConfig(5, 16, 1, 4, 24, (23, 11), 3, hidden=24),
        ViTConfig(4, 16, 1, 2, 32, (8, 12), 0, hidden=8),
    ],
    ids=["average", "no position", "dropped border", "hidden only"],
)
def test_formula_and_model_agree_where_the_paper_has_no_row(config: ViTConfig) -> None:
    assert parameters(config) == sum(p.numel() for p in build(config).parameters())


def test_a_model_without_memory_has_none() -> None:
    """Checking a bundle builds its model to know the shapes; that must not cost what the model costs."""
    with torch.device("meta"):
        assert {p.device.type for p in build(variant("H/14")).parameters()} == {"meta"}


def test_the_table_of_models_says_the_same() -> None:
    row = describe("B/16", 384, 1000)
    assert row["parameters"] == 86_859_496
    assert row["tokens"] == 577
    assert row["macs"] / 1e9 == pytest.approx(55.484, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("B/61", None), ("b/16", "did you mean 'B/16'"), ("XL/16", "unknown model"), ("B", "unknown"), ("B/0", "pixel")],
)
def test_unknown_names_name_the_nearest(name: str, sentence: str | None) -> None:
    if sentence is None:
        assert variant(name).patch == 61  # any patch works
        return
    with pytest.raises(BadInput, match=sentence):
        variant(name)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"resolution": (15, 224)}, "15 x 224 pixels is smaller than one patch of 16 x 16"),
        ({"heads": 5}, "width 768 is not divisible by 5 heads"),
        ({"depth": 0}, "must be at least 1"),
        ({"num_classes": -1}, "must be at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        build(replace(ViTConfig(), **changes))


def test_a_model_by_name_reads_the_resolution_asked_for() -> None:
    model = create_model("Ti/16", num_classes=5, resolution=(32, 48))
    with torch.no_grad():
        output = model(torch.zeros(2, 3, 32, 48))
    assert output.logits.shape == (2, 5)
    assert output.tokens.shape == (2, 7, 192)
    with pytest.raises(BadInput, match="not positive"):
        create_model("Ti/16", resolution=0)
