"""docs/files.md is what the records print."""

from importlib import import_module
from pathlib import Path

import vitrail.records
from vitrail.records.document import CHAPTERS, comments, document
from vitrail.records.record import Record

ROOT = Path(__file__).parent.parent.parent
WITHOUT_FILES = {"__init__", "record", "images", "runtime", "document", "read_run"}


def test_the_page_is_that_of_the_records() -> None:
    page = (ROOT / "docs/files.md").read_text(encoding="utf-8")
    assert page == document(), "run: python -m vitrail.records.document > docs/files.md"


def test_every_file_of_records_is_a_chapter() -> None:
    files = {path.stem for path in Path(vitrail.records.__file__).parent.glob("*.py")}
    assert files - WITHOUT_FILES == set(CHAPTERS)


def test_every_record_is_on_the_page() -> None:
    page = document()
    for name in (*CHAPTERS, "images", "runtime"):
        module = import_module(f"vitrail.records.{name}")
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Record) and kind.__module__ == module.__name__:
                assert kind.__doc__
                for key, comment in comments(kind).items():
                    if comment:
                        assert comment in page, f"{kind.__name__}.{key}"


def test_comments_are_found() -> None:
    from vitrail.records.evaluation import EvaluationResult

    found = comments(EvaluationResult)
    assert found["top5"] == "null below 6 classes"  # of the base
    assert found["copies"].startswith("null where")
    assert found["accuracy"] == ""
    assert list(found)[-1] == "runtime"
