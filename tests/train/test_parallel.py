"""How a model is spread and compiled: what is asked for together works together."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.testing._internal.distributed.fake_pg import FakeStore

from tests.train.small import MODEL
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.models.build import build
from vitrail.models.resnet import ResNetConfig, Stages
from vitrail.models.vit import ViTConfig
from vitrail.train.parallel import only_deterministic_kernels, parallelize

CPU = torch.device("cpu")


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch, without_shape_checks: None) -> Callable[[], int]:
    """How many graphs were captured; they are run as they are, which takes no compiler."""
    from torch._dynamo.utils import counters

    plain: Any = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: plain(self, backend="eager", **options))
    torch._dynamo.reset()
    counters.clear()
    return lambda: counters["stats"]["unique_graphs"]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # by dynamo
@pytest.mark.parametrize("recompute", [False, True])
def test_layers_are_compiled_with_and_without_recomputation(graphs: Callable[[], int], recompute: bool) -> None:
    torch.manual_seed(0)
    model, images = build(MODEL), torch.randn(2, 3, 8, 8)
    plain = model(images).logits
    wrapped = parallelize(model, Machine(compile=True, recompute=recompute), CPU, torch.float32)
    logits = wrapped(images).logits
    logits.sum().backward()
    assert graphs() > 0
    assert torch.allclose(logits, plain, atol=1e-5)


def test_compiled_layers_of_other_architectures_are_forgotten(
    graphs: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[ViTConfig] = []
    for config in (MODEL, MODEL, replace(MODEL, width=32), replace(MODEL, width=32), MODEL):
        with monkeypatch.context() as patched:
            patched.setattr(torch.compiler, "reset", lambda config=config: forgotten.append(config))
            parallelize(build(config), Machine(compile=True), CPU, torch.float32)
    assert forgotten[-2:] == [replace(MODEL, width=32), MODEL]
    assert len(forgotten) <= 3  # one more where another test has compiled


@pytest.fixture
def two_processes() -> Iterator[None]:
    """A world of two as one of them sees it: nothing travels."""
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("two_processes")
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")  # nothing is changed in place
def test_the_residual_stream_of_shards_is_float32_as_without_them() -> None:
    seen: list[tuple[str, torch.dtype]] = []
    model = build(MODEL)
    wrapped = parallelize(model, Machine(sharding="sharded"), CPU, torch.bfloat16)
    for name, module in (("block", model.blocks[0]), ("norm", model.norm)):
        module.register_forward_pre_hook(lambda _, given, name=name: seen.append((name, given[0].dtype)))
    with torch.autocast("cpu", torch.bfloat16):
        wrapped(torch.randn(2, 3, 8, 8))
    assert seen == [("block", torch.float32), ("norm", torch.float32)]


def test_deterministic_is_an_error_where_a_kernel_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(config, "deterministic", False)
    try:
        only_deterministic_kernels(build(MODEL))
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()  # with which attention is free
        assert config.deterministic
    finally:
        torch.use_deterministic_algorithms(False)


def test_deterministic_refuses_what_has_no_such_kernel() -> None:
    resnet = build(ResNetConfig(stages=Stages(units=(1,), width=32), num_classes=10))
    with pytest.raises(BadInput, match="max pooling"):
        only_deterministic_kernels(resnet)
    assert not torch.are_deterministic_algorithms_enabled()
