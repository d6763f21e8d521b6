"""Where the time of a training run went, in a sentence that says what to do about it. All its rules are here.

A row of the log gives shares of the time since the row before: `waiting` for data, `copying` to the device,
`communicating` between processes; the rest is computing. Waiting is seen from the training process: on CUDA the device
may still have work for a part of one step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from statistics import median
from typing import Any, Literal, NamedTuple

from vitrail.core import numbers
from vitrail.core.text import listed

Json = dict[str, Any]

NOTABLE = 0.10  # share of the time from which waiting, copying or communicating is the first thing to mend
FILLED = 0.30  # share of the measured peak from which a faster run needs less arithmetic or another device
FULL = 0.90  # share of the memory from which a little more would end the run
SLOW = 0.5  # of the median speed: rows at the start of a session below it are its start (compiling, first files)

RULES = (
    f"Waiting, copying or communicating is named when it takes {numbers.percent(NOTABLE, 0)} of the time or more, the "
    f"largest first; otherwise computing is. Computing fills the device from {numbers.percent(FILLED, 0)} of its "
    f"measured peak; memory is nearly full from {numbers.percent(FULL, 0)}. The first row of the last session is left "
    f"out, and those after it that are slower than {numbers.percent(SLOW, 0)} of the median."
)

Bound = Literal["waiting", "copying", "communicating", "computing"]


@dataclass(frozen=True)
class Verdict:
    """What holds the run back, and the sentences for people."""

    bound: Bound
    sentence: str  # with the remedy
    memory: str = ""  # a second sentence where the memory is nearly full

    def __str__(self) -> str:
        return f"{self.sentence} {self.memory}".strip()


class Usage(NamedTuple):
    """Means over the time of some rows; shares from 0 to 1, None where nothing was measured."""

    images_per_second: float
    waiting: float
    copying: float
    communicating: float | None
    flops_share: float | None


def verdict(rows: Sequence[Json], environment: Json, *, resident: bool = False) -> Verdict | None:
    """The verdict on train rows (docs/files.md) in the order of their steps; None where they say nothing.

    `environment` is what environment.json holds, that is: of the last session, like the rows that are judged.
    `resident`: the set lies on the device already and no process prepares images.
    """
    if resident:
        environment = {**environment, "workers": 0}
    kept = steady(rows)
    used = usage(kept)
    if used is None:
        return None
    lost: dict[Bound, float] = {
        "waiting": used.waiting,
        "copying": used.copying,
        "communicating": used.communicating or 0.0,
    }
    bound: Bound = max(lost, key=lambda name: lost[name])
    if lost[bound] < NOTABLE:
        bound, said = "computing", _computing(used, environment)
    elif bound == "waiting":
        said = _waiting(used, environment, resident)
    elif bound == "copying":
        remedy = "train on smaller images" if resident else "keep a small set on the device (--resident), or shrink it"
        said = f"Copy-bound: moving batches to the device takes {_percent(used.copying)} of the time: {remedy}"
    else:
        said = (
            f"Communication-bound: the backward pass waits for other processes for {_percent(lost[bound])} of the time:"
            " a larger --batch computes longer between two sums; otherwise use fewer processes or a faster link"
        )
    if len(rows) == 1 or len(_session(rows)) == 1:
        said += " (from the first steps alone, which include the start)"
    return Verdict(bound, f"{said}.", _memory(kept, environment))


def steady(rows: Sequence[Json]) -> list[Json]:
    """The rows of the last session without its start; its only row where there is no other."""
    session = _session(rows)
    timed = [row for row in session if numbers.known(row.get("images_per_second")) and row["images_per_second"] > 0]
    if len(timed) < 2:
        return timed
    after = timed[1:]
    usual = median(row["images_per_second"] for row in after)
    first = next((i for i, row in enumerate(after) if row["images_per_second"] >= SLOW * usual), 0)
    return after[first:]


def _session(rows: Sequence[Json]) -> list[Json]:
    """Rows since the run was last started; an older vitrail did not note the session, and all count as one."""
    last = rows[-1].get("session") if rows else None
    return [row for row in rows if row.get("session") == last]


def usage(rows: Sequence[Json]) -> Usage | None:
    """Means in which a row counts by its time: its steps (from the row before) over its speed."""
    if not rows:
        return None
    gaps = [after["step"] - before["step"] for before, after in pairwise(rows)]
    steps = [gaps[0] if gaps else 1, *gaps]
    times = [step / row["images_per_second"] for step, row in zip(steps, rows, strict=True)]

    def mean(key: str) -> float | None:
        pairs = [(row[key], time) for row, time in zip(rows, times, strict=True) if numbers.known(row.get(key))]
        total = sum(time for _, time in pairs)
        return sum(value * time for value, time in pairs) / total if total else None

    if not sum(times):
        return None
    return Usage(
        images_per_second=sum(steps) / sum(times),
        waiting=min(1.0, mean("waiting") or 0.0),
        copying=mean("copying") or 0.0,
        communicating=mean("communicating"),
        flops_share=mean("flops_share"),
    )


def _waiting(used: Usage, environment: Json, resident: bool) -> str:
    """One process prepares images at the rate of all over their number; more are taken to prepare as many each."""
    rate, possible = used.images_per_second, used.images_per_second / max(1e-3, 1 - used.waiting)
    workers = environment.get("workers")
    could = f"the step could take {numbers.plain(possible)}"
    if resident:
        said = f"Data-bound: augmenting on the device gives {numbers.plain(rate)} images/s, {could}"
        return f"{said}: use a lighter --augment or smaller images"
    others = ["keep a small set on the device (--resident)", "prepare the images at a smaller size"]
    if not isinstance(workers, int):
        others.insert(0, "add workers (--workers)")
        return f"Data-bound: data come at {numbers.plain(rate)} images/s, {could}: {listed(others, ', or ')}"
    if workers == 0:
        said = f"Data-bound: images are prepared between the steps, at {numbers.plain(rate)} images/s, {could}"
        needed = max(1, ceil(used.waiting / max(1e-3, 1 - used.waiting) - 1e-9))
    else:
        name = f"{workers} worker{'' if workers == 1 else 's'} give{'s' if workers == 1 else ''}"
        said = f"Data-bound: {name} {numbers.plain(rate)} images/s, {could}"
        needed = max(1, ceil(workers / max(1e-3, 1 - used.waiting) - 1e-9) - workers)
    free = _free_cores(environment, workers)
    more = f"{needed} more worker{'' if needed == 1 else 's'}"
    if free is None or needed <= free:
        return f"{said}: {listed([f'add {more} (--workers {workers + needed})', *others], ', or ')}"
    cores = f"this machine has {environment['cores']} core{'' if environment['cores'] == 1 else 's'}"
    if free == 0:
        return f"{said}: {more} would be needed, but {cores}, all in use: {listed(others, ', or ')}"
    part = f"--workers {workers + free} helps in part; {listed(others, ', or ')}"
    return f"{said}: {more} would be needed, but {cores}, {free} free: {part}"


def _free_cores(environment: Json, workers: int) -> int | None:
    """Cores beside the workers and the training, which on a CPU takes one for each thread; None: not known."""
    cores, threads = environment.get("cores"), environment.get("threads")
    if not numbers.known(cores):
        return None
    trains = threads if environment.get("device") == "cpu" and numbers.known(threads) else 1
    return max(0, cores - workers - trains)  # type: ignore[operator]


def _computing(used: Usage, environment: Json) -> str:
    share, device = used.flops_share, str(environment.get("device") or "")
    lost = f"waiting for data takes {_percent(used.waiting)} of the time"
    if share is None:
        return f"Compute-bound: {lost}, and nothing else stands out; a faster run needs less arithmetic"
    peak = environment.get("peak_flops")
    details = [numbers.quantity(peak, "FLOP/s")] if numbers.known(peak) else []
    details += [f"in {environment['precision']}"] if environment.get("precision") else []
    of = f" of {environment['processor']}" if environment.get("processor") else ""
    measured = f"the step uses {_percent(share)} of the measured peak{of}" + (f" ({' '.join(details)})" * bool(details))
    if share >= FILLED:
        remedy = "fewer tokens (larger patches, a lower resolution), fewer layers, or a faster device"
        return f"Compute-bound: {measured}, {lost}: a faster run needs less arithmetic: {remedy}"
    said = f"Bound by many small operations: {measured}, and {lost}"
    if device == "cpu":
        threads, workers = environment.get("threads"), environment.get("workers")
        free = _free_cores(environment, int(workers)) if numbers.known(workers) else None  # type: ignore[arg-type]
        idle = (
            f"use more threads (OMP_NUM_THREADS; {threads} of {environment.get('cores')} cores now), or "
            if free
            else ""
        )
        return f"{said}: {idle}spend the idle arithmetic on a wider model with larger patches"
    return f"{said}: use a larger --batch, --graphs for a small model, or a wider model with larger patches"


def _memory(rows: Sequence[Json], environment: Json) -> str:
    total = environment.get("memory_gib")
    held = [row["memory_gib"] for row in rows if numbers.known(row.get("memory_gib"))]
    if not (held and numbers.known(total)) or max(held) < FULL * total:  # type: ignore[operator]
        return ""
    return (
        f"Memory is nearly full ({max(held):.3g} of {total:.3g} GiB): --micro-batch or --recompute "
        "need less, and change no result but for rounding."
    )


def _percent(share: float) -> str:
    return numbers.percent(share, 0 if share >= 0.1 else 1)
