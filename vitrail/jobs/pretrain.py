"""Pre-training: a new model, from its official initialisation, on images with labels or without."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from vitrail.core.device import Machine, choose_device
from vitrail.core.dist import joined
from vitrail.core.errors import BadInput
from vitrail.core.progress import say
from vitrail.core.run import RunFolder
from vitrail.core.seeds import generator, torch_seed
from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import Subset
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess, Resize
from vitrail.jobs.data_identity import check_same_data
from vitrail.jobs.training import run_training
from vitrail.jobs.training_data import Sources, check_keep_best, for_labels, open_training_data, with_classes
from vitrail.jobs.unlabelled_training import check_without_labels, open_unlabelled_data
from vitrail.models.build import Model, ModelConfig, build
from vitrail.models.objective import Labels, Objective, TrainedModel, learner
from vitrail.models.vit import ViT, ViTConfig
from vitrail.records.record import load_record
from vitrail.records.run import RunResult
from vitrail.train.callbacks import Callback
from vitrail.train.config import TrainConfig, check_training
from vitrail.train.fixed_order import prepare_fixed_order
from vitrail.train.loss import head_bias
from vitrail.weights.load import model_of, read_pretrained
from vitrail.weights.pretrained import PretrainedModel


@dataclass(frozen=True)
class Pretrain(TrainConfig):
    """A pre-training run. The number of classes comes from the training data."""

    model: ModelConfig = field(default_factory=ViTConfig)
    resize: Resize = field(default_factory=CentreCrop)  # the evaluation view
    objective: Objective = Labels()  # what is learned: labels; the colours of masked-patches; pixels, as mae does
    init: str | None = None  # MODEL whose weights training starts from, with its sizes; None: new ones


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
    data: Sources | None = None,
    inside: bool = True,
) -> RunResult:
    """Pre-trains in `folder`, or continues there, and returns the result (docs/files.md: result.json).

    Args:
        data: images to take in place of those that the config names.
        inside: whether the finished model is inspected.

    Raises:
        BadInput: data, sizes or a folder that cannot be used.
        Interrupted: after a signal, once the run is saved.
    """
    check_training(config)
    config.model.check()
    machine = machine or Machine()
    labelled = isinstance(config.objective, Labels)
    if not labelled:
        check_without_labels(config)
    opened = open_training_data if labelled else open_unlabelled_data
    train, validation, test = data or opened(config)
    config = for_labels(config, train)
    check_keep_best(config, validation, machine)
    prepare_fixed_order(config, machine)
    job, about = "pretrain", {}
    if isinstance(config, EarlyStopping):
        train = first_images(train, config.images)
        job, about = "early-stopping", {"trained_on": config.train, "images": len(train)}
    model_config = with_classes(config.model, len(train.classes))
    if not labelled and isinstance(model_config, ViTConfig):
        model_config = replace(model_config, hidden=None)  # the layer under a classifier that there is not
    elif not model_config.head_bias:
        model_config = replace(model_config, head_bias=head_bias(config.loss, model_config.num_classes))
    start = _read_start(config)
    if start is not None:
        model_config = start.config
    with joined(choose_device(machine.device)), RunFolder(Path(folder), job, config, recipe) as run:
        if run.state == "finished":
            return load_record(RunResult, run.path / "result.json")
        data = train, validation, test
        check_same_data(run, data, accept=machine.accept_changed_data)
        torch.manual_seed(torch_seed(config.seed, "initialise"))
        model = _started(build(model_config) if start is None else model_of(start), config, start)
        preprocess = Preprocess(model_config.resolution, config.resize) if start is None else start.preprocess
        about = {"job": job, "recipe": recipe, **about}
        return run_training(config, run, model, preprocess, data, machine, about, inside, callbacks)


def _read_start(config: Pretrain) -> PretrainedModel | None:
    """The model that training starts from, without its classifier, at the resolution and in the view of its file.

    Raises:
        BadInput: labels, for which fine-tuning is meant, or a model of another resolution than the config's.
    """
    if config.init is None:
        return None
    if isinstance(config.objective, Labels):
        raise BadInput("with labels a trained model is fine-tuned: take vitrail finetune --init")
    published = read_pretrained(config.init)
    size = published.preprocess.resolution
    if published.config.resolution != size:
        raise BadInput(f"{config.init} reads {size} pixels with positions for others: convert it to a bundle first")
    if not isinstance(published.config, ViTConfig):
        raise BadInput("patches are masked in a Vision Transformer, and this is a ResNet")
    say(f"{config.init}: its sizes and its view are taken, {size[0]} x {size[1]} pixels; --model is not read")
    bare = replace(published.config, num_classes=0, hidden=None)
    dropped = ("head.", "pre_logits.")
    state = {name: tensor for name, tensor in published.state.items() if not name.startswith(dropped)}
    return replace(published, config=bare, state=state, classes=(), temperature=None)


def _started(model: Model, config: Pretrain, start: PretrainedModel | None) -> TrainedModel:
    """What is trained: the model itself, or without labels the learner that it is the encoder of."""
    if isinstance(config.objective, Labels):
        return model
    if not isinstance(model, ViT):
        raise BadInput("patches are masked in a Vision Transformer: take a model such as B/16")
    made = learner(model, config.objective)
    beside = start.trained_with if start else None
    if beside is not None and beside.objective == config.objective:
        made.load_state_dict(beside.state, strict=False)
    elif beside is not None:
        say(f"what {config.init} was trained with is of another objective, {beside.objective}: its parts begin anew")
    return made


def first_images(source: Source, count: int | None) -> Source:
    """The first so many of a shuffle that is always the same; raises BadInput for more than there are."""
    if count is None:
        return source
    if not 0 < count <= len(source):
        raise BadInput(f"images is {count:,}, expected 1 to {len(source):,}, as many as there are")
    return Subset(source, generator(0, "first images").permutation(len(source))[:count])
