"""Data in one's own loop: a source by its name, a torch Dataset of it, and batches as training makes them.

B batch · H, W pixels of the model's resolution
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.utils.data import Dataset

from vitrail.api.models import preprocess_of
from vitrail.core.device import choose_device
from vitrail.core.errors import BadInput
from vitrail.core.seeds import Keyed
from vitrail.data.decode.image import BrokenImage, to_picture, to_pixels
from vitrail.data.loader.batch import Broken
from vitrail.data.loader.loader import eval_loader, train_loader
from vitrail.data.loader.normalise import normalise, stack
from vitrail.data.open.names import Role, open_data
from vitrail.data.sources.base import Source
from vitrail.data.transforms.pipeline import Augment, Preprocess, eval_transform, train_transform
from vitrail.models.build import Model


def load_data(data: str | Path | Source, role: Role = "train") -> Source:
    """The images that DATA (`SOURCE[@SPLIT[SLICE]]`, docs/sources.md) names; nothing is decoded yet.

    A source has `len()`, `classes`, `labels` int64 [N] (uint8 [N, K] where images have several classes), and `[i]` ->
    (image: bytes or uint8 [H, W, 3], label, key).

    Args:
        role: which split is meant where DATA names none.

    Raises:
        BadInput: nothing there, no such split, or nothing in it.
    """
    return data if isinstance(data, Source) else open_data(str(data), role, multi_label=True)


class ImageDataset(Dataset[tuple[Float32[Tensor, "3 h w"], int]]):
    """A torch Dataset of (image float32 [3, H, W] as the model expects it, label).

    Args:
        data: DATA, or a source.
        view: the model, or how its images are prepared.
        augment: makes views random: a function of (seed, `epoch`, index) alone, whoever asks, as in vitrail's training.
            `epoch` is an attribute: set it before each epoch. None: the evaluation view.

    Raises:
        BadInput: from `[i]`, where the image cannot be read; the message names it. `data_loader` does better.
    """

    epoch = 0

    def __init__(
        self,
        data: str | Path | Source,
        view: Preprocess | Model = Preprocess(),
        augment: Augment | None = None,
        seed: int = 0,
    ):
        self.source = load_data(data, "test" if augment is None else "train")
        self.preprocess, self.augment = preprocess_of(view), augment
        self._random = Keyed(seed, "augment")

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Float32[Tensor, "3 h w"], int]:
        key = None
        try:
            example = self.source[index]
            key = example.key
            if self.augment is None:
                view = eval_transform(to_pixels(example.image), self.preprocess)
            else:
                rng = self._random.at(self.epoch, index)
                view = train_transform(to_picture(example.image), self.augment, self.preprocess, rng)
        except BrokenImage as problem:
            raise BadInput(f"{key or problem.key or f'example {index}'}: {problem}") from None
        return normalise(stack([view]), self.preprocess, torch.device("cpu"))[0], example.label


class ImageBatches:
    """Yields `len()` batches (images float32 [B, 3, H, W] as the model expects them, labels int64 [B]).

    In training, `step` is the step of the next batch: a second loop goes on with other images and views where the
    first one stopped. To resume, set it. `broken` counts the images that cannot be read, and names them.
    """

    def __init__(
        self,
        source: Source,
        preprocess: Preprocess,
        *,
        batch: int,
        augment: Augment | None,
        steps: int | None,
        seed: int,
        workers: int,
        device: torch.device,
    ):
        self.source, self.preprocess, self.augment = source, preprocess, augment
        self.batch, self.seed, self.workers, self.device = batch, seed, workers, device
        self.broken, self.step = Broken(len(source)), 0
        whole = -(-len(source) // batch) if augment is None else max(1, len(source) // batch)
        self.steps = whole if steps is None else steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Float32[Tensor, "b 3 h w"], Int64[Tensor, " b"]]]:
        if self.augment is None:
            batches = eval_loader(self.source, self.preprocess, batch=self.batch, workers=self.workers)
        else:
            stop = self.step + self.steps
            batches = train_loader(
                self.source,
                self.augment,
                self.preprocess,
                batch=self.batch,
                seed=self.seed,
                start=self.step,
                stop=stop,
                workers=self.workers,
                device=self.device,
            )
        for batch in batches:
            self.broken.add(batch.broken)
            self.step += self.augment is not None
            if len(batch.labels):
                yield normalise(batch.images, self.preprocess, self.device), batch.labels.to(self.device)


def data_loader(
    data: str | Path | Source,
    view: Preprocess | Model,
    *,
    batch: int = 128,
    augment: Augment | None = None,
    steps: int | None = None,
    seed: int = 0,
    workers: int = 0,
    device: str = "cpu",
) -> ImageBatches:
    """Batches for one's own loop: (images float32 [B, 3, H, W] as the model expects them, labels int64 [B]).

    With `augment`, training: vitrail's own order and random views, which depend on (seed, step) alone and not on the
    number of workers; a readable image stands in for a broken one. Without, evaluation: every readable image once, in
    order. More broken images than one in a hundred raise BadInput, from the loop.

    Args:
        data: DATA, or a source.
        view: the model, or how its images are prepared.
        steps: batches of a loop, in training; None: as many as are one epoch.
        workers: processes that decode and augment.

    Raises:
        BadInput: no such data or device, or numbers below 1.
    """
    if batch < 1 or (steps is not None and steps < 1):
        raise BadInput(f"batch is {batch} and steps is {steps}, expected at least 1")
    if augment is None and steps is not None:
        raise BadInput("steps are of training: give augment too, or leave steps out to evaluate every image once")
    if augment is not None:
        augment.check()
    source = load_data(data, "test" if augment is None else "train")
    return ImageBatches(
        source,
        preprocess_of(view),
        batch=batch,
        augment=augment,
        steps=steps,
        seed=seed,
        workers=workers,
        device=choose_device(device),
    )
