"""The frame of every page: one HTML file that needs no other file, no network and no JavaScript."""

from collections.abc import Sequence
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vitrail.report.blocks import Block, Section


def page(
    title: str, lead: str, sections: Sequence[Section | None], *, kind: str = "", problems: Sequence[str] = ()
) -> str:
    """The whole HTML file; sections that hold nothing are left out, `lead` is the one-line summary under the title."""
    frame = _templates().get_template("frame.html.j2")
    # A problem met twice (a file read by two sections) is told once.
    told = list(dict.fromkeys(problems))
    return frame.render(title=title, lead=lead, kind=kind, sections=list(filter(None, sections)), problems=told)


def html(block: Block) -> Markup:
    """A block as HTML; all its text is escaped, only drawings are `Markup` and taken as they are."""
    macros = _templates().get_template("blocks.html.j2").module
    written: Markup = getattr(macros, type(block).__name__.lower())(block)
    return written


def style() -> str:
    """The CSS of every page."""
    return _templates().get_template("style.css.j2").render()


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("vitrail.report"),
        autoescape=True,  # class names, keys and paths are other people's text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["html"] = html
    return environment
