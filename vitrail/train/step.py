"""One batch, one update, its metrics; and all that a training run must remember."""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vitrail.core import dist
from vitrail.core.device import TrainingPrecision
from vitrail.core.errors import BadInput
from vitrail.core.seeds import generator, torch_seed
from vitrail.data.loader.loader import Batch, Broken, normalise
from vitrail.data.loader.sampler import Sampling
from vitrail.data.transforms.mixup import Mixing, mix
from vitrail.data.transforms.pipeline import Augment, Preprocess
from vitrail.models.build import Model
from vitrail.train.divergence import no_losses
from vitrail.train.loss import Balance, LossConfig, Softmax, loss
from vitrail.train.optim import Adam, OptimizerConfig, build_optimizer, set_learning_rate
from vitrail.train.parallel import gradient_sync
from vitrail.train.schedule import Cosine, ScheduleConfig, learning_rate
from vitrail.train.weight_averaging import Average, start_average, update_average


@dataclass(frozen=True)
class TrainConfig:
    """What all training has; pre-training and fine-tuning add their model. For data see vitrail.data.open.names."""

    train: str  # the images to learn from
    validation: str | None = None  # judged now and then, for the curve; nothing is chosen by it
    test: str | None = None  # judged once, at the end; without it the validation images are
    steps: int = 1000  # updates of the weights
    batch: int = 128  # images an update, over all processes and micro-batches
    seed: int = 0
    optimizer: OptimizerConfig = Adam()
    schedule: ScheduleConfig = Cosine()
    loss: LossConfig = Softmax()
    clip: float | None = 1.0  # of the global norm of the gradient
    average: float | None = None  # Polyak averaging of the weights with this factor, 0.9999 in Table 2
    augment: Augment = field(default_factory=Augment)
    mixing: Mixing = Mixing()  # mixup and CutMix
    sampling: Sampling = Sampling()  # repeated augmentation, balanced classes
    resident: bool = False  # the whole set decoded once, on the device, augmented there in batches (small sets)
    class_weights: Balance | None = None  # in the loss: classes count by their rarity
    micro_batch: int | None = None  # images a forward pass; None: as many as fit in memory
    precision: TrainingPrecision = "auto"
    log_every: int = 50  # steps
    evaluate_every: int = 500  # steps
    save_every: int = 500  # steps


@dataclass
class TrainState:
    """Everything that the next step depends on; a checkpoint is this, whole."""

    model: Model
    optimizer: torch.optim.Optimizer
    average: Average | None
    broken: Broken
    runner: nn.Module  # what is called: the model, or what spreads it over processes
    step: int = 0  # finished updates
    seconds: float = 0.0  # of training, over all sessions
    waited: float = 0.0  # of these, seconds spent waiting for data
    copied: float = 0.0  # seconds that this process spent bringing batches to the device; of this session
    restarts: int = 0
    skipped: list[int] = field(default_factory=list)  # steps whose batch had broken the training
    weights: Tensor | None = None  # of the classes in the loss, on the device
    micro_batch: int = 0  # images a forward pass of a process (train/memory.py); 0: not decided, all
    losses: deque[float] = field(default_factory=no_losses)  # the last ones, that say what a jump is


class Metrics(NamedTuple):
    """Of one step, left on the device until somebody reads them. Sums over the images of this process."""

    loss: Tensor  # this process's share of the mean over the global batch
    correct: Tensor
    images: int
    gradient_norm: Tensor  # of the global batch
    learning_rate: float


def init_state(model: Model, config: TrainConfig, broken: Broken, runner: nn.Module | None = None) -> TrainState:
    """The state before the first step. `runner`: what `parallel.spread` returned for the model."""
    average = start_average(model) if config.average is not None else None
    return TrainState(model, build_optimizer(config.optimizer, model), average, broken, runner or model)


def train_step(
    state: TrainState, batch: Batch, *, config: TrainConfig, preprocess: Preprocess, dtype: torch.dtype
) -> Metrics:
    """One update of the weights from this process's part of the global batch.

    What is random in it is keyed by (seed, step, rank). Gradients are those of the mean over the global batch,
    whatever the number of processes and micro-batches.
    """
    runner, world = state.runner.train(), dist.world()
    device = next(state.model.parameters()).device
    torch.manual_seed(torch_seed(config.seed, "step", state.step, world.rank))
    rate = learning_rate(config.schedule, config.optimizer.lr, state.step, config.steps)
    set_learning_rate(state.optimizer, rate)
    state.optimizer.zero_grad(set_to_none=True)

    begun = time.perf_counter()
    pixels, labels = batch.images.to(device, non_blocking=True), batch.labels.to(device, non_blocking=True)
    state.copied += time.perf_counter() - begun
    targets = labels
    if config.mixing != Mixing():
        classes = state.model.config.num_classes
        rng = generator(config.seed, "mixing", state.step)
        pixels, targets = mix(pixels, labels, classes, config.mixing, rng)
        labels = labels[1:]
    images = normalise(pixels, preprocess, device)
    whole = config.batch if world.size > 1 else len(labels)
    parts = micro_batches(state, config, world.size)
    total, correct = torch.zeros((), device=device), torch.zeros((), device=device)
    split = (images.tensor_split(parts), targets.tensor_split(parts), labels.tensor_split(parts))
    for i, (x, target, y) in enumerate(zip(*split, strict=True)):
        with gradient_sync(runner, now=i == parts - 1):
            if device.type == "cuda":
                torch.compiler.cudagraph_mark_step_begin()  # graphs may overwrite what the pass before returned
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                logits = runner(x).logits
            part = loss(logits, target, config.loss, state.weights) * (len(y) / whole) if len(y) else logits.sum() * 0
            (part * world.size).backward()  # gradients are averaged over processes
        total += part.detach()
        correct += (logits.detach().argmax(dim=-1) == y).sum()

    norm = _clip(state.optimizer, config.clip)
    try:
        state.optimizer.step()
    except torch.OutOfMemoryError:
        raise BadInput(
            f"memory ran out in the update of the weights at step {state.step}, which cannot be done twice; the last "
            "checkpoint is whole: start again with a smaller --micro-batch"
        ) from None
    if state.average is not None and config.average is not None:
        update_average(state.average, state.model, config.average)
    state.step += 1
    return Metrics(total, correct, len(labels), norm, rate)


def micro_batches(state: TrainState, config: TrainConfig, world: int) -> int:
    """How many forward passes a step takes, the same in every process."""
    largest = -(-config.batch // world)
    return -(-largest // (state.micro_batch or config.micro_batch or largest))


def _clip(optimizer: torch.optim.Optimizer, limit: float | None) -> Tensor:
    parameters: list[Any] = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, float("inf") if limit is None else limit)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
