"""What all training can be told: the config that pre-training and fine-tuning share, and the check of its numbers."""

from dataclasses import dataclass, field
from typing import Literal

from vitrail.core.device import TrainingPrecision
from vitrail.core.dist import launched
from vitrail.core.errors import BadInput
from vitrail.data.loader.on_device import check_fits_device
from vitrail.data.loader.sampler import Sampling, distinct
from vitrail.data.transforms.mixup import Mixing
from vitrail.data.transforms.pipeline import Augment
from vitrail.train.loss import Balance, LossConfig, Softmax
from vitrail.train.optim import Adam, Muon, OptimizerConfig
from vitrail.train.schedule import Cosine, Rsqrt, ScheduleConfig, Steps


@dataclass(frozen=True)
class TrainConfig:
    """What all training has; pre-training and fine-tuning add their model. For data see vitrail.data.open.names."""

    train: str  # the images to learn from
    validation: str | None = None  # judged now and then; chooses nothing, unless the best weights are kept
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
    fixed_parts: int | None = (
        None  # of a batch, passes whose gradients are added in order: the same bits on 1, 2, 4 processes
    )
    precision: TrainingPrecision = "auto"
    keep: Literal["last", "best"] = "last"  # the weights that become the model; best: of the validation accuracy
    patience: int | None = None  # with best: evaluations in a row that are not better, after which training ends
    log_every: int = 50  # steps
    evaluate_every: int = 500  # steps
    save_every: int = 500  # steps


def check_training(config: TrainConfig) -> None:
    """Raises BadInput for numbers that make no sense, before any work."""
    for name in ("steps", "batch", "log_every", "evaluate_every", "save_every"):
        if getattr(config, name) < 1:
            raise BadInput(f"{name} is {getattr(config, name)}, expected at least 1")
    if config.micro_batch is not None and config.micro_batch < 1:
        raise BadInput(f"micro_batch is {config.micro_batch}, expected at least 1")
    if config.clip is not None and config.clip <= 0:
        raise BadInput(f"clip is {config.clip}, expected above 0, such as 1; leave it out for none")
    if not config.optimizer.lr >= 0:
        raise BadInput(f"the learning rate is {config.optimizer.lr}, expected 0 or more")
    if isinstance(config.optimizer, Muon):
        config.optimizer.check()
    if config.patience is not None and (config.patience < 1 or config.keep != "best"):
        raise BadInput(f"patience is {config.patience}: it takes a number from 1, and keep as best")
    if config.seed < 0:
        raise BadInput(f"seed is {config.seed}, expected a number from 0")
    if config.schedule.warmup > config.steps:
        raise BadInput(f"a warm-up of {config.schedule.warmup} steps is longer than the run of {config.steps}")
    if config.average is not None and not 0 < config.average < 1:
        raise BadInput(f"average is {config.average}, expected between 0 and 1, such as 0.9999")
    if isinstance(config.schedule, (Rsqrt, Steps)):
        config.schedule.check()
    config.augment.check()
    if config.resident:
        check_fits_device(config.augment)
    config.mixing.check()
    distinct(config.batch, config.sampling.repeats)
    processes = launched().size
    if config.batch < processes:
        raise BadInput(f"a batch of {config.batch} images cannot be shared by {processes} processes")
