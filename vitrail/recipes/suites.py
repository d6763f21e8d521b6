"""The suites by name, the paper's five sets and VTAB-1k, and your own list of data sets as one."""

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitrail.core.config import from_json
from vitrail.core.errors import BadInput, unknown
from vitrail.data.catalog.vtab import TASKS, VtabTask
from vitrail.data.transforms.pipeline import Augment, ResizeCrop, WholeImage
from vitrail.jobs.suite.suite import Choice, PublishedResult, Rejudged, Suite, Task
from vitrail.recipes.finetuning import TABLE4, Row, table4
from vitrail.recipes.paper import paper as paper_table
from vitrail.recipes.small import finetune_folder

# fmt: off
#          in Table 4   in the tables of results
PAPER = (("imagenet",  "ImageNet"),
         ("cifar10",   "CIFAR-10"),
         ("cifar100",  "CIFAR-100"),
         ("pets",      "Oxford-IIIT Pets"),
         ("flowers",   "Oxford Flowers-102"))
VTAB_NAMES = dict(zip((task.name for task in TASKS), (
    "Caltech101", "CIFAR-100", "DTD", "Oxford Flowers-102", "Oxford-IIIT Pets", "SUN397", "SVHN",
    "Patch Camelyon", "EuroSAT", "RESISC45", "Diabetic Retinopathy",
    "Clevr-Count", "Clevr-Distance", "DMLab", "dSprites-Location", "dSprites-Orientation", "KITTI-Distance",
    "SmallNORB-Azimuth", "SmallNORB-Elevation",
), strict=True))
# fmt: on


def paper() -> Suite:
    """The five data sets of Table 5, each by its row of Table 4, and ReaL's labels of ImageNet."""
    by_name = {row.data: row for row in TABLE4}
    tasks: list[Task | Rejudged] = []
    for data, name in PAPER:
        tasks.append(_paper_task(by_name[data], name))
        if data == "imagenet":
            real = _table5("ImageNet ReaL")
            layout = "imagenet/real.json beside ImageNet's validation images"
            tasks.append(Rejudged("ImageNet ReaL", "ImageNet", "imagenet-real@validation", "", layout, real))
    return Suite("paper", "The paper's five data sets (Tables 4 and 5), and ImageNet by ReaL's labels.", tuple(tasks))


def _paper_task(row: Row, name: str) -> Task:
    layout = "" if row.data != "imagenet" else "imagenet/train|validation/CLASS/FILE, the classes as WordNet's numbers"
    return Task(name, replace(table4(row), sweep=row.sweep), layout=layout, published=_table5(name))


def vtab() -> Suite:
    """VTAB-1k by the paper's protocol: 1,000 examples, 2,500 steps of 512 at a rate of 0.01, 384 pixels."""
    about = (
        "VTAB-1k: 19 tasks of 1,000 training examples (800 and 200), judged on their whole test sets. Sizes and splits "
        "are VTAB's; which examples are drawn is not."
    )
    return Suite("vtab", about, tuple(_vtab_task(task) for task in TASKS))


def _vtab_task(task: VtabTask) -> Task:
    """BiT's views at 384 pixels: of the whole image resized to 448 a random part, mirrored or not."""
    place = f"vtab-{task.name}"
    row = next(row for row in TABLE4 if row.data == "vtab")
    tuned = replace(
        table4(row),
        train=f"{place}@train800val200",
        test=f"{place}@test",
        sweep=(),
        held_out=None,
        repeats=0,
        augment=Augment(crop=ResizeCrop() if task.crop else WholeImage(), flip=task.flip),
    )
    return Task(
        VTAB_NAMES[task.name],
        tuned,
        task.group,
        shots=f"{place}@train",
        choice=Choice(f"{place}@train800", f"{place}@val200"),
        layout=f"{task.layout}, in VITRAIL_DATA",
        published=_table9(VTAB_NAMES[task.name]),
    )


SUITES: dict[str, Callable[[], Suite]] = {"paper": paper, "vtab": vtab}


@dataclass(frozen=True)
class Listed:
    """A task of your own list."""

    name: str
    train: str  # DATA
    test: str  # DATA
    group: str = ""
    steps: int | None = None  # None: those of the list, or by the size of the data
    batch: int | None = None
    resolution: int | None = None
    lr: float | None = None
    sweep: tuple[float, ...] = ()  # rates to choose from, on a part of the training images
    crop: bool = True  # whether training views are cut
    flip: bool = True  # and mirrored
    shots: str = ""  # DATA for few-shot; empty: the training data
    layout: str = ""  # how to get the data, for others


