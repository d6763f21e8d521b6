"""What is installed with vitrail: nothing below the versions whose faults are known."""

import re
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
PINNED = (Path(__file__).parents[1] / "constraints.txt").read_text()


def test_pillow_is_not_older_than_its_safe_decoders() -> None:
    assert any(re.match(r"pillow>=(1[3-9]|[2-9]\d)\b", line) for line in PROJECT["dependencies"])
    pinned = re.search(r"^pillow==(\d+)", PINNED, re.MULTILINE)
    assert pinned
    assert int(pinned[1]) >= 13


def test_no_extra_pulls_it_lower() -> None:
    """trackio 0.43 asks for pillow<13 and is installed by hand by those who want it."""
    extras = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    assert not [line for line in extras if line.startswith("trackio")]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.sub(r"(\.0*)+$", "", version).split("."))  # 1.5 is 1.5.0


def _versions(lines: list[str], mark: str) -> dict[str, tuple[int, ...]]:
    """{package: numbers of its version}, of lines such as `Jinja2>=3.1.6  # why`."""
    found = [re.match(rf"([\w.-]+)(?:\[[\w,]+\])?{mark}([\d.]+)", line) for line in lines]
    return {m[1].lower().replace("_", "-"): _numbers(m[2]) for m in found if m is not None}


def test_nothing_is_pinned_or_allowed_below_the_floors() -> None:
    floors = _versions((Path(__file__).parents[1] / "floors.txt").read_text().splitlines(), ">=")
    pinned = _versions(PINNED.splitlines(), "==")
    extras = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    bounds = _versions([*PROJECT["dependencies"], *extras], ">=")
    assert len(floors) > 15
    assert not floors.keys() - pinned.keys()
    assert not [name for name, floor in floors.items() if pinned[name] < floor]
    assert not [name for name, floor in floors.items() if bounds.get(name, floor) < floor]
