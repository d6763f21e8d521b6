"""One batch, one update, its metrics; and all that a training run must remember."""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vitrail.core import dist
from vitrail.core.device import out_of_memory
from vitrail.core.errors import BadInput
from vitrail.core.freed_memory import keep_freed_memory
from vitrail.core.seeds import generator, torch_seed
from vitrail.data.loader.batch import Batch, Broken
from vitrail.data.loader.normalise import normalise
from vitrail.data.transforms.mixup import Mixing, mix
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.objective import TrainedModel
from vitrail.train.config import TrainConfig
from vitrail.train.divergence import no_losses
from vitrail.train.fixed_order import PartsInOrder
from vitrail.train.objective import Part, inputs, loss_of
from vitrail.train.optim import build_optimizer, set_learning_rate
from vitrail.train.parallel import gradient_sync
from vitrail.train.schedule import learning_rate
from vitrail.train.weight_averaging import Average, start_average, update_average


@dataclass
class TrainState:
    """Everything that the next step depends on; a checkpoint is this, whole."""

    model: TrainedModel
    optimizer: torch.optim.Optimizer
    average: Average | None
    broken: Broken
    wrapped: nn.Module  # what is called: the model, or DistributedDataParallel around it
    step: int = 0  # finished updates
    seconds: float = 0.0  # of training, over all sessions
    data_wait_seconds: float = 0.0  # of these, spent waiting for data
    transfer_seconds: float = 0.0  # that this process spent copying batches to the device, in this session
    restarts: int = 0
    skipped: list[int] = field(default_factory=list)  # steps whose batch had broken the training
    class_weights: Tensor | None = None  # in the loss, on the device
    class_priors: Tensor | None = None  # log shares of the classes, for the logit-adjusted loss
    micro_batch: int = 0  # images a forward pass of a process (train/micro_batch.py); 0: not decided, all
    losses: deque[float] = field(default_factory=no_losses)  # the last ones, by which a jump is recognised
    validation: dict[str, float] | None = None  # the last evaluation of this session: step, accuracy, loss, count
    stopped: bool = False  # set by a callback, in every process: training ends before its last step


class Metrics(NamedTuple):
    """The metrics of one step, left on the device until somebody reads them; sums over the images of this process.

    With `fixed_parts` the first process has those of all images, and the others have none.
    """

    loss: Tensor  # this process's share of the mean over the global batch
    sums: dict[str, Tensor]  # what the objective counts (train/objective.py)
    images: int
    gradient_norm: Tensor  # of the global batch
    learning_rate: float


def init_state(
    model: TrainedModel, config: TrainConfig, broken: Broken, wrapped: nn.Module | None = None
) -> TrainState:
    """The state before the first step. `wrapped`: what `parallelize` returned for the model."""
    if next(model.parameters()).device.type == "cpu":
        keep_freed_memory()
    average = start_average(model) if config.average is not None else None
    return TrainState(model, build_optimizer(config.optimizer, model), average, broken, wrapped or model)


def train_step(
    state: TrainState, batch: Batch, *, config: TrainConfig, preprocess: Preprocess, dtype: torch.dtype
) -> Metrics:
    """One update of the weights from this process's part of the global batch.

    What is random in it is keyed by (seed, step, rank). Gradients are those of the mean over the global batch,
    whatever the number of processes and micro-batches; with `fixed_parts` to the bit (train/fixed_order.py).
    """
    wrapped, world = state.wrapped.train(), dist.world()
    device = next(state.model.parameters()).device
    torch.manual_seed(torch_seed(config.seed, "step", state.step, world.rank))
    rate = learning_rate(config.schedule, config.optimizer.lr, state.step, config.steps)
    set_learning_rate(state.optimizer, rate)
    state.optimizer.zero_grad(set_to_none=True)

    begun = time.perf_counter()
    pixels, labels = batch.images.to(device, non_blocking=True), batch.labels.to(device, non_blocking=True)
    state.transfer_seconds += time.perf_counter() - begun
    targets, key = labels.float() if labels.ndim == 2 else labels, torch_seed(config.seed, "masks")
    if config.mixing != Mixing():
        classes = state.model.config.num_classes
        rng = generator(config.seed, "mixing", state.step)
        pixels, targets = mix(pixels, labels, classes, config.mixing, rng)
        labels = labels[1:]
    in_order = None if config.fixed_parts is None else PartsInOrder(state.model.parameters())
    if in_order and len(labels) * world.size != config.batch:
        raise BadInput(f"fixed_parts: step {state.step} has images that cannot be read and no others for them")
    whole = config.batch if world.size > 1 else len(labels)
    parts = micro_batches(state, config, world.size)
    total = torch.zeros((), device=device)
    sums: dict[str, Tensor] = {}
    own = slice(len(batch.indices) - len(labels), None)  # mixing is given the example before them
    whole_part = (pixels, targets, labels, batch.epochs[own], batch.indices[own])
    for i, (some, *others) in enumerate(zip(*(tensor.tensor_split(parts) for tensor in whole_part), strict=True)):
        if in_order:
            torch.manual_seed(torch_seed(config.seed, "step", state.step, "part", world.rank * parts + i))
        with gradient_sync(wrapped, now=i == parts - 1):
            if device.type == "cuda":
                torch.compiler.cudagraph_mark_step_begin()  # graphs may overwrite what the pass before returned
            part = Part(normalise(some, preprocess, device), some, *others)
            given = inputs(state.model, part, key)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                output = wrapped(*given)
            found = loss_of(state.model, output, given, part, config.loss, state.class_weights, state.class_priors)
            mean = found.mean * (len(part.labels) / whole)
            (mean if in_order else mean * world.size).backward()  # gradients are averaged over processes
        if in_order:
            in_order.add(mean, found.sums)
        total += mean.detach()
        sums = {name: value + sums[name] if name in sums else value for name, value in found.sums.items()}
    images = len(labels)
    if in_order:
        total, sums = in_order.finish()
        images = whole if world.first else 0  # the first process speaks for all

    norm = _clip(state.optimizer, config.clip)
    try:
        state.optimizer.step()
    except RuntimeError as problem:
        if not out_of_memory(problem):
            raise
        raise BadInput(
            f"memory ran out in the update of the weights at step {state.step}, which cannot be done twice; the last "
            "checkpoint is whole: start again with a smaller micro_batch"
        ) from None
    if state.average is not None and config.average is not None:
        update_average(state.average, state.model, config.average)
    state.step += 1
    return Metrics(total, sums, images, norm, rate)


def micro_batches(state: TrainState, config: TrainConfig, world: int) -> int:
    """How many forward passes a step takes, the same in every process."""
    if config.fixed_parts is not None:
        return config.fixed_parts // world
    largest = -(-config.batch // world)
    return -(-largest // (state.micro_batch or config.micro_batch or largest))


def _clip(optimizer: torch.optim.Optimizer, limit: float | None) -> Tensor:
    parameters: list[Any] = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, float("inf") if limit is None else limit)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
