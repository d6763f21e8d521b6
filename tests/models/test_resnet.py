"""BiT ResNets against loops over pixels: standardised convolutions, padding, units, roots, and their sizes."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from math import ceil

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.models.small import lively, pictures
from vitrail.core.errors import BadInput
from vitrail.models.build import build
from vitrail.models.resnet import BIT, ResNetConfig, Root, Stages, StandardisedConv, Unit, pad_same, standardise

# the group norms' eps is so large that no norm can take another one unnoticed
POST = Stages(units=(1, 2), width=32, eps=0.1)
PRE = replace(BIT, units=(1, 2), width=32, eps=0.1)
ORDERS = {"pre": PRE, "post": POST}


def stirred(module: nn.Module) -> nn.Module:
    """Evaluation mode, no parameter at a special value, weights of a mean and a scale that matter."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p) * 0.3 + 0.1)
    return module.eval()


def array(x: Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def slow_convolution(x: np.ndarray, weight: np.ndarray, stride: int, pads: tuple[int, int, int, int]) -> np.ndarray:
    """Window by window over [B, C, y, x]; pads: top, bottom, left, right."""
    x = np.pad(x, ((0, 0), (0, 0), pads[:2], pads[2:]))
    out, _, kernel, _ = weight.shape
    h, w = (x.shape[2] - kernel) // stride + 1, (x.shape[3] - kernel) // stride + 1
    result = np.zeros((x.shape[0], out, h, w))
    for i, j in product(range(h), range(w)):
        window = x[:, :, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
        result[:, :, i, j] = np.einsum("bcyx,dcyx->bd", window, weight)
    return result


def slow_standardised(weight: np.ndarray, eps: float, on: str) -> np.ndarray:
    """Channel by channel: mean 0 and (biased) deviation 1 over all inputs of an output channel."""
    result = np.zeros_like(weight)
    for channel, filters in enumerate(weight):
        numbers = filters.flatten()
        mean = sum(numbers) / len(numbers)
        variance = sum((n - mean) ** 2 for n in numbers) / len(numbers)
        result[channel] = (filters - mean) / (variance**0.5 + eps if on == "deviation" else (variance + eps) ** 0.5)
    return result


def slow_same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's formula for SAME: what is added before and after a side."""
    windows = ceil(size / stride)
    total = max((windows - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


# convolutions


@pytest.mark.parametrize("on", ["deviation", "variance"])
@pytest.mark.parametrize("eps", [1e-10, 1e-5, 0.1])
def test_weights_are_standardised_channel_by_channel(on: str, eps: float) -> None:
    weight = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.3
    got = standardise(weight, eps, on == "variance")
    expected = slow_standardised(array(weight), eps, on)
    assert np.abs(array(got) - expected).max() < 1e-5  # measured 4e-7
    if eps == 0.1:
        other = slow_standardised(array(weight), eps, "variance" if on == "deviation" else "deviation")
        assert np.abs(expected - other).max() > 0.05, "what it is added to matters"


def test_standardising_rounds_only_its_result_to_bfloat16() -> None:
    weight = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0)).bfloat16() * 1e-3
    got = standardise(weight, 1e-10, True)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, standardise(weight.float(), 1e-10, True).bfloat16())


@pytest.mark.parametrize("size", [(8, 8), (9, 12), (7, 5), (1, 2)], ids=str)
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (1, 2), (3, 2), (7, 2)])
@pytest.mark.parametrize("order", ORDERS)
def test_a_standardised_convolution_equals_a_loop_over_windows(
    order: str, kernel: int, stride: int, size: tuple[int, int]
) -> None:
    """Post-activation ResNets pad as TensorFlow's SAME, pre-activation ones by the same number on all sides."""
    stages = replace(ORDERS[order], weight_eps=0.1)
    conv = stirred(StandardisedConv(4, 6, kernel, stride, stages))
    x = pictures(2, size).repeat(1, 2, 1, 1)[:, :4]
    if order == "post":
        pads = (*slow_same(size[0], kernel, stride), *slow_same(size[1], kernel, stride))
    else:
        pads = (kernel // 2,) * 4
    weight = slow_standardised(array(conv.weight), 0.1, stages.weight_eps_on)
    expected = slow_convolution(array(x), weight, stride, pads)
    got = array(conv(x))
    assert got.shape == expected.shape == (2, 6, ceil(size[0] / stride), ceil(size[1] / stride))
    assert np.abs(got - expected).max() < 1e-4  # measured 1.5e-5


@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (3, 2), (7, 2), (3, 1), (4, 3), (2, 3)])
def test_same_padding_is_tensorflows(kernel: int, stride: int) -> None:
    for height, width in product((1, 2, 3, 7, 8, 65, 97, 224), (1, 4, 5, 112)):
        (top, bottom), (left, right) = slow_same(height, kernel, stride), slow_same(width, kernel, stride)
        padded = pad_same(torch.ones(1, 1, height, width), kernel, stride)
        expected = np.pad(np.ones((height, width)), ((top, bottom), (left, right)))
        assert np.array_equal(padded[0, 0].numpy(), expected), (height, width)


