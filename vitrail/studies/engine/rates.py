"""Several learning rates for a run of a study, of which the validation images choose one."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vitrail.studies.engine.results import Results, Row
from vitrail.studies.engine.runs import Run


def at_rates(run: Run, rates: Sequence[float]) -> Iterator[Run]:
    """The run at each rate: `NAME, rate 0.001`, ..., which `chosen` takes for one again."""
    for rate in rates:
        config = replace(run.config, optimizer=replace(run.config.optimizer, lr=rate))
        yield Run(f"{run.name}, rate {rate:g}", config, {**run.at, "of": run.name, "rate": rate})


def chosen(results: Results) -> Results:
    """One row, by its name without a rate, for the rows of a run at several: that of the best validation accuracy."""
    best: dict[str, Row] = {}
    for row in results.rows:
        name = str(row.run.at.get("of", row.run.name))
        if name not in best or _validation(results, row) > _validation(results, best[name]):
            best[name] = row
    rows = [replace(row, run=replace(row.run, name=name)) for name, row in best.items()]
    return replace(results, rows=rows)


def _validation(results: Results, row: Row) -> float:
    """The best validation accuracy of a run, the mean over its seeds; -1 before there is one."""
    return max((accuracy for _, accuracy in results.curve(row)), default=-1.0)