@dataclass(frozen=True)
class Own:
    """Your own list; what a task does not say is said here."""

    name: str
    tasks: tuple[Listed, ...]
    about: str = ""
    steps: int | None = None
    batch: int | None = None
    resolution: int | None = None
    lr: float | None = None
    sweep: tuple[float, ...] = ()


EXAMPLE = """\
# A suite of your own: vitrail suite birds.toml --model runs/mine --out runs/birds
name = "birds"
about = "What our models must tell apart."
resolution = 224        # of all tasks that say no other
sweep = [0.003, 0.01]   # rates to choose from, on a tenth of the training images

[[tasks]]
name = "species"
group = "photographs"
train = "birds@train"   # DATA, as everywhere: a name, a folder, a manifest, shards
test = "birds@test"

[[tasks]]
name = "nests"
group = "photographs"
train = "nests.csv@train"
test = "nests.csv@test"
steps = 500             # without it: by the size of the data (docs/finetune.md)

[[tasks]]
name = "songs"
group = "spectrograms"
train = "songs@train[:90%]"
test = "songs@train[90%:]"
flip = false            # a spectrogram is not mirrored,
crop = false            # and not cut
"""


def suite_of(name: str) -> Suite:
    """The suite of that name, or the one that a TOML or JSON file lists.

    Raises:
        BadInput: no such suite, or a file that is none.
    """
    if name in SUITES:
        return SUITES[name]()
    path = Path(name)
    if path.suffix.lower() in (".toml", ".json"):
        return own_suite(path)
    raise unknown("suite", name, [*SUITES, "a .toml or .json file"])


def adapted(suite: Suite, *, resolution: int | None = None, batch: int | None = None) -> Suite:
    """The suite at another resolution or batch for all tasks, which it says of itself: no longer the protocol."""
    changes: dict[str, Any] = {"resolution": resolution, "batch": batch}
    changes = {name: value for name, value in changes.items() if value is not None}
    if not changes:
        return suite
    tasks = tuple(
        replace(task, finetune=replace(task.finetune, **changes)) if isinstance(task, Task) else task
        for task in suite.tasks
    )
    said = " and ".join(f"a {name} of {value}" for name, value in changes.items())
    return replace(suite, about=f"{suite.about} Here with {said} instead of the suite's own.".strip(), tasks=tasks)


def own_suite(path: Path) -> Suite:
    """The tasks that a file lists, fine-tuned by the recipe `folder`."""
    if not path.is_file():
        raise BadInput(f"{path} does not exist; `vitrail suite --example` shows what such a file holds")
    try:
        text = path.read_text(encoding="utf-8")
        content: Any = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except ValueError as problem:
        raise BadInput(f"{path} cannot be read: {problem}") from None
    own = from_json(Own, content, path.name)
    suite = Suite(own.name, own.about, tuple(_listed(own, task) for task in own.tasks))
    suite.check()
    return suite


def _listed(own: Own, task: Listed) -> Task:
    base = finetune_folder()
    steps = task.steps or own.steps or 0
    batch = task.batch or own.batch or 0
    rate = task.lr or own.lr or base.optimizer.lr
    return Task(
        task.name,
        replace(
            base,
            train=task.train,
            test=task.test,
            steps=steps,
            batch=batch,
            resolution=task.resolution or own.resolution,
            optimizer=replace(base.optimizer, lr=rate),
            schedule=replace(base.schedule, warmup=min(base.schedule.warmup, steps // 5)),
            sweep=(task.sweep or own.sweep) if task.lr is None else (),
            held_out=None,  # where there is a sweep, by the size of the data
            augment=replace(base.augment, crop=base.augment.crop if task.crop else WholeImage(), flip=task.flip),
        ),
        task.group,
        shots=task.shots,
        layout=task.layout,
    )


SHOWN = (("ViT-B/16", "ImageNet-21k"), ("ViT-L/16", "ImageNet-21k"), ("ViT-H/14", "JFT-300M"))  # of Table 5


def _table9(name: str) -> tuple[PublishedResult, ...]:
    """Of a VTAB task: the models of Table 9."""
    row = next(row for row in paper_table("table9").records() if row["task"] == name)
    return tuple(
        PublishedResult(model, round(value / 100, 6), "Table 9")
        for model, value in row.items()
        if model not in ("task", "group")
    )


def _table5(name: str) -> tuple[PublishedResult, ...]:
    """Of one of the five sets: some of Table 5."""
    rows = {row["pre-training"]: row for row in paper_table("table5").records() if row["data set"] == name}
    return tuple(
        PublishedResult(f"{model} ({data})", round(rows[data][model] / 100, 6), "Table 5") for model, data in SHOWN
    )
