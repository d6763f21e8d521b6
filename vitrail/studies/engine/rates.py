"""Several learning rates for a run of a study, of which the validation images of its first seed choose one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vitrail.studies.engine.results import Results, Row, mean_curve
from vitrail.studies.engine.runs import Run, StudyRun
from vitrail.studies.engine.study import Study


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


def at_the_edge(results: Results) -> str:
    """How often the chosen rate is the highest or the lowest that was tried, in a sentence; "" where it never is.

    What is beyond it is not ruled out: a difference of two runs may be one of their rates.
    """
    tried: dict[str, list[Any]] = {}
    for row in results.rows:
        if "of" in row.run.at:
            tried.setdefault(str(row.run.at["of"]), []).append(row.run.at["rate"])
    picked = {row.run.name: row.run.at["rate"] for row in chosen(results).rows if len(tried.get(row.run.name, ())) > 1}
    ends = {
        "highest": sum(rate == max(tried[name]) for name, rate in picked.items()),
        "lowest": sum(rate == min(tried[name]) for name, rate in picked.items()),
    }
    if not any(ends.values()):
        return ""
    said = " and ".join(f"the {end} for {times}" for end, times in ends.items() if times)
    return f"Of the rates the validation images chose {said} of {len(picked)} runs; none beyond was tried."


def still_gaining(results: Results) -> str:
    """How many runs, at the rate that was chosen, were best at their last step, in a sentence; "" where none was.

    What more steps would bring is not ruled out for these, and they had not begun to overfit.
    """
    curves = [[accuracy for _, accuracy in results.curve(row)] for row in chosen(results).rows]
    curves = [curve for curve in curves if len(curve) > 1]
    gaining = sum(curve[-1] == max(curve) for curve in curves)
    if not gaining:
        return ""
    return f"Validation accuracy was highest at the end in {gaining} of {len(curves)} runs: these did not overfit yet."


def spared(study: Study, results: Results) -> str:
    """How many runs the choice of rates spared (`needed`), in a sentence; "" where it spared none."""
    left = len(study.runs) - len(results.rows)
    if not left:
        return ""
    return f"{left} of {len(study.runs)} runs were not made: their rates are far from that of the next smaller model."


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

    Later seeds of rates that were not chosen: a rate costs one seed. And where a run names a smaller model by
    `at["smaller"]`, an earlier run of the study: rates other than the one that was chosen for it and the next lower
    one, as the best rate falls slowly with the size. Until it is chosen these are not needed yet; `counted`: two of
    them are, near the best so far, and later seeds of a rate that may be chosen.
    """
    if study.all_rates:
        return list(plans)
    at_rates: dict[str, list[StudyRun]] = {}
    for plan in plans:
        if _first(plan):
            at_rates.setdefault(str(plan.run.at.get("of", plan.run.name)), []).append(plan)
    searches: dict[Any, Search] = {}
    for name, group in at_rates.items():
        searches[name] = _search(group, searches.get(group[0].run.at.get("smaller")), counted=counted)
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


def _search(group: Sequence[StudyRun], smaller: Search | None, *, counted: bool) -> Search:
    """The rates of a run to try, by the search of the next smaller model if there is one."""
    waits = smaller is not None and not smaller.ended
    if waits and not counted:
        return Search((), ended=False)
    guess = None if smaller is None else smaller.best
    tried = group[:2] if waits and guess is None else _near(group, guess)
    return Search(tried, ended=not waits and all(plan.finished or plan.failure.is_file() for plan in tried))


def _near(group: Sequence[StudyRun], smaller: StudyRun | None) -> Sequence[StudyRun]:
    """The plans at the rate of the smaller model and at the next lower one; all if there is none."""
    if smaller is None:
        return group
    most = float(smaller.run.at["rate"])
    by_rate = sorted(group, key=lambda plan: float(plan.run.at["rate"]))
    return [plan for plan in by_rate if float(plan.run.at["rate"]) <= most][-2:] or by_rate[:1]


def _first(plan: StudyRun) -> bool:
    return bool(plan.config.seed == plan.run.config.seed)
