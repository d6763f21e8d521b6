"""The page of an evaluation: what is said first, the diagram before and after, abstention, copies, a comparison."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report import folders
from tests.report.test_report_pages import read
from vitrail.evals.comparison import compare
from vitrail.evals.predictions import Predictions, StoredPredictions
from vitrail.records.record import as_json
from vitrail.report.folder import Folder
from vitrail.report.index import make

CLASSES = ["cat", "dog", folders.HOSTILE]


def judged(seed: int, share: float, name: str) -> StoredPredictions:
    rng = np.random.default_rng(seed)
    labels, right = np.arange(300) % 3, rng.random(300) < share
    confidence = rng.uniform(0.4, 1, 300).astype(np.float32)
    loss = np.where(right, 0.2, 1.5).astype(np.float32)
    predicted = np.where(right, labels, (labels + 1) % 3)
    rows = Predictions([f"{i:03d}.png" for i in range(300)], labels, predicted, confidence, loss)
    return StoredPredictions(rows, tuple(CLASSES), f"runs/{name}", "pets@test", False)


def extended(folder: Path, **changes: Any) -> str:
    """The page of an evaluation that has everything."""
    folders.evaluation(folder, CLASSES)
    content = Folder(folder).json("evaluation.json")
    assert content is not None
    bins = [{**bin_, "confidence": bin_["accuracy"]} for bin_ in content["calibration"]["bins"]]
    curve = [{"share": s / 10, "accuracy": 1.05 - s / 20, "interval": [1 - s / 20, 1.0]} for s in range(1, 11)]
    content |= {
        "calibration": {**content["calibration"], "ece_interval": [0.03, 0.07]},
        "balanced_accuracy_interval": [0.81, 0.92],
        "views": {"crops": 5, "resolutions": [[224, 224], [288, 288]]},
        "assumed": ["nothing says how its images were prepared"],
        "temperature": {
            "value": 1.37,
            "loss": 0.3,
            "calibration": {"ece": 0.012, "bins": bins},
            "fitted_on": {"data": "pets@val", "count": 100},
        },
        "abstention": {
            "curve": curve,
            "area": 0.93,
            "ideal": 0.98,
            "answered": [{"target": 0.99, "confidence": 0.8, "share": 0.4, "accuracy": 0.97, "interval": [0.9, 0.99]}],
            "chosen_elsewhere": True,
        },
        "copies": {
            "train": ["pets@train"],
            "compared": 5000,
            "copies": 2,
            "share": 2 / 150,
            "accuracy_of_copies": 1.0,
            "count": 148,
            "accuracy": 0.871,
            "interval": [0.81, 0.92],
            "pairs": [
                {
                    "test": {"data": "pets@test", "index": 0, "key": "a.png", "label": "cat"},
                    "train": {"data": "pets@train", "index": 9, "key": "b.png", "label": "dog"},
                    "kind": "near",
                    "similarity": 0.91,
                    "pictures": [0, 1],
                }
            ],
        },
        "comparison": as_json(compare(judged(0, 0.9, "new"), judged(1, 0.7, "old"))),
        **changes,
    }
    folders.write(folder / "evaluation.json", content)
    np.savez(folder / "pictures.npz", **{str(i): np.full((9, 9, 3), 40 * i, np.uint8) for i in range(2)})
    make(folder)
    return read(folder / "report.html").text


def test_the_first_sentences_are_accuracy_copies_and_who_is_better(tmp_path: Path) -> None:
    text = extended(tmp_path)
    assert "2 of them have a near-duplicate in the training data; without these it is 87.1 %." in text
    assert "new is better than old by" in text
    assert "McNemar p < 0.001) on the same 300 images." in text
    for said in (
        "mean of 5 crops at 224 x 224 and 288 x 288 pixels",
        "nothing says how its images were prepared.",
        "1.37, fitted on pets@val",
        "(3.0–7.0 %)",
        "Logits divided by a temperature of 1.37 change the calibration error from 5.1 % to 1.2 %",
        "If it answers only the 50 % of the images of which it is surest, it is right 80.0 % of the time",
        "The confidences were chosen on the images of the calibration",
        "cat and dog; 0.91 alike",
        "only new right",
        "Only new recognises, while old is surest of something else",
    ):
        assert said in text, said


def test_nothing_is_said_of_what_was_not_looked_for(tmp_path: Path) -> None:
    text = extended(tmp_path, copies=None, comparison=None, temperature=None, abstention=None)
    for absent in ("near-duplicate", "better than", "Logits divided", "If it answers"):
        assert absent not in text
    assert "None of the test images has" in extended(
        tmp_path / "none", copies={"train": ["t"], "compared": 7, "copies": 0, "share": 0.0, "count": 150}
    )


@pytest.mark.parametrize("second", [0.9, 0.3])
def test_a_comparison_alone_has_its_page_and_a_row_in_the_table(second: float, tmp_path: Path) -> None:
    result = as_json(compare(judged(0, 0.9, "new"), judged(0 if second == 0.9 else 1, second, "old")))
    folders.write(tmp_path / "both" / "comparison.json", result)
    folders.evaluation(tmp_path / "judged", CLASSES)
    make(tmp_path)
    text = read(tmp_path / "both/report.html").text
    assert ("cannot be told apart" if second == 0.9 else "is better than") in text
    assert "comparison" in read(tmp_path / "report.html").text


def test_half_a_comparison_leaves_a_page(tmp_path: Path) -> None:
    folders.write(tmp_path / "comparison.json", {"sentence": None, "rows": [{"figure": "accuracy"}], "names": "x"})
    assert "This comparison holds no accuracy." in read(make(tmp_path)).text
