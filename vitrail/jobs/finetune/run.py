"""One fine-tuning run: a trained model to other classes and another resolution (section 3.2, appendix B.1.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vitrail.core.device import Machine, choose_device
from vitrail.core.dist import joined, launched
from vitrail.core.errors import BadInput
from vitrail.core.progress import say
from vitrail.core.run import RunFolder
from vitrail.core.seeds import torch_seed
from vitrail.data.leakage import check_train_test
from vitrail.data.sources.subset import stratified
from vitrail.data.transforms.pipeline import Preprocess, Resize, SquareResize
from vitrail.evals.fewshot import Linear
from vitrail.jobs.data_identity import check_same_data
from vitrail.jobs.finetune.schedule_rule import batch_for, hyper_rule
from vitrail.jobs.training import run_training
from vitrail.jobs.training_data import Sources, check_keep_best, for_labels, open_training_data
from vitrail.models.build import Model, ModelConfig, as_size
from vitrail.models.head import AttentionPool, AveragePool, ClassToken, PoolConfig
from vitrail.models.resnet import ResNetConfig
from vitrail.records.record import load_record, write_record
from vitrail.records.run import RunResult
from vitrail.train.callbacks import Callback
from vitrail.train.config import TrainConfig, check_training
from vitrail.train.fixed_order import prepare_fixed_order
from vitrail.train.trainable import LayerDecay, Lora, Tuned, Whole, make_trainable
from vitrail.weights.bundle import RESAMPLED
from vitrail.weights.load import attach, read_pretrained
from vitrail.weights.pretrained import PretrainedModel
from vitrail.weights.transplant import Row, for_transfer, record, summary, transplant

AUTO = 0  # steps, or batch: by the size of the data; in files, too


@dataclass(frozen=True)
class Finetune(TrainConfig):
    """Fine-tuning: the classifier starts at zero, the hidden layer before it is dropped, positions are resampled.

    `steps` or `batch` of AUTO, and the warm-up, follow the size of the data (jobs/finetune/schedule_rule.py).
    """

    init: str = ""  # MODEL to start from
    resolution: int | None = None  # pixels of a side; None: as it was pre-trained
    patch: int | None = None  # pixels of a patch, if other than pre-trained (FlexiViT's resize)
    pool: Literal["token", "average", "attention"] | None = None  # if other than pre-trained
    resize: Resize = field(default_factory=SquareResize)  # the evaluation view
    tuned: Tuned = Whole()  # which weights are trained
    # The protocol: a trial for each rate on a part of the training images, then the best one on all of them.
    sweep: tuple[float, ...] = ()  # learning rates to choose from; none: that of the optimiser is taken
    held_out: float | None = None  # share of the training images, of every class, that serves as the validation
    repeats: int = 0  # more final runs, with the next seeds: mean and spread
    budget: str | None = None  # time for trials and final runs, such as 10m
    aim: Literal["balanced"] | None = None  # of auto: each class counts alike, however rare; None: each image


POOLS: dict[str, PoolConfig] = {"token": ClassToken(), "average": AveragePool(), "attention": AttentionPool()}


def finetune_once(
    config: Finetune,
    folder: Path,
    machine: Machine | None = None,
    recipe: str | None = None,
    data: Sources | None = None,
    inside: bool = True,
    start: PretrainedModel | None = None,
    callbacks: Sequence[Callback] = (),
    head: Linear | None = None,
) -> RunResult:
    """Fine-tunes in `folder`, or continues there, and returns the result (docs/files.md: result.json).

    Args:
        data: the sources, where they are open already.
        start: the model of `config.init`, where it is read already; it stays as it is.
        head: what the classifier starts from, in place of zero.
        inside: whether the finished model is looked into.

    Raises:
        BadInput: a model, data, sizes or a folder that cannot be used.
        Interrupted: after a signal, once the run is saved.
    """
    check_start(config)
    published = start or read_pretrained(config.init, resolution=config.resolution)
    if data is None:
        data = open_checked(config)
    config = for_labels(with_defaults_for(config, len(data[0])), data[0])
    check_training(config)
    parts = with_held_out(config, data)
    machine = machine or Machine()
    check_tuned(config, machine)
    check_keep_best(config, parts[1], machine)
    prepare_fixed_order(config, machine)
    with joined(choose_device(machine.device)), RunFolder(folder, "finetune", config, recipe) as run:
        if run.state == "finished":
            return load_record(RunResult, run.path / "result.json")
        check_same_data(run, parts, accept=machine.accept_changed_data)
        model, rows, preprocess = build_pretrained(config, published, data[0].classes, head)
        if run.writes:
            write_record(run.path / "transplant.json", record(rows, config.init))
            say(summary(rows, config.init))
        about = {"job": "finetune", "recipe": recipe, "init": config.init, "init_trained_on": _origin(published)}
        if not isinstance(model.config, ResNetConfig):
            about[RESAMPLED] = published.interpolation
        del published, start  # the model has copies
        return run_training(config, run, model, preprocess, parts, machine, about, inside, callbacks)


def build_pretrained(
    config: Finetune, published: PretrainedModel, classes: tuple[str, ...], head: Linear | None = None
) -> tuple[Model, list[Row], Preprocess]:
    """The model as training starts from it, what became of each tensor, and how its images are prepared.

    `head`: a classifier of the model's representation, which its own starts from in place of zero.
    """
    torch.manual_seed(torch_seed(config.seed, "initialise"))
    model, rows = transplant(published, model_config(config, published, len(classes)), new_head=True)
    if head is not None:
        set_classifier(model, head)
    make_trainable(model, config.tuned)
    preprocess = replace(published.preprocess, resolution=model.config.resolution, resize=config.resize)
    attach(model, preprocess, classes)
    return model, rows, preprocess


def set_classifier(model: Model, head: Linear) -> None:
    """Makes the model's logits the scores of `head` for its representation, up to rounding to float32."""
    assert model.head is not None, "fine-tuning gives every model a classifier"
    weight, bias = (next(p for n, p in model.head.named_parameters() if n.endswith(end)) for end in ("weight", "bias"))
    with torch.no_grad():
        weight.copy_(torch.from_numpy(head.weights.T.copy()).view_as(weight))
        bias.copy_(torch.from_numpy(head.bias))


