"""A run on accelerators that are not here: how it is spread, what it takes, how long, and what fails first."""

from dataclasses import dataclass, replace
from math import ceil
from typing import NamedTuple

from vitrail.core.device import Sharding
from vitrail.core.errors import BadInput, unknown
from vitrail.jobs.plan.hardware import HARDWARE, Hardware
from vitrail.jobs.plan.memory import Memory, largest_pass, memory_of
from vitrail.jobs.plan.optimizer import kept_numbers
from vitrail.jobs.plan.step_time import StepTime, shards_of, step_time
from vitrail.jobs.plan.work import Work, number_of, work_of
from vitrail.models.build import ModelConfig
from vitrail.models.objective import Labels, Objective
from vitrail.train.config import TrainConfig

GB = 1e9
BETWEEN_FAILURES = 50_700.0  # GPU hours: 419 unexpected ends in 54 days of 16,384 GPUs (Llama 3, arXiv 2407.21783)
ALIKE = 1.03  # times the fastest: below that the simplest way is taken


@dataclass(frozen=True)
class Surroundings:
    """What an accelerator has around it."""

    cores: int = 14  # processor cores for each accelerator
    image_seconds: float = 1 / 950  # of a core, to decode and augment: photographs at 224 pixels (benchmarks/loader.py)
    image_bytes: float = 110e3  # of a file, as ImageNet's photographs are
    reading: float = 2 * GB  # bytes a second, of the data into each machine
    writing: float = 1 * GB  # bytes a second, of checkpoints from each machine
    copying: float = 2 * GB  # bytes a second, of weights from an accelerator into memory that is not pinned


class Limit(NamedTuple):
    """What a run needs of something: 1 is all that there is."""

    name: str
    share: float
    said: str


@dataclass(frozen=True)
class Plan:
    """A run as it would be."""

    hardware: Hardware
    devices: int
    nodes: int
    sharding: Sharding
    shards: int  # in how many parts the weights are cut
    recompute: bool
    fits: bool
    images: int  # of a step, on an accelerator; where they cannot be shared evenly, on those that have the most
    fuller: int  # accelerators that have one image more than the others; 0: all have the same number
    micro_batch: int  # images a pass
    memory: Memory
    work: Work
    step: StepTime
    steps: int
    images_per_second: float
    of_peak: float  # of the data sheet's, by FLOPs that count: without recomputation
    seconds: float  # of training, with the pauses for checkpoints
    cores: float  # of each accelerator, that keep up with it
    checkpoint_bytes: float
    checkpoint_pause: float  # seconds in which training stands still at each
    checkpoint_writing: float  # seconds, beside the training
    failures: float  # expected
    limits: tuple[Limit, ...]  # the nearest first; of memory with one image a pass, which more passes cannot lower

    @property
    def device_hours(self) -> float:
        """Of all accelerators together."""
        return self.seconds * self.devices / 3600

    @property
    def idle(self) -> float:
        """The part of a step's computing in which accelerators wait for those with one image more, of all."""
        return (self.devices - self.fuller) / (self.devices * self.images) if self.fuller else 0.0

    @property
    def first(self) -> Limit:
        """What fails first."""
        return self.limits[0]


def hardware_of(kind: str) -> Hardware:
    """The figures of a kind; raises BadInput with the nearest one."""
    if kind.lower() not in HARDWARE:
        raise unknown("kind of accelerator", kind, HARDWARE)
    return HARDWARE[kind.lower()]


