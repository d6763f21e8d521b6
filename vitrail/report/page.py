"""The frame of every page: one HTML file that needs no other file, no network and no JavaScript."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vitrail.core import numbers


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading that the list of contents links to."""

    title: str
    anchor: str
    body: Markup


@dataclass(frozen=True)
class Picture:
    """An image inside the page: `uri` holds the PNG itself, `width` is in CSS pixels."""

    uri: str
    alt: str
    width: int
    height: int
    pixelated: bool = False
    caption: str = ""


def page(
    title: str, lead: str, sections: Sequence[Section | None], *, kind: str = "", problems: Sequence[str] = ()
) -> str:
    """The whole HTML file; sections that are None are left out, `lead` is the one-line summary under the title."""
    present = [section for section in sections if section is not None]
    # A problem met twice (a file read by two sections) is told once.
    return (
        _templates()
        .get_template("frame.html.j2")
        .render(title=title, lead=lead, kind=kind, sections=present, problems=list(dict.fromkeys(problems)))
    )


def fragment(template: str, **content: object) -> Markup:
    """The HTML of a part of a page; all text in `content` is escaped, only `Markup` is taken as it is."""
    return Markup(_templates().get_template(template).render(**content))


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("vitrail.report"),
        autoescape=True,  # class names, keys and paths are other people's text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        numbers.percent,
        numbers.interval,
        numbers.count,
        numbers.plain,
        numbers.duration,
        numbers.quantity,
    ):
        environment.filters[function.__name__ if function is not numbers.count else "thousands"] = function
    return environment