def classifier_of(state: Mapping[str, Tensor]) -> Linear:
    """The classifier among the weights of a model that was fine-tuned here, as `set_classifier` takes it."""
    head = {name: value for name, value in state.items() if name.startswith("head.")}
    weight, bias = (next(value for name, value in head.items() if name.endswith(end)) for end in ("weight", "bias"))
    return Linear(weight.double().flatten(1).T.numpy().copy(), bias.double().numpy())


def model_config(config: Finetune, published: PretrainedModel, classes: int) -> ModelConfig:
    """The architecture that is trained."""
    size = as_size(config.resolution) if config.resolution else None
    pool = POOLS[config.pool] if config.pool else None
    return for_transfer(published, classes, size, patch=config.patch, pool=pool)


def check_start(config: Finetune) -> None:
    """Raises BadInput without a model to start from, or with two parts to judge by."""
    if not config.init:
        raise BadInput("fine-tuning starts from a model: give init, a bundle or a published checkpoint")
    if config.held_out is not None and config.validation is not None:
        raise BadInput(
            f"validation {config.validation} and held_out {config.held_out:g} are two parts to judge by; give one"
        )
    for name in ("steps", "batch", "repeats"):
        if getattr(config, name) < 0:
            raise BadInput(f"{name} is {getattr(config, name)}, expected 0 or more")


def check_tuned(config: Finetune, machine: Machine) -> None:
    """Raises BadInput for low-rank additions where weights are spread over processes, or the best are to be kept."""
    if isinstance(config.tuned, Lora) and config.keep == "best":
        raise BadInput("the best weights are kept as whole models, which LoRA is only at the end: keep the last")
    if isinstance(config.tuned, Lora) and machine.sharding != "replicated" and launched().size > 1:
        raise BadInput("LoRA needs whole weights in each process: leave out sharding, its optimiser state is small")


def open_checked(config: Finetune) -> Sources:
    """Train, validation and test, which fit each other; what is allowed and should be known is said.

    Raises:
        BadInput: see data.leakage.check_train_test.
    """
    data = open_training_data(config)
    said = check_train_test(data[0], data[2], config.train, config.test)
    for sentence in said if launched().first else ():
        say(sentence)
    return data


def with_held_out(config: Finetune, data: Sources) -> Sources:
    """Training, validation and test data; the validation is split off where the config asks for it."""
    if config.held_out is None:
        return data
    rest, held_out = stratified(data[0], config.held_out, config.seed)
    return rest, held_out, data[2]


def with_defaults_for(config: Finetune, images: int) -> Finetune:
    """AUTO becomes steps, warm-up and batch by the size of the data; the layer decay goes to the optimiser."""
    if isinstance(config.tuned, LayerDecay):
        config = replace(config, optimizer=replace(config.optimizer, layer_decay=config.tuned.rate))
    if config.steps == AUTO:
        scale = hyper_rule(config.train, images)
        config = replace(config, steps=scale.steps, schedule=replace(config.schedule, warmup=scale.warmup))
    return replace(config, batch=batch_for(images)) if config.batch == AUTO else config


def _origin(published: PretrainedModel) -> Any:
    return published.provenance.get("trained_on")  # a checkpoint of others does not say it
