"""How data are named everywhere: `SOURCE[@SPLIT[SLICE]]`, as in `cifar10`, `photos@train[:90%]`, `shards/*.parquet`."""

from functools import partial
from pathlib import Path

from vitrail.core.errors import BadInput, nearest
from vitrail.core.object_store import is_remote
from vitrail.data.catalog.catalog import NAMED
from vitrail.data.open.filtered import read_filtered
from vitrail.data.sources.base import Source
from vitrail.data.sources.detect import detect_path, is_pattern
from vitrail.data.sources.huggingface import PREFIX, hub_splits, open_hub
from vitrail.data.sources.layout import Layout
from vitrail.data.sources.split_names import DataName, Role, choose
from vitrail.data.sources.subset import slice_of
from vitrail.data.sources.unlabelled import Unlabelled

__all__ = ["DataName", "Role", "detect", "open_data", "open_unlabelled", "require_classes", "splits_of"]


def open_data(text: str, role: Role = "train", *, multi_label: bool = False) -> Source:
    """The source that `text` names; where it names no split, the one for `role`.

    `multi_label`: images may have several classes each.

    SOURCE is the name of a data set, a folder of images (`class/file`, or `train|val|test/class/file`), a manifest
    (`.csv`, `.tsv`, `.jsonl`, `.parquet`), a folder, file or pattern of parquet, tar or Arrow shards
    (`shards-{000000..000009}.tar`), any of these in an object store (`s3://bucket/photos`), `hf://owner/name`, or a
    filtered view of any of these (`kept.json`, which `vitrail data duplicates` writes).

    Raises:
        BadInput: nothing there, no such split, nothing in it, a slice that does not parse, or several classes an image
            where one is expected.
    """
    name = DataName.parse(text)
    bounds = name.bounds()
    source = detect(name.place, name.split).open(name.split, role)
    if source.multi_label and not multi_label:
        raise BadInput(
            f"the images of {text} have several classes each, and here an image has one; evaluate, linear, finetune, "
            "pretrain and predict take them (docs/multilabel.md)"
        )
    return source if bounds is None else slice_of(source, *bounds)


def open_unlabelled(text: str, role: Role = "train") -> Source:
    """As `open_data`, without classes, where labels need not be there: of a folder without splits, every image in it.

    Raises:
        BadInput: as `open_data`, but for labels.
    """
    name = DataName.parse(text)
    bounds = name.bounds()
    source = detect(name.place, name.split).open(name.split, role, labelled=False)
    return Unlabelled(source if bounds is None else slice_of(source, *bounds))


def require_classes(source: Source, text: str) -> None:
    """Refuses data that nothing can be learned from: fewer than two classes."""
    if len(source.classes) < 2:
        only = f" ({source.classes[0]!r})" if source.classes else ""
        raise BadInput(f"{text} has one class{only}; a classifier needs at least two folders of images")


def splits_of(text: str) -> tuple[str, ...]:
    """The splits that data have, the one for training first; none where they have none or `text` names one already.

    What cannot be opened has none: opening it says why.
    """
    name = DataName.parse(text)
    if name.split or is_remote(name.place):
        return ()  # of an object store one source, by its role
    try:
        return detect(name.place).splits()
    except BadInput:
        return ()


def detect(place: str, split: str | None = None) -> Layout:
    """What lies at a place, whatever kind it is of; `split` is the one that is asked for, where one is.

    Raises:
        BadInput: there is nothing, or what there is cannot be told.
    """
    if place in NAMED:
        named = NAMED[place]
        parts = {part: partial(named.open, part) for part in named.splits}
        return Layout(place, parts, lambda: named.open(choose(place, named.splits, "test")))
    if place.startswith(PREFIX):
        parts = {part: partial(open_hub, place, part) for part in hub_splits(place)}
        return Layout(place, parts, lambda: parts[choose(place, tuple(parts), "test")]())
    if place.endswith(".json") and Path(place).is_file():
        view = partial(_open_filtered, Path(place))
        return Layout(place, {"": view}, view, "it is a view of one source")
    if not (is_remote(place) or is_pattern(place)) and not (place and Path(place).exists()):
        hint = nearest(place, NAMED) if "/" not in place else ""
        raise BadInput(f"no such data: {place!r} is neither a folder nor a named data set{hint}")
    return detect_path(place, split)


def _open_filtered(file: Path) -> Source:
    view = read_filtered(file)
    return view.of(open_data(view.data, "train", multi_label=True))
