"""A run of a study: its config, its folder, what is measured of it, and how it differs from the base."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vitrail.core.config import to_json, without_later
from vitrail.jobs.finetune.finetune import Finetune

# Minutes on the digits; an hour on small photographs; a night on two cores, made to decide; the paper's own.
Scale = Literal["smoke", "small", "medium", "paper"]


@dataclass(frozen=True)
class FewShot:
    """Accuracy of a linear classifier on frozen features from a few images a class (section 4.1): `5-shot`, ..."""

    train: str
    test: str
    shots: tuple[int | Literal["all"], ...] = (5,)  # all: the whole training set
    draws: int = 3  # the same for all runs, so that they are no noise between these

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its values."""
        return tuple(self.name_of(n) for n in self.shots)

    @staticmethod
    def name_of(shots: int | Literal["all"]) -> str:
        """What the accuracy from so many images a class is called."""
        return "linear" if shots == "all" else f"{shots}-shot"


@dataclass(frozen=True)
class Reached:
    """A number of the run's own result.json, such as the accuracy of its validation images."""

    name: str = "validation"
    key: str = "accuracy"

    @property
    def names(self) -> tuple[str, ...]:
        """The name of its value."""
        return (self.name,)


@dataclass(frozen=True)
class Tuned:
    """Accuracy after fine-tuning (section 3.2); the model of the run is put in as `init`."""

    config: Finetune
    name: str = "fine-tuned"

    @property
    def names(self) -> tuple[str, ...]:
        """The name of its value."""
        return (self.name,)


Measure = FewShot | Reached | Tuned


@dataclass(frozen=True)
class Run:
    """One whole config with the name that the study gives it; `at` says where it stands in the figures."""

    name: str
    config: Any  # Pretrain, or what the study's job takes; its seed is the first of several
    at: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyRun:
    """A run with one of its seeds, and its folder."""

    run: Run
    config: Any
    folder: Path

    @property
    def finished(self) -> bool:
        """True once it is trained; its measures are made apart."""
        return (self.folder / "result.json").is_file()

    @property
    def begun(self) -> bool:
        """True once there is anything of it, a failure too."""
        return (self.folder / "config.json").is_file() or self.failure.is_file()

    @property
    def failure(self) -> Path:
        """The file beside the folder that says why a run did not finish."""
        return self.folder.with_name(f"{self.folder.name}.failed.json")

    @property
    def differs(self) -> Path:
        """The file beside the folder that says where the same run was made with other results."""
        return self.folder.with_name(f"{self.folder.name}.differs.json")


def digest(config: Any) -> str:
    """Ten hexadecimal digits of a config: equal configs are one run, whichever study asks for it."""
    return hashlib.sha256(json.dumps(without_later(to_json(config)), sort_keys=True).encode()).hexdigest()[:10]


def slug(text: str) -> str:
    """Makes a name for files: "2-D, every layer" -> "2-d-every-layer"."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
