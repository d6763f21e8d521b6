"""What the page of a run without labels shows of its holes, and says of its colours."""

from pathlib import Path

import numpy as np
import pytest

from vitrail.report.folder import Folder
from vitrail.report.sections import painted


def run(folder: Path, steps: range) -> Folder:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    (folder / "painted").mkdir()
    np.savez(folder / "painted" / "images.npz", images=pictures, seen=pictures)
    for step in steps:
        np.savez(folder / "painted" / f"step-{step:08d}.npz", painted=pictures)
    return Folder(folder)


def test_a_run_with_labels_has_no_such_section(tmp_path: Path) -> None:
    assert painted.section(Folder(tmp_path), [], None) is None


def test_some_evaluations_are_drawn_the_first_and_the_last_among_them(tmp_path: Path) -> None:
    made = painted.section(run(tmp_path, range(10, 110, 10)), [], None)
    assert made is not None
    said = str(vars(made))
    assert all(f"Painted after {step} steps" in said for step in (10, 40, 70, 100))
    assert "Painted after 20 steps" not in said


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [(0.3, "knows more than both"), (0.2, "more than the neighbours yet"), (0.04, "has learned nothing yet")],
)
def test_it_says_what_the_colours_are_worth(tmp_path: Path, accuracy: float, said: str) -> None:
    row = {"accuracy": accuracy, "majority": 0.05, "neighbours": 0.25, "loss": 2.0, "count": 500}
    made = painted.section(run(tmp_path, range(5, 6)), [row], None)
    assert said in str(vars(made))
