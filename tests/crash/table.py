"""The table of all jobs by all faults within a time: it follows from what one costs how far apart they are.

What has been tried is kept, a line of JSON each, so that the same command goes on after it was stopped.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

from tests.crash.jobs import JOBS
from tests.crash.loop import Loop, Outcome

FAULTS = ("kill", "enospc", "eio", "short", "unsynced")
START, END = "<!-- crash -->", "<!-- /crash -->"  # in the page, around the table


@dataclass
class Row:
    """A job: its operations, how far apart those are that were tried, and what became of them by fault and number."""

    job: str
    operations: int
    seconds: float  # of one fault and the same command again
    each: int = 0
    outcomes: dict[tuple[str, int], Outcome] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)  # faults whose last operation was reached

    @property
    def done(self) -> bool:
        """All faults to their ends."""
        return self.ended >= set(FAULTS)

    def of(self, fault: str) -> list[Outcome]:
        """What was tried of a fault."""
        return [outcome for (kind, _), outcome in sorted(self.outcomes.items()) if kind == fault]


def distance(row: Row, seconds: float) -> int:
    """How far apart the operations are that are tried where a job may take so long."""
    wanted = row.seconds * row.operations * (len(FAULTS) - 1)  # short writes come all at once
    return max(1, min(row.operations, ceil(wanted / max(seconds, 1e-9))))


class Table:
    """The rows in a file, from which a second start takes up what it can."""

    def __init__(self, kept: Path, say: Callable[[str], None], jobs: Iterable[str] = JOBS):
        self.kept, self.say, self.jobs = kept, say, list(jobs)
        self.rows = dict[str, Row]()
        self.spent = 0.0
        kept.parent.mkdir(parents=True, exist_ok=True)
        commit = _commit()
        lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
        if lines and lines[0] != {"commit": commit}:
            say(f"{kept} is of other code: everything is tried again")
            lines = []
        if not lines:
            kept.write_text(json.dumps({"commit": commit}) + "\n")
        for line in lines[1:]:
            self._take(line)

    def run(self, minutes: float) -> bool:
        """Tries what has not been tried; whether all was survived. The time counts over all starts.

        Each job has an equal part of what is left; what a small one does not need goes to those after it.
        """
        for i, name in enumerate(self.jobs):
            if name in self.rows and self.rows[name].done:
                continue
            begun = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="vitrail-crash-") as folder, Loop(JOBS[name], Path(folder)) as loop:
                if name not in self.rows:
                    ready = time.monotonic()
                    outcome = loop.at("kill", len(loop.operations) // 2)
                    assert outcome is not None
                    self._note(job=name, operations=len(loop.operations), each_seconds=time.monotonic() - ready)
                    self._found(name, outcome)
                row = self.rows[name]
                self._note(job=name, seconds=time.monotonic() - begun)
                part = (60 * minutes - self.spent) / (len(self.jobs) - i)
                self._note(job=name, each=row.each or distance(row, part))
                self.say(f"{name}: {row.operations} operations, each {row.each}, {row.seconds:.1f} s for one of them")
                self._try(row, loop)
        return not any(outcome.problem for row in self.rows.values() for outcome in row.outcomes.values())

    def _try(self, row: Row, loop: Loop) -> None:
        for i, fault in enumerate(FAULTS):
            if fault in row.ended:
                continue
            if fault == "unsynced" and (fault, 0) not in row.outcomes:
                self._keep(row, loop.after_its_end)
            if fault == "short":  # these come all at once, from the first on
                numbers = range(1, 2)
            else:  # other operations than the fault before
                numbers = range(1 + i * row.each // len(FAULTS), row.operations + 1, row.each)
            for n in numbers:
                if (fault, n) not in row.outcomes and not self._keep(row, partial(loop.at, fault, n)):
                    break  # it was over before; fewer operations count here
            self._note(job=row.job, ended=fault)
            found = row.of(fault)
            self.say(f"  {fault}: {_survived(found)} survived")

    def _keep(self, row: Row, attempt: Callable[[], Outcome | None]) -> bool:
        begun = time.monotonic()
        outcome = attempt()
        if outcome is not None:
            self._found(row.job, outcome, time.monotonic() - begun)
        return outcome is not None

    def _found(self, job: str, outcome: Outcome, seconds: float = 0.0) -> None:
        self._note(job=job, outcome=outcome._asdict(), seconds=seconds)
        if outcome.problem:
            self.say(f"  {job}, {outcome.fault} {outcome.n} ({outcome.operation}): {outcome.problem}")

    def _note(self, **line: Any) -> None:
        self._take(line)
        with open(self.kept, "a") as file:
            file.write(json.dumps(line) + "\n")

    def _take(self, line: dict[str, Any]) -> None:
        self.spent += line.get("seconds", 0.0)
        if "operations" in line:
            self.rows[line["job"]] = Row(line["job"], line["operations"], line["each_seconds"])
        row = self.rows[line["job"]]
        row.each = line.get("each", row.each)
        if "outcome" in line:
            outcome = Outcome(**line["outcome"])
            row.outcomes[outcome.fault, outcome.n] = outcome
        if "ended" in line:
            row.ended.add(line["ended"])

    def markdown(self) -> str:
        """The table, and below it every fault that was not survived."""
        lines = ["| job | operations | each | " + " | ".join(FAULTS) + " |", "|---|---|---|" + "---|" * len(FAULTS)]
        tried = lost = 0
        for name in self.jobs:
            if (row := self.rows.get(name)) is not None:
                cells = [_survived(row.of(fault)) for fault in FAULTS]
                lines.append(f"| {name} | {row.operations} | {row.each or '–'} | {' | '.join(cells)} |")
                tried += len(row.outcomes)
                lost += sum(bool(outcome.problem) for outcome in row.outcomes.values())
        lines += ["", f"{tried:,} faults, {tried - lost:,} survived, in {self.spent / 60:.0f} minutes."]
        if lost:
            lines += ["", "Not survived, by job, fault and operation:", ""]
        for row in self.rows.values():
            for outcome in row.outcomes.values():
                if outcome.problem:
                    said = " ".join(outcome.problem.split())[:200]
                    lines.append(f"- `{row.job}`, {outcome.fault} {outcome.n} ({outcome.operation}): {said}")
        return "\n".join(lines)


def _survived(outcomes: list[Outcome]) -> str:
    return f"{sum(not outcome.problem for outcome in outcomes)} of {len(outcomes)}" if outcomes else "–"


def put(page: Path, table: str) -> None:
    """The table between its marks in a page."""
    before, _, rest = page.read_text().partition(START)
    _, found, after = rest.partition(END)
    assert found, f"{page} has no {START} … {END}"
    page.write_text(f"{before}{START}\n{table}\n{END}{after}")


def _commit() -> str:
    asked = ["git", "rev-parse", "HEAD"]
    return subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()
