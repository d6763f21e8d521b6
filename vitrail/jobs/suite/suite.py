"""Configs of a suite: data sets that a model is transferred to, in groups, and the two ways of transferring it."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from vitrail.core.errors import BadInput, unknown
from vitrail.data.catalog.catalog import to_be_fetched
from vitrail.data.open.names import open_data, require_classes
from vitrail.data.sources.split_names import DataName
from vitrail.jobs.finetune.finetune import Finetune


@dataclass(frozen=True)
class PublishedResult:
    """The published accuracy of another model on a task."""

    model: str
    accuracy: float  # a share
    source: str  # as "Table 9"


@dataclass(frozen=True)
class Choice:
    """Data on which a setting may be chosen that holds for all tasks: learned from the first, judged on the second."""

    train: str
    held_out: str


@dataclass(frozen=True)
class Task:
    """A data set: all of its fine-tuning but the model. Few-shot takes its images from `shots`, where that is given."""

    name: str
    finetune: Finetune
    group: str = ""
    shots: str = ""  # DATA; empty: what fine-tuning learns from
    choice: Choice | None = None
    layout: str = ""  # how a person provides the data where they cannot be fetched
    published: tuple[PublishedResult, ...] = ()


@dataclass(frozen=True)
class Rejudged:
    """The fine-tuned model of another task, judged on other images; in no mean. ImageNet-ReaL is one."""

    name: str
    of: str
    test: str
    group: str = ""
    layout: str = ""
    published: tuple[PublishedResult, ...] = ()


@dataclass(frozen=True)
class Suite:
    """Tasks in the order of the table."""

    name: str
    about: str
    tasks: tuple[Task | Rejudged, ...]

    def check(self) -> None:
        """Raises BadInput for a suite without tasks, or with two of one name."""
        names = [task.name for task in self.tasks]
        if not any(isinstance(task, Task) for task in self.tasks):
            raise BadInput(f"the suite {self.name!r} has no task; give at least one with name, train and test")
        if len(folder_names(names)) < len(names):
            raise BadInput(f"the suite {self.name!r} has two tasks of one name; their names: {', '.join(names)}")
        for task in self.tasks:
            if isinstance(task, Rejudged) and task.of not in names:
                raise unknown("task", task.of, names)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups in their order; the empty name is none."""
        return tuple(dict.fromkeys(task.group for task in self.tasks if task.group))


@dataclass(frozen=True)
class Setting:
    """A learning rate and a number of steps for all tasks."""

    lr: float
    steps: int


@dataclass(frozen=True)
class FineTuned:
    """Each task fine-tuned and judged on its test images.

    One setting replaces rate and steps of all tasks; of several the one with the best mean over the held-out parts of
    the tasks' `choice` is taken, before any test image is seen. None: each task's own.
    """

    settings: tuple[Setting, ...] = ()
    repeats: int = 0  # more runs of each task, with the next seeds: mean and spread


@dataclass(frozen=True)
class FewShot:
    """The closed form on frozen features (section 4.1).

    "official": random draws by seeds, a fixed ridge. "older": the first images of each class, and the ridge that has
    the best mean rank over the tasks (vitrail.evals.fewshot_rank).
    """

    shots: tuple[int, ...] = (1, 5, 10)
    seeds: int = 3
    variant: Literal["official", "older"] = "official"
    resolution: int | None = None  # None: as the model was pre-trained


Method = FineTuned | FewShot


class Present(NamedTuple):
    """The data of a task as they lie here. `problem`: why they cannot be opened; counts are None where not known."""

    train: int | None = None
    test: int | None = None
    classes: int | None = None
    problem: str = ""
    fetched_first: bool = False


def look_for(task: Task, method: Method) -> Present:
    """Opens the data of a task, but downloads nothing."""
    train = data_of(task, method)
    places = (DataName.parse(train).place, DataName.parse(task.finetune.test or "").place)
    if any(to_be_fetched(place) for place in places):
        return Present(fetched_first=True)
    try:
        source = open_data(train, "train")
        require_classes(source, train)
        held_out = open_data(task.finetune.test or "", "test")
    except BadInput as problem:
        return Present(problem=str(problem))
    return Present(len(source), len(held_out), len(source.classes))


def data_of(task: Task, method: Method) -> str:
    """The training images of a task, as DATA."""
    return task.shots or task.finetune.train if isinstance(method, FewShot) else task.finetune.train


def chosen(suite: Suite, only: tuple[str, ...], skip: tuple[str, ...]) -> set[str]:
    """The names of the tasks to run; `only` and `skip` may name groups too. Raises BadInput for unknown ones."""
    names = [task.name for task in suite.tasks]
    for name in (*only, *skip):
        if name not in names and name not in suite.groups:
            raise unknown(f"task of {suite.name}", name, [*names, *suite.groups])
    wanted = {t.name for t in suite.tasks if not only or t.name in only or t.group in only}
    wanted -= {t.name for t in suite.tasks if t.name in skip or t.group in skip}
    if not wanted:
        raise BadInput(f"--only and --skip leave no task of {suite.name}; its tasks: {', '.join(names)}")
    return wanted


def folder_names(names: list[str]) -> dict[str, str]:
    """The folder of each task: its name in letters, digits and hyphens."""
    made: dict[str, str] = {}
    for name in names:
        folder = "".join(c if c.isalnum() or c in "-_." else "-" for c in name.lower()).strip("-.") or "task"
        if folder not in made.values():
            made[name] = folder
    return made
