"""A trained model in use: images in, class names with probabilities out.

n images · k labels that are asked for · C classes · D features
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from PIL import Image
from torch import Tensor

from vitrail.core.device import RuntimeChoice, choose_device, choose_precision
from vitrail.core.errors import BadInput
from vitrail.core.progress import say
from vitrail.data.decode import image
from vitrail.data.decode.array import from_array
from vitrail.data.decode.image import BrokenImage, Pixels
from vitrail.data.loader.batch import Batch, BrokenExample
from vitrail.data.loader.loader import eval_loader
from vitrail.data.loader.normalise import normalise, stack
from vitrail.data.open.inputs import Images
from vitrail.data.transforms.pipeline import eval_transform
from vitrail.evals.inference import LOADER_FROM, inference_batch_size
from vitrail.models.build import Model
from vitrail.runtimes.open_runtime import open_runtime
from vitrail.runtimes.same_bits import SameBits
from vitrail.weights.load import load
from vitrail.weights.pretrained import unusable_classifier

BATCH = 64


class Label(NamedTuple):
    """A class name and its probability."""

    name: str
    probability: float


class Prediction(NamedTuple):
    """The labels of one image, the most likely first; or `error`, why it could not be read."""

    key: str
    labels: list[Label]
    error: str | None = None


class PredictionBatch(NamedTuple):
    """The predictions for consecutive images. The numbers of an image that could not be read are zeros.

    keys: n names; errors: why an image could not be read, None for all others
    best: the places of the k most likely classes, the most likely first; shares: their probabilities
    answered: which of them are labels: all, but for a model of several classes an image
    probabilities: of all classes; features: what the classifier reads; None where nobody asked for them
    """

    keys: list[str]
    errors: list[str | None]
    best: Int64[np.ndarray, "n k"]
    shares: Float32[np.ndarray, "n k"]
    answered: Bool[np.ndarray, "n k"]
    probabilities: Float32[np.ndarray, "n c"] | None = None
    features: Float32[np.ndarray, "n d"] | None = None


class Judged(NamedTuple):
    """What a model makes of some views: the probabilities of all classes ([n, 0]: it has none), what they are of."""

    probabilities: Float[Tensor, "n c"]
    representation: Float[Tensor, "n d"]


class Predictor:
    """Labels images with a model that is loaded once. An image gets the same bits whatever else is labelled with it.

    Probabilities are the softmax of the logits, divided by the temperature where the model has one: what `vitrail
    evaluate` fitted on held-out images, so that a probability is the share of times that it is right. Of a model of
    several classes an image each class has a probability of its own, and the labels are all whose probability reaches
    the threshold of the class, whatever `top` is; there may be none.

    Args:
        source: any MODEL that docs/checkpoints.md lists, or a model. What a file does not say, and a classifier that
            was never meant to be used, is said on standard error.
        features: a model without a classifier is welcome too; it has features and no labels.
        runtime: what computes the model. auto: the fastest that is installed and agrees with PyTorch; the first time,
            converting the model and measuring take some seconds.
        images: that are to be labelled, where it is known: `auto` is PyTorch where they are few.
    """

    def __init__(
        self,
        source: str | Path | Model,
        device: str = "auto",
        resolution: int | tuple[int, int] | None = None,
        features: bool = False,
        runtime: RuntimeChoice = "torch",
        images: int | None = None,
    ):
        self.device = choose_device(device)
        if isinstance(source, str | Path):
            self.model = load(source, resolution=resolution, device=self.device)
        elif resolution is not None or source.preprocess is None:
            raise BadInput("give the resolution to vitrail.load or vitrail.create_model, whose models say how they see")
        else:
            self.model, source = source.to(self.device).eval(), "the model"
        if not self.model.config.num_classes and not features:
            raise BadInput(f"{source} has no classifier: it gives features, not labels")
        unusable = unusable_classifier(self.model)
        if unusable:
            say(f"{source}: {unusable}")
        self.dtype = choose_precision("auto", self.device)
        opened = open_runtime(self.model, runtime, images=images)
        self.runtime = SameBits(opened, self.model.config, self.most_at_once())

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; none for a model without a classifier."""
        return tuple(self.model.classes or ()) if self.model.config.num_classes else ()

    @overload
    def predict(self, images: str | Path | bytes | Image.Image, top: int = 5) -> list[Label]: ...

    @overload
    def predict(self, images: Sequence[Any], top: int = 5) -> list[list[Label]]: ...

    @overload
    def predict(self, images: np.ndarray | Tensor, top: int = 5) -> Any: ...

    def predict(self, images: Any, top: int = 5) -> Any:
        """The `top` labels of one image, the most likely first; of several images a list of these.

        Args:
            images: a path, encoded bytes, a Pillow image, or an array or tensor: [H, W], [H, W, C] or [C, H, W] with 1,
                3 or 4 channels, uint8 or floats from 0 to 1. Several: a list, or an array with one dimension more.

        Raises:
            BadInput: an image that cannot be read; the message names it. Addresses are not fetched.
        """
        if isinstance(images, str | Path | bytes | Image.Image) or getattr(images, "ndim", 4) < 4:
            return self.predict([images], top)[0]
        results = []
        for prediction in self.stream(images, top=top):
            if prediction.error is not None:
                raise BadInput(f"{prediction.key}: {prediction.error}")
            results.append(prediction.labels)
        return results

    def stream(self, images: Iterable[Any], top: int = 5, batch: int = BATCH) -> Iterator[Prediction]:
        """Yields one prediction an image, in order, in constant memory; broken images give their reason."""
        waiting = iter(images)
        while group := list(islice(waiting, batch)):
            views: list[Pixels | str] = [self._view(item) for item in group]
            readable = [v for v in views if not isinstance(v, str)]
            keys, errors = [_key(item) for item in group], [v if isinstance(v, str) else None for v in views]
            yield from self.rows(self._answers(stack(readable) if readable else None, keys, errors, top))

    def over(
        self,
        images: Images,
        top: int = 5,
        *,
        batch: int = BATCH,
        workers: int | None = None,
        every: bool = False,
        features: bool = False,
    ) -> Iterator[PredictionBatch]:
        """Yields predictions batch by batch, in order; decoded in worker processes, in constant memory.

        Args:
            workers: processes that decode; None: as many as are worth it.
            every: the probabilities of all classes too.
            features: what the classifier reads, too.
        """
        if workers is None and len(images) < LOADER_FROM:
            workers = 0
        loader = eval_loader(images, self.model.preprocess, batch=batch, workers=workers)
        for part in loader:
            keys, errors = _in_order(part)
            yield self._answers(part.images if len(part.labels) else None, keys, errors, top, every, features)

    def judge(self, views: UInt8[Tensor, "n 3 h w"] | Float[Tensor, "n c h w"]) -> Judged:
        """The one way from views to probabilities, for `vitrail predict` and for `vitrail serve`.

        Args:
            views: pictures, or numbers that are normalised already.
        """
        known = views.is_floating_point()
        output = self.runtime(views if known else normalise(views, self.model.preprocess, self.device))
        if self.model.thresholds is None:
            probabilities = calibrated(output.logits, self.model.temperature)
        else:
            probabilities = output.logits.float().sigmoid()
        return Judged(probabilities.cpu(), output.representation.float().cpu())

    def ranked(
        self, probabilities: Float[Tensor, "n c"], top: int
    ) -> tuple[Int64[np.ndarray, "n k"], Float32[np.ndarray, "n k"], Bool[np.ndarray, "n k"]]:
        """The places of the `top` likeliest classes, their probabilities, and which of them are labels.

        Of a model of several classes an image of all classes, those that are labels first.
        """
        thresholds, count = self.model.thresholds, probabilities.shape[1]
        places = _by_rank(probabilities, thresholds).topk(count if thresholds is not None else min(top, count)).indices
        best, shares = places.numpy(), probabilities.gather(1, places).numpy()
        given = np.ones(best.shape, bool) if thresholds is None else shares >= np.array(thresholds, np.float32)[best]
        return best, shares, given

    def labels(self, probabilities: Float[Tensor, " c"], top: int) -> list[Label]:
        """The labels of one image, from what `judge` says of it."""
        best, shares, given = (values[0].tolist() for values in self.ranked(probabilities[None], top))
        return [Label(self.classes[i], p) for i, p, yes in zip(best, shares, given, strict=True) if yes]

    def most_at_once(self, batch: int = BATCH) -> int:
        """The number of images for one forward pass: at most `batch`, and no more than there is memory for."""
        return inference_batch_size(self.model, self.device, self.dtype, batch)

    def rows(self, answers: PredictionBatch) -> Iterator[Prediction]:
        """Yields one prediction an image of a batch."""
        classes, places, shares = self.classes, answers.best.tolist(), answers.shares.tolist()
        columns = zip(answers.keys, answers.errors, places, shares, answers.answered.tolist(), strict=True)
        for key, error, best, probabilities, given in columns:
            labels = [Label(classes[i], p) for i, p, yes in zip(best, probabilities, given, strict=True) if yes]
            yield Prediction(key, labels if error is None else [], error)

    def _view(self, item: Any) -> Pixels | str:
        try:
            return eval_transform(_pixels(item), self.model.preprocess)
        except BrokenImage as problem:
            return str(problem)

    def _answers(
        self,
        views: UInt8[Tensor, "b 3 h w"] | None,
        keys: list[str],
        errors: list[str | None],
        top: int,
        every: bool = False,
        features: bool = False,
    ) -> PredictionBatch:
        """`views` are those of the images without an error."""
        count = len(self.classes)
        top = count if self.model.thresholds is not None else min(top, count)
        readable = np.array([error is None for error in errors])
        best, shares = np.zeros((len(keys), top), np.int64), np.zeros((len(keys), top), np.float32)
        answered = np.ones((len(keys), top), bool)
        everything = np.zeros((len(keys), count), np.float32) if every else None
        read = np.zeros((len(keys), self.model.config.representation_width), np.float32) if features else None
        if views is not None:
            probabilities, representation = self.judge(views)
            if count:
                best[readable], shares[readable], answered[readable] = self.ranked(probabilities, top)
                if everything is not None:
                    everything[readable] = probabilities.numpy()
            if read is not None:
                read[readable] = representation.numpy()
        return PredictionBatch(keys, errors, best, shares, answered, everything, read)


