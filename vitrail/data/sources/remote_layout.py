"""What lies in a folder of an object store: shards of one kind or images by class, by split or not."""

from functools import partial
from pathlib import Path

import numpy as np

from vitrail.core import object_store
from vitrail.core.errors import BadInput, nearest
from vitrail.data.decode import image
from vitrail.data.sources.base import FileSource, Source, binary
from vitrail.data.sources.layout import SHARDS, Layout, by_configuration, of_configurations, unlabelled
from vitrail.data.sources.split_names import meaning


def detect_remote(address: str) -> Layout:
    """A folder of an object store: shards of one kind or images by class, by split or not."""
    names = object_store.below(address)
    if not names:
        raise BadInput(f"{address} holds no files")
    for suffix in SHARDS:
        shards = [name for name in names if name.endswith(suffix)]
        if shards:
            return of_configurations(address, by_configuration(shards, f"{address}/"))
    images = [name for name in names if Path(name).suffix.lower() in image.SUFFIXES]
    every = partial(_remote_images, address, images)
    images = [name for name in images if "/" in name]
    splits = sorted({top for name in images if meaning(top := name.split("/")[0])})
    train = next((split for split in splits if meaning(split) == "train"), None)
    parts = {
        split: partial(_remote_classes, address, split + "/", images, f"{train}/" if train and split != train else None)
        for split in splits
    }
    return Layout(address, parts or {"": partial(_remote_classes, address, "", images, None)}, every)


def _remote_images(address: str, images: list[str]) -> Source:
    if not images:
        raise BadInput(f"{address} holds no images")
    return unlabelled(address, [name.encode() for name in images])


def _folders(images: list[str], start: str) -> tuple[str, ...]:
    inside = (name.removeprefix(start) for name in images if name.startswith(start))
    return tuple(sorted({name.split("/")[0] for name in inside if "/" in name}))


def _remote_classes(address: str, start: str, images: list[str], train: str | None) -> Source:
    place = {name: label for label, name in enumerate(_folders(images, train or start))}
    chosen = [n for n in images if n.startswith(start) and "/" in n[len(start) :]]
    chosen.sort(key=lambda name: name.split("/"))
    if not chosen:
        raise BadInput(f"{address}/{start} holds no images in sub-folders; expected one for each class")
    labels = []
    for name in chosen:
        label = name[len(start) :].split("/")[0]
        if label not in place:
            raise BadInput(f"{address} has the class {label!r}, which train lacks{nearest(label, place)}")
        labels.append(place[label])
    return FileSource(address, binary([name.encode() for name in chosen]), np.array(labels), tuple(place))
