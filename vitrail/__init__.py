"""Pre-train, transfer, study and look inside Vision Transformers ("An Image is Worth 16x16 Words").

The public names below are imported when they are first used, so that `import vitrail` costs nothing. docs/python.md has
an example of each.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitrail.analysis.look import look
    from vitrail.api.configs import command_of, recipe
    from vitrail.api.data import ImageDataset, data_loader, load_data
    from vitrail.api.evaluation import evaluate, features
    from vitrail.api.models import create_model
    from vitrail.api.training import train
    from vitrail.core.device import Machine
    from vitrail.core.errors import BadInput
    from vitrail.data.catalog.catalog import register_data
    from vitrail.data.sources.base import Example, Source
    from vitrail.data.transforms.pipeline import Augment, Preprocess
    from vitrail.jobs.finetune.finetune import Finetune, finetune
    from vitrail.jobs.linear_probe import Linear, linear
    from vitrail.jobs.pretrain import Pretrain, pretrain
    from vitrail.models.output import ModelOutput
    from vitrail.models.resnet import ResNetConfig
    from vitrail.models.variants import list_models, register_model
    from vitrail.models.vit import ViTConfig
    from vitrail.records.read_run import read_run
    from vitrail.serve.predictor import Predictor
    from vitrail.train.callbacks import Callback
    from vitrail.train.config import TrainConfig
    from vitrail.weights.load import load

_HOMES = {
    "Augment": "vitrail.data.transforms.pipeline",
    "BadInput": "vitrail.core.errors",
    "Callback": "vitrail.train.callbacks",
    "Example": "vitrail.data.sources.base",
    "Finetune": "vitrail.jobs.finetune.finetune",
    "ImageDataset": "vitrail.api.data",
    "Linear": "vitrail.jobs.linear_probe",
    "Machine": "vitrail.core.device",
    "ModelOutput": "vitrail.models.output",
    "Predictor": "vitrail.serve.predictor",
    "Preprocess": "vitrail.data.transforms.pipeline",
    "Pretrain": "vitrail.jobs.pretrain",
    "ResNetConfig": "vitrail.models.resnet",
    "Source": "vitrail.data.sources.base",
    "TrainConfig": "vitrail.train.config",
    "ViTConfig": "vitrail.models.vit",
    "command_of": "vitrail.api.configs",
    "create_model": "vitrail.api.models",
    "data_loader": "vitrail.api.data",
    "evaluate": "vitrail.api.evaluation",
    "features": "vitrail.api.evaluation",
    "finetune": "vitrail.jobs.finetune.finetune",
    "linear": "vitrail.jobs.linear_probe",
    "list_models": "vitrail.models.variants",
    "load": "vitrail.weights.load",
    "load_data": "vitrail.api.data",
    "look": "vitrail.analysis.look",
    "pretrain": "vitrail.jobs.pretrain",
    "read_run": "vitrail.records.read_run",
    "recipe": "vitrail.api.configs",
    "register_data": "vitrail.data.catalog.catalog",
    "register_model": "vitrail.models.variants",
    "train": "vitrail.api.training",
}

__all__ = [
    "Augment",
    "BadInput",
    "Callback",
    "Example",
    "Finetune",
    "ImageDataset",
    "Linear",
    "Machine",
    "ModelOutput",
    "Predictor",
    "Preprocess",
    "Pretrain",
    "ResNetConfig",
    "Source",
    "TrainConfig",
    "ViTConfig",
    "__version__",
    "command_of",
    "create_model",
    "data_loader",
    "evaluate",
    "features",
    "finetune",
    "linear",
    "list_models",
    "load",
    "load_data",
    "look",
    "pretrain",
    "read_run",
    "recipe",
    "register_data",
    "register_model",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("vitrail")
    if name not in _HOMES:
        raise AttributeError(f"module 'vitrail' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """Keeps `vitrail.train` the function: importing a file of the folder of that name would put the folder there."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name == "train" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
