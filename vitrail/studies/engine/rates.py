"""Several learning rates for a run of a study, of which the validation images of its first seed choose one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vitrail.studies.engine.results import Results, Row, mean_curve
from vitrail.studies.engine.runs import Run, StudyRun
from vitrail.studies.engine.study import Study

# An earlier run of the study that a run may name in `at`: how many rates it is tried at, that of the other and lower.
NEAR = {"smaller": 2, "shorter": 1}  # the best rate falls slowly with the size; a longer run is not tuned anew


def at_rates(run: Run, rates: Sequence[float]) -> Iterator[Run]:
    """The run at each rate: `NAME, rate 0.001`, ..., which `chosen` takes for one again."""
    for rate in rates:
        config = replace(run.config, optimizer=replace(run.config.optimizer, lr=rate))
        yield Run(f"{run.name}, rate {rate:g}", config, {**run.at, "of": run.name, "rate": rate})


def chosen(results: Results) -> Results:
    """One row, by its name without a rate, for the rows of a run at several: that of the best validation accuracy.

    Compared are the seeds that all of them have.
    """
    groups: dict[str, list[Row]] = {}
    for row in results.rows:
        groups.setdefault(str(row.run.at.get("of", row.run.name)), []).append(row)
    best = [(name, _best(rows)) for name, rows in groups.items()]
    return replace(results, rows=[replace(row, run=replace(row.run, name=name)) for name, row in best])


def _best(rows: Sequence[Row]) -> Row:
    finished = [{plan.config.seed: plan for plan in row.plans if plan.finished} for row in rows]
    common = set.intersection(*(set(plans) for plans in finished if plans)) if any(finished) else set[int]()
    judged = [_validation([plans[seed] for seed in sorted(common & set(plans))]) for plans in finished]
    return rows[judged.index(max(judged))]


def _validation(plans: Sequence[StudyRun]) -> float:
    """The best validation accuracy of a run, the mean over its seeds; -1 before there is one."""
    return max((accuracy for _, accuracy in mean_curve(plans)), default=-1.0)


def needed(study: Study, plans: Sequence[StudyRun], *, counted: bool = False) -> list[StudyRun]:
    """All runs but those that the choice of a rate spares, unless the study is of rates.

    Later seeds of rates that were not chosen: a rate costs one seed. And where a run names one with a smaller model or
    of fewer steps (NEAR): rates that are not near the one chosen for that. Until it is chosen these are not needed yet;
    `counted`: as many of them are, near the best so far, and later seeds of a rate that may be chosen.
    """
    if study.all_rates:
        return list(plans)
    at_rates: dict[str, list[StudyRun]] = {}
    for plan in plans:
        if _first(plan):
            at_rates.setdefault(str(plan.run.at.get("of", plan.run.name)), []).append(plan)
    searches: dict[Any, Search] = {}
    for name, group in at_rates.items():
        searches[name] = _search(group, searches, counted=counted)
    first = {id(plan) for search in searches.values() for plan in search.tried}
    later = {id(run) for search in searches.values() for run in search.repeated(counted=counted)}
    return [plan for plan in plans if id(plan) in first or (not _first(plan) and id(plan.run) in later)]


@dataclass(frozen=True)
class Search:
    """The first seeds of one run at the rates that are tried; `ended`: one can be chosen of them."""

    tried: Sequence[StudyRun]
    ended: bool

    @property
    def best(self) -> StudyRun | None:
        """By validation accuracy, of those that have finished; one alone is the best before it has."""
        if len(self.tried) == 1:
            return self.tried[0]
        finished = [plan for plan in self.tried if plan.finished]
        return max(finished, key=lambda plan: _validation([plan]), default=None)

    def repeated(self, *, counted: bool) -> Iterator[Run]:
        """What later seeds are made of: the chosen rate; `counted`: before there is one, any."""
        if self.best is not None and (self.ended or len(self.tried) == 1):
            yield self.best.run
        elif counted:
            yield self.tried[0].run


def _search(group: Sequence[StudyRun], searches: Mapping[Any, Search], *, counted: bool) -> Search:
    """The rates of a run to try, by the search of the run that it names if it names one."""
    at = group[0].run.at
    named, count = next(
        ((searches.get(at[key]), count) for key, count in NEAR.items() if key in at), (None, len(group))
    )
    waits = named is not None and not named.ended
    if waits and not counted:
        return Search((), ended=False)
    guess = None if named is None else named.best
    tried = group[:count] if waits and guess is None else _near(group, guess, count)
    return Search(tried, ended=not waits and all(plan.finished or plan.failure.is_file() for plan in tried))


def _near(group: Sequence[StudyRun], named: StudyRun | None, count: int) -> Sequence[StudyRun]:
    """The plans at the rate of the run that is named and at the next lower ones; all if there is none."""
    if named is None:
        return group
    most = float(named.run.at["rate"])
    by_rate = sorted(group, key=lambda plan: float(plan.run.at["rate"]))
    return [plan for plan in by_rate if float(plan.run.at["rate"]) <= most][-count:] or by_rate[:1]


def _first(plan: StudyRun) -> bool:
    return bool(plan.config.seed == plan.run.config.seed)
