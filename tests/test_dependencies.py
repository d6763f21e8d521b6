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
