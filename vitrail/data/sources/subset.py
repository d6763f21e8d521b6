"""Seeded subsets of a source: a slice, some classes, n images a class, a part held out. A subset is a source too."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vitrail.core.errors import BadInput
from vitrail.core.seeds import generator
from vitrail.data.sources.base import Example, Source, add_to
from vitrail.data.sources.relabelled import as_multi_hot


class Subset(Source):
    """Some examples of another source, in the order given."""

    def __init__(self, source: Source, indices: np.ndarray, classes: tuple[str, ...] | None = None):
        self.source = source
        self.indices = np.asarray(indices, dtype=np.int64)
        self.classes = source.classes if classes is None else classes
        place = {name: label for label, name in enumerate(self.classes)}
        new = np.array([place.get(name, -1) for name in source.classes], dtype=np.int64)
        chosen = source.labels[self.indices]
        if source.multi_label:
            self.labels = chosen if classes is None else as_multi_hot(chosen, new, len(self.classes))
            gone = np.flatnonzero(chosen[:, new < 0].any(axis=0))
        else:
            self.labels = new[chosen] if self.classes else chosen
            gone = chosen[self.labels < 0]
        if len(gone):
            lost = source.classes[int(np.flatnonzero(new < 0)[gone[0]] if source.multi_label else gone[0])]
            raise ValueError(f"a subset without the class {lost!r} cannot hold its images")
        self._new, self.several, self.skipped = new, source.several, source.skipped

    def valid_labels(self, key: str) -> tuple[int, ...]:
        """All labels that are right for the image of that name."""
        return tuple(int(self._new[label]) for label in self.source.valid_labels(key) if self._new[label] >= 0)

    def __getitem__(self, index: int) -> Example:
        example = self.source[int(self.indices[index])]
        return Example(example.image, self.label(index), example.key)

    def base(self) -> Source:
        """The source that all subsets were taken of."""
        return self.source.base()

    def add_images_to(self, digest: Any) -> None:
        """The whole source, and which of it."""
        add_to(digest, self.source.content_hash(), self.indices)


def slice_of(source: Source, start: str, stop: str) -> Subset:
    """`[start:stop]` in images or per cent. A class-ordered source is shuffled first, always the same way."""
    order = np.arange(len(source))
    if len(source) > 1 and not source.multi_label and bool(np.all(np.diff(source.labels) >= 0)):
        order = generator(0, "slice").permutation(len(source))
    first, last = _place(start, 0, len(source)), _place(stop, len(source), len(source))
    if first >= last:
        raise BadInput(f"the slice [{start}:{stop}] of {len(source)} images is empty")
    return Subset(source, order[first:last])


def _place(text: str, default: int, size: int) -> int:
    if not text:
        return default
    place = round(size * float(text[:-1]) / 100) if text.endswith("%") else int(text)
    return min(size, place) if place >= 0 else max(0, size + place)


def sample(source: Source, count: int, seed: int) -> Subset:
    """`count` examples at random, in the order of the source; of one seed, a smaller sample is a part of a larger one.

    Raises:
        BadInput: less than one example, or more than there are.
    """
    if not 1 <= count <= len(source):
        raise BadInput(f"a sample of {count:,} images asked for; expected 1 to {len(source):,}, as many as there are")
    return Subset(source, np.sort(generator(seed, "sample").permutation(len(source))[:count]))


def share(source: Source, part: float, seed: int) -> Subset:
    """`sample` for a share of the examples, from above 0 to 1: 0.1 is a tenth."""
    if not 0 < part <= 1:
        raise BadInput(f"a share of {part:g} of the images asked for; expected above 0 to 1, such as 0.1")
    return sample(source, max(1, round(part * len(source))), seed)


def few(source: Source, count: int, seed: int) -> Subset:
    """`count` images a class, as `shots` draws them."""
    return Subset(source, shots(source, count, seed))


def shots(source: Source, count: int, seed: int) -> np.ndarray:
    """The indices of `count` images a class, class by class, so that fewer shots are a part of more.

    The official draw (big_vision's evaluators/fewshot_lsr.py): one generator, classes in order, a permutation each.

    Raises:
        BadInput: a class has fewer than `count` images, or images have several classes.
    """
    if source.multi_label:
        raise BadInput(
            "images have several classes each, so none are drawn class by class: take all (--shots all), or a slice"
        )
    rng = np.random.default_rng(seed)
    chosen = []
    for label, name in enumerate(source.classes):
        members = rng.permutation(np.flatnonzero(source.labels == label))
        if len(members) < count:
            raise BadInput(f"{count} shots asked for, but class {name!r} has {len(members)} images")
        chosen.append(members[:count])
    return np.concatenate(chosen)


def stratified(source: Source, part: float, seed: int) -> tuple[Subset, Subset]:
    """(the rest, a share `part` held out of every class), both in the order of the source and with all classes.

    round(part * images) are held out, at least one, and of each class its share rounded down or up; where not all
    classes can be rounded up, those with the largest remainders are, and equal ones by lot. A class keeps at least one
    image in the rest.

    Raises:
        BadInput: a share that is not between 0 and 1, or no class with two images.
    """
    if not 0 < part < 1:
        raise BadInput(f"a share of {part:g} of the images is to be held out; expected between 0 and 1, such as 0.1")
    if source.multi_label:
        return _apart(source, part, seed)
    counts = np.bincount(source.labels, minlength=len(source.classes))
    if not (counts > 1).any():
        raise BadInput("nothing can be held out: no class has two images; name a validation set instead")
    rng = generator(seed, "held out")
    wanted = counts * part
    taken = np.floor(wanted).astype(np.int64)
    remainder = np.where(taken < counts - 1, wanted - taken, -1.0)
    by_lot = rng.permutation(len(counts))
    upwards = by_lot[np.argsort(-remainder[by_lot], kind="stable")]
    missing = max(1, round(part * len(source))) - int(taken.sum())
    taken[[c for c in upwards if remainder[c] >= 0][: max(0, missing)]] += 1
    taken = np.minimum(taken, np.maximum(counts - 1, 0))
    chosen = np.zeros(len(source), bool)
    for label, number in enumerate(taken):
        chosen[rng.permutation(np.flatnonzero(source.labels == label))[:number]] = True
    return Subset(source, np.flatnonzero(~chosen)), Subset(source, np.flatnonzero(chosen))


def _apart(source: Source, part: float, seed: int) -> tuple[Subset, Subset]:
    """The same where images have several classes: rare classes first, each so that its share is held out as nearly as
    the images that are already placed allow (iterative stratification, Sechidis et al. 2011). A class that has two
    images keeps one of them in the rest.
    """
    rng, labels = generator(seed, "held out"), source.labels.astype(bool)
    place = np.zeros(len(source), np.int8)  # 0: not placed yet, 1: rest, 2: held out
    for k in np.argsort(source.counts, kind="stable"):
        members = rng.permutation(np.flatnonzero(labels[:, k]))
        free = members[place[members] == 0]
        wanted = max(0, round(part * len(members)) - int((place[members] == 2).sum()))
        wanted = min(wanted, max(0, len(members) - 1))
        place[free[:wanted]], place[free[wanted:]] = 2, 1
    free = rng.permutation(np.flatnonzero(place == 0))
    cut = min(len(free), max(0, round(part * len(source)) - int((place == 2).sum())))
    place[free[:cut]], place[free[cut:]] = 2, 1
    if not (place == 2).any() or not (place == 1).any():
        raise BadInput("nothing can be held out: there are too few images; name a validation set instead")
    return Subset(source, np.flatnonzero(place == 1)), Subset(source, np.flatnonzero(place == 2))


class ConcatSource(Source):
    """All examples of the first source, then all of the next.

    Raises:
        BadInput: sources whose classes differ.
    """

    def __init__(self, sources: Sequence[Source]):
        self.sources, self.classes = tuple(sources), sources[0].classes
        for source in self.sources[1:]:
            if source.classes != self.classes:
                raise BadInput(
                    f"data of {len(self.classes)} and of {len(source.classes)} classes ({self.classes[:3]}… and "
                    f"{source.classes[:3]}…) cannot be joined; their classes must be the same"
                )
        if len({source.multi_label for source in self.sources}) > 1:
            raise BadInput("data of one class an image and of several cannot be joined")
        self.labels = np.concatenate([source.labels for source in self.sources])
        self._starts = np.cumsum([0, *(len(source) for source in self.sources)])

    def __getitem__(self, index: int) -> Example:
        index = int(index)
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self.sources[part][index - int(self._starts[part])]

    def add_images_to(self, digest: Any) -> None:
        """One source after another."""
        add_to(digest, *(source.content_hash() for source in self.sources))
