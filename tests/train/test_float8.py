"""8-bit products of linear layers: refused where there are none; emulated, the weights and nearly the numbers stay."""

import warnings
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from tests.train.small import MODEL, fresh, training
from vitrail.core.device import Machine, choose_precision
from vitrail.core.errors import BadInput
from vitrail.models.vit import ViT
from vitrail.train.float8 import in_float8
from vitrail.train.parallel import layers, parallelize

CPU = torch.device("cpu")


def test_a_device_without_8_bit_products_is_refused() -> None:
    model = fresh(training()).model
    with pytest.raises(BadInput, match=r"compute capability 8\.9 .*this is cpu; take bfloat16"):
        parallelize(model, Machine(), CPU, torch.bfloat16, float8=True)


def test_all_else_is_bfloat16() -> None:
    assert choose_precision("float8", CPU) == torch.bfloat16


def test_cuda_graphs_are_refused_on_the_cpu() -> None:
    with pytest.raises(BadInput, match=r"graphs needs one process on a CUDA device, this is cpu"):
        parallelize(fresh(training()).model, Machine(graphs=True), CPU, torch.float32)


@pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed, as `make test-all` does")
@pytest.mark.slow
def test_emulated_products_keep_weights_and_nearly_the_outputs() -> None:
    state = fresh(training(), replace(MODEL, width=64, heads=2, mlp=128, depth=2))
    assert isinstance(state.model, ViT)
    names, weight = list(state.model.state_dict()), state.model.blocks[0].attn.qkv.weight
    images = torch.randn(16, 3, 8, 8)
    wanted = state.model(images).logits
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchao, about its own kernels for GPUs
        in_float8(layers(state.model), emulate=True)
    assert state.model.blocks[0].attn.qkv.weight is weight
    assert list(state.model.state_dict()) == names
    got = state.model(images).logits
    error = float((got - wanted).detach().norm() / wanted.detach().norm())
    assert 1e-3 < error < 0.2  # measured 0.11: e4m3 has three bits of mantissa, and eight products follow each other
    got.sum().backward()
    assert weight.grad is not None
    assert torch.isfinite(weight.grad).all()
    assert weight.grad.abs().max() > 0