def test_same_padding_of_the_papers_sizes() -> None:
    """224 -> 112 by a kernel of 7, 112 -> 56 by one of 3: the odd pixel is at the bottom and right."""
    x = torch.zeros(1, 1, 224, 224)
    assert pad_same(x, 7, 2).shape[-2:] == (229, 229)
    marked = pad_same(torch.ones(1, 1, 112, 112), 3, 2)
    assert marked.shape[-2:] == (113, 113)
    assert marked[0, 0, :112, :112].all()
    assert not marked[0, 0, 112:].any()
    assert not marked[0, 0, :, 112:].any()
    assert pad_same(x, 1, 2) is x


# roots


def slow_maximum(x: np.ndarray, pads: tuple[int, int, int, int], value: float) -> np.ndarray:
    x = np.pad(x, ((0, 0), (0, 0), pads[:2], pads[2:]), constant_values=value)
    h, w = (x.shape[2] - 3) // 2 + 1, (x.shape[3] - 3) // 2 + 1
    result = np.zeros((*x.shape[:2], h, w))
    for i, j in product(range(h), range(w)):
        result[:, :, i, j] = x[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max(axis=(2, 3))
    return result


SIZES = [(16, 16), (13, 18), (9, 7), (1, 1)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_pre_activation_root_pads_zeros_before_the_maximum(size: tuple[int, int]) -> None:
    """There is no ReLU before it, so a border where all is negative becomes 0: what the published weights expect."""
    root, images = stirred(Root(PRE)), pictures(2, size)
    weight = slow_standardised(array(root.conv.weight), 1e-10, "variance")
    convolved = slow_convolution(array(images), weight, 2, (3, 3, 3, 3))
    with torch.no_grad():
        got = array(root(images))
    expected = slow_maximum(convolved, (1, 1, 1, 1), 0.0)
    assert np.abs(got - expected).max() < 1e-4  # measured 1.4e-5
    others = slow_maximum(convolved, (1, 1, 1, 1), -np.inf)
    assert np.abs(got - others).max() > 1, "padding that the maximum never sees"  # measured 1.8 and more


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_post_activation_root_normalises_and_its_maximum_never_sees_its_padding(size: tuple[int, int]) -> None:
    root, images = stirred(Root(POST)), pictures(2, size)
    weight = slow_standardised(array(root.conv.weight), 1e-5, "deviation")
    pads = (*slow_same(size[0], 7, 2), *slow_same(size[1], 7, 2))
    convolved = slow_convolution(array(images), weight, 2, pads)
    positive = np.maximum(slow_group_norm(convolved, root.norm), 0)
    pads = (*slow_same(positive.shape[2], 3, 2), *slow_same(positive.shape[3], 3, 2))
    with torch.no_grad():
        got = array(root(images))
    assert got.shape[2:] == Stages(units=()).grid(size)
    assert np.abs(got - slow_maximum(positive, pads, -np.inf)).max() < 1e-4  # measured 1.8e-6


def slow_group_norm(x: np.ndarray, norm: nn.GroupNorm) -> np.ndarray:
    """Image by image and group by group: mean 0 and deviation 1 over the group's channels and all places."""
    assert norm.num_groups == 32
    result, each = np.zeros_like(x), x.shape[1] // 32
    for image, group in product(range(x.shape[0]), range(32)):
        channels = slice(group * each, (group + 1) * each)
        values = x[image, channels]
        result[image, channels] = (values - values.mean()) / np.sqrt(values.var() + 0.1)
    return result * array(norm.weight)[:, None, None] + array(norm.bias)[:, None, None]


# units


def slow_unit(x: np.ndarray, unit: Unit, stages: Stages, stride: int) -> np.ndarray:
    def conv(y: np.ndarray, module: StandardisedConv, step: int = 1) -> np.ndarray:
        kernel = module.weight.shape[-1]
        same = [slow_same(side, kernel, step) for side in y.shape[2:]]
        pads = (*same[0], *same[1]) if stages.order == "post" else (kernel // 2,) * 4
        weight = slow_standardised(array(module.weight), stages.weight_eps, stages.weight_eps_on)
        return slow_convolution(y, weight, step, pads)

    def relu(y: np.ndarray) -> np.ndarray:
        return np.maximum(y, 0)

    shortcut = x
    if stages.order == "pre":
        active = relu(slow_group_norm(x, unit.norm1))
        if unit.downsample is not None:
            shortcut = conv(active, unit.downsample.conv, stride)
        y = relu(slow_group_norm(conv(active, unit.conv1), unit.norm2))
        y = relu(slow_group_norm(conv(y, unit.conv2, stride), unit.norm3))
        return conv(y, unit.conv3) + shortcut
    if unit.downsample is not None:
        shortcut = slow_group_norm(conv(x, unit.downsample.conv, stride), unit.downsample.norm)
    y = relu(slow_group_norm(conv(x, unit.conv1), unit.norm1))
    y = relu(slow_group_norm(conv(y, unit.conv2, stride), unit.norm2))
    return relu(slow_group_norm(conv(y, unit.conv3), unit.norm3) + shortcut)


@pytest.mark.parametrize("size", [(6, 6), (5, 8)], ids=str)
@pytest.mark.parametrize(("channels", "stride"), [(128, 1), (64, 1), (128, 2), (64, 2)])
@pytest.mark.parametrize("order", ORDERS)
def test_a_unit_equals_its_definition(order: str, channels: int, stride: int, size: tuple[int, int]) -> None:
    unit = stirred(Unit(channels, 32, stride, ORDERS[order]))
    assert (unit.downsample is None) == (channels == 128 and stride == 1)
    x = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(1))
    expected = slow_unit(array(x), unit, ORDERS[order], stride)
    with torch.no_grad():
        got = array(unit(x))
    assert got.shape == (2, 128, ceil(size[0] / stride), ceil(size[1] / stride))
    assert np.abs(got - expected).max() < 1e-4  # measured 1e-5


def test_a_post_activation_unit_starts_as_its_shortcut_and_a_relu() -> None:
    """The last norm of a unit starts at zero (official code); pre-activation units start as something else."""
    torch.manual_seed(0)
    x = torch.randn(2, 128, 5, 6)
    with torch.no_grad():
        assert torch.equal(Unit(128, 32, 1, POST)(x), x.relu())
        projected = Unit(128, 32, 2, POST)
        assert torch.equal(projected(x), projected.downsample(x).relu())
        assert not torch.allclose(Unit(128, 32, 1, PRE)(x), x, atol=0.1)


# whole models


@pytest.mark.parametrize("order", ORDERS)
def test_a_resnet_is_root_stages_norm_mean_and_classifier(order: str) -> None:
    config = ResNetConfig(ORDERS[order], resolution=(40, 56), num_classes=5)
    model, images = lively(config), pictures(2, (40, 56))
    with torch.no_grad():
        x = model.stem(images)
        for stage in model.stages:
            for unit in stage.blocks:
                x = unit(x)
        last = np.maximum(slow_group_norm(array(x), model.norm), 0) if order == "pre" else array(x)
        output = model(images)
    assert [len(stage.blocks) for stage in model.stages] == [1, 2]
    mean = last.mean(axis=(2, 3))
    logits = mean @ array(model.head.fc.weight)[:, :, 0, 0].T + array(model.head.fc.bias)
    assert output.tokens.shape == (2, config.grid[0] * config.grid[1], 256)
    raster = np.stack([last[:, :, y, x] for y in range(config.grid[0]) for x in range(config.grid[1])], axis=1)
    assert np.abs(array(output.tokens) - raster).max() < 1e-4  # measured 4e-7
    assert np.abs(array(output.representation) - mean).max() < 1e-4  # measured 1e-7
    assert np.abs(array(output.logits) - logits).max() < 1e-4  # measured 4e-7
    assert output.attention is None


def test_without_classes_the_logits_are_the_representation() -> None:
    model = lively(ResNetConfig(PRE, resolution=(32, 32)))
    output = model(pictures(2, (32, 32)))
    assert model.head is None
    assert torch.equal(output.logits, output.representation)
    assert output.logits.shape == (2, model.config.representation_width) == (2, 256)


@pytest.mark.parametrize("order", ORDERS)
def test_a_resnet_reads_any_size(order: str) -> None:
    model = lively(ResNetConfig(ORDERS[order], resolution=(64, 64), num_classes=5))
    with torch.no_grad():
        for size in ((64, 64), (65, 97), (31, 8), (1, 1)):
            output = model(pictures(2, size))
            h, w = ORDERS[order].grid(size)
            assert output.logits.shape == (2, 5)
            assert output.tokens.shape == (2, h * w, 256)


def test_a_resnet_has_no_attention() -> None:
    model, images = lively(ResNetConfig(PRE, (32, 32), 5)), pictures(1, (32, 32))
    for asked in (True, [0]):
        with pytest.raises(ValueError, match="a ResNet has no attention to return"):
            model(images, attention=asked)
    assert model(images, attention=False).attention is None


UNITS = [(1,), (1, 1), (2, 1, 1), (1, 1, 1, 1)]


@pytest.mark.parametrize("units", UNITS, ids=str)
@pytest.mark.parametrize("order", ORDERS)
def test_stride_channels_and_grid_are_those_of_the_feature_map(order: str, units: tuple[int, ...]) -> None:
    stages = replace(ORDERS[order], units=units)
    with torch.device("meta"):
        model = build(ResNetConfig(stages))
        for size in ((1, 31), (33, 64), (65, 97), (130, 67), (224, 224)):
            features = model.stages(model.stem(torch.zeros(1, 3, *size)))
            assert features.shape[1] == stages.channels == 32 * 2 ** (len(units) + 1)
            assert tuple(features.shape[2:]) == stages.grid(size), size
        assert stages.stride == 2 ** (len(units) + 1)
        assert tuple(model.stages(model.stem(torch.zeros(1, 3, 8 * stages.stride, stages.stride))).shape[2:]) == (8, 1)


SENTENCES: dict[str, tuple[Callable[[], None], str]] = {
    "width below the groups": (Stages(width=16).check, "multiple of 32 .* not 16"),
    "width between": (Stages(width=80).check, "multiple of 32 .* not 80"),
    "an empty stage": (Stages(units=(1, 0)).check, r"at least one unit, not \(1, 0\)"),
    "five stages": (Stages(units=(1, 1, 1, 1, 1)).check, "up to four stages"),
    "no stage": (ResNetConfig(Stages(units=())).check, "needs at least one stage"),
    "no pixel": (ResNetConfig(resolution=(0, 32)).check, "must be positive"),
    "negative classes": (ResNetConfig(num_classes=-1).check, "must be positive"),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_sizes_that_do_not_fit_are_refused(case: str) -> None:
    check, sentence = SENTENCES[case]
    with pytest.raises(BadInput, match=sentence):
        check()


def test_a_config_that_does_not_fit_is_refused_when_it_is_built() -> None:
    with pytest.raises(BadInput, match="multiple of 32"):
        build(ResNetConfig(Stages(width=48)))


def test_a_resnet_learns_in_all_its_parts() -> None:
    for stages in ORDERS.values():
        model = lively(ResNetConfig(stages, (32, 32), 5))
        loss = F.cross_entropy(model(pictures(4, (32, 32))).logits, torch.tensor([0, 1, 2, 3]))
        loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_gradients_of_one_column_read_no_unwritten_memory() -> None:
    for shape in ((1, 1), (5, 1)):
        conv = StandardisedConv(64, 64, 3, 2, BIT)
        images = torch.randn(4, 64, *shape)
        with torch.no_grad():
            assert torch.equal(conv(images), F.conv2d(images, standardise(conv.weight, conv.eps, True), None, 2, 1))
        for _ in range(5):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = conv(images)
            poison = [torch.full((n,), float("nan")) for n in (36_864, 18_432, 100_000, 3_000_000)]
            del poison
            conv.weight.grad = None
            out.float().sum().backward()
            assert conv.weight.grad is not None
            assert torch.isfinite(conv.weight.grad).all()
