"""A study whose runs take no time: its job writes what the seed and the level of a run say, or fails when told to."""

from dataclasses import dataclass, replace
from pathlib import Path

from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.core.figures import Dots, Panel, dot
from vitrail.core.files import read_json
from vitrail.core.run import RunFolder
from vitrail.studies.engine.findings import differs, unfinished
from vitrail.studies.engine.results import Results
from vitrail.studies.engine.runs import Reached, Run, StudyRun
from vitrail.studies.engine.study import Study

MADE: list[Path] = []  # the runs that this process made


@dataclass(frozen=True)
class Level:
    """A config like any other."""

    level: float = 0.5
    broken: bool = False
    seed: int = 0
    validation: str | None = "data"


def make(config: Level, folder: Path, machine: Machine | None = None) -> dict[str, float]:
    """The accuracy is the level, and a point more for each seed."""
    if config.broken:
        raise BadInput("the level is broken; mend it")
    with RunFolder(folder, "stand-in", config) as run:
        if run.state != "finished":
            MADE.append(folder)
            run.log({"kind": "validation", "step": 1, "accuracy": 1 - config.level})
            run.finish({"accuracy": config.level + 0.01 * config.seed, "count": 1000, "seconds": 1.0})
        return read_json(run.path / "result.json")


def command(plan: StudyRun) -> list[str]:
    """The words of the process that makes a run."""
    config = plan.config
    return ["tests.studies.stand_in_process", str(config.level), str(config.seed), str(plan.folder), str(config.broken)]


def finding(results: Results) -> str:
    gap = results.contrast({"high": 1.0, "low": -1.0}, "validation")
    return unfinished(results) if gap is None else f"High is {differs(gap, 'better', 'worse')}."


def figures(results: Results) -> list[Dots]:
    dots = [dot(row.run.name, results.value(row, "validation")) for row in results.has("validation")]
    return [Dots("levels", "accuracy", [Panel("these runs", dots)])]


def levels(seeds: int = 1, broken: bool = False) -> Study:
    base = Level(0.5)
    runs = (
        Run("low", base),
        Run("high", replace(base, level=0.7)),
        Run("odd", replace(base, level=0.6, broken=broken)),
    )
    return Study("levels", "Which?", "nowhere", "smoke", runs, (Reached(),), finding, figures, seeds=seeds, job=make)


def rated(seeds: int = 2, broken: bool = False, all_rates: bool = False) -> Study:
    """Two runs at two levels each, in place of rates; validation images prefer the lower one, test images the higher.

    `broken`: the lower one of each fails.
    """
    runs = [
        Run(f"{of}, rate {rate}", Level(level, broken=broken and level == low), {"of": of, "rate": rate})
        for of, low in (("one", 0.2), ("two", 0.4))
        for rate, level in (("a", low + 0.1), ("b", low))
    ]
    return replace(levels(seeds), runs=tuple(runs), finding=lambda results: "none", all_rates=all_rates)
