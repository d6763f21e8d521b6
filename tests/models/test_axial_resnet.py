"""The axial ResNet without a reference: a slow loop, a striding pair, the cost by formula and by count, other sizes."""

from dataclasses import replace
from math import exp, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.models.small import lively, pictures
from tests.models.test_cost import images_for, kept_for_each, most_alive
from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models import resnet
from vitrail.models.axial_resnet import AxialPair, LineAttention
from vitrail.models.build import build
from vitrail.models.cost import inference_activations, multiply_adds, parameters, training_activations
from vitrail.models.resnet import ResNet, ResNetConfig, Stages, Unit
from vitrail.models.summary import describe
from vitrail.models.variants import variant
from vitrail.weights.bundle import save_bundle
from vitrail.weights.convert import convert
from vitrail.weights.load import load, read_pretrained
from vitrail.weights.transplant import for_transfer, transplant

SMALL = ResNetConfig(Stages(units=(1, 2), width=32), resolution=(36, 48), num_classes=5, axial_heads=4)
CONFIGS = {
    "post": SMALL,
    "pre": replace(SMALL, stages=replace(SMALL.stages, order="pre", weight_eps_on="variance")),
    "odd": replace(SMALL, resolution=(36, 20)),
}


def stirred(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p) * 0.3)
    return module.eval()


def slow_line(x: np.ndarray, made: LineAttention) -> np.ndarray:
    """[lines, length, channels] by loops over lines, heads and pairs of places."""
    weight, relative = made.qkv.weight.detach().double().numpy(), made.relative.detach().double().numpy()
    lines, length, channels = x.shape
    qkv = (x @ weight.T).reshape(lines, length, 32, -1)
    mean, variance = qkv.mean(axis=(0, 1, 3), keepdims=True), qkv.var(axis=(0, 1, 3), keepdims=True)
    qkv = ((qkv - mean) / np.sqrt(variance + made.norm.eps)).reshape(lines, length, 2 * channels)
    qkv = qkv * made.norm.weight.detach().double().numpy() + made.norm.bias.detach().double().numpy()
    width = channels // made.heads
    half = width // 2
    out = np.zeros_like(x)
    for n in range(lines):
        for head in range(made.heads):
            own = qkv[n, :, head * 2 * width : (head + 1) * 2 * width]
            q, k, v = own[:, :half], own[:, half:width], own[:, width:]
            for i in range(length):
                shares = []
                for j in range(length):
                    vector = relative[i - j + length - 1]
                    logit = q[i] @ k[j] + q[i] @ vector[:half] + k[j] @ vector[half:width]
                    shares.append(exp(logit / sqrt(half)))
                for j in range(length):
                    vector = relative[i - j + length - 1]
                    out[n, i, head * width : (head + 1) * width] += shares[j] / sum(shares) * (v[j] + vector[width:])
    return out


def test_attention_along_a_line_is_that_of_a_slow_loop() -> None:
    made = stirred(LineAttention(32, 4, 5, 1e-6))
    x = torch.randn(2, 3, 5, 32, generator=torch.Generator().manual_seed(1))
    assert isinstance(made, LineAttention)
    wanted = np.stack([slow_line(image.double().numpy(), made) for image in x])
    with torch.no_grad():
        assert np.abs(made(x).double().numpy() - wanted).max() < 1e-5  # measured 1e-6


