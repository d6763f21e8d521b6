"""Which of the images that were judged are, or nearly are, in what the model was trained on."""

from typing import Any

import numpy as np

from vitrail.core.errors import BadInput
from vitrail.core.estimate import wilson
from vitrail.core.progress import say
from vitrail.data.open.names import open_data
from vitrail.data.quality.near_duplicates import Pair, find_near_duplicates
from vitrail.data.quality.scan import ScannedSet, scan_sets
from vitrail.data.quality.thumbnails import Gallery
from vitrail.data.sources.base import Source
from vitrail.evals.predictions import Predictions
from vitrail.records.evaluation import Overlap, OverlapPair

UNASKED = 20_000  # images up to which copies are looked for without being asked: half a minute
SHOWN = 12  # pairs with their pictures
TRAINED_ON = ("trained_on", "init_trained_on")  # what a bundle's provenance calls it


def trained_on(provenance: dict[str, Any], images: int) -> list[str]:
    """The data that a bundle says it was trained on, those that can be opened; what is left out is said.

    None where there are more than UNASKED images to look at together with the `images` that are judged.
    """
    names = [name for key in TRAINED_ON if isinstance(name := provenance.get(key), str) and name]
    names = [name for name in names if name != provenance.get("init")]  # the checkpoint, in bundles of version 0.1.0
    found, total = [], images
    for name in dict.fromkeys(names):
        try:
            total += len(open_data(name, "train"))
            found.append(name)
        except (BadInput, OSError):
            say(f"the model was trained on {name}, which is not here: test images are not looked for in it")
    if found and total > UNASKED:
        say(f"copies of test images in {', '.join(found)} were not looked for ({total:,} images): ask by --train")
        return []
    return found


def find_overlap(
    data: str, source: Source, outcomes: Predictions, trains: list[str], gallery: Gallery, workers: int | None
) -> Overlap:
    """How many of the judged images have a copy in the training data, and the accuracy of the others.

    `outcomes` are those of `source`, judged in this process.

    Raises:
        BadInput: training data that cannot be opened.
    """
    named = [(name, open_data(name, "train")) for name in trains]
    *training, test = scan_sets([*named, (data, source)], workers)
    copies = find_near_duplicates([one.table for one in [*training, test]], new=1)
    before = range(0, test.start)
    pairs = {place: found for place in copies.places(test.places) if (found := copies.of(place, before, most=1))}
    assert outcomes.indices is not None
    copied = np.isin(outcomes.indices, [place - test.start for place in pairs])
    right, kept = outcomes.correct, ~copied
    count, correct = int(kept.sum()), int(right[kept].sum())
    return Overlap(
        train=trains,
        compared=sum(len(one.table) for one in training),
        copies=int(copied.sum()),
        share=float(copied.mean()),
        accuracy_of_copies=float(right[copied].mean()) if copied.any() else None,
        count=count,
        accuracy=correct / count if count else None,
        interval=wilson(correct, count) if count else None,
        pairs=_shown(pairs, training, test, gallery),
    )


def _shown(
    pairs: dict[int, list[Pair]], training: list[ScannedSet], test: ScannedSet, gallery: Gallery
) -> list[OverlapPair]:
    """The least similar pairs, which are most in doubt, and the first of the others."""
    rows = []
    for place in sorted(pairs, key=lambda place: (pairs[place][0].similarity, place))[:SHOWN]:
        pair = pairs[place][0]
        other = next(one for one in training if pair.first in one.places)
        ours, theirs = test.about(test.row_of(place)), other.about(other.row_of(pair.first))
        pictures = gallery.add_all(
            ("test", test.source, ours.index), (f"train {other.name}", other.source, theirs.index)
        )
        similarity = round(pair.similarity, 4)
        rows.append(OverlapPair(test=ours, train=theirs, kind=pair.kind, similarity=similarity, pictures=pictures))
    return rows


def sentence(found: Overlap, count: int) -> str:
    """For people: the warning, and the accuracy of what was not seen in training."""
    where = " and ".join(found.train)
    if not found.copies:
        return f"none of the {count:,} test images has a near-duplicate in {where} ({found.compared:,} images)"
    if found.interval is None:
        return f"every test image has a near-duplicate in {where}: the accuracy says nothing about new images"
    low, high = found.interval
    return (
        f"{found.copies:,} of {count:,} test images ({found.share:.1%}) have a near-duplicate in {where}; "
        f"accuracy without them {found.accuracy:.1%} (95 % interval {low:.1%} to {high:.1%})"
    )
