"""Every named model has exactly the published number of parameters, and its multiply-adds."""

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch

from vitrail.api.models import create_model
from vitrail.core.errors import BadInput
from vitrail.models.build import ModelConfig, build
from vitrail.models.cost import multiply_adds, parameters
from vitrail.models.head import AttentionPool, AveragePool, ClassToken, PoolConfig
from vitrail.models.position import Learned1d
from vitrail.models.resnet import ResNetConfig
from vitrail.models.variants import list_models, variant
from vitrail.models.vit import ViTConfig


class Size(NamedTuple):
    """Parameters of five forms, and 10^9 multiply-adds of two; None: never published."""

    bare: int
    imagenet: int
    imagenet_384: int | None
    imagenet21k: int
    imagenet21k_hidden: int
    gmacs: float
    gmacs_384: float


# Counted by instantiating the official flax models; the two hybrids that only the paper has, from their stages.
# fmt: off
SIZES = {
    #                  bare        K=1000       @384         K=21843      + hidden     GMACs    @384
    "Ti/16":    Size(  5_524_416,   5_717_416,   5_790_376,   9_740_115,   9_777_171,   1.254,   4.682),
    "S/32":     Size( 22_493_952,  22_878_952,  22_915_432,  30_903_507,  31_051_347,   1.143,   3.443),
    "S/16":     Size( 21_665_664,  22_050_664,  22_196_584,  30_075_219,  30_223_059,   4.599,  15.490),
    "b/32":     Size( 22_493_952,  22_878_952,  22_915_432,  30_903_507,  31_051_347,   1.143,   3.443),  # is S/32
    "B/32":     Size( 87_455_232,  88_224_232,  88_297_192, 104_252_499, 104_843_091,   4.409,  13.044),
    "B/16":     Size( 85_798_656,  86_567_656,  86_859_496, 102_595_923, 103_186_515,  17.564,  55.484),
    "B/8":      Size( 85_807_872,  86_576_872,  87_744_232, 102_605_139, 103_195_731,  78.148, 294.045),
    "L/32":     Size(305_510_400, 306_535_400, 306_632_680, 327_899_475, 328_949_075,  15.378,  45.276),
    "L/16":     Size(303_301_632, 304_326_632, 304_715_752, 325_690_707, 326_740_307,  61.555, 191.066),
    "H/14":     Size(630_764_800, 632_045_800, 632_651_240, 658_745_683, 660_385_363, 167.295, 503.481),
    "R+Ti/16":  Size(  6_144_704,   6_337_704,   6_355_944,  10_360_403,  10_397_459,   0.434,   1.327),
    "R26+S/32": Size( 36_046_912,  36_431_912,  36_468_392,  44_456_467,  44_604_307,   3.464,  10.264),
    "R26+B/32": Size(100_614_976, 101_383_976, 101_456_936, 117_412_243, 118_002_835,   6.711,  19.808),
    "R50+B/32": Size(110_176_832, 110_945_832,        None, 126_974_099, 127_564_691,   8.458,  24.941),
    "R50+B/16": Size( 97_890_112,  98_659_112,  98_950_952, 114_687_379, 115_277_971,  21.535,  67.156),
    "R50+L/32": Size(327_969_856, 328_994_856, 329_092_136, 350_358_931, 351_408_531,  19.413,  57.136),
    "R50+L/16": Size(315_458_624, 316_483_624,        None, 337_847_699, 338_897_299,  65.539, 202.775),
}
# fmt: on


AXIAL = {"Axial-B/32": "B/32", "Axial-B/16": "B/16"}  # never published: the plain one and its layers once more


class ResNetSize(NamedTuple):
    """Parameters with 1000, 21,843, 18,291 classes and without, and 10^9 multiply-adds at 1000, as printed."""

    imagenet: int
    imagenet21k: int
    jft: int
    bare: int
    gmacs: str


