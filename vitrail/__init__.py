"""Pre-train, transfer, study and look inside Vision Transformers ("An Image is Worth 16x16 Words").

The public names below are imported when they are first used, so that `import vitrail` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitrail.core.errors import BadInput
    from vitrail.jobs.finetune.finetune import Finetune, finetune
    from vitrail.jobs.linear_probe import Linear, linear
    from vitrail.jobs.pretrain import Pretrain, pretrain
    from vitrail.models.build import create_model
    from vitrail.models.output import ModelOutput
    from vitrail.records.read_run import read_run
    from vitrail.serve.predictor import Predictor
    from vitrail.train.callbacks import Callback
    from vitrail.weights.load import load

_HOMES = {
    "BadInput": "vitrail.core.errors",
    "Callback": "vitrail.train.callbacks",
    "Finetune": "vitrail.jobs.finetune.finetune",
    "Linear": "vitrail.jobs.linear_probe",
    "ModelOutput": "vitrail.models.output",
    "Predictor": "vitrail.serve.predictor",
    "Pretrain": "vitrail.jobs.pretrain",
    "create_model": "vitrail.models.build",
    "finetune": "vitrail.jobs.finetune.finetune",
    "linear": "vitrail.jobs.linear_probe",
    "load": "vitrail.weights.load",
    "pretrain": "vitrail.jobs.pretrain",
    "read_run": "vitrail.records.read_run",
}

__all__ = [
    "BadInput",
    "Callback",
    "Finetune",
    "Linear",
    "ModelOutput",
    "Predictor",
    "Pretrain",
    "create_model",
    "finetune",
    "linear",
    "load",
    "pretrain",
    "read_run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vitrail' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