def plan(
    config: TrainConfig,
    model: ModelConfig,
    *,
    devices: int,
    hardware: Hardware,
    around: Surroundings = Surroundings(),
    objective: Objective = Labels(),
    sharding: Sharding | None = None,
    recompute: bool | None = None,
) -> Plan:
    """The fastest way by this arithmetic to spread the run, or with `sharding` and `recompute` as they are given.

    `config.micro_batch` is taken where it is given. Where nothing fits the plan says so (`fits`), and shows what takes
    the least memory with one image a pass.

    Args:
        model: with its classes.

    Raises:
        BadInput: no accelerator, fewer images a step than accelerators, or a model that does not fit together.
    """
    model.check()
    if devices < 1:
        raise BadInput(f"{devices} accelerators, expected at least 1")
    if devices > config.batch:
        raise BadInput(f"a batch of {config.batch} images cannot be shared by {devices} processes: give a larger batch")
    if devices > hardware.node and devices % hardware.node:
        raise BadInput(f"{devices} accelerators are no whole number of machines of {hardware.node}: give a multiple")
    every: list[Sharding] = (
        ["replicated", "hybrid", "sharded"] if devices > hardware.node else ["replicated", "sharded"]
    )
    ways: list[Sharding] = [sharding] if sharding else every if devices > 1 else ["replicated"]
    again = [recompute] if recompute is not None else [False, True]
    found = [_spread(config, model, objective, devices, hardware, around, way, r) for r in again for way in ways]
    fitting = [one for one in found if one.fits]
    if not fitting:
        return min(found, key=lambda one: one.memory.total)
    best = min(one.seconds for one in fitting)
    return next(one for one in fitting if one.seconds <= ALIKE * best)  # the simplest of those that are as fast


def _spread(
    config: TrainConfig,
    model: ModelConfig,
    objective: Objective,
    devices: int,
    hardware: Hardware,
    around: Surroundings,
    sharding: Sharding,
    recompute: bool,
) -> Plan:
    work = work_of(model, objective, number_of(config.precision), recompute=recompute)
    counted = work_of(model, objective).flops
    shards, images = shards_of(sharding, devices, hardware), -(-config.batch // devices)
    micro = min(images, config.micro_batch or 0) or largest_pass(
        work, config, model, hardware, shards=shards, images=images
    )
    taken = memory_of(work, config, model, hardware, shards=shards, images=images, micro=max(1, micro))
    step = step_time(work, config, hardware, devices=devices, sharding=sharding, images=images, micro=max(1, micro))
    nodes = ceil(devices / hardware.node)
    kept = 4.0 * (work.parameters * (1 + (config.average is not None)) + kept_numbers(config.optimizer, work))
    pause, writers = kept / shards / around.copying, max(1, min(shards, devices) // hardware.node)
    saves = -(-config.steps // config.save_every)
    seconds = config.steps * step.seconds + saves * pause
    rate = config.batch / step.seconds
    peak = hardware.peak if config.precision != "float32" else hardware.peak32
    least = memory_of(work, config, model, hardware, shards=shards, images=images, micro=1).total
    made = Plan(
        hardware=hardware,
        devices=devices,
        nodes=nodes,
        sharding=sharding,
        shards=shards,
        recompute=recompute,
        fits=micro > 0 and taken.total <= hardware.memory,
        images=images,
        fuller=config.batch % devices,
        micro_batch=max(1, micro),
        memory=taken,
        work=work,
        step=step,
        steps=config.steps,
        images_per_second=rate,
        of_peak=rate * counted / (devices * peak),
        seconds=seconds,
        cores=rate / devices * around.image_seconds,
        checkpoint_bytes=kept,
        checkpoint_pause=pause,
        checkpoint_writing=kept / (writers * around.writing),
        failures=seconds * devices / 3600 / BETWEEN_FAILURES,
        limits=(),
    )
    return replace(made, limits=tuple(_limits(made, least, config, around)))


def _limits(made: Plan, least: float, config: TrainConfig, around: Surroundings) -> list[Limit]:
    """What is needed of what there is, the nearest to failing first. `least`: bytes with one image a pass."""
    step, hardware = made.step, made.hardware
    a_machine = made.images_per_second / made.nodes * around.image_bytes
    between = min(config.save_every, config.steps) * step.seconds
    limits = [
        Limit("memory", least / hardware.memory, "memory of each accelerator, with one image a pass"),
        Limit("processors", made.cores / around.cores, "cores that decode, of those that each accelerator has"),
        Limit("reading", a_machine / around.reading, "bytes of images into each machine, of those that it can read"),
        Limit("host", step.host / (step.computing + step.exposed), "time to queue a step, of the time to compute it"),
        Limit("network", step.communication / step.computing, "time that sums take, of the time to compute"),
        Limit("batch", made.devices / config.batch, "accelerators, of the images of a step"),
        Limit("checkpoint", made.checkpoint_writing / between, "time to write a checkpoint, of the time between two"),
    ]
    return sorted(limits, key=lambda limit: -limit.share)
