"""How many images a forward pass takes: the most that fit, found before the first step, and fewer when memory runs out.

The global batch, its order and its loss stay the same: it is only cut into other parts (`vitrail.train.step`).
"""

from collections.abc import Callable
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from vitrail.core import dist
from vitrail.core.device import available_memory, number_bytes, out_of_memory, release
from vitrail.core.errors import BadInput
from vitrail.core.progress import say
from vitrail.data.loader.batch import Batch
from vitrail.data.transforms.mixup import Mixing
from vitrail.models.build import ModelConfig
from vitrail.models.cost import training_activations
from vitrail.records.record import load_record, write_record
from vitrail.records.run import MicroBatch
from vitrail.train.config import TrainConfig
from vitrail.train.objective import Part, inputs
from vitrail.train.step import Metrics, TrainState

SHARE = 0.7  # of the memory that is free now, for activations; the rest is for what lives only for a moment
TOO_LARGE = (
    "memory does not even hold the pass of 1 image: take recompute, a smaller model or resolution, or several "
    "devices with sharding as sharded"
)
_FILE = "micro_batch.json"  # in the run's folder: what a process that ran out of memory leaves for the next start


def choose_micro_batch(
    state: TrainState, config: TrainConfig, dtype: torch.dtype, folder: Path, recompute: bool = False
) -> None:
    """Sets `state.micro_batch`, for all processes alike; a run that goes on with as many processes keeps its own.

    A given `config.micro_batch` is taken. Otherwise as many images as `available_memory` has room for by
    `models.cost`, with this process's whole part of the batch as the most; on CUDA, where nothing is sharded, that is
    tried: a forward and a backward pass beside as much memory as the optimiser and the whole batch will take, with half
    as many until it works. The estimate holds for eager execution, so where it errs it is too careful: what is tried
    starts at up to twice as many. Parts that are fixed are passes as they are.

    Raises:
        BadInput: not even one image fits.
    """
    if config.fixed_parts is not None:
        return
    largest = -(-config.batch // dist.world().size)
    wanted = state.micro_batch or config.micro_batch
    if not wanted:
        device = next(state.model.parameters()).device
        wanted = fitting(state.model.config, largest, device, dtype, recompute=recompute)
        if _on_cuda_alone(device):
            moments, held = config.optimizer.moments, _batch_bytes(state, config, largest)
            start = _halved_to(largest, 2 * wanted)
            wanted = _largest_that_fits(lambda images: _fits(state, images, dtype, moments, held), start)
    left = load_record(MicroBatch, folder / _FILE).micro_batch if (folder / _FILE).exists() else wanted
    state.micro_batch = min(dist.gathered_json(min(wanted, left, largest)))
    if state.micro_batch < min(largest, config.micro_batch or largest) and dist.world().first:
        parts = -(-largest // state.micro_batch)
        say(f"a batch of {config.batch} does not fit in memory at once: {parts} passes of {state.micro_batch} images")


def fitting(
    model: ModelConfig, batch: int, device: torch.device, dtype: torch.dtype, *, recompute: bool = False
) -> int:
    """How many of `batch` images a training pass takes, by `models.cost` and the memory that is free; at least one."""
    room, each = available_memory(device), training_activations(model, number_bytes(dtype), recompute=recompute)
    return batch if room is None else max(1, min(batch, int(SHARE * room / each)))


def _on_cuda_alone(device: torch.device) -> bool:
    return device.type == "cuda" and dist.world().size == 1


def _halved_to(images: int, most: int) -> int:
    while images > most:
        images = -(-images // 2)
    return images


def _batch_bytes(state: TrainState, config: TrainConfig, images: int) -> int:
    """What a batch takes on the device: the bytes that are read, those of the next one, and in float32 where mixed."""
    each = 3 * prod(state.model.config.resolution)
    return (images + 1) * each * (2 if config.mixing == Mixing() else 2 + 4)


def _largest_that_fits(fits: Callable[[int], bool], images: int) -> int:
    """Halves `images`, rounding up, until they fit; raises BadInput where not even one does."""
    while not fits(images):
        if images == 1:
            raise BadInput(TOO_LARGE)
        images = -(-images // 2)
    return images


def _fits(state: TrainState, images: int, dtype: torch.dtype, moments: int, batch: int) -> bool:
    """Tries a forward and backward pass over blank images, beside the optimiser and the `batch` bytes of a whole batch.

    Nothing is left of it.
    """
    model = state.model.train()
    device = next(model.parameters()).device
    held: list[Tensor] = []
    try:
        held = [torch.empty(batch, dtype=torch.uint8, device=device)]
        if not state.optimizer.state:
            held += [torch.empty_like(p) for p in model.parameters() for _ in range(moments)]
        blank = torch.zeros(images, model.config.channels, *model.config.resolution, device=device)
        nothing = torch.zeros(images, dtype=torch.int64, device=device)
        given = inputs(model, Part(blank, blank.byte(), nothing, nothing, nothing, nothing), key=0)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            output = model(*given)
        (output if isinstance(output, Tensor) else output.logits).float().logsumexp(dim=-1).sum().backward()
        return True
    except RuntimeError as problem:
        if not out_of_memory(problem):
            raise
        return False
    finally:
        del held
        state.optimizer.zero_grad(set_to_none=True)
        release()


def retry_on_oom(
    update: Callable[[TrainState, Batch], Metrics], folder: Path, in_parts: bool = True
) -> Callable[[TrainState, Batch], Metrics]:
    """Wraps `update`: where memory runs out, the step is done again with half as many images a forward pass.

    Of several processes one cannot go back alone: it leaves the smaller number in `folder` and ends, and the launcher's
    restart (`torchrun --max-restarts`) goes on with it from the last checkpoint. `in_parts=False`: steps cannot be cut.
    """

    def careful(state: TrainState, batch: Batch) -> Metrics:
        while True:
            try:
                return update(state, batch)
            except RuntimeError as problem:
                if not out_of_memory(problem) or not in_parts:
                    raise
            _halve(state, len(batch.labels), folder)  # outside of the handler, which holds on to the step's tensors

    return careful


def _halve(state: TrainState, images: int, folder: Path) -> None:
    now = min(state.micro_batch or images, images)
    state.optimizer.zero_grad(set_to_none=True)
    release()
    if now == 1:
        raise BadInput(TOO_LARGE)
    state.micro_batch = -(-now // 2)
    write_record(folder / _FILE, MicroBatch(micro_batch=state.micro_batch))
    if dist.world().size > 1:
        raise BadInput(
            f"process {dist.world().rank} ran out of memory at step {state.step} with {now} images a forward pass; "
            f"started again, the run goes on from its last checkpoint with {state.micro_batch}"
        )
    say(f"out of memory at step {state.step}: from now on {state.micro_batch} images a forward pass")
