"""Frozen features, judged: regression in closed form (section 4.1), nearest neighbours, logistic regression."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from vitrail.core.cache import cache_folder
from vitrail.core.cluster import Cluster
from vitrail.core.device import Machine, Precision, choose_device, choose_precision
from vitrail.core.dist import launched
from vitrail.core.errors import BadInput
from vitrail.core.estimate import over_seeds
from vitrail.core.progress import progress, say
from vitrail.core.resumable import alone_in
from vitrail.core.seeds import torch_seed
from vitrail.data.leakage import check_train_test
from vitrail.data.open.names import open_data, require_classes
from vitrail.data.sources.base import Source
from vitrail.data.sources.relabelled import Relabelled
from vitrail.data.sources.subset import Subset, shots
from vitrail.data.transforms.pipeline import View, official_few_shot_view
from vitrail.evals.feature_cache import Number, stored_features
from vitrail.evals.features import (
    EveryLayer,
    Features,
    Layer,
    Reading,
    Representation,
    features,
    for_cluster,
    layers_of,
    open_for_features,
    pixel_features,
)
from vitrail.evals.fewshot import RIDGE
from vitrail.evals.probes import Judge, Logistic, Majority, Neighbours, Ridge, check_probe, probe
from vitrail.models.build import Model, build
from vitrail.records.images import UnreadableImage
from vitrail.records.linear import FeaturesName, JudgeName, LinearResult, LinearRow
from vitrail.records.record import write_record
from vitrail.runtimes.runtime import Runtime
from vitrail.weights.load import attach, load

Shots = int | Literal["all"]


@dataclass(frozen=True)
class Linear:
    """For each number of images a class and each seed a draw of training images; each is judged on all of test."""

    model: str
    train: str
    test: str
    shots: tuple[Shots, ...] = (1, 5, 10, 25)  # images a class; all: the whole training set
    seeds: int = 3  # draws
    ridge: float = RIDGE
    baselines: bool = False  # also the same model newly initialised, and raw pixels
    resolution: int | None = None
    judge: tuple[JudgeName, ...] = ("ridge",)  # knn: weighted votes of neighbours; majority: plain ones
    layers: bool = False  # also the class token and the mean of the patches after every layer
    neighbours: int = 20
    temperature: float = 0.07  # of the votes of knn
    view: Literal["own", "official"] = "own"  # official: both sides to 256, the middle 224, as big_vision does
    precision: Precision = "auto"  # of the forward pass
    features: str | None = None  # folder that keeps the features; in the cache if not given; none: they are not kept
    stored: Number = "float32"


class _Kind(NamedTuple):
    """Features to be judged: what they are called, and what makes them."""

    name: FeaturesName
    extract: Callable[[Source], Features]
    layers: bool = False
    runtime: Runtime | None = None


def linear(
    config: Linear, folder: str | Path | None = None, machine: Machine | None = None, cluster: Cluster | None = None
) -> LinearResult:
    """Evaluates, and writes linear.json into `folder` where one is given.

    Of the processes of a launcher each computes a part of the features, and the first judges them; the others return no
    rows. With `cluster` its nodes compute the features, on processors.

    Raises:
        BadInput: data that cannot be used, test classes or images that do not fit the training data, a class with too
            few images, or broken images among those drawn.
    """
    machine = machine or Machine()
    device, runtime = for_cluster(cluster, machine.device, machine.runtime)
    machine = replace(machine, device=device, runtime=runtime)
    judges = _judges(config)
    counts = [count for count in config.shots if count != "all"]
    if not config.shots or min(counts, default=1) < 1 or config.seeds < 1:
        raise BadInput(f"shots {config.shots} and seeds {config.seeds} must be at least 1")
    train = open_data(config.train, "train", multi_label=True)
    test = open_data(config.test, "test", multi_label=train.multi_label)
    if train.multi_label and not test.multi_label:
        test = Relabelled(test, range(len(test.classes)), test.classes, multi_label=True)
    require_classes(train, config.train)
    if train.classes != test.classes:
        raise BadInput(
            f"train has the classes {train.classes[:5]}…, test has {test.classes[:5]}…: they must be the same"
        )
    draws = _draws(config, train, max(counts, default=0))
    for sentence in check_train_test(train, test, config.train, config.test):
        say(sentence)
    model = load(config.model, resolution=config.resolution, device=choose_device(machine.device))
    needed = np.unique(np.concatenate([rows for drawn in draws.values() for rows in drawn]))
    view = View((Subset(train, needed), test), model.preprocess)
    if config.view == "official":
        view = official_few_shot_view(view.sources, model.preprocess)
    support, judged_on = view.sources
    rows: list[LinearRow] = []
    read, broken = 0, dict[str, str]()
    computed: Runtime | None = None
    for kind in _kinds(config, model, view, machine, cluster):
        trained, judged = kind.extract(support), kind.extract(judged_on)
        computed = computed or kind.runtime
        trained = trained._replace(places=needed[trained.places])
        read, broken = len(judged.labels), dict(judged.broken) or broken
        if launched().first:
            rows += _rows(kind, model, trained, judged, draws, judges, len(train.classes))
    result = LinearResult(
        model=config.model,
        train=config.train,
        test=config.test,
        view=config.view,
        ridge=config.ridge,
        neighbours=config.neighbours,
        temperature=config.temperature,
        classes=train.classes,
        measure="mean average precision" if train.multi_label else None,
        count=read,
        broken=[UnreadableImage(key=key, reason=reason) for key, reason in broken.items()],
        rows=rows,
        runtime=computed.info() if computed else None,
    )
    if folder is not None and launched().first:
        with alone_in(Path(folder)):
            write_record(Path(folder) / "linear.json", result)
    return result


def _judges(config: Linear) -> dict[JudgeName, Judge]:
    known: dict[JudgeName, Judge] = {
        "ridge": Ridge(config.ridge),
        "knn": Neighbours(config.neighbours, config.temperature),
        "majority": Majority(config.neighbours),
        "logistic": Logistic(),
    }
    if not config.judge:
        raise BadInput(f"no judge is named; expected one or more of {', '.join(known)}")
    for name in config.judge:
        check_probe(known[name])
    return {name: known[name] for name in config.judge}


def _draws(config: Linear, train: Source, most: int) -> dict[Shots, list[np.ndarray]]:
    """For each number of shots the places of the training images of each draw."""
    drawn = [shots(train, most, seed).reshape(len(train.classes), -1) for seed in range(config.seeds)] if most else []
    found: dict[Shots, list[np.ndarray]] = {}
    for count in config.shots:
        found[count] = [np.arange(len(train))] if count == "all" else [d[:, :count].ravel() for d in drawn]
    absent = np.flatnonzero(train.counts == 0)
    if len(absent):
        raise BadInput(f"{config.train} has no image of class {train.classes[absent[0]]!r}, so nothing can learn it")
    return found


def _kinds(config: Linear, model: Model, view: View, machine: Machine, cluster: Cluster | None) -> Iterator[_Kind]:
    device = next(model.parameters()).device
    dtype = choose_precision(config.precision, device)

    images = sum(len(source) for source in view.sources)

    def opened(of: Model, reading: Reading) -> Runtime | None:
        return open_for_features(of, reading, machine.runtime, config.precision, images)

    def frozen(of: Model, reading: Reading, runtime: Runtime | None) -> Callable[[Source], Features]:
        if config.features == "none":
            return lambda source: features(
                of,
                source,
                view.preprocess,
                dtype=dtype,
                reading=reading,
                workers=machine.workers,
                runtime=runtime,
                cluster=cluster,
            )
        kept = cache_folder() / "features" if config.features is None else Path(config.features)
        return lambda source: stored_features(
            of,
            source,
            view.preprocess,
            kept,
            dtype=dtype,
            reading=reading,
            number=config.stored,
            workers=machine.workers,
            runtime=runtime,
            cluster=cluster,
        )

    reading = EveryLayer() if config.layers else Representation()
    runtime = opened(model, reading)
    yield _Kind("pre-trained", frozen(model, reading, runtime), config.layers, runtime)
    if config.baselines:
        torch.manual_seed(torch_seed(0, "random features"))
        untrained = attach(build(model.config), model.preprocess, model.classes).to(device)
        plain = Representation()
        yield _Kind("random initialisation", frozen(untrained, plain, opened(untrained, plain)))
        yield _Kind("raw pixels", lambda source: pixel_features(source, view.preprocess))


def _rows(
    kind: _Kind,
    model: Model,
    trained: Features,
    judged: Features,
    draws: dict[Shots, list[np.ndarray]],
    judges: dict[JudgeName, Judge],
    classes: int,
) -> list[LinearRow]:
    """A row for each layer, judge and number of shots."""
    plain = (Layer(None, None, trained.values),), (Layer(None, None, judged.values),)
    pairs = [layers_of(f.values, model.config) for f in (trained, judged)] if kind.layers else plain
    layers = list(zip(*pairs, strict=True))
    rows = []
    total = len(layers) * len(judges) * sum(len(drawn) for drawn in draws.values())
    with progress("judging", total) as bar:
        for learned, seen in layers:
            for name, judge in judges.items():
                for count, drawn in draws.items():
                    found = []
                    for places in drawn:
                        rows_of = _rows_of(places, trained, count)
                        values, labels = learned.values[rows_of], trained.labels[rows_of]
                        found.append(probe(judge, values, labels, seen.values, judged.labels, classes))
                        bar.advance(f"{name}, {count} a class")
                    accuracies = [one.accuracy for one in found]
                    interval = over_seeds(accuracies)
                    if count == "all":
                        interval = found[0].interval
                    rows.append(
                        LinearRow(
                            features=kind.name,
                            layer=learned.depth,
                            tokens=learned.tokens,
                            judge=name,
                            shots=count,
                            images=found[0].learned,
                            accuracies=accuracies,
                            mean=float(np.mean(accuracies)),
                            interval=interval,
                            interval_over=None if interval is None else "images" if count == "all" else "draws",
                            chosen=[one.chosen for one in found if one.chosen] or None,
                        )
                    )
    return rows


def _rows_of(places: np.ndarray, trained: Features, count: Shots) -> np.ndarray | slice:
    """Where the images of a draw lie among the features; of the whole set those that could be read, not copied.

    Raises:
        BadInput: a drawn image is broken.
    """
    if count == "all":
        return slice(None)
    rows = np.searchsorted(trained.places, places)
    there = rows < len(trained.places)
    there[there] = trained.places[rows[there]] == places[there]
    if not there.all():
        names = "; ".join(f"{key}: {reason}" for key, reason in trained.broken[:3])
        raise BadInput(f"{int((~there).sum())} of the drawn images are broken ({names}); remove them and try again")
    return rows
