"""The same weights, bit for bit, on any number of processes: gradients of equal parts of a batch, added in their order.

A sum of floating-point numbers depends on its order, and the usual one on how many processes share a batch. Here a
batch is cut into `fixed_parts` of neighbouring images, whoever computes them. Each part is one pass forward and back
with random numbers of its own, and every process adds the gradients of all parts, the first one first.
"""

from collections.abc import Iterable, Mapping

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from vitrail.core import dist
from vitrail.core.device import Machine, choose_device, choose_precision
from vitrail.core.dist import launched
from vitrail.core.errors import BadInput
from vitrail.train.config import TrainConfig


def prepare_fixed_order(config: TrainConfig, machine: Machine) -> None:
    """Where parts are fixed, this process computes with one thread from now on: sums of several depend on their number.

    Raises:
        BadInput: what cannot be the same on any number of processes, by name.
    """
    if config.fixed_parts is None:
        return
    batch, parts, processes = config.batch, config.fixed_parts, launched().size
    device = choose_device(machine.device)
    float32 = config.precision == "float32" or (
        config.precision == "auto" and choose_precision("auto", device) == torch.float32
    )
    refused = {
        f"fixed_parts is {parts}, expected at least 1": parts < 1,
        f"a batch of {batch} images has no {parts} equal parts": parts > 0 and batch % parts != 0,
        f"{parts} fixed parts cannot be shared evenly by {processes} processes": parts > 0 and parts % processes != 0,
        f"micro_batch is {config.micro_batch}, and each fixed part is one pass: give more fixed_parts": (
            config.micro_batch is not None
        ),
        "resident: images that are varied in batches are rounded by the size of the batch": config.resident,
        f"device {device}: kernels there add in any order; take cpu": device.type != "cpu",
        "products in bfloat16 are of kernels that are measured on each machine; take precision as float32": not float32,
        f"sharding as {machine.sharding} adds parts of gradients in its own order; take replicated": (
            machine.sharding != "replicated"
        ),
        "compile: what is compiled for one size of a part is not for another; leave it out": bool(machine.compile),
        "graphs needs a CUDA device": machine.graphs,
    }
    for problem, there in refused.items():
        if there:
            raise BadInput(f"fixed_parts: {problem}")
    torch.set_num_threads(1)


class PartsInOrder:
    """Collects what the parts of this process leave, and adds them to those of all processes."""

    def __init__(self, parameters: Iterable[nn.Parameter]):
        self._trained = [p for p in parameters if p.requires_grad]
        self._reached: list[nn.Parameter] = []  # by the first backward pass: a part reaches all that another does
        self._gradients: list[Tensor] = []
        self._numbers: list[Tensor] = []
        self._shapes: dict[str, tuple[int, ...]] = {}

    def add(self, loss: Tensor, sums: Mapping[str, Tensor]) -> None:
        """Takes the gradients of a part, and its share of the loss, after its backward pass."""
        if not self._gradients:
            self._reached = [p for p in self._trained if p.grad is not None]
        gradients = [p.grad for p in self._reached]
        assert all(g is not None for g in gradients), "a part of a batch leaves a weight out that another one has"
        self._gradients.append(torch.cat([g.flatten() for g in gradients if g is not None]))
        self._shapes = {"loss": (), **{name: tuple(value.shape) for name, value in sums.items()}}
        numbers = [loss.detach(), *sums.values()]
        self._numbers.append(torch.cat([value.double().flatten() for value in numbers]))
        for parameter in self._reached:
            parameter.grad = None

    def finish(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Leaves the gradients of the whole batch; returns its loss and sums, in the first process: 0 in all others."""
        total, at = _in_order(self._gradients), 0
        for parameter in self._reached:
            parameter.grad = total[at : at + parameter.numel()].view_as(parameter).clone()
            at += parameter.numel()
        numbers, at, found = _in_order(self._numbers) * float(dist.world().first), 0, dict[str, Tensor]()
        for name, shape in self._shapes.items():
            count = torch.Size(shape).numel()
            found[name] = numbers[at : at + count].view(shape)
            at += count
        return found.pop("loss"), found


def _in_order(own: list[Tensor]) -> Tensor:
    """The sum over all parts of all processes: those of the first process first. Bitwise equal in all of them."""
    mine, size = torch.stack(own), dist.world().size
    all_parts = [torch.empty_like(mine) for _ in range(size)]
    if size > 1:
        distributed.all_gather(all_parts, mine)
    else:
        all_parts = [mine]
    total, *others = (part for process in all_parts for part in process)
    total = total.clone()
    for part in others:
        total += part
    return total