def _by_rank(probabilities: Float[Tensor, "b c"], thresholds: Sequence[float] | None) -> Float[Tensor, "b c"]:
    """Numbers that order classes: the likeliest first, and before all others those that reach their threshold."""
    return probabilities if thresholds is None else probabilities + (probabilities >= Tensor(thresholds))


def calibrated(logits: Float[Tensor, "b c"], temperature: float | None) -> Float[Tensor, "b c"]:
    """The probabilities of the classes: the softmax of logits / temperature."""
    return (logits.float() / (temperature or 1.0)).softmax(dim=-1)


def _in_order(part: Batch) -> tuple[list[str], list[str | None]]:
    """Keys and errors of all images of a batch, those that cannot be read in their places among the others."""
    readable = [BrokenExample(*named, "") for named in zip(part.indices.tolist(), part.keys, strict=True)]
    rows = sorted([*readable, *part.broken])
    return [row.key for row in rows], [row.reason or None for row in rows]


def _pixels(item: Any) -> Pixels:
    if isinstance(item, (str, Path)):
        if isinstance(item, str) and "://" in item:
            raise BrokenImage("an address, and nothing is fetched; download the image and give its path")
        return image.decode(image.read(Path(item)))
    if isinstance(item, bytes):
        return image.decode(item)
    if isinstance(item, Tensor):
        item = item.detach().cpu()
        item = (item.float() if item.is_floating_point() else item).numpy()
    if isinstance(item, np.ndarray):
        return from_array(item)
    if isinstance(item, Image.Image):
        return image.from_pillow(item)
    raise BrokenImage(f"a {type(item).__name__}; expected a path, bytes, an array or a Pillow image")


def _key(item: Any) -> str:
    return str(item) if isinstance(item, (str, Path)) else type(item).__name__
