"""What a study can see: the least difference of two runs that it would find, by the spread of runs that there are.

The test is that of the findings: means of two runs over their seeds, the deviation pooled over all runs of the study,
95 % intervals. The least difference is the one whose interval leaves out zero in POWER of all studies:
(t(0.975) + t(POWER)) · deviation · √(2 / seeds), with runs · (seeds - 1) degrees of freedom.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path

from scipy.stats import t as t_distribution

from vitrail.studies.engine.results import Noise, pooled, read_measured
from vitrail.studies.engine.runs import Run, StudyRun, digest
from vitrail.studies.engine.study import Study, made_runs

POWER = 0.8
MOST_SEEDS = 50  # that are looked at


@dataclass(frozen=True)
class Sight:
    """What a study with its seeds sees in one measure; shares of right answers, or the measure's own unit."""

    measure: str
    deviation: float  # of one run between seeds
    freedom: int  # degrees of freedom that the deviation is known from
    least: float | None  # difference that would be found; None with one seed, whose spread the study cannot know
    effect: float | None  # what the paper found and the study must see
    seeds: int | None  # that see it; None where MOST_SEEDS do not, or without an effect


def sights(study: Study, out: Path) -> list[Sight]:
    """Of each measure whose spread the runs in `out` show: those that have several seeds, of any length."""
    found = []
    runs = len(study.runs) if study.all_rates else len({run.at.get("of", run.name) for run in study.runs})
    for name, noise in _spreads(study, out).items():
        needed = None
        if study.effect is not None:
            enough = (n for n in range(2, MOST_SEEDS + 1) if (least(noise, n, runs) or 1.0) <= study.effect)
            needed = next(enough, None)
        seen = least(noise, study.seeds, runs)
        found.append(Sight(name, noise.deviation, int(noise.freedom), seen, study.effect, needed))
    return found


def least(noise: Noise, seeds: int, runs: int) -> float | None:
    """The least difference of two of so many runs; None with one seed."""
    freedom = runs * (seeds - 1)
    if not freedom:
        return None
    both = t_distribution.ppf(0.975, freedom) + t_distribution.ppf(POWER, freedom)
    return float(both) * noise.deviation * sqrt(2 / seeds)


def _spreads(study: Study, out: Path) -> Mapping[str, Noise]:
    """The noise of each measure, pooled over the configs in `out` that were run with several seeds."""
    groups: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for kind in {type(run.config) for run in study.runs}:
        for config, folder in made_runs(out / "runs", kind):
            place = StudyRun(Run("", config), config, folder)
            for measure in study.measures:
                measured = read_measured(place, measure)
                for name, value in measured.values.items() if measured else ():
                    if value is not None:
                        groups[name][digest(replace(config, seed=0))].append(value)
    noises = {name: pooled(list(values.values())) for name, values in groups.items()}
    return {name: noise for name, noise in noises.items() if noise is not None}


def sights_text(study: Study, seen: list[Sight]) -> list[str]:
    """A sentence a measure: what is seen, and whether it is enough."""
    if not seen:
        return [
            "How small a difference this study can see is not known before some runs in --out have several seeds; "
            "a few short ones say it: the same command with --runs, --seeds 3 and fewer --steps."
        ]
    return [_sentence(study, sight) for sight in seen]


def _sentence(study: Study, sight: Sight) -> str:
    spread = f"{sight.measure}: seeds spread by {_points(sight.deviation)} ({sight.freedom} degrees of freedom)"
    if sight.least is None:
        return f"{spread}; with one seed no difference can be told from it."
    often, seeds = f"{POWER:.0%} of times", f"{study.seeds} seeds"
    said = f"{spread}; with {seeds} two runs are told apart from {_points(sight.least)} on, {often}"
    if sight.effect is None:
        return f"{said}."
    if sight.least <= sight.effect:
        return f"{said}: enough for the {_points(sight.effect)} of the paper."
    needed = f"take --seeds {sight.seeds}" if sight.seeds else f"{MOST_SEEDS} seeds are too few for that"
    return f"{said}: it cannot answer whether there are the {_points(sight.effect)} of the paper; {needed}."


def _points(share: float) -> str:
    return f"{100 * share:.2g} points"
