"""Pre-training: a new model, from its official initialisation, on labelled images."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from vitrail.core.device import Machine, choose_device
from vitrail.core.dist import joined
from vitrail.core.errors import BadInput
from vitrail.core.run import RunFolder
from vitrail.core.seeds import generator, torch_seed
from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import Subset
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess, Resize
from vitrail.jobs.data_identity import check_same_data
from vitrail.jobs.training import check_keep_best, for_labels, open_training_data, run_training, with_classes
from vitrail.models.build import ModelConfig, build
from vitrail.models.vit import ViTConfig
from vitrail.records.record import load_record
from vitrail.records.run import RunResult
from vitrail.train.callbacks import Callback
from vitrail.train.config import TrainConfig, check_training
from vitrail.train.loss import head_bias


@dataclass(frozen=True)
class Pretrain(TrainConfig):
    """A pre-training run. The number of classes comes from the training data."""

    model: ModelConfig = field(default_factory=ViTConfig)
    resize: Resize = field(default_factory=CentreCrop)  # the evaluation view


@dataclass(frozen=True)
class EarlyStopping(Pretrain):
    """A whole pre-training on a part of the images, whose best weights become the model: early stopping as in figure 4.

    Smaller sets are parts of larger ones.
    """

    keep: Literal["last", "best"] = "best"
    images: int | None = None  # of the training images, as many as these of a shuffle that is always the same


def pretrain(
    config: Pretrain,
    folder: str | Path,
    machine: Machine | None = None,
    recipe: str | None = None,
    *,
    callbacks: Sequence[Callback] = (),
) -> RunResult:
    """Pre-trains in `folder`, or continues there, and returns the result (docs/files.md: result.json).

    Raises:
        BadInput: data, sizes or a folder that cannot be used.
        Interrupted: after a signal, once the run is saved.
    """
    check_training(config)
    config.model.check()
    machine = machine or Machine()
    train, validation, test = open_training_data(config)
    config = for_labels(config, train)
    check_keep_best(config, validation, machine)
    job, about = "pretrain", {}
    if isinstance(config, EarlyStopping):
        train = first_images(train, config.images)
        job, about = "early-stopping", {"trained_on": config.train, "images": len(train)}
    model_config = with_classes(config.model, len(train.classes))
    if not model_config.head_bias:
        model_config = replace(model_config, head_bias=head_bias(config.loss, model_config.num_classes))
    with joined(choose_device(machine.device)), RunFolder(Path(folder), job, config, recipe) as run:
        if run.state == "finished":
            return load_record(RunResult, run.path / "result.json")
        data = train, validation, test
        check_same_data(run, data, accept=machine.accept_changed_data)
        torch.manual_seed(torch_seed(config.seed, "initialise"))
        model = build(model_config)
        preprocess = Preprocess(model_config.resolution, config.resize)
        about = {"job": job, "recipe": recipe, **about}
        return run_training(config, run, model, preprocess, data, machine, about, callbacks=callbacks)


def first_images(source: Source, count: int | None) -> Source:
    """The first so many of a shuffle that is always the same; raises BadInput for more than there are."""
    if count is None:
        return source
    if not 0 < count <= len(source):
        raise BadInput(f"images is {count:,}, expected 1 to {len(source):,}, as many as there are")
    return Subset(source, generator(0, "first images").permutation(len(source))[:count])
