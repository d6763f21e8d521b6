"""Fine-tuning: a trained model to other classes and another resolution (section 3.2, appendix B.1.1)."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from vitrail.core.device import Machine, choose_device
from vitrail.core.dist import joined
from vitrail.core.errors import BadInput
from vitrail.core.files import write_json
from vitrail.core.progress import say
from vitrail.core.run import RunFolder
from vitrail.core.seeds import torch_seed
from vitrail.data.views import Resize, SquareResize
from vitrail.jobs.training import check_training, open_training_data, run_training
from vitrail.models.build import as_size
from vitrail.models.head import AttentionPool, AveragePool, ClassToken, PoolConfig
from vitrail.models.resnet import ResNetConfig
from vitrail.train.step import Training
from vitrail.weights.bundle import RESAMPLED
from vitrail.weights.load import attach, read_published
from vitrail.weights.published import Published
from vitrail.weights.transplant import as_json, for_transfer, summary, transplant


@dataclass(frozen=True)
class Finetune(Training):
    """A fine-tuning run: the classifier starts at zero, the hidden layer before it is dropped, positions resampled."""

    init: str = ""  # MODEL to start from
    resolution: int | None = None  # pixels of a side; None: as it was pre-trained
    patch: int | None = None  # pixels of a patch, if other than pre-trained (FlexiViT's resize)
    pool: Literal["token", "average", "attention"] | None = None  # if other than pre-trained
    resize: Resize = field(default_factory=SquareResize)  # the evaluation view


POOLS: dict[str, PoolConfig] = {"token": ClassToken(), "average": AveragePool(), "attention": AttentionPool()}


def finetune(
    config: Finetune, folder: Path, machine: Machine | None = None, recipe: str | None = None
) -> dict[str, Any]:
    """Fine-tunes in `folder`, or continues there, and returns the result (docs/files.md: result.json).

    Raises:
        BadInput: a model, data, sizes or a folder that cannot be used.
        Interrupted: after a signal, once the run is saved.
    """
    check_training(config)
    if not config.init:
        raise BadInput("fine-tuning starts from a model: give --init MODEL, a bundle or a published checkpoint")
    published = read_published(config.init, resolution=config.resolution)
    data = open_training_data(config)
    size = as_size(config.resolution) if config.resolution else None
    machine = machine or Machine()
    with joined(choose_device(machine.device)), RunFolder(folder, "finetune", config, recipe) as run:
        if run.state == "finished":
            return run.result()
        torch.manual_seed(torch_seed(config.seed, "initialise"))
        pool = POOLS[config.pool] if config.pool else None
        model_config = for_transfer(published, len(data[0].classes), size, patch=config.patch, pool=pool)
        model, rows = transplant(published, model_config, new_head=True)
        if run.writes:
            write_json(run.path / "transplant.json", as_json(rows, config.init))
            say(summary(rows, config.init))
        preprocess = replace(published.preprocess, resolution=model_config.resolution, resize=config.resize)
        attach(model, preprocess, data[0].classes)
        about = {"job": "finetune", "recipe": recipe, "init": config.init, "init_trained_on": _origin(published)}
        if not isinstance(model_config, ResNetConfig):
            about[RESAMPLED] = published.interpolation
        return run_training(config, run, model, preprocess, data, machine, about)


def _origin(published: Published) -> Any:
    return published.provenance.get("trained_on") or published.provenance.get("source")
