"""What a page is made of: sections of blocks. A block that holds nothing is false, and no page shows it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from vitrail.core.numbers import UNKNOWN


class Block(ABC):
    """A piece of a section; it is false where it holds nothing. templates/blocks.html.j2 has a macro for each."""

    @abstractmethod
    def __bool__(self) -> bool: ...


@dataclass(frozen=True)
class Picture:
    """An image inside the page: `uri` holds the PNG or JPEG itself, `width` and `height` are in CSS pixels."""

    uri: str
    alt: str
    width: int
    height: int
    pixelated: bool = False


@dataclass(frozen=True)
class Text(Block):
    """A paragraph; `quiet` is a remark in small grey letters."""

    text: str
    quiet: bool = False

    def __bool__(self) -> bool:
        return bool(self.text)


@dataclass(frozen=True)
class Chart(Block):
    """A drawing with a note below; `scale` is the low end, the high end and the name of its colours."""

    drawing: Markup | None
    note: str = ""
    scale: tuple[str, str, str] | None = None
    beside: Picture | None = None

    def __bool__(self) -> bool:
        return bool(self.drawing)


@dataclass(frozen=True)
class Table(Block):
    """Rows of cells. A heading that starts with # is of a column of numbers.

    `prose` is the column whose text is wrapped, `strong` the row to stress; `links` are what the first cells link to.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    prose: int | None = None
    strong: int | None = None
    links: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.rows)


@dataclass(frozen=True)
class Facts(Block):
    """Names with their values; those whose value is not known are left out."""

    pairs: Sequence[tuple[str, object]]

    @property
    def known(self) -> list[tuple[str, object]]:
        return [(name, value) for name, value in self.pairs if value not in (None, "", UNKNOWN)]

    def __bool__(self) -> bool:
        return bool(self.known)


@dataclass(frozen=True)
class Tile:
    """Pictures side by side with one caption; `mark` draws a solid line below ("same") or a dashed one ("other")."""

    pictures: Sequence[Picture]
    caption: str = ""
    mark: Literal["", "same", "other"] = ""

    @property
    def width(self) -> int:
        """CSS pixels, with the gaps between the pictures."""
        return sum(picture.width for picture in self.pictures) + 4 * (len(self.pictures) - 1)


@dataclass(frozen=True)
class Images(Block):
    """Rows of tiles, each wrapped where it is too long; `layout` is the style: captions and gaps of another size."""

    rows: Sequence[Sequence[Tile]]
    note: str = ""
    layout: Literal["strip", "dense", "neighbours"] = "strip"

    def __bool__(self) -> bool:
        return any(tile.pictures for row in self.rows for tile in row)


@dataclass(frozen=True)
class Code(Block):
    """A command or a file as it is written."""

    text: str

    def __bool__(self) -> bool:
        return bool(self.text)


@dataclass(frozen=True)
class Links(Block):
    """Addresses of other pages with their names, one a line."""

    links: Sequence[tuple[str, str]]  # (name, address)

    def __bool__(self) -> bool:
        return bool(self.links)


@dataclass(frozen=True)
class Part(Block):
    """Blocks under a small heading of their own; with `folded`, shown only when the reader opens them."""

    heading: str
    blocks: Sequence[Block]
    folded: bool = False

    def __bool__(self) -> bool:
        return any(self.blocks)


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading that the list of contents links to."""

    title: str
    anchor: str
    blocks: Sequence[Block]

    def __bool__(self) -> bool:
        return any(self.blocks)


def paragraphs(sentences: Sequence[str]) -> list[Block]:
    """A paragraph for each sentence."""
    return [Text(sentence) for sentence in sentences]
