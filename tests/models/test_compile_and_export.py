"""torch.compile takes every model in one graph, and torch.export one that takes any number of images."""

from dataclasses import replace

import pytest
import torch

from tests.models.small import POSITIONS, lively, pictures, vit
from vitrail.models import attention
from vitrail.models.build import Model, ModelConfig
from vitrail.models.head import AttentionPool
from vitrail.models.position import Relative
from vitrail.models.resnet import BIT, ResNetConfig, Stages

DEPTHS = {"none": 1, "1-D, patches only": 1, "1-D, layers": 2, "2-D": 1, "relative": 2, "sin-cos": 1}

pytestmark = pytest.mark.usefixtures("without_shape_checks")

MODELS: dict[str, ModelConfig] = {
    **{kind: vit(depth=depth, position=POSITIONS[kind]) for kind, depth in DEPTHS.items()},
    "attention pool, later parts": vit(
        depth=1, pool=AttentionPool(), registers=2, layer_scale=0.1, qk_norm=True, gated=True, hidden=8
    ),
    "hybrid": vit(depth=1, patch=1, backbone=Stages(units=(1, 1), width=32), resolution=(33, 40), position=Relative()),
    "ResNet": ResNetConfig(replace(BIT, units=(1, 1), width=32), resolution=(33, 40), num_classes=5),
}


def model_and_images(name: str) -> tuple[Model, torch.Tensor]:
    config = MODELS[name]
    return lively(config), pictures(2, config.resolution)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_compiles_to_one_graph(name: str) -> None:
    model, images = model_and_images(name)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for ours, theirs in zip(compiled(images)[:3], model(images)[:3], strict=True):
            assert (ours - theirs).abs().max() < 1e-5  # measured 0


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_exported_for_any_number_of_images(name: str) -> None:
    model, images = model_and_images(name)
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("images")},)).module()
    with torch.no_grad():
        for count in (2, 5):
            others = pictures(count, MODELS[name].resolution)
            for ours, theirs in zip(program(others)[:3], model(others)[:3], strict=True):
                assert ours.shape[0] == count
                assert (ours - theirs).abs().max() < 1e-5  # measured 0


def test_an_exported_resnet_reads_any_size_too() -> None:
    model, images = model_and_images("ResNet")
    height, width = (torch.export.Dim(name, min=9) for name in ("height", "width"))  # a feature map of 2 x 2 or more
    sides = {0: torch.export.Dim("images"), 2: height, 3: width}
    program = torch.export.export(model, (images,), dynamic_shapes=(sides,)).module()
    with torch.no_grad():
        for size in ((9, 9), (50, 65)):
            others = pictures(3, size)
            assert (program(others).logits - model(others).logits).abs().max() < 1e-5  # measured 0


@pytest.mark.parametrize("strict", [True, False])
def test_an_exported_model_returns_weights_of_attention(strict: bool) -> None:
    model, images = model_and_images("relative")
    shapes = {"images": {0: torch.export.Dim("images")}, "attention": None}
    program = torch.export.export(model, (images,), {"attention": True}, dynamic_shapes=shapes, strict=strict).module()
    with torch.no_grad():
        ours, theirs = program(pictures(4), attention=True), model(pictures(4), attention=True)
    assert len(ours.attention) == len(theirs.attention) == 2
    for a, b in zip(ours.attention, theirs.attention, strict=True):
        assert (a - b).abs().max() < 1e-5


@pytest.mark.parametrize("multiplies", [False, True])
def test_in_bfloat16_too_there_is_one_graph(multiplies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which kernel is faster depends on the processor: a question that no graph may ask."""
    monkeypatch.setattr(attention, "CPU_MULTIPLIES_BFLOAT16", multiplies)
    model, images = model_and_images("relative")
    model, images = model.bfloat16(), images.bfloat16()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        exact = model.float()(images.float()).logits
        model.bfloat16()
        for logits in (compiled(images).logits, model(images).logits):
            assert logits.dtype == torch.bfloat16
            assert (logits.float() - exact).abs().max() < 0.05  # measured 0.015


def test_an_exported_model_does_not_depend_on_the_machine_that_exported_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = model_and_images("none")
    model, images = model.bfloat16(), images.bfloat16()
    code = []
    for answer in (True, False):
        monkeypatch.setattr(attention, "CPU_MULTIPLIES_BFLOAT16", answer)
        code.append(torch.export.export(model, (images,)).graph_module.code)
    assert code[0] == code[1]
    assert "scaled_dot_product_attention" in code[0]


def test_a_compiled_model_has_the_gradients_of_the_eager_one() -> None:
    model, images = model_and_images("relative")
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    grads = []
    for forward in (model, compiled):
        model.zero_grad()
        forward(images).logits.square().sum().backward()
        grads.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(grads[0]) == sum(p.requires_grad for p in model.parameters())
    for ours, theirs in zip(*grads, strict=True):
        assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max() + 1e-8  # measured 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning")  # of the import of inductor
def test_the_default_compiler_agrees() -> None:
    """Inductor writes and compiles C++: half a minute."""
    model, images = lively(vit(position=Relative())), pictures()
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        assert (compiled(images).logits - model(images).logits).abs().max() < 1e-5  # measured 3e-7
