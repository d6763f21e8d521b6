"""The kernel that records name is the kernel that computes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.models.small import POSITIONS, lively, pictures, vit
from vitrail.models import attention
from vitrail.models.kernels import attention_kernel, training_kernel
from vitrail.models.mae import MAE
from vitrail.models.objective import learner
from vitrail.models.resnet import BIT, ResNetConfig

CPU = torch.device("cpu")


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What computes attention from here on, on a CPU that multiplies bfloat16, and where lengths decide."""
    found: list[str] = []

    def noting(name: Callable[..., str], compute: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *inputs: (found.append(name(*inputs)), compute(*inputs))[1]

    monkeypatch.setattr(attention, "CPU_MULTIPLIES_BFLOAT16", True)
    monkeypatch.setattr(attention, "fastest_kernel", lambda tokens, *_: "mixed" if tokens > 4 else "products")
    monkeypatch.setattr(attention, "_fused", noting(lambda *_: "fused", attention._fused))
    monkeypatch.setattr(attention, "attend_by", noting(lambda kernel, *_: kernel, attention.attend_by))
    monkeypatch.setattr(attention, "attention_weights", noting(lambda *_: "products", attention.attention_weights))
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["1-D, patches only", "relative", "axial"])
def test_the_kernel_that_is_named_computes(kind: str, dtype: torch.dtype, used: list[str]) -> None:
    config = vit(axial=True) if kind == "axial" else vit(position=POSITIONS[kind])
    named = attention_kernel(config, CPU, dtype, training=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        lively(config).train()(pictures())
    assert named == ", ".join(dict.fromkeys(used))
    assert (named == "fused") == (dtype == torch.float32)


def test_of_mae_the_visible_patches_decide(used: list[str]) -> None:
    config = replace(vit(), num_classes=0)
    trained = learner(lively(config), MAE(decoder_width=16, decoder_depth=1, decoder_heads=2))
    assert training_kernel(trained, CPU, torch.bfloat16) == "products"
    assert attention_kernel(config, CPU, torch.bfloat16, training=True) == "mixed"


def test_a_resnet_has_none() -> None:
    assert attention_kernel(ResNetConfig(BIT), CPU, torch.float32, training=False) is None
