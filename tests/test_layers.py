"""The one-way order of imports (docs/architecture.md), of folders and of the rooms within them."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vitrail"

# A part imports only parts in rows above its own; those in one row do not import each other.
HOUSE = [
    {"core"},
    {"records"},
    {"findings"},
    {"data", "models", "report"},
    {"weights"},
    {"runtimes"},
    {"train", "evals"},
    {"analysis"},
    {"serve", "export"},
    {"jobs"},
    {"recipes"},
    {"studies"},
    {"commands", "api"},
    {"cli"},
    {"__main__", "__init__"},
]
NOT_IMPORTED = {"report": {"commands"}}  # a part that only these may import

# The same within the folders that have rooms.
ROOMS = {
    "data": [
        {"decode"},
        {"sources"},
        {"transforms", "catalog", "shards"},
        {"loader", "quality"},
        {"open"},
        {"leakage", "class_matching"},
    ],
    "jobs": [
        {
            "inspect",
            "unlabelled_training",
            "training_data",
            "duplicates",
            "linear_probe",
            "data_check",
            "predict",
            "prepare",
            "throughput",
            "data_identity",
            "export",
            "benchmark",
            "plan",
        },
        {"training_job", "train_test_overlap"},
        {"training_finish"},
        {"training"},
        {"pretrain", "finetune", "forecast", "evaluate"},
        {"suite", "demo", "speedrun", "pretrain_auto"},
    ],
    "report": [{"blocks", "folder"}, {"page", "charts"}, {"sections"}, {"pages"}, {"index"}, {"__init__"}],
    "studies": [
        {"engine"},
        {"setups", "table6"},
        {"over_compute"},
        {
            "position",
            "head",
            "shape",
            "optimizer",
            "data_size",
            "scaling",
            "cost",
            "masked",
            "axial",
            "compute",
            "__init__",
        },
        {"law"},
    ],
}


def imports(file: Path) -> set[tuple[str, ...]]:
    """What of vitrail a file imports, wherever in the file it does so: ("data", "open", "names", "open_data")."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {tuple(name.split(".")[1:]) for name in names if name.startswith("vitrail.")}
    return found


def place(file: Path) -> tuple[str, ...]:
    return file.relative_to(PACKAGE).with_suffix("").parts


def ranks(order: list[set[str]]) -> dict[str, int]:
    return {name: rank for rank, names in enumerate(order) for name in names}


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_point_one_way(file: Path) -> None:
    here, rank = place(file)[0], ranks(HOUSE)
    for other in {name[0] for name in imports(file)} - {here}:
        assert rank[other] < rank[here], f"{file} imports {other}, which lies to the right of {here}"
        assert here in NOT_IMPORTED.get(other, {here}), f"{file} imports {other}; only {NOT_IMPORTED[other]} may"


@pytest.mark.parametrize("file", [f for f in FILES if place(f)[0] in ROOMS], ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_of_rooms_point_one_way(file: Path) -> None:
    part, room = place(file)[:2]
    rank = ranks(ROOMS[part])
    others = {name[1] for name in imports(file) if name[0] == part and len(name) > 1 and name[1] in rank} - {room}
    assert all(rank[other] < rank[room] for other in others), f"{file} imports {sorted(others)}, not all above {room}"


def test_no_file_imports_itself_by_way_of_others() -> None:
    files = {place(file): file for file in FILES}
    graph = {
        here: {name[:n] for name in imports(file) for n in range(1, len(name) + 1) if name[:n] in files} - {here}
        for here, file in files.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" imports ".join("/".join(name) for name in reversed(circle.args[1])))


def test_every_folder_and_every_room_has_its_place() -> None:
    assert {place(file)[0] for file in FILES} <= ranks(HOUSE).keys()
    for part, order in ROOMS.items():
        rooms = {place(file)[1] for file in FILES if place(file)[0] == part}
        assert rooms - {"__init__"} <= ranks(order).keys()


def test_no_file_has_more_than_400_lines() -> None:
    lengths = {str(file.relative_to(PACKAGE)): len(file.read_bytes().splitlines()) for file in FILES}
    assert not {name: lines for name, lines in lengths.items() if lines > 400}, "split by concept"


def test_no_file_is_called_utils() -> None:
    vague = {"utils", "util", "common", "helpers", "misc"}
    assert not [file for file in FILES if file.stem in vague]


@pytest.mark.parametrize("folder", sorted({f.parent for f in FILES}), ids=lambda f: str(f.relative_to(PACKAGE.parent)))
def test_a_folder_says_in_its_first_line_what_is_in_it(folder: Path) -> None:
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    assert text
    assert text.split("\n")[0].endswith((".", ")"))