# Counted by instantiating the flax models of big_vision: pre-activation, as in the published BiT files.
# fmt: off
PRE = {
    "R26x1":  ResNetSize( 15_987_496,    58_694_803,    51_416_755,  13_938_496,   "2.34"),
    "R50x1":  ResNetSize( 25_549_352,    68_256_659,    60_978_611,  23_500_352,   "4.09"),
    "R50x2":  ResNetSize( 97_988_712,   183_382_483,   168_829_939,  93_891_712,  "16.12"),
    "R50x3":  ResNetSize(217_319_080,   345_399_315,   323_572_275, 211_174_080,  "36.08"),
    "R101x1": ResNetSize( 44_541_480,    87_248_787,    79_970_739,  42_492_480,   "7.80"),
    "R101x3": ResNetSize(387_934_888,   516_015_123,   494_188_083, 381_789_888,  "69.49"),
    "R152x1": ResNetSize( 60_185_128,   102_892_435,    95_614_387,  58_136_128,  "11.51"),
    "R152x2": ResNetSize(236_335_208,   321_728_979,   307_176_435, 232_238_208,  "45.81"),
    "R152x4": ResNetSize(936_533_224, 1_107_299_923, 1_078_198_387, 928_340_224, "182.8"),
    "R200x3": ResNetSize(568_633_000,   696_713_235,   674_886_195, 562_488_000, "134.3"),
}
# The same in post-activation, as under the hybrids.
POST = {
    "R26x1":  ResNetSize( 15_995_176,    58_702_483,    51_424_435,  13_946_176,   "2.34"),
    "R50x1":  ResNetSize( 25_557_032,    68_264_339,    60_986_291,  23_508_032,   "4.09"),
    "R50x2":  ResNetSize( 98_004_072,   183_397_843,   168_845_299,  93_907_072,  "16.12"),
    "R50x3":  ResNetSize(217_342_120,   345_422_355,   323_595_315, 211_197_120,  "36.08"),
    "R101x1": ResNetSize( 44_549_160,    87_256_467,    79_978_419,  42_500_160,   "7.80"),
    "R101x3": ResNetSize(387_957_928,   516_038_163,   494_211_123, 381_812_928,  "69.49"),
    "R152x1": ResNetSize( 60_192_808,   102_900_115,    95_622_067,  58_143_808,  "11.51"),
    "R152x2": ResNetSize(236_350_568,   321_744_339,   307_191_795, 232_253_568,  "45.81"),
    "R152x4": ResNetSize(936_563_944, 1_107_330_643, 1_078_229_107, 928_370_944, "182.8"),
    "R200x3": ResNetSize(568_656_040,   696_736_275,   674_909_235, 562_511_040, "134.3"),
}
# fmt: on
RESNETS = [(order, name) for order, sizes in (("pre", PRE), ("post", POST)) for name in sizes]

# Other forms, as (name, pooling, classes, parameters). Counted by instantiating big_vision's ViT, in which the class
# token has no position; So400m/14 by instantiating timm's vit_so400m_patch14_siglip_224.
# fmt: off
WITHOUT_CLASS_POSITION = [
    ("S/16",      AveragePool(),        0,    21_664_896),
    ("S/16",      AveragePool(),     1000,    22_049_896),
    ("M/16",      ClassToken(),      1000,    38_837_224),
    ("B/16",      AttentionPool(),      0,    92_884_224),
    ("B/16",      AttentionPool(),   1000,    93_653_224),
    ("L/16",      AttentionPool(),      0,   315_894_784),
    ("H/14",      AttentionPool(),      0,   650_438_400),
    ("So400m/14", AttentionPool(),      0,   427_680_704),
    ("So400m/14", AttentionPool(),   1000,   428_833_704),
    ("g/14",      ClassToken(),         0, 1_011_201_024),
    ("g/14",      ClassToken(),      1000, 1_012_610_024),
    ("g/14",      ClassToken(),    21_843, 1_041_977_811),
    ("g/14",      AttentionPool(),      0, 1_036_448_384),
    ("G/14",      ClassToken(),         0, 1_842_774_016),
    ("G/14",      ClassToken(),      1000, 1_844_439_016),
    ("G/14",      ClassToken(),    21_843, 1_879_142_611),
    ("G/14",      AttentionPool(),      0, 1_881_132_416),
    ("G/14",      AttentionPool(),   1000, 1_882_797_416),
    ("G/14",      AttentionPool(), 21_843, 1_917_501_011),
]
# Official flax models at other patches and resolutions: (name, side, classes, hidden, parameters).
OTHER_FORMS = [
    ("B/14", 224,   1000, False,  86_475_496),
    ("L/14", 224,   1000, False, 304_203_752),
    ("H/16", 224,   1000, False, 632_199_400),
    ("H/32", 224,   1000, False, 634_960_360),
    ("L/16", 512,   1000, False, 305_174_504),
    ("H/14", 518,   1000, False, 633_470_440),
    ("B/16", 224, 18_291, True,  100_455_027),
    ("B/32", 224, 18_291, True,  102_111_603),
    ("L/16", 224, 18_291, True,  323_099_507),
    ("L/32", 224, 18_291, True,  325_308_275),
    ("H/14", 224, 18_291, True,  655_835_251),
]
# fmt: on


def vit(name: str) -> ViTConfig:
    config = variant(name)
    assert isinstance(config, ViTConfig)
    return config


def forms(name: str) -> dict[str, ModelConfig]:
    """The configs of a row of SIZES that have a published count."""
    config = vit(name)
    made = {
        "bare": config,
        "imagenet": replace(config, num_classes=1000),
        "imagenet_384": replace(config, num_classes=1000, resolution=(384, 384)),
        "imagenet21k": replace(config, num_classes=21_843),
        "imagenet21k_hidden": replace(config, num_classes=21_843, hidden=config.width),
    }
    return {form: config for form, config in made.items() if getattr(SIZES[name], form) is not None}


def resnet_forms(order: str, name: str) -> dict[str, ModelConfig]:
    config = variant(name)
    assert isinstance(config, ResNetConfig)
    assert config.stages.order == "pre"
    config = replace(config, stages=replace(config.stages, order=order))
    classes = {"imagenet": 1000, "imagenet21k": 21_843, "jft": 18_291, "bare": 0}
    return {form: replace(config, num_classes=k) for form, k in classes.items()}


