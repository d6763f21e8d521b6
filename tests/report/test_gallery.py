"""The page of every chart: whole and self-contained, and nothing that a page can be made of is missing."""

import importlib
import inspect
import pkgutil

import pytest

from tests.report import gallery
from tests.report.test_report_pages import Page
from vitrail.report import blocks, charts

CHARTS = {
    name
    for module in pkgutil.iter_modules(charts.__path__)
    if module.name != "svg"  # what charts are drawn with
    for name, function in vars(importlib.import_module(f"{charts.__name__}.{module.name}")).items()
    if inspect.isfunction(function) and function.__module__ == f"{charts.__name__}.{module.name}" and name[0] != "_"
    if "Markup" in str(function.__annotations__.get("return"))
}
KINDS = {kind.__name__ for kind in blocks.Block.__subclasses__()}


def test_the_page_is_whole() -> None:
    text = gallery.gallery_page()
    page = Page(text)
    assert "script" not in page.tags
    assert all(reference.startswith(("data:", "#")) for reference in page.references)
    assert all((drawing.get("aria-label") or "").strip() for drawing in page.drawings)
    assert "nan" not in text.lower().replace("nano", "").split('"')


@pytest.mark.parametrize("name", sorted(CHARTS | KINDS))
def test_nothing_is_missing(name: str) -> None:
    assert len(CHARTS) >= 8
    source = inspect.getsource(gallery).split("LONG =")[1]
    assert f"{name}(" in source, f"tests/report/gallery.py has no {name}"


def test_what_holds_nothing_is_false() -> None:
    for nothing in (
        blocks.Text(""),
        blocks.Chart(None, "a note"),
        blocks.Table(["head"], []),
        blocks.Facts([("name", None), ("other", "")]),
        blocks.Images([[blocks.Tile([], "a caption")], []]),
        blocks.Code(""),
        blocks.Links([]),
        blocks.Part("heading", [blocks.Text("")]),
        blocks.Section("title", "anchor", [blocks.Part("heading", [])]),
    ):
        assert not nothing, nothing
    assert blocks.Facts([("zero", 0)])
