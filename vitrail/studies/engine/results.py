"""The results of a study so far: rows with intervals, read from the folders of the runs.

The noise. Where runs were repeated with other seeds, the deviation between the seeds of a run is pooled over all runs
of the study: two seeds of one run say next to nothing about it, two seeds of eight runs have eight degrees of freedom.
Of shares of right answers it is pooled in units of √(share · (1 - share)), in which that of drawn test images is the
same for all (the arcsine transform): runs of 40 % and of 99 % are not equally sure of a point.
Where each run has one seed, the interval is that of the share of right answers among the test images, and says nothing
about other seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

from vitrail.core.config import to_json
from vitrail.core.estimate import Estimate
from vitrail.core.files import read_json
from vitrail.core.run import read_metrics
from vitrail.records.record import load_record
from vitrail.records.study import Measured
from vitrail.studies.engine.runs import Measure, Reached, Run, Scale, StudyRun, digest


@dataclass(frozen=True)
class Row:
    """A run with all its seeds: the plans, what they have in their result.json, and the values of each measure."""

    run: Run
    change: str
    plans: Sequence[StudyRun]
    results: Sequence[Mapping[str, Any]]  # of the finished seeds
    values: Mapping[str, Sequence[float]]  # measure -> one a seed
    counts: Mapping[str, int | None]  # measure -> test images behind one value, where it is a share of them

    def mean_of(self, key: str) -> float | None:
        """The mean of a number of result.json over the seeds, such as "total_flops"."""
        known = [float(result[key]) for result in self.results if result.get(key) is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class Noise:
    """The deviation of one value between seeds, its degrees of freedom, and what it comes from."""

    deviation: float
    freedom: float
    of: str
    shares: bool = False  # the deviation is in units of √(share · (1 - share))

    def at(self, value: float, count: int | None) -> float:
        """The deviation of a value; `count`: test images behind a share."""
        return self.deviation * _unit(value, count) if self.shares else self.deviation


@dataclass(frozen=True)
class Results:
    """The rows of a study in its order, and what was measured of each."""

    scale: Scale
    measures: Sequence[Measure]
    rows: Sequence[Row]
    noises: Mapping[str, Noise | None] = field(default_factory=dict)

    @property
    def measure_names(self) -> list[str]:
        """The names of all measured values, in order."""
        return [name for measure in self.measures for name in measure.names]

    @property
    def complete_rows(self) -> int:
        """The number of rows that have a value of every measure."""
        return sum(all(row.values.get(name) for name in self.measure_names) for row in self.rows)

    @property
    def complete(self) -> bool:
        """True once every row has a value of every measure."""
        return self.complete_rows == len(self.rows)

    def row(self, name: str) -> Row:
        """The row of a run; raises KeyError."""
        return {row.run.name: row for row in self.rows}[name]

    def has(self, measure: str) -> list[Row]:
        """The rows that have a value of it."""
        return [row for row in self.rows if row.values.get(measure)]

    def value(self, row: Row, measure: str) -> Estimate:
        """The mean of a row over its seeds."""
        estimate = self.contrast({row.run.name: 1.0}, measure)
        assert estimate is not None
        if row.counts.get(measure) is None or estimate.low is None or estimate.high is None:
            return estimate
        return Estimate(estimate.value, (max(0.0, estimate.low), min(1.0, estimate.high)))

    def contrast(self, weights: Mapping[str, float], measure: str) -> Estimate | None:
        """Σ weight · mean of the run of that name; None where a run has no value. The runs count as independent."""
        total = variance = 0.0
        freedom = inf
        known = True
        for name, weight in weights.items():
            values = self.row(name).values.get(measure, ())
            if not values:
                return None
            error = self.error(self.row(name), measure)
            total += weight * float(np.mean(values))
            known = known and error is not None
            if error is not None:
                variance += (weight * error[0]) ** 2
                freedom = min(freedom, error[1])
        if not known:
            return Estimate(total)
        half = float(t_distribution.ppf(0.975, freedom)) * sqrt(variance)
        return Estimate(total, (total - half, total + half))

    def error(self, row: Row, measure: str) -> tuple[float, float] | None:
        """The standard error of a row's mean and its degrees of freedom; None where nothing is known of it."""
        values, noise = row.values.get(measure, ()), self.noises.get(measure)
        if noise is not None:
            return noise.at(float(np.mean(values)), row.counts.get(measure)) / sqrt(len(values)), noise.freedom
        count = row.counts.get(measure)
        return None if count is None else (_unit(float(np.mean(values)), count) / sqrt(count), inf)

    def alike(self, names: Sequence[str], measure: str) -> float | None:
        """The p value of an F test that all these runs are equal; None where the noise is not known."""
        rows = [self.row(name) for name in names if self.row(name).values.get(measure)]
        known = [self.error(row, measure) for row in rows]
        errors = [error for error in known if error is not None]
        if len(rows) < 2 or len(errors) < len(rows) or not all(error for error, _ in errors):
            return None
        means = np.array([np.mean(row.values[measure]) for row in rows])
        weights = np.array([error**-2 for error, _ in errors])
        spread = float((weights * (means - np.average(means, weights=weights)) ** 2).sum()) / (len(rows) - 1)
        return float(f_distribution.sf(spread, len(rows) - 1, min(1e9, *(freedom for _, freedom in errors))))

    def noise_of(self, measure: str) -> str:
        """Says for people where the intervals of a measure come from."""
        noise = self.noises.get(measure)
        if noise is not None:
            return noise.of
        known = any(row.counts.get(measure) for row in self.has(measure))
        return "of the test images; the seeds' noise is not known (one seed)" if known else "not known (one seed)"

    def is_share(self, measure: str) -> bool:
        """True where a measure is an accuracy, from 0 to 1 and shown in per cent; False for a plain number."""
        kind = next(m for m in self.measures if measure in m.names)
        return not isinstance(kind, Reached) or kind.key == "accuracy"

    def curve(self, row: Row, key: str = "accuracy") -> list[tuple[int, float]]:
        """(step, number) of the validation rows in metrics.jsonl, the mean over the seeds that have the step."""
        return mean_curve(row.plans, key)


