"""A model over a whole source, batch by batch: what every evaluation starts from."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from vitrail.core import dist
from vitrail.core.device import available_memory, choose_precision, number_bytes, out_of_memory, release
from vitrail.core.errors import BadInput
from vitrail.core.progress import progress
from vitrail.core.watchdog import beat
from vitrail.data.loader.batch import Batch, Broken
from vitrail.data.loader.loader import eval_loader
from vitrail.data.loader.normalise import normalise
from vitrail.data.sources.base import Source
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.build import Model
from vitrail.models.cost import inference_activations
from vitrail.models.output import ModelOutput
from vitrail.runtimes.runtime import Runtime, RuntimeOutput

SHARE = 0.5  # of the free memory, for activations
LOADER_FROM = 4096  # images from which worker processes earn their start-up time


class BatchOutput(NamedTuple):
    """One batch and what the model made of it, in float32 on the CPU."""

    batch: Batch
    logits: Tensor
    representation: Tensor


def run_inference(
    model: Model,
    source: Source,
    preprocess: Preprocess,
    *,
    broken: Broken | None = None,
    dtype: torch.dtype | None = None,
    batch: int = 256,
    workers: int | None = None,
    title: str = "evaluating",
    together: bool = False,
    runtime: Runtime | None = None,
) -> Iterator[BatchOutput]:
    """Runs a model on every readable image of a source once, in order; of several processes each sees its part.

    All processes call the model equally often, so that a model spread over them (FSDP2) can be judged.

    Args:
        together: each of the processes of the run sees its part; otherwise this process sees all.
        runtime: that computes the model in its own precision; None: the model itself, in `dtype`.

    Raises:
        BadInput: more broken images than `broken` allows, or not one that can be read.
    """
    device = next(model.parameters()).device
    dtype = dtype or choose_precision("auto", device)
    if device.type == "cuda":
        release()  # what training has left in pieces
    batch = inference_batch_size(model, device, dtype, batch, together)
    broken = broken or Broken(len(source))
    if workers is None and len(source) < LOADER_FROM:
        workers = 0
    here = dist.world() if together else dist.World()
    loader = eval_loader(source, preprocess, batch=batch * here.size, workers=workers, rank=here.rank, world=here.size)
    was_training, seen, most = model.training, 0, batch
    model.eval()
    try:
        with progress(title, len(loader)) as bar, torch.inference_mode():
            for part in loader:
                beat()
                broken.add(part.broken)
                bar.advance(f"{seen + len(part.labels):,} images")
                images = part.images
                if not len(part.labels):
                    if here.size == 1:
                        continue
                    images = torch.zeros(1, *images.shape[1:], dtype=torch.uint8)  # takes part, is not counted
                if seen and runtime is None and compiled_by_size(device):
                    images = _filled(images, batch)
                seen += len(part.labels)
                compute = partial(outputs, runtime or model, preprocess=preprocess, dtype=dtype)
                logits, representation, most = in_passes(compute, images, most, alone=here.size == 1)
                count = len(part.labels)
                if count:
                    yield BatchOutput(part, logits[:count], representation[:count])
    finally:
        model.train(was_training)
    if not seen and here.size == 1 and len(broken.found) >= broken.size:  # of a part of a set, others may be whole
        raise BadInput("not one image can be read: " + "; ".join(f"{k}: {r}" for k, r in broken.found.items()))


def compiled_by_size(device: torch.device) -> bool:
    """Whether another number of images would be compiled anew: as training compiles layers, which is the rule there."""
    return device.type == "cuda"


def _filled(images: UInt8[Tensor, "b 3 h w"], count: int) -> UInt8[Tensor, "c 3 h w"]:
    """With the first image again and again after the others."""
    return torch.cat([images, images[:1].expand(count - len(images), -1, -1, -1)]) if len(images) < count else images


def in_passes(
    compute: Callable[[Tensor], ModelOutput | RuntimeOutput], images: Tensor, most: int, alone: bool = True
) -> tuple[Tensor, Tensor, int]:
    """Logits and representation in float32 on the CPU, and how many images a pass took: half as many where memory ends.

    Not `alone`: processes that share a model must call it equally often, so there it is an error.
    """
    while True:
        try:
            found = [_on_cpu(compute(part)) for part in images.split(most)]
            logits, representation = (torch.cat(kind) for kind in zip(*found, strict=True))
            return logits, representation, most
        except RuntimeError as problem:
            if not out_of_memory(problem) or most == 1 or not alone:
                raise
        most = -(-min(most, len(images)) // 2)  # outside of the handler, which holds on to what was computed
        release()


def _on_cpu(output: ModelOutput | RuntimeOutput) -> tuple[Tensor, Tensor]:
    return output.logits.float().cpu(), output.representation.float().cpu()


def outputs(
    model: Model | Runtime, images: UInt8[Tensor, "b 3 h w"], preprocess: Preprocess, dtype: torch.dtype
) -> ModelOutput | RuntimeOutput:
    """Runs the model on the views of some images without gradients; it must be in evaluation mode.

    Args:
        dtype: of the products of a model; a runtime has its own.
    """
    if isinstance(model, Runtime):
        return model(normalise(images, preprocess, model.device))
    device = next(model.parameters()).device
    with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        output: ModelOutput = model(normalise(images, preprocess, device))
    return output


def inference_batch_size(
    model: Model, device: torch.device, dtype: torch.dtype, batch: int = 256, together: bool = False
) -> int:
    """At most so many images a pass, and no more than there is memory for; the same in all processes of a run."""
    room, each = available_memory(device), inference_activations(model.config, number_bytes(dtype))
    most = batch if room is None else max(1, min(batch, int(SHARE * room / each)))
    return min(dist.gathered_json(most)) if together else most
