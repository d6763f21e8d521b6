"""With fixed parts of a batch 1, 2 and 4 processes end with the same weights, bit for bit, killed or not."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.many import OBJECTIVES, rows, run, run_until

FIXED = ("--fixed-parts", "4", "--micro-batch", "None", "--steps", "8", "--save-every", "3", "--evaluate-every", "4",
         "--model.dropout", "0.1", "--augment.crop", "pad", "--augment.crop.padding", "1")  # fmt: skip
TIMED = {"session", "seconds", "images_per_second", "waiting", "copying", "communicating", "flops_share", "memory_gib"}


def trained(folder: Path, processes: int, objective: str = "labels", *more: str) -> dict[str, Any]:
    """The digest of the weights, and all that was logged but times."""
    result = run(folder, processes, "replicated", *FIXED, *more, objective=objective)
    logged = [{key: value for key, value in row.items() if key not in TIMED} for row in rows(folder)]
    return {"weights": result["weights_sha256"], "accuracy": result["accuracy"], "rows": logged}


def test_one_and_two_processes_make_the_same_bits(tmp_path: Path) -> None:
    assert trained(tmp_path / "1", 1) == trained(tmp_path / "2", 2)


@pytest.mark.slow
def test_muon_makes_the_same_bits(tmp_path: Path) -> None:
    muon = ("labels", "--optimizer", "muon")
    assert trained(tmp_path / "1", 1, *muon) == trained(tmp_path / "2", 2, *muon)


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_that_are_killed_and_four_that_go_on_make_the_bits_of_one(tmp_path: Path, objective: str) -> None:
    run_until(tmp_path / "killed", 5, 2, "replicated", objective, *FIXED)
    one, killed = (trained(tmp_path / name, n, objective) for name, n in (("1", 1), ("killed", 4)))
    assert one == killed
    assert json.loads((tmp_path / "killed" / "result.json").read_text())["restarts"] == 1
