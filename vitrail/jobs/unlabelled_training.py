"""What training without labels does otherwise: its data, its checks, the pictures of what the model paints."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitrail.core import dist
from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_path
from vitrail.data.open.names import open_data, open_unlabelled
from vitrail.data.sources.base import Source
from vitrail.data.transforms.mixup import Mixing
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.objective import Labels, Learner, Objective, own_parts
from vitrail.train.callbacks import Every
from vitrail.train.config import TrainConfig
from vitrail.train.loss import Softmax
from vitrail.train.reconstruct import paint
from vitrail.train.step import TrainState
from vitrail.train.weight_averaging import use_averaged
from vitrail.weights.pretrained import TrainedWith

NAMES = {"MaskedPatches": "masked-patches", "MAE": "mae", "Labels": "labels"}
FOLDER = "painted"


def open_unlabelled_data(config: TrainConfig) -> tuple[Source, Source | None, Source | None]:
    """The sources of train, validation and test, without classes; raises BadInput."""
    validation, test = (
        None if name is None else open_unlabelled(name, "test") for name in (config.validation, config.test)
    )
    return open_unlabelled(config.train, "train"), validation, test


def open_train(config: TrainConfig) -> Source:
    """The training images alone, with their labels where these are learned from; raises BadInput."""
    objective: Objective = getattr(config, "objective", Labels())
    return (open_data if isinstance(objective, Labels) else open_unlabelled)(config.train, "train")


def check_without_labels(config: TrainConfig) -> None:
    """Raises BadInput for an option that means nothing where there are no labels."""
    meaningless = {
        "mixing": config.mixing != Mixing(),
        "loss": config.loss != Softmax(),
        "class_weights": config.class_weights is not None,
        "sampling.balanced": config.sampling.balanced,
        "keep best": config.keep != "last",
    }
    for name, given in meaningless.items():
        if given:
            raise BadInput(f"{name} needs labels, which this objective does not read: leave it out")


def paint_now_and_then(
    folder: Path, source: Source, preprocess: Preprocess, *, seed: int, every: int, dtype: torch.dtype
) -> Every:
    """A callback: what the model paints into the holes of the first images, as arrays in the folder `painted`."""

    def write(state: TrainState) -> None:
        assert isinstance(state.model, Learner)
        with use_averaged(state.model, state.average):
            made = paint(state.model, source, preprocess, seed=seed, dtype=dtype)
        if dist.world().first:
            _save(folder / FOLDER / "images.npz", images=made.images, seen=made.seen)
            _save(folder / FOLDER / f"step-{state.step:08d}.npz", painted=made.painted)

    return Every(every, write)


def _save(file: Path, **arrays: np.ndarray) -> None:
    with atomic_path(file) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]


def parts_of(trained: Any) -> TrainedWith | None:
    """What the bundle keeps beside the model."""
    if not isinstance(trained, Learner):
        return None
    return TrainedWith(trained.objective, {name: t.detach().cpu() for name, t in own_parts(trained).items()})
