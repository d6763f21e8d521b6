"""How a model is spread over devices: 8-bit products, recomputation, compilation, replicas (DDP) or shards (FSDP2).

Applied from outside: the model stays the one that was built, with the same names of its weights.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from vitrail.core import dist
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.models.build import ModelConfig, build
from vitrail.models.initialise import on_meta
from vitrail.models.mae import MaskedAutoencoder
from vitrail.models.objective import Learner, TrainedModel, learner
from vitrail.models.resnet import ResNet, Root
from vitrail.models.vit import ViT
from vitrail.train.float8 import check_float8, in_float8


def parallelize(
    model: TrainedModel,
    machine: Machine,
    device: torch.device,
    dtype: torch.dtype,
    float8: bool = False,
    fixed_order: bool = False,
) -> nn.Module:
    """What is called to run `model` in training: the model itself, or what wraps it. `model` must be on `device`.

    `fixed_order`: each step adds gradients over processes by itself (train/fixed_order.py).

    Raises:
        BadInput: 8-bit products or CUDA graphs where there are none, or processes that cannot be grouped.
    """
    units = layers(model)
    if float8:
        check_float8(device)
        in_float8(units)
    if machine.recompute:
        for unit in units:
            unit.forward = _recomputed(unit.forward)
    if machine.graphs:
        if device.type != "cuda" or dist.world().size > 1:
            raise BadInput(
                f"graphs needs one process on a CUDA device, this is {device}, {dist.world().size} processes"
            )
        model.compile(dynamic=False, mode="reduce-overhead")
    elif compiled(machine, device) == "layers":
        _allow_variants(model.config, len(units))
        for unit in units:
            unit.compile(dynamic=False)
    world = dist.world()
    if world.size == 1 or fixed_order:
        return model
    if machine.sharding == "replicated":
        ids = [device.index] if device.type == "cuda" else None
        with warnings.catch_warnings():  # the name that follows `broadcast_buffers` means something else
            warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
            return DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True)
    mesh = _mesh(machine, device, world)
    low = dtype != torch.float32
    policy = MixedPrecisionPolicy(dtype, torch.float32, cast_forward_inputs=False) if low else MixedPrecisionPolicy()
    for unit in units:
        fully_shard(unit, mesh=mesh, mp_policy=policy)
    # embeddings, positions and head travel as they are: what is added to the residual stream must be float32, or the
    # stream is not, as it is under autocast without shards
    fully_shard(model, mesh=mesh, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False))
    return model


def compiled(machine: Machine, device: torch.device) -> Literal["nothing", "layers", "CUDA graphs"]:
    """What torch.compile makes of a model in training."""
    if machine.graphs:
        return "CUDA graphs"
    return "layers" if machine.compile or (machine.compile is None and device.type == "cuda") else "nothing"


def only_deterministic_kernels(model: TrainedModel) -> None:
    """From now on CUDA adds in the same order every time, in attention and compiled kernels too.

    Raises:
        BadInput: a model with a layer that cannot.
    """
    if any(isinstance(module, Root) for module in model.modules()):
        raise BadInput(
            "deterministic: the max pooling of a ResNet's root adds gradients in any order on CUDA, and there is no "
            "other kernel; leave it out, or train a model without one"
        )
    import torch._inductor.config as inductor

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read where cuBLAS is first used
    inductor.deterministic = True
    torch.use_deterministic_algorithms(True)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function: torch.compile passes over a `partial` without a word, and runs it as it is."""

    def again(*given: Any) -> Any:
        return checkpoint(forward, *given, use_reentrant=False)

    return again


_compiled: ModelConfig | None = None  # of the model whose layers were compiled last


def _allow_variants(config: ModelConfig, units: int) -> None:
    """One compiled function serves all layers: it has a variant for every rate of stochastic depth, batch and mode.

    Those of other architectures are forgotten: with too many, layers run as they are, without compilation.
    """
    import torch._dynamo.config as dynamo

    global _compiled
    if _compiled not in (None, config):
        torch.compiler.reset()
    _compiled = config
    dynamo.recompile_limit = max(dynamo.recompile_limit, 8 * units)
    dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, 64 * units)


def allreduce_wait(wrapped: nn.Module) -> float | None:
    """Seconds a step that the backward pass waited for sums over processes; None where it is not measured (FSDP2).

    As DDP measures it, now and then, beside the work.
    """
    if not isinstance(wrapped, DistributedDataParallel):
        return None
    seen = wrapped._get_ddp_logging_data()
    both = seen.get("avg_backward_comm_time"), seen.get("avg_backward_compute_comm_overlap_time")
    return None if not both[0] else max(0.0, both[0] - (both[1] or 0)) / 1e9


def whole_model(model: TrainedModel) -> TrainedModel:
    """A model that holds all weights, as it was built: itself, or where it was sharded a new one on the CPU.

    All processes must call it, outside of a step.
    """
    if not isinstance(model, FSDPModule):
        return model
    state = {name: t.full_tensor().cpu() if isinstance(t, DTensor) else t for name, t in model.state_dict().items()}
    with on_meta():
        built = build(model.config)
        whole = learner(built, model.objective) if isinstance(model, Learner) and isinstance(built, ViT) else built
    whole.load_state_dict(state, assign=True)
    return whole.eval()


def whole_norm(tensor: torch.Tensor) -> float:
    """Of all rows, where this process holds some of them; all processes must call it."""
    norm = tensor.norm()
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def layers(model: TrainedModel) -> list[nn.Module]:
    """The parts that repeat: blocks of the encoder and of a decoder, units of a ResNet."""
    if isinstance(model, Learner):
        return [*model.encoder.blocks, *(model.decoder_blocks if isinstance(model, MaskedAutoencoder) else ())]
    if isinstance(model, ResNet):
        return [unit for stage in model.stages for unit in stage.blocks]  # type: ignore[union-attr]
    return list(model.blocks)


def _mesh(machine: Machine, device: torch.device, world: dist.World) -> DeviceMesh:
    """One group of shards, or a replica of them on each machine ("hybrid")."""
    if machine.sharding == "sharded":
        return init_device_mesh(device.type, (world.size,))
    within = dist.local_size()
    if world.size % within:
        raise BadInput(f"hybrid sharding needs as many processes on each machine: {world.size} in all, {within} here")
    return init_device_mesh(device.type, (world.size // within, within), mesh_dim_names=("replicas", "shards"))


@contextmanager
def gradient_sync(wrapped: nn.Module, now: bool) -> Iterator[None]:
    """Inside the block, backward passes leave the sum over processes to a later one unless `now`."""
    if isinstance(wrapped, DistributedDataParallel) and not now:
        with wrapped.no_sync():
            yield
        return
    if isinstance(wrapped, FSDPModule):
        wrapped.set_requires_gradient_sync(now)
    yield
