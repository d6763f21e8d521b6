"""The folder of a preparation: its plan, the shards that are whole, its result, and what must not be mixed with it."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitrail.core.config import to_json
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json, write_json, write_text_atomic
from vitrail.core.locks import Lock
from vitrail.core.resumable import claim_folder, refuse_another
from vitrail.data.shards.encode import Container, Dropped, Encoding, Jpeg
from vitrail.data.shards.write import FORMAT, Shard, ShardBytes, ShardCount, card, shard_name
from vitrail.data.sources.base import Source
from vitrail.data.sources.split_names import DataName
from vitrail.records.prepared import DroppedImage, PreparedData, PreparedShard, SourceDigest
from vitrail.records.record import load_record, write_record

RESULT, STATE, PLAN = "prepared.json", ".preparing", "plan.json"
ADVICE = "give another OUT, or the options of that preparation to go on with it"


@dataclass(frozen=True)
class Prepare:
    """What to prepare, and into what form."""

    data: str
    side: int = 256  # pixels of the shorter side, at most: enough for crops of 224
    encoding: Encoding = Jpeg()
    container: Container = "arrow"
    shards: ShardBytes | ShardCount = ShardBytes()


class Part(NamedTuple):
    """One split of the data: where it goes, and its name as DATA."""

    folder: Path
    split: str | None
    data: str


def root_of(data: str) -> str:
    """The folder or address that DATA lie in; keys are relative to it."""
    name = DataName.parse(data).place
    return name.rstrip("/") if "://" in name else str(Path(name))


# ---- What lies in the folder


class State:
    """What is known of the preparation in a folder: which rows make which shard, and the shards that are whole.

    While it is unfinished this lies in a hidden folder: the plan, and a file for each shard. Each is written after what
    it speaks of, so what is known is true wherever a kill came.

    Raises:
        BadInput: the source is no longer that of the plan.
    """

    def __init__(self, part: Part, config: Prepare, source: Source):
        self.part, self.folder, self.hidden = part, part.folder, part.folder / STATE
        self.config, self.source = replace(config, data=part.data), _fingerprint(source)
        self.rows: dict[str, range] = {}
        self.shards: dict[str, Shard] = {}
        self.seconds = 0.0  # that shards took whose own time is not known any more
        self.finished = False
        stored = _stored(self.folder)
        if stored is None:
            return
        if stored["source"] != self.source:
            raise BadInput(
                f"{part.data} has changed since {self.folder} was begun: {stored['source']['images']:,} images then, "
                f"{len(source):,} now, or other labels or classes; give another OUT"
            )
        self._recall(stored)

    def _recall(self, stored: dict[str, Any]) -> None:
        result = "shards" in stored
        rows = [row["rows"] for row in stored["shards"]] if result else stored["rows"]
        self.rows = self._named([range(*ends) for ends in rows])
        self.seconds = stored["seconds"]
        for number, name in enumerate(self.rows):
            record = self.hidden / f"{name}.json"
            if result:
                shard = _shard_of_result(stored, number)
            elif record.exists():
                shard = _shard_from_json(read_json(record))
            else:
                continue
            path = self.folder / name
            if path.is_file() and path.stat().st_size == shard.bytes:
                self.shards[name] = shard
        if result and len(self.shards) == len(self.rows):
            self.finished = True
            shutil.rmtree(self.hidden, ignore_errors=True)
        elif result:  # shards were lost: unfinished again
            self.begin(list(self.rows.values()))
            for shard in self.shards.values():
                self.note(shard)
            (self.folder / RESULT).unlink()

    def _named(self, rows: list[range]) -> dict[str, range]:
        return {shard_name(i, len(rows), self.config.container): r for i, r in enumerate(rows)}

    def begin(self, rows: list[range]) -> None:
        """Writes the plan."""
        self.rows = self._named(rows)
        ends = [[r.start, r.stop] for r in rows]
        about = {"format": FORMAT, "config": to_json(self.config), "source": self.source}
        write_json(self.hidden / PLAN, {**about, "rows": ends, "seconds": self.seconds})

    def note(self, shard: Shard) -> None:
        """A shard is whole."""
        self.shards[shard.file] = shard
        write_json(self.hidden / f"{shard.file}.json", _shard_to_json(shard))

    def finish(self, source: Source) -> None:
        """Writes the card, and the result last of all."""
        shards = [self.shards[name] for name in self.rows]
        dropped = [row for shard in shards for row in shard.dropped]
        if not sum(shard.count for shard in shards):
            first = "; ".join(f"{row.key}: {row.reason}" for row in dropped[:3])
            raise BadInput(f"none of the {len(source):,} images of {self.part.data} can be read ({first})")
        lost = source.labels[[drop.row for drop in dropped]]
        counts = np.bincount(source.labels, minlength=len(source.classes))
        counts = counts - np.bincount(lost, minlength=len(source.classes))
        prepared = PreparedData(
            format=FORMAT,
            data=self.part.data,
            split=self.part.split,
            classes=source.classes,
            counts=counts.tolist(),
            count=sum(shard.count for shard in shards),
            copied=sum(shard.copied for shard in shards),
            side=self.config.side,
            encoding=to_json(self.config.encoding),
            container=self.config.container,
            shards=[
                PreparedShard(
                    file=s.file,
                    count=s.count,
                    bytes=s.bytes,
                    sha256=s.sha256,
                    copied=s.copied,
                    rows=(rows.start, rows.stop),
                )
                for s, rows in zip(shards, self.rows.values(), strict=True)
            ],
            dropped=[DroppedImage(**row._asdict()) for row in dropped],
            config=to_json(self.config),
            source=SourceDigest(**self.source),
            seconds=self.seconds + sum(shard.seconds for shard in shards),
            vitrail=version("vitrail"),
        )
        if self.config.container == "tar":
            write_json(self.folder / "classes.json", list(source.classes))
        write_text_atomic(self.folder / "README.md", card(prepared))
        write_record(self.folder / RESULT, prepared)
        shutil.rmtree(self.hidden)

    def prepared(self) -> PreparedData:
        """The result of a finished preparation."""
        return load_record(PreparedData, self.folder / RESULT)


def _fingerprint(source: Source) -> dict[str, Any]:
    """What tells one source from another without reading its images."""
    digest = hashlib.sha256(json.dumps(source.classes).encode())
    digest.update(source.labels.astype("<i8").tobytes())
    return {"images": len(source), "sha256": digest.hexdigest()}


def _shard_to_json(shard: Shard) -> dict[str, Any]:
    return {**asdict(shard), "dropped": [row._asdict() for row in shard.dropped]}


def _shard_from_json(stored: dict[str, Any]) -> Shard:
    return Shard(**{**stored, "dropped": tuple(Dropped(**row) for row in stored["dropped"])})


def _shard_of_result(stored: dict[str, Any], number: int) -> Shard:
    row = dict(stored["shards"][number])
    rows = range(*row.pop("rows"))
    return _shard_from_json({**row, "seconds": 0.0, "dropped": [d for d in stored["dropped"] if d["row"] in rows]})


def _stored(folder: Path) -> dict[str, Any] | None:
    """The result of a preparation, or else its plan, or else nothing."""
    for path in (folder / RESULT, folder / STATE / PLAN):
        if path.exists():
            stored: dict[str, Any] = read_json(path)
            return stored
    return None


# ---- What must not be mixed


def claim(config: Prepare, parts: list[Part], folder: Path) -> Lock:
    """Keeps other processes out of a folder in which `parts` may be prepared, until the lock is released.

    Raises:
        BadInput: it lies in the data, holds other files, or another preparation than the splits of one DATA in one
            form, or another process is at work there.
    """
    root = Path(root_of(config.data))
    if root.is_dir() and root.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise BadInput(f"OUT {folder} lies in {root}, where it would be taken for data; give a folder elsewhere")
    begun = folder.is_dir() and bool(_prepared_in(folder))
    if not begun and any(path.is_file() and not path.name.startswith(".") for path in folder.rglob("*")):
        raise BadInput(f"OUT {folder} holds other files and no preparation; give a new or an empty folder")
    lock = claim_folder(folder)
    try:
        for place, stored in _prepared_in(folder).items():
            _refuse_another(config, parts, folder, place, stored.get("config", {}))
    except BadInput:
        lock.release()
        raise
    return lock


def _prepared_in(folder: Path) -> dict[Path, dict[str, Any]]:
    """What is prepared, or begun, in a folder and in those directly below."""
    places = [place for place in (folder, *sorted(folder.iterdir())) if place.is_dir()]
    return {place: stored for place in places if (stored := _stored(place))}


def _refuse_another(config: Prepare, parts: list[Part], folder: Path, place: Path, old: dict[str, Any]) -> None:
    new = next((replace(config, data=part.data) for part in parts if part.folder == place), None)
    if new is None and folder in (place, parts[0].folder):  # one has splits and the other has none
        new = replace(config, data=parts[0].data)
    if new is None:  # two splits of one DATA
        old, new = {**old, "data": root_of(old.get("data", ""))}, replace(config, data=root_of(config.data))
    refuse_another(place, old, new, f"{place} holds another preparation", ADVICE)
