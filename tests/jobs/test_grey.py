"""A model of grey images through the jobs: photographs are read as grey, and its filters are drawn grey."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.models.small import lively, vit
from vitrail.core.device import Machine
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.jobs.finetune.run import Finetune, finetune_once
from vitrail.jobs.inspect import Inspect, inspect
from vitrail.jobs.linear_probe import Linear, linear
from vitrail.report.index import make
from vitrail.weights.bundle import save_bundle
from vitrail.weights.load import load

HERE = Machine(device="cpu", workers=0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model`, `four` (channels) and `photos`, in colour."""
    root, rng = tmp_path_factory.mktemp("grey"), np.random.default_rng(0)
    for name, channels in (("model", 1), ("four", 4)):
        model = lively(vit(depth=1, channels=channels, num_classes=2))
        grey = Preprocess((12, 16), mean=(0.5,) * channels, std=(0.5,) * channels)
        save_bundle(root / name, model, grey, ("a", "b"), {})
    for split, count in (("train", 12), ("test", 6)):
        for number, label in enumerate("ab"):
            folder = root / "photos" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (20, 20, 3)) + 100 * number
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


def test_it_is_fine_tuned_and_looked_into(place: Path, tmp_path: Path) -> None:
    photos = str(place / "photos")
    asked = Finetune(f"{photos}@train", test=f"{photos}@test", steps=3, batch=8, init=str(place / "model"))
    assert finetune_once(replace(asked, log_every=1), tmp_path / "run", HERE).count == 12
    assert load(tmp_path / "run").config.channels == 1
    assert "What it looks for in a patch" in make(tmp_path / "run").read_text(encoding="utf-8")


def test_its_features_are_judged(place: Path, tmp_path: Path) -> None:
    photos = str(place / "photos")
    asked = Linear(str(place / "model"), f"{photos}@train", f"{photos}@test", shots=(5,))
    assert linear(asked, tmp_path / "out", HERE).rows[0].mean > 0.9, "the classes differ in brightness"


@pytest.mark.parametrize("name", ["model", "four"])
def test_filters_are_drawn_where_there_is_a_picture_of_them(place: Path, tmp_path: Path, name: str) -> None:
    inspect(Inspect(str(place / name)), tmp_path / "look", HERE)
    text = make(tmp_path / "look").read_text(encoding="utf-8")
    assert ("What it looks for in a patch" in text) == (name == "model")