def instantiated(config: ModelConfig) -> int:
    """The number of parameters of a model whose weights take no memory."""
    with torch.device("meta"):
        return sum(p.numel() for p in build(config).parameters())


def test_no_named_model_lacks_a_row() -> None:
    assert set(list_models()) == {
        *SIZES,
        *AXIAL,
        *PRE,
        "Axial-R50x1",  # tests/models/test_axial_resnet.py
        *(name for name, *_ in WITHOUT_CLASS_POSITION),
    }


@pytest.mark.parametrize("name", AXIAL)
def test_axial_models_have_their_layers_twice(name: str) -> None:
    d, m = 768, 3072
    layers = 12 * (4 * d * d + 4 * d + 2 * d * m + m + d + 4 * d)
    assert parameters(variant(name)) == instantiated(variant(name)) == SIZES[AXIAL[name]].bare + layers


@pytest.mark.parametrize("name", SIZES)
def test_models_of_the_paper_have_the_published_counts(name: str) -> None:
    expected = {form: getattr(SIZES[name], form) for form in forms(name)}
    assert {form: parameters(config) for form, config in forms(name).items()} == expected
    assert instantiated(forms(name)["imagenet21k_hidden"]) == SIZES[name].imagenet21k_hidden
    assert instantiated(forms(name)["imagenet"]) == SIZES[name].imagenet


@pytest.mark.parametrize(("order", "name"), RESNETS)
def test_resnets_have_the_published_counts(order: str, name: str) -> None:
    size = (PRE if order == "pre" else POST)[name]
    configs = resnet_forms(order, name)
    assert {form: parameters(config) for form, config in configs.items()} == {
        form: getattr(size, form) for form in configs
    }
    assert instantiated(configs["imagenet"]) == size.imagenet


@pytest.mark.parametrize(("name", "pool", "classes", "count"), WITHOUT_CLASS_POSITION)
def test_models_of_big_vision_have_its_counts(name: str, pool: PoolConfig, classes: int, count: int) -> None:
    config = replace(vit(name), pool=pool, position=Learned1d(class_entry=False), num_classes=classes)
    assert parameters(config) == count
    assert instantiated(config) == count


@pytest.mark.parametrize(("name", "side", "classes", "hidden", "count"), OTHER_FORMS)
def test_other_forms_have_the_published_counts(name: str, side: int, classes: int, hidden: bool, count: int) -> None:
    config = replace(vit(name), resolution=(side, side), num_classes=classes)
    assert parameters(replace(config, hidden=config.width) if hidden else config) == count


def test_giant_models_of_other_shapes_have_big_visions_counts() -> None:
    e14 = ViTConfig(14, 1792, 56, 16, 15_360, position=Learned1d(class_entry=False))
    assert parameters(e14) == instantiated(e14) == 3_805_419_520


@pytest.mark.parametrize("name", SIZES)
def test_multiply_adds_are_the_published_ones(name: str) -> None:
    config = replace(vit(name), num_classes=1000)
    assert multiply_adds(config) / 1e9 == pytest.approx(SIZES[name].gmacs, rel=1e-3, abs=5e-4)
    larger = replace(config, resolution=(384, 384))
    assert multiply_adds(larger) / 1e9 == pytest.approx(SIZES[name].gmacs_384, rel=1e-3, abs=5e-4)


@pytest.mark.parametrize(("order", "name"), RESNETS)
def test_multiply_adds_of_resnets_are_the_published_ones(order: str, name: str) -> None:
    printed = (PRE if order == "pre" else POST)[name].gmacs
    half_a_unit = 0.5 * 10.0 ** -len(printed.split(".")[1])
    counted = multiply_adds(resnet_forms(order, name)["imagenet"]) / 1e9
    assert counted == pytest.approx(float(printed), abs=half_a_unit)


@pytest.mark.parametrize(("name", "side", "gmacs"), [("L/16", 512, 361.99), ("H/14", 518, 1016.72)])
def test_multiply_adds_at_other_resolutions_are_the_published_ones(name: str, side: int, gmacs: float) -> None:
    config = replace(vit(name), resolution=(side, side), num_classes=1000)
    assert multiply_adds(config) / 1e9 == pytest.approx(gmacs, abs=5e-3)


def test_a_model_without_memory_has_none() -> None:
    """Checking a bundle builds its model to know the shapes; that must not cost what the model costs."""
    for name in ("H/14", "R152x4", "R50+L/16"):
        with torch.device("meta"):
            assert {p.device.type for p in build(variant(name)).parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("B/61", None), ("l/16", "did you mean 'L/16'"), ("XL/16", "unknown model"), ("B", "unknown"), ("B/0", "pixel")],
)
def test_unknown_names_name_the_nearest(name: str, sentence: str | None) -> None:
    if sentence is None:
        assert vit(name).patch == 61  # any patch works
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
