"""CUDA without CUDA: tensors that have a device, a dtype and a shape, and no numbers. Reading one is an error.

What computes on such tensors goes the same way through our code and PyTorch's as on a GPU, up to the kernels. An
operation on tensors of two devices is an error, as it is there.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensor,
    FakeTensorMode,
)
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map

from vitrail.data.loader import normalise

GPU = torch.device("cuda", 0)
Read = DataDependentOutputException  # what reading a number raises


class Seen(TorchDispatchMode):
    """Notes the dtypes of all that is computed on the device, and every copy from it."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: dict[torch.dtype, list[str]] = {}
        self.copied_back: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor) and tensor.device.type == "cuda":
                self.dtypes.setdefault(tensor.dtype, []).append(str(func))
        from_device = any(isinstance(one, Tensor) and one.device.type == "cuda" for one in args)
        if isinstance(made, Tensor) and made.device.type == "cpu" and from_device:
            self.copied_back.append(str(func))
        return made


LOWER = {F.linear, F.conv2d, F.scaled_dot_product_attention, torch.matmul, Tensor.matmul, Tensor.__matmul__}
HIGHER = {F.layer_norm, F.group_norm, F.softmax, Tensor.softmax}


class Autocast(TorchFunctionMode):
    """Products in a low precision, and what it is too rough for in float32: as CUDA's, which would see `meta`."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        to = self.dtype if func in LOWER else torch.float32 if func in HIGHER else None
        if to is not None:
            floats = (torch.float32, self.dtype)
            args, kwargs = tree_map(
                lambda one: one.to(to) if isinstance(one, Tensor) and one.dtype in floats else one, (args, kwargs)
            )
        return func(*args, **(kwargs or {}))


class Mode(FakeTensorMode):
    """What C++ makes beside a fake tensor, which is on `meta` there, is on the device."""

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.in_kernel_invocation and kwargs and kwargs.get("device") == torch.device("meta"):
            kwargs = {**kwargs, "device": GPU}
        return super().dispatch(func, types, args, kwargs)


@contextmanager
def fake_cuda() -> Iterator[Seen]:
    """Inside, new tensors are fake, and may say that they are on `cuda:0`.

    To Python they say so; to C++ they are on `meta`, since autograd asks for CUDA's streams, which are not there.
    """
    plain, mode = torch.Tensor._make_subclass, Mode()

    def hidden(kind: Any, *args: Any, **options: Any) -> Any:
        return plain(kind, *args, **(options | {"dispatch_device": False} if kind is FakeTensor else options))

    with ExitStack() as stack:

        def patch(*what: Any, **options: Any) -> None:
            stack.enter_context(mock.patch.object(*what, **options))

        patch(torch.Tensor, "_make_subclass", hidden)
        patch(FakeTensor, "is_cuda", property(lambda tensor: tensor.device.type == "cuda"), create=True)
        patch(torch, "autocast", lambda _, dtype, enabled=True: Autocast(dtype) if enabled else nullcontext())
        stack.enter_context(mode)
        for kept in (normalise._scale, normalise._grey):  # constants on the device, which outlive a step
            kept.cache_clear()
            stack.callback(kept.cache_clear)
        yield stack.enter_context(Seen())


def on_gpu(make: Callable[[], nn.Module]) -> Any:
    """What `make` builds, on the fake device: call it inside `fake_cuda`."""
    with _disable_current_modes(), torch.device("meta"):
        made = make()
    for module in made.modules():
        for name, p in list(module.named_parameters(recurse=False)):
            there = torch.empty(p.shape, dtype=p.dtype, device=GPU)
            setattr(module, name, nn.Parameter(there, requires_grad=p.requires_grad))
        for name, b in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.empty(b.shape, dtype=b.dtype, device=GPU))
    return made
