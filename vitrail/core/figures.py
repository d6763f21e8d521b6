"""The charts of a study's page, as data: lines over an axis, and dots with intervals beside names."""

from collections.abc import Sequence
from dataclasses import dataclass

from vitrail.core.estimate import Estimate

Number = float | int


@dataclass(frozen=True)
class Point:
    """A place on a line; `low` and `high` bound its 95 % interval where it is known. `name` is written beside it."""

    x: Number
    y: Number
    low: Number | None = None
    high: Number | None = None
    name: str = ""


@dataclass(frozen=True)
class Line:
    """One line with its name at its end; `paper`: of the paper's numbers; `joined`: not only dots."""

    name: str
    points: Sequence[Point]
    paper: bool = False
    joined: bool = True
    dots: bool = True
    colour: int | None = None  # 0 to 5; lines of one colour belong together. None: its place among the lines


@dataclass(frozen=True)
class Lines:
    """Values over a number, such as accuracy over compute."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False
    percent: bool = True  # y are shares, shown in per cent
    x_ticks: Sequence[Number] = ()  # where not regular
    note: str = ""


@dataclass(frozen=True)
class Dot:
    """A named value; `low` and `high` bound its 95 % interval where it is known."""

    name: str
    value: Number
    low: Number | None = None
    high: Number | None = None
    group: str = ""  # dots of a group stand together under its name


@dataclass(frozen=True)
class Panel:
    """Dots on an axis of their own."""

    title: str
    dots: Sequence[Dot]


@dataclass(frozen=True)
class Dots:
    """Named values side by side, such as the cells of a table: ours in one panel, the paper's in another."""

    title: str
    label: str  # of the axis
    panels: Sequence[Panel]
    percent: bool = True
    note: str = ""


Figure = Lines | Dots


def point(x: Number, found: Estimate, name: str = "") -> Point:
    """A measured value at a place."""
    return Point(x, found.value, found.low, found.high, name)


def dot(name: str, found: Estimate, group: str = "") -> Dot:
    """A measured value with a name."""
    return Dot(name, found.value, found.low, found.high, group)
