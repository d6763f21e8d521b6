"""A file of predictions that grows by whole pieces, so that no kill loses or repeats a row of it.

OUT.parts/plan.json                   the question, and how many images a batch has
          000000000-000004096-2.csv   rows from … to …, of which 2 are of broken images: written whole or not at all
OUT                                   all rows, once all pieces are there
OUT.json                              written last: the question and the facts; OUT.parts is removed
"""

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_path, make_folder, read_json
from vitrail.core.locks import Lock, lock_or_refuse
from vitrail.core.resumable import refuse_another
from vitrail.core.temporary import remove_leftovers
from vitrail.records.predictions import PredictionRequest, PredictionsInfo, PredictionsPlan
from vitrail.records.record import as_json, load_record, write_record
from vitrail.records.runtime import RuntimeInfo
from vitrail.serve.formats import GROUP_BYTES, GROUP_ROWS, Columns, form_of
from vitrail.serve.predictor import PredictionBatch

FORMAT = 1
SECONDS = 10.0  # after which a piece is written: what a kill may cost
_PIECE = re.compile(r"(\d{9,})-(\d{9,})-(\d+)\.\w+")
ADVICE = "give another --out, or the options of that one to go on with it"


class Chunk(NamedTuple):
    """A file of the rows `start` to `stop` - 1."""

    start: int
    stop: int
    broken: int
    path: Path


class PredictionFile:
    """OUT, while it is made and when it is there. `done` rows are safe; it is `finished` when all are.

    Args:
        question: what is asked; another question is refused with the difference.
        total: rows that there will be.
        batch: images that are judged together; where the file was begun with another number, that one.

    Raises:
        BadInput: a file that is not ours or has been changed, another question, or another process at work on it.
    """

    def __init__(self, out: Path, columns: Columns, question: PredictionRequest, total: int, batch: int):
        self.out, self.columns, self.total, self.batch = out, columns, total, batch
        self.form = form_of(out, columns)
        self.parts, self.about = Path(f"{out}.parts"), Path(f"{out}.json")
        self.question, self.pieces, self.finished = question, list[Chunk](), False
        self._waiting, self._rows = list[PredictionBatch](), 0
        self._lock: Lock | None = None
        self._since = time.monotonic()
        if self._is_finished():
            self.finished = True
            return
        if out.exists() and not (self.parts / "plan.json").exists():
            raise BadInput(f"--out {out} is there, and no unfinished output of `vitrail predict`; give another name")
        make_folder(self.parts)
        self._lock = lock_or_refuse(self.parts / ".lock", out)
        try:
            if self._is_finished():  # by another process, since it was asked above
                self.finished = True
                self.close()
                return
            self._begin()
        except BaseException:
            self.close()
            raise

    def _is_finished(self) -> bool:
        if not self.about.exists():
            return False
        if not self.out.exists():
            self.about.unlink()
            return False
        stored = read_json(self.about)
        self._refuse_another(stored, self.about)
        if stored["bytes"] != self.out.stat().st_size:
            raise BadInput(f"{self.out} has been changed since it was written; give another --out, or remove it")
        shutil.rmtree(self.parts, ignore_errors=True)  # a kill may have come before this
        return True

    def _refuse_another(self, stored: Any, place: Path) -> None:
        if (
            not isinstance(stored, dict)
            or stored.get("format") != FORMAT
            or not isinstance(stored.get("question"), dict)
        ):
            raise BadInput(f"{place} is not what this version of vitrail writes; give another --out")
        refuse_another(
            self.out, stored["question"], as_json(self.question), f"{self.out} answers another question", ADVICE
        )

    def _begin(self) -> None:
        remove_leftovers(self.parts)
        plan = self.parts / "plan.json"
        if plan.exists():
            stored = read_json(plan)
            self._refuse_another(stored, plan)
            self.batch = stored["batch"]
        else:
            write_record(plan, PredictionsPlan(format=FORMAT, question=self.question, batch=self.batch))
        found = [(match, path) for path in sorted(self.parts.iterdir()) if (match := _PIECE.fullmatch(path.name))]
        for match, path in found:
            start, stop, broken = (int(number) for number in match.groups())
            piece = Chunk(start, stop, broken, path)
            if piece.start != self.done:
                raise BadInput(f"{self.parts} lacks the rows from {self.done} on: it was changed; remove it")
            self.pieces.append(piece)

    @property
    def done(self) -> int:
        """Rows that no kill can take."""
        return self.pieces[-1].stop if self.pieces else 0

    @property
    def broken(self) -> int:
        """How many of these are of images that cannot be read."""
        return sum(piece.broken for piece in self.pieces)

    def add(self, answers: PredictionBatch) -> None:
        """The rows of the next batch; now and then what has come together is written."""
        self._waiting.append(answers)
        self._rows += len(answers.keys)
        most = max(1, min(GROUP_ROWS, GROUP_BYTES // self.columns.bytes))
        if self._rows >= most or time.monotonic() - self._since >= SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what has come together."""
        if self._waiting:
            start, stop = self.done, self.done + self._rows
            broken = sum(error is not None for some in self._waiting for error in some.errors)
            path = self.parts / f"{start:09d}-{stop:09d}-{broken}{self.out.suffix}"
            with atomic_path(path) as temporary:
                self.form.write(self.columns, self._waiting, temporary)
            self.pieces.append(Chunk(start, stop, broken, path))
        self._waiting, self._rows, self._since = [], 0, time.monotonic()

    def finish(
        self, classes: Sequence[str], images_per_second: float, runtime: RuntimeInfo | None = None
    ) -> PredictionsInfo:
        """Joins the pieces; returns what OUT.json says."""
        self.flush()
        if self.done != self.total:
            raise AssertionError(f"{self.done} rows of {self.total}")
        with atomic_path(self.out) as temporary:
            self.form.join(self.columns, [piece.path for piece in self.pieces], temporary)
        result = PredictionsInfo(
            format=FORMAT,
            question=self.question,
            rows=self.total,
            broken=self.broken,
            bytes=self.out.stat().st_size,
            classes=classes,
            images_per_second=images_per_second,
            runtime=runtime,
        )
        write_record(self.about, result)
        shutil.rmtree(self.parts)
        self.close()
        self.finished = True
        return result

    def result(self) -> PredictionsInfo:
        """What is known of a finished output."""
        return load_record(PredictionsInfo, self.about)

    def close(self) -> None:
        """Lets other processes go on with it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> "PredictionFile":
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
