"""Pre-training: a new model, from its official initialisation, on labelled images."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from vitrail.core.device import Machine, choose_device
from vitrail.core.dist import joined
from vitrail.core.run import RunFolder
from vitrail.core.seeds import torch_seed
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess, Resize
from vitrail.jobs.training import check_training, open_training_data, run_training, with_classes
from vitrail.models.build import ModelConfig, build
from vitrail.models.vit import ViTConfig
from vitrail.train.loss import head_bias
from vitrail.train.step import TrainConfig


@dataclass(frozen=True)
class Pretrain(TrainConfig):
    """A pre-training run. The number of classes comes from the training data."""

    model: ModelConfig = field(default_factory=ViTConfig)
    resize: Resize = field(default_factory=CentreCrop)  # the evaluation view


def pretrain(
    config: Pretrain, folder: Path, machine: Machine | None = None, recipe: str | None = None
) -> dict[str, Any]:
    """Pre-trains in `folder`, or continues there, and returns the result (docs/files.md: result.json).

    Raises:
        BadInput: data, sizes or a folder that cannot be used.
        Interrupted: after a signal, once the run is saved.
    """
    check_training(config)
    config.model.check()
    data = open_training_data(config)
    model_config = with_classes(config.model, len(data[0].classes))
    if not model_config.head_bias:
        model_config = replace(model_config, head_bias=head_bias(config.loss, model_config.num_classes))
    machine = machine or Machine()
    with joined(choose_device(machine.device)), RunFolder(folder, "pretrain", config, recipe) as run:
        if run.state == "finished":
            return run.result()
        torch.manual_seed(torch_seed(config.seed, "initialise"))
        model = build(model_config)
        preprocess = Preprocess(model_config.resolution, config.resize)
        return run_training(config, run, model, preprocess, data, machine, {"job": "pretrain", "recipe": recipe})
