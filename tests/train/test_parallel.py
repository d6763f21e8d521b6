"""How a model is spread and compiled: what is asked for together works together."""

from collections.abc import Callable, Iterator
from typing import Any

import jaxtyping
import pytest
import torch
from torch import nn

from tests.train.small import MODEL
from vitrail.core.device import Machine
from vitrail.models.build import build
from vitrail.train.parallel import parallelize

CPU = torch.device("cpu")


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """How many graphs were captured; they are run as they are, which takes no compiler, and without tests' checks."""
    from torch._dynamo.utils import counters

    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    plain: Any = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: plain(self, backend="eager", **options))
    torch._dynamo.reset()
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"]
    jaxtyping.config.update("jaxtyping_disable", before)
    torch.compiler.reset()


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
