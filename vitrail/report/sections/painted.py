"""What a model that learns without labels paints into the holes of images, and how often it is right."""

import re
from collections.abc import Mapping, Sequence
from typing import TypeGuard

import numpy as np

from vitrail.core import numbers
from vitrail.report.blocks import Block, Images, Part, Section, Text, Tile
from vitrail.report.charts.images import photograph
from vitrail.report.folder import Folder, Json

SIDE = 96  # CSS pixels
MOST = 4  # evaluations that are drawn: the first, the last, and some between
TITLE = "What it paints into the holes"
SEEN = (
    "Left the image, then what the model sees of it: grey is hidden; of masked patches some show a patch of another "
    "place, or themselves."
)
GIVEN = (
    "Where MAE learned normalised patches, a painted one is given the mean colour and the contrast of the true one: "
    "only what is drawn in it is the model's."
)


def section(folder: Folder, validation: Sequence[Json], result: Json | None) -> Section | None:
    """Of a run: the images, what the model sees of them, and with what it painted at some evaluations."""
    inner = folder.within("painted")
    shown = inner.arrays("images.npz") if inner else {}
    images, seen = shown.get("images"), shown.get("seen")
    if inner is None or not _pictures(images) or not _pictures(seen):
        return None
    steps = sorted(int(m[1]) for file in inner.path.iterdir() if (m := re.fullmatch(r"step-(\d+)\.npz", file.name)))
    chosen = sorted({steps[round(i * (len(steps) - 1) / (MOST - 1))] for i in range(MOST)}) if steps else []
    painted = {step: inner.arrays(f"step-{step:08d}.npz").get("painted") for step in chosen}
    known = {step: array for step, array in painted.items() if _pictures(array) and array.shape == images.shape}
    after = ", ".join(numbers.count(step) for step in known)
    note = f"{SEEN} Then what it painted after {after} steps; what it saw is left as it is. {GIVEN}" if known else SEEN
    blocks: list[Block] = [Text(said) for said in [_judged(validation, result)] if said]
    columns = {f"Painted after {step} steps": array for step, array in known.items()}
    return Section(TITLE, "painted", [*blocks, Images([_tiles(images, seen, columns)], note)])


def part(images: np.ndarray | None, seen: np.ndarray | None, painted: np.ndarray | None) -> Part | None:
    """Of an inspection: the same for the model as it is."""
    if not _pictures(images) or not _pictures(seen) or not _pictures(painted):
        return None
    note = f"{SEEN} Then what the model paints there; what it sees is left as it is. {GIVEN}"
    return Part(TITLE, [Images([_tiles(images, seen, {"Painted": painted})], note)])


def _tiles(images: np.ndarray, seen: np.ndarray, columns: Mapping[str, np.ndarray]) -> list[Tile]:
    tiles = []
    for i, (image, holes) in enumerate(zip(images, seen, strict=False)):
        row = [photograph(image, f"Image {i + 1}", width=SIDE), photograph(holes, "What the model sees", width=SIDE)]
        row += [photograph(array[i], said, width=SIDE) for said, array in columns.items()]
        tiles.append(Tile(tuple(row), str(i + 1)))
    return tiles


def _pictures(array: np.ndarray | None) -> TypeGuard[np.ndarray]:
    return array is not None and array.ndim == 4 and array.shape[3] == 3 and len(array) > 0


def _judged(validation: Sequence[Json], result: Json | None) -> str:
    """The final evaluation in a sentence, or the last one so far."""
    row = (result or {}).get("objective") or (validation[-1] if validation else {})
    if not isinstance(row, dict) or not numbers.known(row.get("loss")):
        return ""
    if not numbers.known(row.get("accuracy")):
        return f"The loss on {numbers.count(row.get('count'))} images that it did not learn from is {row['loss']:.3f}."
    majority, neighbours = row.get("majority") or 0.0, row.get("neighbours") or 0.0
    if row["accuracy"] > max(majority, neighbours):
        verdict = "it knows more than both"
    elif row["accuracy"] > majority:
        verdict = "it does not know more than the neighbours yet"
    else:
        verdict = "it has learned nothing yet"
    return (
        f"It names {numbers.percent(row['accuracy'])} of the colours of hidden patches in "
        f"{numbers.count(row.get('count'))} images that it did not learn from. The most frequent colour would be right "
        f"in {numbers.percent(row.get('majority'))}, the mean of the neighbours that were seen in "
        f"{numbers.percent(row.get('neighbours'))}: {verdict}."
    )
