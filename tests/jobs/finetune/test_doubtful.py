"""The most doubtful training labels: wrong ones come first, with their pictures, on the page."""

import time
from pathlib import Path

import numpy as np

from vitrail.core.files import read_json
from vitrail.data.sources.base import ArraySource
from vitrail.evals.features import Features
from vitrail.jobs.finetune.doubtful import note_doubtful
from vitrail.jobs.finetune.held_out import make_folds
from vitrail.jobs.finetune.linear_judge import linear_judge
from vitrail.report.folder import Folder
from vitrail.report.sections import doubtful_labels


def test_wrong_labels_are_named_with_their_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 60)
    values = (rng.normal(size=(3, 8))[truth] * 3 + rng.normal(size=(180, 8))).astype(np.float32)
    labels, wrong = truth.copy(), [7, 66, 130]
    labels[wrong] = (labels[wrong] + 1) % 3
    pixels = np.broadcast_to(np.arange(180, dtype=np.uint8)[:, None, None, None], (180, 8, 8, 3))
    source = ArraySource(pixels, labels, ("ant", "bee", "cat"), [f"{i}.png" for i in range(180)])
    frozen = Features(values, labels, (), np.arange(180))
    folds = make_folds(source, 0)
    assert len(folds) == 5, "small sets are held out whole, so all can be judged"
    judge = linear_judge(frozen, source.classes, folds, tmp_path / "judge.npz", time.perf_counter())
    note_doubtful(frozen, source, folds, judge, tmp_path)
    found = read_json(tmp_path / "doubtful.json")
    assert found["judged"] == 180
    rows = [row for row in found["rows"] if row["index"] in wrong]
    assert len(rows) == len(wrong)
    assert len(found["rows"]) <= 2 * len(wrong)
    for row in rows:
        assert row["rather"] == source.classes[truth[row["index"]]]
        assert row["label"] == source.classes[labels[row["index"]]]
    with np.load(tmp_path / "doubtful.npz") as pictures:
        first = found["rows"][0]
        assert (pictures[str(first["picture"])] == first["index"]).all()
    section = doubtful_labels.section(Folder(tmp_path))
    assert section
    assert "180 training images" in str(section.blocks[0])
