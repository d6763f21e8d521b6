"""Seconds of a training step: products, attention, memory, the update, communication, and the host that queues it."""

from dataclasses import dataclass
from math import ceil
from typing import Literal

from vitrail.core.device import Sharding
from vitrail.jobs.plan import communication
from vitrail.jobs.plan.hardware import Hardware
from vitrail.jobs.plan.optimizer import gathering, kept_numbers, orthogonalisation
from vitrail.jobs.plan.work import Work
from vitrail.train.config import TrainConfig

Part = Literal["products", "attention", "streaming", "update"]
CLIP, AVERAGE, CAST = (
    12,
    12,
    12,
)  # bytes through memory a parameter: the norm and its factor, Polyak, to bfloat16 and back


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step. The parts of `computing` come one after another on the accelerator."""

    products: float
    attention: float
    streaming: float  # of all else through memory: norms, activations, residuals
    update: float  # of the weights, and casts and copies of them
    communication: float  # all of it
    exposed: float  # the part of it that nothing hides
    host: float  # in which the host queues all that; beside the accelerator's work

    @property
    def computing(self) -> float:
        """Without communication."""
        return self.products + self.attention + self.streaming + self.update

    @property
    def seconds(self) -> float:
        """From one step to the next."""
        return max(self.computing + self.exposed, self.host)


def step_time(
    work: Work, config: TrainConfig, hardware: Hardware, *, devices: int, sharding: Sharding, images: int, micro: int
) -> StepTime:
    """A step of `images` images on each of so many accelerators, `micro` a pass."""
    passes = ceil(images / micro)
    shards = shards_of(sharding, devices, hardware)
    low = config.precision != "float32"
    peak = hardware.peak if low else hardware.peak32
    rows = micro * work.tokens
    products = images * work.products / (peak * hardware.width_share(work.width, rows))
    attention = images * work.attention / (peak * hardware.attention)
    streaming = images * work.streamed / (hardware.streamed * hardware.bandwidth)
    mine = work.parameters / shards
    moved: float = 12 + CLIP + (AVERAGE if config.average is not None else 0)
    number = 2 if low else 4  # bytes of a weight that travels
    moved = moved * mine + 8 * kept_numbers(config.optimizer, work) / shards
    moved += passes * CAST * work.parameters if low else 0
    # FSDP2 copies what it gathers out of its buffer, twice a pass, and gradients into another
    moved += (passes * 2 * 2 * number + 2 * 4) * work.parameters if shards > 1 else 0
    update = moved / (hardware.updated * hardware.bandwidth) + orthogonalisation(config.optimizer, work, hardware)
    forward = (products + attention + streaming) / 3 / passes  # of one pass; the backward pass is twice that
    spent, exposed = _communication(work, hardware, devices, shards, passes, forward, number)
    gathered = gathering(config.optimizer, work, shards, hardware)
    host = hardware.host_step + passes * work.layers * hardware.host_layer
    return StepTime(products, attention, streaming, update, spent + gathered, exposed + gathered, host)


def shards_of(sharding: Sharding, devices: int, hardware: Hardware) -> int:
    """In how many parts the weights are cut."""
    return {"replicated": 1, "hybrid": min(devices, hardware.node), "sharded": devices}[sharding]


def _communication(
    work: Work, hardware: Hardware, devices: int, shards: int, passes: int, forward: float, number: int
) -> tuple[float, float]:
    """Seconds of a step, and of these what is not hidden behind computing. `number`: bytes of a gathered weight."""
    if devices == 1:
        return 0.0, 0.0
    gradients = 4.0 * work.parameters
    if shards == 1:
        buckets = max(1, ceil(gradients / communication.BUCKET))
        one = communication.all_reduce(gradients / buckets, devices, hardware)
        return buckets * one, _left(buckets * one, one, 2 * forward, hardware)
    layer = communication.all_gather(float(number * work.layer_parameters), shards, hardware)
    root = communication.all_gather(4.0 * work.root_parameters, shards, hardware)
    ahead, back = work.layers * layer + root, work.layers * layer
    scattered = (work.layers + 1) * communication.all_gather(gradients / (work.layers + 1), shards, hardware)
    summed = communication.across(gradients / shards, devices // shards, hardware)
    last = scattered + summed
    spent = passes * (ahead + back) + last
    left = passes * _left(ahead, root + layer, forward, hardware)
    left += (passes - 1) * _left(back, 0.0, 2 * forward, hardware)
    left += _left(back + last, last / (work.layers + 1), 2 * forward, hardware)
    return spent, left


def _left(spent: float, end: float, beside: float, hardware: Hardware) -> float:
    """What `beside` seconds of computing cannot hide; `end`: the part that always waits for them, or they for it."""
    return end + max(0.0, spent - end - hardware.overlap * beside)
