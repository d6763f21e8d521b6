"""The examples run, and docs/python.md lists each public name with an example of it."""

import ast
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

import vitrail
from vitrail.data.catalog.catalog import NAMED
from vitrail.models import variants

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PYTHON = (ROOT / "docs/python.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What an example registers is forgotten."""
    known = dict(NAMED)
    monkeypatch.setattr(variants, "_REGISTERED", {})
    yield
    for name in NAMED.keys() - known.keys():
        del NAMED[name]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_runs(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 10 < len(file.read_text(encoding="utf-8").splitlines()) <= 40
    monkeypatch.setattr(sys, "argv", [str(file), str(tmp_path / "run")])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(file), run_name="__main__")


def test_the_page_lists_each_public_name_with_an_example_of_it() -> None:
    listed: dict[str, Path] = {}
    for names, example in re.findall(
        r"^\| ((?:`\w+`(?:, )?)+) \|.*\]\(\.\./(examples/\w+\.py)\) \|$", PYTHON, re.MULTILINE
    ):
        listed |= dict.fromkeys(re.findall(r"\w+", names), ROOT / example)
    assert sorted(listed) == sorted(vitrail.__all__)
    shown = {name: file for name, file in listed.items() if name != "ResNetConfig"}  # as ViTConfig beside it
    for name, file in shown.items():
        assert f"vitrail.{name}" in file.read_text(encoding="utf-8"), f"{file} does not use {name}"
    assert {*listed.values()} == {*EXAMPLES}


def code() -> Iterator[tuple[str, str]]:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            yield page.name, block
    for file in EXAMPLES:
        yield file.name, file.read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "block"), [*code()])
def test_docs_and_examples_use_public_names_alone(page: str, block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.startswith("vitrail.")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vitrail"):
            assert node.module == "vitrail"
            assert {alias.name for alias in node.names} <= {*vitrail.__all__}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "vitrail":
            assert node.attr in vitrail.__all__


def test_each_public_name_is_there_and_says_what_it_is() -> None:
    assert list(vitrail.__all__) == sorted(vitrail.__all__)
    for name in vitrail.__all__:
        assert getattr(vitrail, name).__doc__, name
    assert vitrail.__version__ == version("vitrail")
    with pytest.raises(AttributeError, match="nothing"):
        vitrail.nothing  # noqa: B018


def test_importing_vitrail_imports_nothing_else_and_train_stays_the_function() -> None:
    program = """
import sys
import vitrail
assert not [name for name in sys.modules if name.startswith("vitrail.") or name == "torch"]
from vitrail.train.config import TrainConfig
assert vitrail.train.__module__ == "vitrail.api.training" and vitrail.TrainConfig is TrainConfig
"""
    subprocess.run([sys.executable, "-c", program], check=True)