def mean_curve(plans: Sequence[StudyRun], key: str = "accuracy") -> list[tuple[int, float]]:
    """(step, number) of the validation rows in metrics.jsonl, the mean over the runs that have the step."""
    by_step: dict[int, list[float]] = {}
    for plan in plans:
        for line in read_metrics(plan.folder / "metrics.jsonl"):
            if line["kind"] == "validation" and line.get(key) is not None:
                by_step.setdefault(line["step"], []).append(line[key])
    return [(step, sum(values) / len(values)) for step, values in sorted(by_step.items())]


def _unit(share: float, count: int | None) -> float:
    """√(p · (1 - p)), with one success and one failure more, so that it is never zero (Agresti and Coull, nearly)."""
    if count is not None:
        share = (share * count + 1) / (count + 2)
    return sqrt(max(share * (1 - share), 0.0))


def pooled(groups: Sequence[Sequence[float]], *, shares: bool = False) -> Noise | None:
    """The noise of the values of several runs, each with its seeds; None where no run has two."""
    repeated = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in repeated)
    if not freedom:
        return None
    scaled = [2 * np.arcsin(np.sqrt(np.clip(group, 0, 1))) if shares else np.asarray(group) for group in repeated]
    squares = sum(float(np.var(group)) * len(group) for group in scaled)
    sizes = sorted({len(group) for group in repeated})
    seeds = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    of = f"over {seeds} seeds a run, their spread pooled over {len(repeated)} runs"
    return Noise(sqrt(squares / freedom), float(freedom), of, shares)


def measured_file(plan: StudyRun, measure: Measure) -> Path:
    """The file of a measure of a run; studies share it."""
    return plan.folder / "measured" / f"{digest(measure)}.json"


def read_measured(plan: StudyRun, measure: Measure) -> Measured | None:
    """What was measured of a run; None before it was."""
    if isinstance(measure, Reached):
        result = read_json(plan.folder / "result.json") if plan.finished else {}
        if result.get(measure.key) is None:
            return None
        count = result.get("count") if measure.key == "accuracy" else None
        return Measured(measure=to_json(measure), values={measure.name: float(result[measure.key])}, count=count)
    file = measured_file(plan, measure)
    return load_record(Measured, file) if file.is_file() else None
