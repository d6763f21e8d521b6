"""The kernels of attention against each other and against one that is differentiated by torch; the kept measurement."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vitrail.models import attention, attention_kernel
from vitrail.models.attention_kernel import KERNELS, Kernel, attend_by, fastest_kernel


def outcome(kernel: Kernel | None, tensors: list[Tensor], gradient: Tensor) -> list[Tensor]:
    """The output and the gradients of q, k and v."""
    inputs = [t.clone().requires_grad_() for t in tensors]
    mixed = F.scaled_dot_product_attention(*inputs) if kernel is None else attend_by(kernel, *inputs)
    mixed.backward(gradient)
    return [mixed.detach(), *(t.grad for t in inputs if t.grad is not None)]


@pytest.mark.parametrize("held", [1, 10_000, 1 << 30])
@pytest.mark.parametrize(("queries", "keys"), [(33, 33), (1, 20)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_has_the_outputs_and_gradients_of_torch(
    kernel: Kernel, queries: int, keys: int, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parts of any size: `held` bytes are one head, a few, or all of the batch."""
    monkeypatch.setattr(attention_kernel, "HELD", held)
    torch.manual_seed(0)
    tensors = [torch.randn(2, 3, n, 8, dtype=torch.float64) for n in (queries, keys, keys)]
    gradient = torch.randn(2, 3, queries, 8, dtype=torch.float64)
    ours, theirs = outcome(kernel, tensors, gradient), outcome(None, tensors, gradient)
    assert len(ours) == 4
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine - other).abs().max() < 1e-13  # measured 1.3e-15


@pytest.mark.parametrize("kernel", KERNELS)
def test_in_bfloat16_no_kernel_is_further_from_the_truth_than_the_numbers_are_coarse(kernel: Kernel) -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(2, 3, 70, 32).bfloat16() for _ in range(3)]
    gradient = torch.randn(2, 3, 70, 32).bfloat16()
    exact = outcome(None, [t.double() for t in tensors], gradient.double())
    for mine, truth in zip(outcome(kernel, tensors, gradient), exact, strict=True):
        assert (mine.double() - truth).abs().max() < 0.03 * truth.abs().max()  # measured 0.006 to 0.012


def test_memory_is_bounded_whatever_the_length() -> None:
    """Only q, k and v are kept for the backward pass: no weights."""
    q, k, v = (torch.randn(2, 3, 300, 8).requires_grad_() for _ in range(3))
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        attend_by("products", q, k, v)
    assert kept == [q.numel()] * 3


def test_the_choice_is_measured_once_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path))
    monkeypatch.setattr(attention_kernel, "multiplies_bfloat16", lambda _: True)
    asked: list[tuple[int, int, bool]] = []

    def measured(*question: object) -> Kernel:
        asked.append(question)  # type: ignore[arg-type]
        return "mixed"

    monkeypatch.setattr(attention_kernel, "measure_kernels", measured)
    attention_kernel._fastest.cache_clear()
    try:
        assert [fastest_kernel(n, 64, True) for n in (257, 300, 320)] == ["mixed"] * 3
        assert asked == [(320, 64, True)]
        attention_kernel._fastest.cache_clear()  # as in another process
        assert fastest_kernel(260, 64, True) == "mixed"
        assert len(asked) == 1
        fastest_kernel(260, 64, False)
        assert len(asked) == 2
        (tmp_path / "attention-kernels.json").write_text("[damaged")
        attention_kernel._fastest.cache_clear()
        assert fastest_kernel(260, 64, True) == "mixed"
        assert len(asked) == 3
        assert len(json.loads((tmp_path / "attention-kernels.json").read_text())) == 1
    finally:
        attention_kernel._fastest.cache_clear()


def test_a_measurement_takes_milliseconds_and_names_a_kernel() -> None:
    assert attention_kernel.measure_kernels(64, 16, True) in KERNELS
    assert attention_kernel.measure_kernels(64, 16, False) in ("fused", "products")


@pytest.mark.parametrize("multiplies", [True, False])
def test_only_bfloat16_on_a_processor_that_multiplies_it_is_asked_about(
    multiplies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[torch.dtype] = []

    def answer(*_: object) -> Kernel:
        asked.append(torch.bfloat16)
        return "products"

    monkeypatch.setattr(attention, "CPU_MULTIPLIES_BFLOAT16", multiplies)
    monkeypatch.setattr(attention, "fastest_kernel", answer)
    for dtype in (torch.float32, torch.bfloat16):
        attention.attend(*(torch.randn(1, 1, 5, 4, dtype=dtype) for _ in range(3)))
    assert len(asked) == multiplies


@pytest.mark.parametrize("kernel", KERNELS)
def test_activations_can_be_recomputed_even_where_the_kernel_is_measured_in_the_pass(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The measurement keeps tensors that the second pass does not have; a kernel looks at its own but once."""
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path))
    monkeypatch.setattr(attention_kernel, "multiplies_bfloat16", lambda device: True)
    monkeypatch.setattr(attention_kernel, "SECONDS", 0.0)
    torch.manual_seed(0)
    tensors = [torch.randn(2, 3, 20, 8) for _ in range(3)]
    whole, again = ([t.clone().requires_grad_() for t in tensors] for _ in range(2))

    def attended(*given: Tensor) -> Tensor:
        fastest_kernel(20, 8, training=True)
        return attend_by(kernel, *given)

    attention_kernel._fastest.cache_clear()
    try:
        checkpoint(attended, *again, use_reentrant=False).square().sum().backward()
    finally:
        attention_kernel._fastest.cache_clear()
    attend_by(kernel, *whole).square().sum().backward()
    for one, other in zip(whole, again, strict=True):
        assert one.grad is not None
        assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type]
