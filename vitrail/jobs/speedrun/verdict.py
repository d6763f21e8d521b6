"""Whether the bar of a track is reached: the mean over seeds, Student's test against the bar, and the slowest seed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vitrail.core.estimate import over_seeds, p_above
from vitrail.core.numbers import duration, percent, within
from vitrail.core.text import listed, ordinary_spaces
from vitrail.jobs.speedrun.rules import CORES, SEEDS, P
from vitrail.records.speedrun import Attempt, SpeedrunResult, Track


def verdict(
    track: Track,
    config: Mapping[str, Any],
    attempts: Sequence[Attempt],
    *,
    changes: Sequence[str] = (),
    asked: Sequence[int] = (SEEDS,),
    starts: Mapping[str, int] | None = None,
    command: Sequence[str] = (),
) -> SpeedrunResult:
    """What speedrun.json holds (docs/files.md) of these seeds."""
    accuracies = [attempt.accuracy for attempt in attempts]
    times = [attempt.seconds for attempt in attempts]
    p = p_above(accuracies, track.bar)
    undecided = _undecided(track, attempts, max(asked), p)
    slowest = max(times, default=None)
    reached = not undecided and p is not None and p < P and slowest is not None and slowest <= track.seconds
    mean = float(np.mean(accuracies)) if accuracies else None
    interval = over_seeds(accuracies)
    return SpeedrunResult(
        track=track,
        config=config,
        changes=changes,
        asked=asked,
        starts=starts or {},
        attempts=attempts,
        mean=mean,
        interval=interval,
        p=p,
        seconds=float(np.mean(times)) if times else None,
        slowest=slowest,
        undecided=undecided,
        reached=reached,
        finding=ordinary_spaces(_finding(track, mean, interval, p, times, undecided, reached, changes)),
        command=command,
    )


def _undecided(track: Track, attempts: Sequence[Attempt], asked: int, p: float | None) -> list[str]:
    """Why these seeds do not decide."""
    reasons = []
    if len(attempts) < max(asked, SEEDS):
        reasons.append(f"{len(attempts)} of {max(asked, SEEDS)} seeds are made")
    elif p is None:
        reasons.append("all seeds have the same accuracy, so that their noise is not known")
    machines = {(one.processor, one.device, one.cores, one.threads, one.precision, one.compiled) for one in attempts}
    if len(machines) > 1:
        reasons.append(f"the seeds were made on {len(machines)} different machines")
    codes = {(one.commit, one.changed, one.vitrail, one.torch, one.python) for one in attempts}
    if len(codes) > 1:
        reasons.append(f"the seeds were made by {len(codes)} different versions")
    most = max((one.cores for one in attempts), default=0)
    if track.device == "cpu" and most > CORES:
        reasons.append(f"the processes could use {most} cores, the track is of {CORES}")
    return reasons


def _finding(
    track: Track,
    mean: float | None,
    interval: object,
    p: float | None,
    times: Sequence[float],
    undecided: Sequence[str],
    reached: bool,
    changes: Sequence[str],
) -> str:
    head = "Not decided" if undecided else "Reached" if reached else "Not reached"
    if mean is None:
        return f"{head}: {listed(undecided)}."
    other = f" by another recipe than the track's ({'; '.join(changes)})" if changes else ""
    count = f"{len(times)} seed{'' if len(times) == 1 else 's'}"
    said = [f"{head}: {count}{other} gave {percent(mean, 2)} on the mean{within(interval)}"]
    if p is not None:
        above = "above" if p < P else "not shown to be above"
        said.append(f"{above} {percent(track.bar)} (one-sided t-test, p = {p:.2g})")
    late = sum(time > track.seconds for time in times)
    limit = duration(track.seconds)
    span = duration(min(times)) if len(times) == 1 else f"{duration(min(times))} to {duration(max(times))}"
    beyond = f"{late} beyond the limit of {limit}" if late else f"within the limit of {limit}"
    said.append(f"in {span}, {beyond}")
    return f"{', '.join(said)}{f'; {listed(undecided)}' if undecided else ''}."
