"""The one-way order of imports (docs/architecture.md): a folder imports only folders to its left."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vitrail"

# Those in one set do not import each other.
ORDER = [
    {"core"},
    {"data", "models"},
    {"weights"},
    {"train", "evals"},
    {"analysis", "serve"},
    {"jobs"},
    {"recipes"},
    {"studies"},
    {"commands"},
    {"cli"},
    {"__main__", "__init__"},
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
ANYWHERE = {"report": {"core"}}  # knows only core; only the command line knows it


def imports(file: Path) -> set[str]:
    """The parts of vitrail that a file imports, wherever in the file it does so."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: relative import"
            names = [node.module]
            if node.module == "vitrail":
                names = [f"vitrail.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("vitrail.")}
    return found


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def allowed(part: str) -> set[str]:
    if part in ANYWHERE:
        return ANYWHERE[part] | {part}
    lower = {name for name, rank in RANK.items() if rank < RANK[part]}
    return lower | {part} | ({"report"} if part == "commands" else set())


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_point_one_way(file: Path) -> None:
    extra = imports(file) - allowed(part_of(file))
    assert not extra, f"{file} imports {sorted(extra)}, which lie to the right of {part_of(file)}"


def test_every_folder_has_its_place() -> None:
    parts = {part_of(file) for file in PACKAGE.rglob("*.py")}
    assert parts == RANK.keys() | ANYWHERE.keys()


def test_no_file_is_called_utils() -> None:
    vague = {"utils", "util", "common", "helpers", "misc"}
    assert not [file for file in PACKAGE.rglob("*.py") if file.stem in vague]
