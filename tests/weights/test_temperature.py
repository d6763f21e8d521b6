"""A temperature travels with a bundle: stored, read, copied, and refused where it means nothing."""

import json
from pathlib import Path

import pytest
import torch

from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.build import build
from vitrail.models.vit import ViTConfig
from vitrail.weights.bundle import bundle_of, save_bundle, store_temperature
from vitrail.weights.convert import convert
from vitrail.weights.load import load

CONFIG = ViTConfig(patch=4, width=16, depth=1, heads=2, mlp=32, resolution=(8, 8), num_classes=2)
FITTED = {"data": "digits@validation", "count": 100}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    save_bundle(tmp_path / "model", build(CONFIG), Preprocess((8, 8)), ("a", "b"), {"trained_on": "digits"})
    return tmp_path / "model"


def test_a_bundle_has_none_until_one_is_stored_and_all_else_stays(bundle: Path) -> None:
    before = load(bundle)
    assert before.temperature is None
    store_temperature(bundle, 1.7, FITTED)
    after = load(bundle)
    assert after.temperature == 1.7
    assert json.loads((bundle / "config.json").read_text())["provenance"] == {
        "trained_on": "digits",
        "temperature_fitted": FITTED,
    }
    assert after.classes == before.classes
    assert all(torch.equal(p, q) for p, q in zip(before.parameters(), after.parameters(), strict=True))
    assert sorted(path.name for path in bundle.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_a_copy_keeps_it_and_a_new_classifier_has_none(bundle: Path, tmp_path: Path) -> None:
    store_temperature(bundle, 0.8, FITTED)
    convert(bundle, tmp_path / "copy", "bundle")
    assert load(tmp_path / "copy").temperature == 0.8
    assert load(bundle, num_classes=3).temperature is None


@pytest.mark.parametrize("stored", [0, -1.5, "warm", True, [1.0]])
def test_one_that_means_nothing_is_refused(bundle: Path, stored: object) -> None:
    config = json.loads((bundle / "config.json").read_text())
    (bundle / "config.json").write_text(json.dumps({**config, "temperature": stored}))
    with pytest.raises(BadInput, match=r"the temperature in config.json is .*, expected a number above 0"):
        load(bundle)


def test_a_run_stands_for_its_bundle_and_other_models_cannot_keep_one(bundle: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"format": 1, "job": "pretrain"}')
    bundle.rename(run / "bundle")
    assert bundle_of(run) == run / "bundle"
    (tmp_path / "other.npz").touch()
    with pytest.raises(BadInput, match=r"other.npz is no bundle, and only a bundle can keep a temperature"):
        bundle_of(tmp_path / "other.npz")
