"""One batch, one update, its metrics; and all that a training run must remember."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vitrail.core.device import Precision
from vitrail.core.seeds import torch_seed
from vitrail.data.batches import Batch, Broken, normalise
from vitrail.data.views import Augment, Preprocess
from vitrail.models.build import Model
from vitrail.train.averaging import Average, start_average, update_average
from vitrail.train.loss import LossConfig, Softmax, loss
from vitrail.train.optim import Adam, OptimizerConfig, build_optimizer, set_learning_rate
from vitrail.train.schedule import Cosine, ScheduleConfig, learning_rate


@dataclass(frozen=True)
class Training:
    """What all training has; pre-training and fine-tuning add their model. For data see vitrail.data.grammar."""

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
    micro_batch: int | None = None  # images a forward pass, when a batch does not fit in memory
    precision: Precision = "auto"
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
    step: int = 0  # finished updates
    seconds: float = 0.0  # of training, over all sessions
    waited: float = 0.0  # of these, seconds spent waiting for data
    restarts: int = 0


class Metrics(NamedTuple):
    """Of one step, left on the device until somebody reads them."""

    loss: Tensor
    correct: Tensor
    images: int
    gradient_norm: Tensor
    learning_rate: float


def start(model: Model, config: Training, broken: Broken) -> TrainState:
    """The state before the first step."""
    average = start_average(model) if config.average is not None else None
    return TrainState(model, build_optimizer(config.optimizer, model), average, broken)


def train_step(
    state: TrainState, batch: Batch, *, config: Training, preprocess: Preprocess, dtype: torch.dtype
) -> Metrics:
    """One update of the weights. What is random in it is keyed by (seed, step)."""
    model, device = state.model.train(), next(state.model.parameters()).device
    torch.manual_seed(torch_seed(config.seed, "step", state.step))
    rate = learning_rate(config.schedule, config.optimizer.lr, state.step, config.steps)
    set_learning_rate(state.optimizer, rate)
    state.optimizer.zero_grad(set_to_none=True)

    images, labels = normalise(batch.images, preprocess, device), batch.labels.to(device, non_blocking=True)
    size = config.micro_batch or len(labels)
    total, correct = torch.zeros((), device=device), torch.zeros((), device=device)
    for x, y in zip(images.split(size), labels.split(size), strict=True):
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = model(x).logits
        part = loss(logits, y, config.loss) * (len(y) / len(labels))
        part.backward()
        total += part.detach()
        correct += (logits.detach().argmax(dim=-1) == y).sum()

    norm = _clip(state.optimizer, config.clip)
    state.optimizer.step()
    if state.average is not None and config.average is not None:
        update_average(state.average, model, config.average)
    state.step += 1
    return Metrics(total, correct, len(labels), norm, rate)


def _clip(optimizer: torch.optim.Optimizer, limit: float | None) -> Tensor:
    parameters: list[Any] = [p for group in optimizer.param_groups for p in group["params"]]
    return torch.nn.utils.clip_grad_norm_(parameters, float("inf") if limit is None else limit)
