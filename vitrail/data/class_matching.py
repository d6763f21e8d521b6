"""Which class of the data is which class of the model: one rule, said in one line with the first pairs.

The rules, the first that fits:

1. `how` says it: `folders-by-number`, `folders-by-text`, `imagenet`, or a file of names (`--classes`).
2. Equal names, in any Unicode form; then names that differ in case, spaces, hyphens and underscores alone.
3. ImageNet's synsets and names, for a model of its 1,000 classes. Data with fewer of these classes (ImageNet-A, -R,
   Imagenette) are judged over their own.
4. A model that names no classes: numbers in the order of numbers (whether they begin at 0 or 1), other names in the
   order of text, where there are as many classes.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitrail.core.errors import BadInput, nearest
from vitrail.core.files import read_json
from vitrail.data.catalog.imagenet_classes import imagenet_classes, imagenet_indices
from vitrail.data.sources.class_names import all_numbers, composed, folded

BY_NUMBER, BY_TEXT, IMAGENET = "folders-by-number", "folders-by-text", "imagenet"
_NUMBERED = re.compile(
    r"(LABEL_|class_?)?\d+", re.IGNORECASE
)  # what transformers and others call a class without a name
PAIRS = 3  # that are shown


@dataclass(frozen=True)
class ClassMatch:
    """How a source is judged by a model.

    `names` are the judged classes; `columns[j]` are the model's classes that count as class j: one, or several that
    share a name; `labels[i]` is the judged class of class i of the data.
    """

    names: tuple[str, ...]
    columns: tuple[tuple[int, ...], ...]
    labels: tuple[int, ...]
    sentences: tuple[str, ...] = ()  # to be said

    def unchanged(self, model: Sequence[str]) -> bool:
        """Whether every class of the model is judged, by itself."""
        return self.columns == tuple((i,) for i in range(len(model)))


def match_classes(
    data: Sequence[str],
    model: Sequence[str],
    *,
    data_name: str,
    model_name: str,
    how: str | None = None,
    unnamed: bool | None = None,
) -> ClassMatch:
    """Matches the classes of data with those of a model, by the rules above.

    Args:
        data: the class names of the source, by label.
        model: the class names of the model, by the place of its logits.
        how: `--classes`; None for the rules.
        unnamed: whether the model's names are mere numbers; None: they look like it.

    Raises:
        BadInput: a class that the model does not know, or a `how` that does not fit.
    """
    data, model = [composed(name) for name in data], [composed(name) for name in model]
    bare = all(_NUMBERED.fullmatch(name) for name in model) if unnamed is None else unnamed
    asked = _Question(data, model, data_name, model_name)
    if how in (BY_NUMBER, BY_TEXT):
        return asked.in_order(how, asked=True)
    if how is not None:
        named = _names_given(how, asked)
        if isinstance(named, Mapping):
            return asked.by_table(named, how)
        match = _by_rule(_Question(data, named, data_name, model_name), bare=False)
        return ClassMatch(
            match.names,
            match.columns,
            match.labels,
            (f"the classes of {model_name} are named by {how}", *match.sentences),
        )
    return _by_rule(asked, bare)


def _by_rule(asked: "_Question", bare: bool) -> ClassMatch:
    if bare and all_numbers(asked.data):
        return asked.in_order(BY_NUMBER)
    match = asked.by_name(lambda name: name) or asked.by_name(folded) or asked.by_imagenet(bare)
    if match is None and bare and len(asked.data) == len(asked.model):
        match = asked.in_order(BY_TEXT)
    if match is None:
        names = asked.model
        lost = next((name for name in asked.data if folded(name) not in {folded(n) for n in names}), asked.data[0])
        raise BadInput(
            f"{asked.data_name} has the class {lost!r}, which {asked.model_name} does not know"
            f"{nearest(lost, names) or f': {list(names[:10])}'}; --classes FILE says which is which"
        )
    return match


@dataclass(frozen=True)
class _Question:
    data: Sequence[str]
    model: Sequence[str]
    data_name: str
    model_name: str

    def by_name(self, key: Callable[[str], str]) -> ClassMatch | None:
        """By equal keys of names; None where the model lacks one."""
        places: dict[str, list[int]] = {}
        for place, name in enumerate(self.model):
            places.setdefault(key(name), []).append(place)
        if not all(key(name) in places for name in self.data):
            return None
        twice = {name: found for name, found in places.items() if len(found) > 1}
        names = list(places) if twice else [key(name) for name in self.model]
        order = {name: j for j, name in enumerate(names)}
        columns = tuple(tuple(places[name]) for name in names)
        shown = tuple(self.model[found[0]] for found in columns)
        sentences = [
            f"{self.model_name} calls {len(found)} classes {self.model[found[0]]!r} (numbers "
            f"{', '.join(map(str, found))}): they are judged as one"
            for found in twice.values()
        ]
        labels = tuple(order[key(name)] for name in self.data)
        other = [(name, shown[label]) for name, label in zip(self.data, labels, strict=True) if name != shown[label]]
        if other:
            pairs = ", ".join(f"{name} = {theirs}" for name, theirs in other[:PAIRS])
            sentences.append(
                f"classes of {self.data_name} are matched with {self.model_name} whatever their case: {pairs}"
            )
        return ClassMatch(shown, columns, labels, tuple(sentences))

    def by_imagenet(self, bare: bool) -> ClassMatch | None:
        """By ImageNet's table; None where the model has other classes, or the data one that is not in it."""
        if len(self.model) != len(imagenet_classes()):
            return None
        if not bare and not all(i in imagenet_indices(name) for i, name in enumerate(self.model)):
            return None
        found = [imagenet_indices(name) for name in self.data]
        if not all(found):
            return None
        columns = tuple(dict.fromkeys(sorted(found)))
        names = tuple(self.model[c[0]] if not bare else imagenet_classes()[c[0]].names[0] for c in columns)
        labels = tuple(columns.index(places) for places in found)
        how = f"classes of {self.data_name} are found in ImageNet's table: {self._pairs(found)}"
        own = (
            f"; judged over its own {len(columns)} of {len(self.model):,} classes"
            if len(columns) < len(self.model)
            else ""
        )
        return ClassMatch(names, columns, labels, (how + own,))

    def in_order(self, how: str, asked: bool = False) -> ClassMatch:
        """The data's classes in an order, as many as the model has; numbers are indices where there are fewer."""
        count = len(self.model)
        if how == BY_NUMBER and not all_numbers(self.data):
            lost = next(name for name in self.data if not all_numbers([name]))
            raise BadInput(f"--classes {BY_NUMBER}: {self.data_name} has the class {lost!r}, which is no number")
        order = sorted(self.data, key=int) if how == BY_NUMBER else sorted(self.data)
        if len(order) == count:
            places = {name: i for i, name in enumerate(order)}
        elif how == BY_NUMBER and all(int(name) < count for name in order):
            places = {name: int(name) for name in order}
        else:
            raise BadInput(
                f"{self.data_name} has {len(order)} classes, {self.model_name} {count} without names: which is which "
                "cannot be known; --classes FILE names the model's classes, a line each"
            )
        columns = tuple((i,) for i in range(count))
        labels = tuple(places[name] for name in self.data)
        said = "number" if how == BY_NUMBER else "text"
        sentence = (
            f"{self.model_name} names no classes: those of {self.data_name} are taken in the order of {said}: "
            f"{self._pairs([(label,) for label in labels])}"
        )
        if not asked and how == BY_NUMBER and sorted(self.data) != order:
            sentence += f"; torchvision counts folders in the order of text: --classes {BY_TEXT}"
        names = list(self.model)
        for name, label in zip(self.data, labels, strict=True):
            names[label] = name
        return ClassMatch(tuple(names), columns, labels, (sentence,))

    def by_table(self, table: Mapping[str, str | int], how: str) -> ClassMatch:
        """By a file that gives for each class of the data the model's name or number of it."""
        names = {folded(name): i for i, name in enumerate(self.model)}
        labels = []
        for name in self.data:
            if name not in table:
                raise BadInput(f"{how} says nothing of the class {name!r} of {self.data_name}{nearest(name, table)}")
            value = table[name]
            place = value if isinstance(value, int) else names.get(folded(value), -1)
            if not 0 <= place < len(self.model):
                raise BadInput(
                    f"{how}: {name!r} is {value!r}, which {self.model_name} has not; {len(self.model)} classes"
                )
            labels.append(place)
        columns = tuple((i,) for i in range(len(self.model)))
        sentence = f"classes of {self.data_name} are matched by {how}: {self._pairs([(place,) for place in labels])}"
        return ClassMatch(tuple(self.model), columns, tuple(labels), (sentence,))

    def _pairs(self, places: Sequence[tuple[int, ...]]) -> str:
        pairs = sorted(zip(places, self.data, strict=True))[:PAIRS]
        return ", ".join(f"{name} = class {' or '.join(map(str, place))}" for place, name in pairs)


def _names_given(how: str, asked: _Question) -> Sequence[str] | Mapping[str, str | int]:
    """The names of the model's classes, in its order; or an object of the data's classes."""
    if how == IMAGENET:
        names: Sequence[str] = [", ".join(row.names) for row in imagenet_classes()]
    else:
        file = Path(how)
        if not file.is_file():
            known = (BY_NUMBER, BY_TEXT, IMAGENET)
            raise BadInput(f"--classes {how}: neither a file nor one of {', '.join(known)}{nearest(how, known)}")
        if file.suffix == ".json":
            found = read_json(file)
            if isinstance(found, dict) and "classes" not in found:
                if not all(isinstance(v, str | int) and not isinstance(v, bool) for v in found.values()):
                    raise BadInput(
                        f"{file}: expected names or numbers of the model's classes: {json.dumps(found)[:60]}"
                    )
                return {composed(str(key)): value for key, value in found.items()}
            names = found["classes"] if isinstance(found, dict) else found
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise BadInput(f"{file} holds {json.dumps(found)[:60]}; expected a list of class names")
        else:
            names = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if len(names) != len(asked.model):
        raise BadInput(f"{how} names {len(names):,} classes; {asked.model_name} has {len(asked.model):,}")
    return names
