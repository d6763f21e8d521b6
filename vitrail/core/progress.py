"""A progress bar for long work, on standard error; a line now and then where there is no terminal."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False)

QUIET_SECONDS = 15.0  # between two lines where there is no terminal


class Bar:
    """Counts steps and shows a note beside them."""

    def __init__(self, title: str, total: int, progress: Progress | None, done: int):
        self.title, self.total, self.done = title, total, done
        self._progress = progress
        self._task = progress.add_task(title, total=total, completed=done, note="") if progress else None
        self._said = time.monotonic()

    def advance(self, note: str | None = None, by: int = 1) -> None:
        """Moves on by some steps; `note` replaces the text beside the bar."""
        self.done += by
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=by)
            if note is not None:
                self._progress.update(self._task, note=note)
        elif note and not console.quiet and (time.monotonic() - self._said > QUIET_SECONDS or self.done >= self.total):
            print(f"{self.title} {self.done}/{self.total}  {note}", file=sys.stderr, flush=True)
            self._said = time.monotonic()


@contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Bar]:
    """A bar of `total` steps of which `done` are already done."""
    if not console.is_terminal:
        yield Bar(title, total, None, done)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=False) as bars:
        yield Bar(title, total, bars, done)


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing is shown meanwhile: of work that only measures."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def say(text: str) -> None:
    """One line for people, on standard error, so that standard output stays for machines."""
    console.print(text, markup=False, soft_wrap=True)
