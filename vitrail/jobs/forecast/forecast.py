"""How long a training run will take and how much memory, before it runs: on this machine, and on GPUs by data sheet."""

from dataclasses import dataclass, fields, replace

from vitrail.core.device import Machine
from vitrail.core.errors import unknown
from vitrail.data.transforms.pipeline import CentreCrop, Resize
from vitrail.jobs.forecast.measure import Task, measure_in_subprocess
from vitrail.jobs.plan.hardware import HARDWARE
from vitrail.models.build import ModelConfig
from vitrail.models.cost import multiply_adds, training_flops
from vitrail.models.vit import ViTConfig
from vitrail.train.config import TrainConfig
from vitrail.train.optim import Muon
from vitrail.train.schedule import Linear

# Peak FLOP/s of dense bfloat16 products that add in float32, by their makers' data sheets.
GPUS = {name: HARDWARE[kind].peak for name, kind in (("H100", "h100"), ("A100", "a100"), ("RTX 4090", "rtx-4090"))}
# Of the peak, by assumption, in bfloat16, compiled, with a loader that keeps up: what large models reach, and those of
# width 384, whose tensors are read and written for fewer products. Not measured.
REACHED, SMALL = 0.4, 0.22


@dataclass(frozen=True)
class Forecast:
    """Time and memory of a run. Seconds are of the wall clock; memory is the peak of the process, or of the device."""

    seconds: float  # all of it
    start_seconds: float  # until the first step: imports, data opened, a resident set decoded
    seconds_per_step: float
    training_seconds: float  # of all steps
    evaluation_seconds: float  # of all evaluations, the last included
    finish_seconds: float  # checkpoints, the bundle, the look inside
    memory_gib: float
    total_flops: float  # of training and evaluation
    data: str  # what it was tried on: "its own" or "random images"
    measured: str  # "whole", or "part" where part of the batch or of the model was scaled up
    reached: float = REACHED  # of a GPU's peak, by assumption

    def on_gpu(self, name: str) -> float:
        """Seconds on a GPU of GPUS at `reached` of its peak: arithmetic alone. Not measured.

        Raises:
            BadInput: no such name.
        """
        if name not in GPUS:
            raise unknown("GPU", name, GPUS)
        return self.total_flops / (self.reached * GPUS[name])


def gpu_share(model: ModelConfig) -> float:
    """Of a GPU's peak, by assumption: less for small models. A ResNet counts as a small one."""
    width = model.width if isinstance(model, ViTConfig) else 384
    return min(REACHED, SMALL * (width / 384) ** 0.6)


def forecast(
    config: TrainConfig,
    model: ModelConfig,
    *,
    train_images: int,
    validation_images: int = 0,
    test_images: int = 0,
    resize: Resize = CentreCrop(),
    machine: Machine = Machine(),
    threads: int | None = None,
) -> Forecast:
    """Time and memory of `config` with `model` (with its classes) and so many images, by a measurement of ten seconds.

    Configs that differ only in length, seed, rate or how often something is done share a measurement. The data are
    those that the config names, where they are on this machine; otherwise random JPEGs of the model's resolution.

    Args:
        threads: of the run; None: as PyTorch chooses.

    Raises:
        BadInput: a model or a machine that cannot be used.
    """
    model.check()
    judged = max(validation_images, test_images)
    task = Task(_alike(config), model, resize, replace(machine, track=()), train_images, judged)
    parts = measure_in_subprocess(task, threads)
    validations = -(-config.steps // config.evaluate_every) if validation_images else 0
    last = test_images or validation_images
    evaluation = validations * (parts.evaluation_start + validation_images * parts.evaluation_image)
    evaluation += parts.evaluation_start + last * parts.evaluation_image if last else 0.0
    start = parts.start_seconds + parts.decode_seconds
    training = config.steps * parts.step_seconds
    finish = parts.finish_seconds + parts.save_seconds * -(-config.steps // config.save_every)
    judgements = validations * validation_images + last
    return Forecast(
        seconds=start + training + evaluation + finish,
        start_seconds=start,
        seconds_per_step=parts.step_seconds,
        training_seconds=training,
        evaluation_seconds=evaluation,
        finish_seconds=finish,
        memory_gib=parts.memory / 2**30,
        total_flops=float(training_flops(model)) * config.steps * config.batch
        + 2.0 * multiply_adds(model) * judgements,
        data=parts.data,
        measured=parts.measured,
        reached=gpu_share(model),
    )


def _alike(config: TrainConfig) -> TrainConfig:
    """The config without what does not change the cost of a step."""
    shared = {f.name: getattr(config, f.name) for f in fields(TrainConfig)}
    rate = replace(config.optimizer, lr=1e-4)
    if isinstance(rate, Muon):
        rate = replace(rate, adam_lr=1e-4)
    often = {"steps": 1_000_000, "log_every": 1_000_000, "evaluate_every": 1_000_000, "save_every": 1_000_000}
    return TrainConfig(**{**shared, **often, "seed": 0, "optimizer": rate, "schedule": Linear()})
