"""A study: runs that differ in one thing each, the measures of each run, and the finding.

A study is a function of a scale that returns a `Study`, one module each, listed in `vitrail.studies.STUDIES`:

    def head(scale: Scale) -> Study:
        base = Pretrain(...)
        runs = [Run(f"{lr:g}", replace(base, optimizer=replace(base.optimizer, lr=lr)), {"lr": lr}) for lr in RATES]
        return Study("head", ..., runs=tuple(runs), measures=(FewShot(...),), finding=finding, figures=figures)

The first run is the base: the line of change of every other run is its difference from that.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitrail.core.config import changes, from_json, shown, to_json
from vitrail.core.errors import BadInput, unknown
from vitrail.core.figures import Figure
from vitrail.core.files import read_json
from vitrail.jobs.pretrain import pretrain
from vitrail.studies.engine.results import Results
from vitrail.studies.engine.runs import Measure, Run, Scale, StudyRun, digest, slug


@dataclass(frozen=True)
class Study:
    """A figure or a table of the paper as runs.

    `finding` is one sentence about the results with its uncertainty; it is also asked for unfinished results, and says
    then what is missing (`Results.complete`). `figures` may use whatever rows have values.
    """

    name: str
    question: str
    source: str  # where in the paper
    scale: Scale
    runs: tuple[Run, ...]
    measures: tuple[Measure, ...]
    finding: Callable[[Results], str]
    figures: Callable[[Results], Sequence[Figure]]
    paper: str = ""  # what the paper found, in a sentence
    remarks: tuple[str, ...] = ()  # what is unlike the paper at this scale
    seeds: int = 1  # of each run; of one at several rates, of the chosen rate (engine/rates.py)
    all_rates: bool = False  # the study is about the rates themselves: each has all seeds
    effect: float | None = None  # the difference that the paper found and the study must see, a share of right answers
    job: Callable[..., Any] = pretrain  # (config, folder, machine) -> result.json's content

    def check(self) -> None:
        """Raises BadInput for what an option broke: two runs became the same, nothing can choose among rates."""
        if self.seeds < 1:
            raise BadInput(f"seeds is {self.seeds}, expected at least 1")
        names: dict[str, str] = {}
        for run in self.runs:
            key = digest(run.config)
            if key in names:
                raise BadInput(
                    f"the runs {names[key]!r} and {run.name!r} of {self.name} became the same: "
                    "an option sets what this study varies"
                )
            names[key] = run.name
            if "of" in run.at and run.config.validation is None:
                raise BadInput(
                    f"{self.name} chooses among learning rates by validation images, and {run.name!r} has none; "
                    "give --validation DATA"
                )

    def part(self, names: Sequence[str]) -> "Study":
        """The base and the runs of these names; raises BadInput for a name that there is not."""
        known = [run.name for run in self.runs]
        for name in names:
            if name not in known:
                raise unknown(f"run of {self.name}", name, known)
        return replace(self, runs=(self.runs[0], *(run for run in self.runs[1:] if run.name in names)))

    def change(self, run: Run) -> str:
        """The difference of a run from the first: `model.position = NoPosition(); …`; empty for the first."""
        fields = changes(to_json(self.runs[0].config), to_json(run.config), whole=True)
        return "; ".join(f"{path} = {shown(new)}" for path, _, new in fields if path != "seed")


def study_runs(study: Study, out: Path) -> list[StudyRun]:
    """All runs, one seed of all before the next seed, so that a study that is cut short has whole tables.

    Not all of them are made: `engine.rates.needed`.
    """
    known = {kind: _made(out / "runs", kind) for kind in {type(run.config) for run in study.runs}}
    plans = []
    for repeat in range(study.seeds):
        for run in study.runs:
            config = replace(run.config, seed=run.config.seed + repeat)
            key = digest(config)
            name = f"{study.name}-{slug(run.name)}-s{config.seed}-{key}"
            plans.append(StudyRun(run, config, known[type(config)].get(key, out / "runs" / name)))
    return plans


def _made(runs: Path, kind: type) -> dict[str, Path]:
    """The folders of runs that were begun, by the digest of their config as this version of vitrail reads it."""
    return {digest(config): folder for config, folder in made_runs(runs, kind)}


def made_runs(runs: Path, kind: type) -> Iterator[tuple[Any, Path]]:
    """The configs of a kind in a folder of runs, finished or not, with the folder of each."""
    for folder in run_folders(runs):
        with suppress(BadInput):  # a run of another job, or of another version
            yield from_json(kind, read_json(folder / "config.json").get("config")), folder


def run_folders(runs: Path) -> list[Path]:
    """The folders of runs in a folder, by name; hidden ones are half-written."""
    return sorted(file.parent for file in runs.glob("*/config.json") if not file.parent.name.startswith("."))
