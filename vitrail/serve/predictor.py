"""A trained model in use: images in, class names with probabilities out."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from vitrail.core.device import choose_device, choose_precision
from vitrail.core.errors import BadInput
from vitrail.core.progress import say
from vitrail.data import image
from vitrail.data.batches import normalise, stack
from vitrail.data.image import BrokenImage, Pixels
from vitrail.data.views import evaluation_view
from vitrail.weights.load import load
from vitrail.weights.published import unusable_classifier


class Label(NamedTuple):
    """A class name and its probability."""

    name: str
    probability: float


class Prediction(NamedTuple):
    """For one image: its labels, the most likely first; or `error`, why it could not be read."""

    key: str
    labels: list[Label]
    error: str | None = None


class Predictor:
    """Labels images with a model that is loaded once.

    Args:
        source: any MODEL that docs/checkpoints.md lists. What its file does not say, and a classifier that was never
            meant to be used, is said on standard error.
    """

    def __init__(self, source: str | Path, device: str = "auto", resolution: int | tuple[int, int] | None = None):
        self.device = choose_device(device)
        self.model = load(source, resolution=resolution, device=self.device)
        if not self.model.config.num_classes:
            raise BadInput(f"{source} has no classifier: it gives features, not labels")
        unusable = unusable_classifier(self.model)
        if unusable:
            say(f"{source}: {unusable}")
        self.dtype = choose_precision("auto", self.device)

    def predict(self, images: Sequence[Any], top: int = 5) -> list[list[Label]]:
        """The `top` labels of each image: a path, encoded bytes, an array uint8 [H, W, 3], or a Pillow image.

        Raises:
            BadInput: an image that cannot be read; the message names it.
        """
        results = []
        for prediction in self.stream(images, top=top):
            if prediction.error is not None:
                raise BadInput(f"{prediction.key}: {prediction.error}")
            results.append(prediction.labels)
        return results

    def stream(self, images: Iterable[Any], top: int = 5, batch: int = 64) -> Iterator[Prediction]:
        """One prediction an image, in order, in constant memory; broken images give their reason."""
        waiting = iter(images)
        while group := list(islice(waiting, batch)):
            views: list[Pixels | str] = [self._view(item) for item in group]
            readable = [v for v in views if not isinstance(v, str)]
            labelled = iter(self._label(readable, top) if readable else [])
            for item, view in zip(group, views, strict=True):
                if isinstance(view, str):
                    yield Prediction(_key(item), [], view)
                else:
                    yield Prediction(_key(item), next(labelled))

    def _view(self, item: Any) -> Pixels | str:
        try:
            return evaluation_view(_pixels(item), self.model.preprocess)
        except BrokenImage as problem:
            return str(problem)

    def _label(self, views: list[Pixels], top: int) -> list[list[Label]]:
        inputs = normalise(stack(views), self.model.preprocess, self.device)
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            probabilities = self.model(inputs).logits.float().softmax(dim=-1).cpu()
        best = probabilities.topk(min(top, probabilities.shape[-1]))
        return [
            [Label(self.model.classes[i], p) for i, p in zip(row.tolist(), shares.tolist(), strict=True)]
            for row, shares in zip(best.indices, best.values, strict=True)
        ]


def _pixels(item: Any) -> Pixels:
    if isinstance(item, (str, Path)):
        return image.decode(image.read(Path(item)))
    if isinstance(item, bytes):
        return image.decode(item)
    if isinstance(item, np.ndarray):
        if item.dtype != np.uint8 or item.ndim != 3 or item.shape[-1] != 3 or not item.size:
            raise BrokenImage(f"an array of {item.dtype} {item.shape}; expected uint8 [H, W, 3]")
        return item
    if isinstance(item, Image.Image):
        return image.from_pillow(item)
    raise BrokenImage(f"a {type(item).__name__}; expected a path, bytes, an array or a Pillow image")


def _key(item: Any) -> str:
    return str(item) if isinstance(item, (str, Path)) else type(item).__name__
