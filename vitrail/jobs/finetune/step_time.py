"""How long a step of a fine-tuning takes on this machine, and how much memory, by doing a few of them."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

from vitrail.core import device as devices
from vitrail.core import dist
from vitrail.core.device import Machine, release
from vitrail.core.errors import BadInput
from vitrail.data.loader.batch import Broken
from vitrail.jobs.finetune.run import Finetune, build_pretrained
from vitrail.models.cost import parameters, training_activations, training_memory
from vitrail.train.loss import Softmax
from vitrail.train.micro_batch import TOO_LARGE, fitting
from vitrail.train.profile import time_passes, training_pass
from vitrail.train.step import init_state
from vitrail.train.trainable import trained_parameters, work_share
from vitrail.weights.pretrained import PretrainedModel

LONGEST = 2.0  # seconds of a step after which no larger batch is tried
TRIED = 64  # images, at most


class StepTime(NamedTuple):
    """A step of b images takes `step + b · image` seconds; judging an image takes `judged`. Decoding is not in it.

    Processes share the images.
    """

    step: float
    image: float
    judged: float
    tried: int  # images of the largest batch that was tried
    memory_gib: float  # held already; weights, gradients, optimiser, a checkpoint; activations by models.cost

    def seconds(self, batch: int) -> float:
        """Seconds of a step of `batch` images."""
        return self.step + batch * self.image


def measure_step_time(
    config: Finetune, published: PretrainedModel, classes: tuple[str, ...], machine: Machine
) -> StepTime:
    """Trains a copy of the model for a few steps on grey images, in this process, and forgets it.

    Batches double until one takes two seconds; the line through one image and the largest batch gives the step time.
    """
    device = devices.choose_device(machine.device)
    dtype = devices.choose_precision(config.precision, device)
    devices.reset_peak_memory(device)
    base = devices.peak_memory_gib(device)
    model, _, preprocess = build_pretrained(config, published, classes)
    model.to(device)
    plain = replace(config, mixing=type(config.mixing)(), loss=Softmax(), micro_batch=None, average=None, steps=1000)
    state = init_state(model, plain, Broken(1))
    largest = max(1, min(TRIED, -(-config.batch // dist.world().size)))
    sizes = [*(1 << power for power in range((largest - 1).bit_length())), largest]
    seen = time_passes(partial(training_pass, state, plain, preprocess, dtype), sizes, device, longest=LONGEST)
    if not seen:
        raise BadInput(TOO_LARGE)
    last = max(seen)
    image = (seen[last] - seen[1]) / (last - 1) if last > 1 else seen[1]
    image = max(image, 0.2 * seen[last] / last)  # noise must not make it nothing
    step = max(0.0, seen[last] - last * image)
    trained, work = trained_parameters(model), work_share(model)
    moments = config.optimizer.moments
    share = -(-config.batch // dist.world().size)
    together = config.micro_batch or fitting(model.config, share, device, dtype, recompute=machine.recompute)
    each = training_activations(model.config, devices.number_bytes(dtype), recompute=machine.recompute)
    saved = 4 * (parameters(model.config) + moments * trained)  # a checkpoint is copied before it is written
    held = training_memory(model.config, 0, moments=moments, trained=trained) + saved
    held += round(each * together * max(0.1, (3 * work - 1) / 2))
    del model, state
    release()
    image /= dist.world().size
    return StepTime(step, image, image / (3 * work), last, base + held / 2**30)
