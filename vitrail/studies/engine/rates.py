"""Several learning rates for a run of a study, of which the validation images of its first seed choose one."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
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
    them are, and later seeds of the first rate.
    """
    if study.all_rates:
        return list(plans)
    groups: dict[str, list[StudyRun]] = {}
    for plan in plans:
        if _first(plan):
            groups.setdefault(str(plan.run.at.get("of", plan.run.name)), []).append(plan)
    picked: dict[Any, StudyRun | None] = {}
    first, later, undecided = set[int](), set[int](), set[Any]()
    for name, group in groups.items():
        smaller = group[0].run.at.get("smaller")
        waiting = smaller in undecided
        tried = (group[:2] if counted else []) if waiting else _near(group, picked.get(smaller))
        picked[name] = _chosen(tried)
        if waiting or not all(_ended(plan) for plan in tried):
            undecided.add(name)
        first |= {id(plan) for plan in tried}
        if (repeated := picked[name] or (tried[0] if counted else None)) is not None:
            later.add(id(repeated.run))
    return [plan for plan in plans if id(plan) in first or (not _first(plan) and id(plan.run) in later)]


def _near(group: list[StudyRun], smaller: StudyRun | None) -> list[StudyRun]:
    """The plans at the rate that was chosen for the smaller model and at the next lower one; all if there is none."""
    if smaller is None:
        return group
    most = float(smaller.run.at["rate"])
    by_rate = sorted(group, key=lambda plan: float(plan.run.at["rate"]))
    return [plan for plan in by_rate if float(plan.run.at["rate"]) <= most][-2:] or by_rate[:1]


def _first(plan: StudyRun) -> bool:
    return bool(plan.config.seed == plan.run.config.seed)


def _chosen(group: Sequence[StudyRun]) -> StudyRun | None:
    """Of the first seeds of a run at its rates; None while one of them is neither finished nor failed."""
    finished = [plan for plan in group if plan.finished]
    if len(group) == 1:
        return group[0]
    if not finished or not all(_ended(plan) for plan in group):
        return None
    return max(finished, key=lambda plan: _validation([plan]))


def _ended(plan: StudyRun) -> bool:
    return plan.finished or plan.failure.is_file()
