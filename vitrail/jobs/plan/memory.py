"""Bytes on each accelerator, by kind of content."""

from dataclasses import dataclass, fields
from math import prod

from vitrail.data.transforms.mixup import Mixing
from vitrail.jobs.plan.hardware import Hardware
from vitrail.jobs.plan.optimizer import kept_numbers
from vitrail.jobs.plan.work import Work
from vitrail.models.build import ModelConfig
from vitrail.train.config import TrainConfig
from vitrail.train.micro_batch import SHARE


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a step."""

    weights: float  # in float32: they are the master weights, nothing else is
    gradients: float
    optimizer: float  # moments
    average: float  # of the weights, where they are averaged
    copies: float  # of weights: in bfloat16, and of sharded layers what is gathered for a while
    batch: float  # pixels of this step and the next
    activations: float  # until the backward pass
    moment: float  # what lives only for a moment
    reserved: float  # context, libraries, buffers

    @property
    def total(self) -> float:
        """All of it."""
        return sum(getattr(self, field.name) for field in fields(self))


def memory_of(
    work: Work, config: TrainConfig, model: ModelConfig, hardware: Hardware, *, shards: int, images: int, micro: int
) -> Memory:
    """Of an accelerator that trains on `images` images a step, `micro` a pass, and holds one of `shards` parts."""
    low, p = config.precision != "float32", 4.0 * work.parameters
    layer, root = work.layer_parameters, work.root_parameters
    gradients, copies = p, p / 2 if low else 0.0
    if shards > 1:
        # summed only after the last pass: until then each accelerator keeps all of them
        gradients = p / shards + (p if micro < images else 4.0 * 2 * layer)
        copies = (2 if low else 4) * 2.0 * layer + 4.0 * root
    pixels = 3 * prod(model.resolution) * images * (2 if config.mixing == Mixing() else 2 + 4)
    kept = micro * work.kept
    return Memory(
        weights=p / shards,
        gradients=gradients,
        optimizer=4.0 * kept_numbers(config.optimizer, work) / shards,
        average=p / shards if config.average is not None else 0.0,
        copies=copies,
        batch=float(pixels),
        activations=kept,
        moment=kept * (1 / SHARE - 1),
        reserved=hardware.reserved,
    )


def largest_pass(
    work: Work, config: TrainConfig, model: ModelConfig, hardware: Hardware, *, shards: int, images: int
) -> int:
    """How many of `images` images a pass takes: all, or as many as fit in equal parts; 0 where not even one does."""
    passes = 1
    while passes <= images:
        micro = -(-images // passes)
        if memory_of(work, config, model, hardware, shards=shards, images=images, micro=micro).total <= hardware.memory:
            return micro
        passes = -(-images // (micro - 1)) if micro > 1 else images + 1
    return 0
