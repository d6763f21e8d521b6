"""In bfloat16 a processor's convolutions are products, channels last: the same numbers by another way.

The numbers are compared in float64, where that way is taken by force.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrail.models import convolution
from vitrail.models.build import Model, build
from vitrail.models.convolution import GroupNorm, convolve
from vitrail.models.resnet import BIT, ResNetConfig, Stages, standardise
from vitrail.models.vit import ViTConfig


def random(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype).requires_grad_()


#                kernel stride padding sides
CONVOLUTIONS = [
    (1, 1, 0, (5, 7)),
    (1, 2, 0, (5, 8)),
    (3, 1, 1, (4, 3)),
    (3, 2, 1, (5, 4)),
    (3, 2, 0, (7, 7)),
    (3, 2, 1, (1, 1)),
    (3, 2, 1, (6, 1)),
    (7, 2, 3, (9, 11)),
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "sides"), CONVOLUTIONS)
def test_a_product_is_the_convolution(
    kernel: int, stride: int, padding: int, sides: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its gradients. Many weights and few inputs, so all are products."""
    monkeypatch.setattr(convolution, "_special", lambda x: True)
    x, weight = random(3, 8, *sides), random(48, 8, kernel, kernel)
    assert weight.numel() > x.numel() or kernel == 1
    ours, theirs = convolve(x, weight, stride, padding), F.conv2d(x, weight, None, stride, padding)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    gradient = torch.randn_like(theirs)
    found = [ours, *torch.autograd.grad(ours, (x, weight), gradient)]
    wanted = [theirs, *torch.autograd.grad(theirs, (x, weight), gradient)]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def convolutions_in(work: Callable[[], Any]) -> int:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work()
    return sum(event.count for event in profile.key_averages() if event.key == "aten::convolution")


def test_only_training_in_bfloat16_multiplies_matrices() -> None:
    """And only where weights are more than inputs, or the kernel is one pixel."""
    few, many = random(2, 8, 4, 4, dtype=torch.float32), random(64, 8, 4, 4, dtype=torch.float32)
    weight, pixel = random(16, 8, 3, 3, dtype=torch.float32), random(16, 8, 1, 1, dtype=torch.float32)
    assert convolutions_in(lambda: convolve(few, weight, 1, 1)) == 1
    assert convolutions_in(lambda: convolve(few.bfloat16(), weight.bfloat16(), 1, 1)) == 0
    with torch.autocast("cpu", torch.bfloat16):
        assert convolutions_in(lambda: convolve(few, weight, 1, 1)) == 0
        assert convolutions_in(lambda: convolve(many, weight, 1, 1)) == 1
        assert convolutions_in(lambda: convolve(many, pixel, 1, 0)) == 0
        assert convolutions_in(lambda: convolve(few, weight.detach(), 1, 1)) == 1
        with torch.no_grad():
            assert convolutions_in(lambda: convolve(few, weight, 1, 1)) == 1
            assert convolutions_in(lambda: convolve(many, pixel, 1, 0)) == 1


@pytest.mark.parametrize("channels", [32, 128, 1024])
def test_the_group_norm_is_pytorch_s(channels: int) -> None:
    norm = GroupNorm(32, channels, 1e-5)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(channels) + 0.5)
    plain = nn.GroupNorm(32, channels, 1e-5)
    plain.load_state_dict(norm.state_dict())
    x = random(2, channels, 3, 4, dtype=torch.float32)
    ours, theirs = norm(x.contiguous(memory_format=torch.channels_last)), plain(x)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    gradient = torch.randn_like(theirs)
    found, wanted = (torch.autograd.grad(y, x, gradient)[0] for y in (ours, theirs))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("eps", [1e-10, 1e-2])
def test_weights_standardised_by_a_layer_norm_are_those_of_the_formula(eps: float) -> None:
    weight = random(16, 8, 3, 3, dtype=torch.float32)
    variance, mean = torch.var_mean(weight, dim=(1, 2, 3), keepdim=True, correction=0)
    torch.testing.assert_close(standardise(weight, eps, True), (weight - mean) / (variance + eps).sqrt())


MODELS = {
    "pre": ResNetConfig(Stages((1, 2, 1), 32, "pre", BIT.eps, BIT.weight_eps, "variance"), (32, 48), 5),
    "post": ResNetConfig(Stages((1, 2, 1), 32, "post"), (33, 47), 5),
    "hybrid": ViTConfig(
        patch=1, width=32, depth=1, heads=1, mlp=32, resolution=(32, 48), num_classes=5, backbone=Stages((1, 1), 32)
    ),
}


def trained(model: Model, images: Tensor) -> list[Tensor]:
    """Logits and all gradients."""
    model.zero_grad()
    logits = model(images).logits
    F.cross_entropy(logits, torch.arange(len(images)) % 5).backward()
    return [logits, *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_the_same_either_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, but for weights that are standardised in float32: measured 1e-7 of the largest number, for 1e-6."""
    torch.manual_seed(0)
    model = build(MODELS[name]).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # the last norms and the classifier begin at zero
    images = torch.randn(3, 3, *MODELS[name].resolution, dtype=torch.float64)
    theirs = trained(model, images)
    monkeypatch.setattr(convolution, "_special", lambda x: True)
    with torch.no_grad():
        looked = model(images).logits
    for a, b in zip([looked, *trained(model, images)], [theirs[0], *theirs], strict=True):
        assert (a - b).abs().max() <= 1e-6 * b.abs().max() + 1e-12


def test_an_export_has_the_plain_convolutions() -> None:
    model = build(MODELS["pre"]).eval().bfloat16()
    program = torch.export.export(model, (torch.randn(2, 3, 32, 48, dtype=torch.bfloat16),))
    operators = [str(node.target) for node in program.graph.nodes]
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.stages.modules()) + 1  # with the root's
    assert sum("conv2d" in operator for operator in operators) == convolutions
    assert not any("contiguous" in operator or "clone" in operator for operator in operators)
