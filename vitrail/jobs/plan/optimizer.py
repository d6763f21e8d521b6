"""What an optimiser adds to a step: the numbers that it keeps, and Muon's products, which no accelerator shares."""

from vitrail.jobs.plan import communication
from vitrail.jobs.plan.hardware import Hardware
from vitrail.jobs.plan.work import Work
from vitrail.train.muon import ITERATIONS
from vitrail.train.optim import Muon, OptimizerConfig


def kept_numbers(optimizer: OptimizerConfig, work: Work) -> int:
    """Numbers of its state, for all parameters: of Muon's matrices one each, the momentum."""
    most = optimizer.moments * work.parameters
    return most - _numbers(work) if isinstance(optimizer, Muon) else most


def orthogonalisation(optimizer: OptimizerConfig, work: Work, hardware: Hardware) -> float:
    """Seconds of Muon's Newton-Schulz iterations in bfloat16, the same on every accelerator; 0 for other optimisers.

    Of an iteration over r x c, r ≤ c: x xᵀ, its square, and their sum by x.
    """
    if not isinstance(optimizer, Muon):
        return 0.0
    seconds = 0.0
    for shape, count in work.matrices.items():
        r, c = sorted(shape)
        flops = count * ITERATIONS * 2 * (2 * r * r * c + r**3)
        seconds += flops / (hardware.peak * hardware.width_share(r, c))
    return seconds


def gathering(optimizer: OptimizerConfig, work: Work, shards: int, hardware: Hardware) -> float:
    """Seconds in which Muon hands round its whole matrices, in bfloat16, where they are sharded; nothing hides them."""
    if not isinstance(optimizer, Muon) or shards == 1:
        return 0.0
    sizes = [(2.0 * r * c, count) for (r, c), count in work.matrices.items()]
    return sum(count * communication.all_gather(size, shards, hardware) for size, count in sizes)


def _numbers(work: Work) -> int:
    return sum(r * c * count for (r, c), count in work.matrices.items())