@pytest.mark.parametrize("stride", [1, 2])
def test_a_pair_reads_the_rows_and_then_the_columns(stride: int) -> None:
    pair = stirred(AxialPair(32, 4, (3, 5), stride, 1e-6))
    assert isinstance(pair, AxialPair)
    x = torch.randn(2, 32, 3, 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        got = pair(x)
        y = pair.norm(pair.row(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        wanted = pair.column(y.permute(0, 3, 2, 1)).permute(0, 3, 2, 1)
    if stride == 2:
        windows = [[wanted[:, :, r : r + 2, c : c + 2].mean(dim=(2, 3)) for c in (0, 2, 4)] for r in (0, 2)]
        wanted = torch.stack([torch.stack(row, dim=-1) for row in windows], dim=-2)
    assert (got - wanted).abs().max() < 1e-6
    with pytest.raises(ValueError, match="over maps of"):
        pair(x[:, :, :2])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_no_convolution_of_3x3_is_left_and_the_map_is_that_of_the_stages(config: ResNetConfig) -> None:
    model = lively(config)
    assert isinstance(model, ResNet)
    assert not [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert sum(isinstance(m, AxialPair) for m in model.modules()) == 3
    images = pictures(2, config.resolution).requires_grad_()
    output = model(images)
    assert output.tokens.shape == (2, config.grid[0] * config.grid[1], config.stages.channels)
    output.logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    with pytest.raises(ValueError, match="over maps of"):
        model(pictures(1, (40, 56)))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_parameters_and_arithmetic_by_formula_and_by_count(config: ResNetConfig) -> None:
    model = lively(config)
    assert parameters(config) == sum(p.numel() for p in model.parameters())
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(pictures(1, config.resolution))
    assert 2 * multiply_adds(config) == counter.get_total_flops()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_memory_is_about_what_the_formula_says(config: ResNetConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert training_activations(config) == pytest.approx(kept_for_each(lively(config)), rel=0.15)
    monkeypatch.setattr(resnet, "standardise", lambda weight, *_: weight)  # made of weights alone
    model, images = lively(config), images_for(config, 7)
    measured = most_alive(model, images) - most_alive(model, images[:6])
    assert inference_activations(config) == pytest.approx(measured, rel=0.15)


def test_the_named_one() -> None:
    """No file was published; the plain R50x1 has 23.5 M parameters, its 3x3 convolutions more than the attention."""
    config = variant("Axial-R50x1")
    assert isinstance(config, ResNetConfig)
    with torch.device("meta"):
        assert parameters(config) == sum(p.numel() for p in build(config).parameters())
    assert parameters(config) < parameters(variant("R50x1"))
    assert config.stages.order == "post", "as its authors' implementation"
    assert describe("Axial-R50x1", 224, 0)["kind"] == "axial ResNet"
    with pytest.raises(BadInput, match="axial heads"):
        replace(SMALL, axial_heads=3).check()


def test_places_are_resampled_for_another_resolution(tmp_path: Path) -> None:
    model = lively(SMALL)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("relative"):  # a ramp stays one
                p.copy_(torch.linspace(-1, 1, len(p))[:, None].expand_as(p))
    save_bundle(tmp_path / "bundle", model, Preprocess(SMALL.resolution), tuple("abcde"), {})
    published = read_pretrained(tmp_path / "bundle")
    same, rows = transplant(published, SMALL, new_head=False)
    assert {row.action for row in rows} == {"taken"}
    images = pictures(2, SMALL.resolution)
    with torch.inference_mode():
        assert torch.equal(same(images).logits, model(images).logits)
    wider, rows = transplant(published, for_transfer(published, 3, (36, 96)), new_head=True)
    resampled = {row.name: row.target for row in rows if row.action == "resampled"}
    assert len(resampled) == 3, "the rows are longer, the columns are not"
    for name, p in wider.named_parameters():
        if name in resampled:
            assert (p - torch.linspace(-1, 1, len(p))[:, None]).abs().max() < 1e-6
    with pytest.raises(BadInput, match="axial_heads"):
        transplant(published, replace(SMALL, axial_heads=0), new_head=False)


def test_it_is_a_bundle_and_no_other_layout(tmp_path: Path) -> None:
    model = lively(replace(SMALL, num_classes=0))
    save_bundle(tmp_path / "bundle", model, Preprocess(SMALL.resolution), (), {})
    with torch.inference_mode():
        images = pictures(2, SMALL.resolution)
        assert torch.equal(load(tmp_path / "bundle")(images).representation, model(images).representation)
    for layout, name in (("npz", "a.npz"), ("timm", "timm"), ("huggingface", "hf")):
        with pytest.raises(BadInput, match=r"axial|ResNet"):
            convert(tmp_path / "bundle", tmp_path / name, layout)  # type: ignore[arg-type]


def test_a_unit_without_heads_is_as_it_was() -> None:
    assert isinstance(Unit(64, 32, 1, SMALL.stages).conv2, resnet.StandardisedConv)


def test_it_computes_in_bfloat16() -> None:
    model, images = lively(SMALL), pictures(4, SMALL.resolution)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        low = model(images).logits
    with torch.inference_mode():
        exact = model(images).logits
    assert (low - exact).norm() / exact.norm() < 0.05
