"""`vitrail evaluate` as a whole: comparison, temperature, views, copies in the training data, and what it refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.scenarios.test_bad_input import image_folder, refused, run
from vitrail.core.errors import BadInput
from vitrail.data.sources.base import ArraySource
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.evals.classify import evaluate as judge_source
from vitrail.jobs.evaluate import Evaluate, evaluate
from vitrail.models.build import build
from vitrail.models.vit import ViTConfig
from vitrail.records.evaluation import Views
from vitrail.records.record import as_json
from vitrail.weights.bundle import save_bundle
from vitrail.weights.load import load

CONFIG = ViTConfig(patch=4, width=16, depth=1, heads=2, mlp=32, resolution=(16, 16), num_classes=2)
NAMES = ("class-0", "class-1")


def bundle(path: Path, seed: int = 0, trained_on: Path | None = None, config: ViTConfig = CONFIG) -> str:
    """A model of random weights, which errs in many ways."""
    torch.manual_seed(seed)
    model = build(config)
    if model.head is not None:
        torch.nn.init.normal_(model.head.weight)
    provenance = {"trained_on": str(trained_on)} if trained_on else {}
    save_bundle(path, model, Preprocess(config.resolution), NAMES[: config.num_classes], provenance)
    return str(path)


def changed_folder(root: Path, offset: int) -> Path:
    """An `image_folder` of other pictures."""
    from PIL import Image

    rng = np.random.default_rng(offset)
    for file in sorted(image_folder(root, each=20).rglob("*.jpg")):
        Image.fromarray(rng.integers(0, 255, (20, 20, 3), np.uint8)).save(file)
    return root


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(changed_folder(tmp_path / "data", 1))


def test_the_folder_holds_what_became_of_each_image_and_two_folders_compare(data: str, tmp_path: Path, capsys) -> None:
    """Comparing what is stored says the same as judging both at once."""
    one, other = bundle(tmp_path / "one"), bundle(tmp_path / "other", 1)
    together = evaluate(Evaluate(one, data, against=other), tmp_path / "judged")
    evaluate(Evaluate(other, data), tmp_path / "alone")
    options = ("--model", tmp_path / "judged", "--against", tmp_path / "alone", "--out", tmp_path / "both")
    code, out, _ = run(capsys, "evaluate", *options, "--json")
    assert code == 0
    stored = json.loads(out)
    comparison = together.comparison
    assert stored == as_json(comparison)
    assert comparison.count == together.count == 40
    assert json.loads((tmp_path / "both/comparison.json").read_text()) == stored
    assert "one" in (tmp_path / "both/report.html").read_text()
    assert json.loads((tmp_path / "judged/evaluation.json").read_text())["comparison"] == stored
    against_folder = evaluate(Evaluate(one, data, against=str(tmp_path / "alone")))
    assert against_folder.comparison.rows == comparison.rows


def test_a_temperature_is_fitted_on_other_images_stored_and_used_again(data: str, tmp_path: Path) -> None:
    model, other = bundle(tmp_path / "model"), str(changed_folder(tmp_path / "val", 2))
    result = evaluate(Evaluate(model, data, calibrate_on=other, store_temperature=True))
    tempered = result.temperature
    assert tempered.fitted_on == {"data": other, "count": 40}
    assert tempered.loss < result.loss  # random weights are too sure
    assert result.abstention.chosen_elsewhere
    assert load(model).temperature == tempered.value
    said = json.loads((tmp_path / "model/config.json").read_text())["provenance"]["temperature_fitted"]
    assert (said["data"], said["judged_on"]) == (other, data)
    again = evaluate(Evaluate(model, data))
    assert again.temperature.loss == pytest.approx(tempered.loss)
    assert again.temperature.fitted_on["data"] == other
    assert again.loss == result.loss  # as the model is, the temperature beside it
    assert not again.abstention.chosen_elsewhere
    assert evaluate(Evaluate(model, data, crops=5)).temperature is None  # it was fitted to one view


def test_a_temperature_is_not_judged_on_what_it_was_fitted_on(data: str, tmp_path: Path) -> None:
    model = bundle(tmp_path / "model")
    with pytest.raises(BadInput, match="a temperature must not be judged on what it was fitted on"):
        evaluate(Evaluate(model, data, calibrate_on=data))
    copy = shutil.copytree(data, tmp_path / "copy")
    with pytest.raises(BadInput, match="copy are the images of"):
        evaluate(Evaluate(model, data, calibrate_on=str(copy)))
    (copy / "class-0/0.jpg").unlink()
    with pytest.raises(BadInput, match="39 of the 40 images of .* are also in"):
        evaluate(Evaluate(model, data, calibrate_on=str(copy)))


def test_copies_in_the_training_data_are_found_and_left_out(tmp_path: Path, capsys) -> None:
    """Of the training data, which the bundle names, four images went into the test set, two of them anew."""
    from PIL import Image

    train, test = changed_folder(tmp_path / "train", 3), changed_folder(tmp_path / "test", 4)
    for i in range(2):
        shutil.copy(train / f"class-0/{i}.jpg", test / f"class-1/{i}.jpg")
    smooth = Image.radial_gradient("L").resize((40, 40)).convert("RGB")
    smooth.save(train / "class-1/9.png")
    smooth.resize((30, 30)).save(test / "class-1/9.jpg", quality=90)
    model = bundle(tmp_path / "model", trained_on=train)
    result = evaluate(Evaluate(model, str(test)), tmp_path / "judged")
    copies = result.copies
    assert (copies.copies, copies.count, copies.train) == (3, 37, (str(train),))
    kinds = sorted(pair.kind for pair in copies.pairs)
    assert kinds == ["exact", "exact", "near"]
    rows = {Path(pair.test.key).name for pair in copies.pairs}
    assert rows == {"0.jpg", "1.jpg", "9.jpg"}
    with np.load(tmp_path / "judged/pictures.npz") as pictures:
        assert len(pictures.files) == 6
    kept = replace_without(test, tmp_path / "kept", ("class-1/0.jpg", "class-1/1.jpg", "class-1/9.jpg"))
    assert evaluate(Evaluate(model, str(kept))).accuracy == pytest.approx(copies.accuracy)
    code, out, _ = run(capsys, "evaluate", "--model", model, "--data", train, "--train", train)
    assert code == 0
    assert "every test image has a near-duplicate in" in out


def replace_without(source: Path, target: Path, names: tuple[str, ...]) -> Path:
    shutil.copytree(source, target)
    for name in names:
        (target / name).unlink()
    return target


def test_training_data_that_are_gone_or_large_are_said(
    data: str, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = bundle(tmp_path / "gone", trained_on=tmp_path / "nowhere")
    assert evaluate(Evaluate(gone, data)).copies is None
    assert "nowhere, which is not here: test images are not looked for in it" in capsys.readouterr().err
    monkeypatch.setattr("vitrail.jobs.train_test_overlap.UNASKED", 50)
    large = bundle(tmp_path / "large", trained_on=changed_folder(tmp_path / "train", 5))
    assert evaluate(Evaluate(large, data)).copies is None
    assert "(80 images): ask by --train" in capsys.readouterr().err
    with pytest.raises(BadInput, match="no such data"):
        evaluate(Evaluate(gone, data, train="nowhere/at/all"))


def test_views_are_stated(data: str, tmp_path: Path) -> None:
    result = evaluate(Evaluate(bundle(tmp_path / "model"), data, crops=5, resolutions=(16, 20)))
    assert result.views == Views(crops=5, resolutions=[(16, 16), (20, 20)])
    assert result.count == 40


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"data": None}, "give --data DATA to judge the model on"),
        ({"store_temperature": True}, "--store-temperature stores what is fitted on validation data"),
        ({"resolutions": (16, 16)}, "hold one twice"),
        ({"calibrate_on": "digits@train"}, "has the class '0', which"),
        ({"against": "nowhere"}, "no such model: 'nowhere'"),
        ({"calibrate_on": "x", "store_temperature": True, "crops": 5}, "a stored temperature is for one view"),
    ],
)
def test_options_that_do_not_go_together_get_a_sentence(
    options: dict[str, Any], sentence: str, data: str, tmp_path: Path
) -> None:
    config = replace(Evaluate(bundle(tmp_path / "model"), data), **options)
    with pytest.raises(BadInput, match=sentence):
        evaluate(config)


def test_a_model_without_a_classifier_and_folders_that_are_none(data: str, tmp_path: Path, capsys) -> None:
    features = bundle(tmp_path / "features", config=replace(CONFIG, num_classes=0))
    said = refused(capsys, "evaluate", "--model", features, "--data", data)
    assert "has no classifier; `vitrail linear` judges features" in said
    model = bundle(tmp_path / "model")
    evaluate(Evaluate(model, data), tmp_path / "judged")
    said = refused(capsys, "evaluate", "--model", tmp_path / "judged", "--against", model)
    assert "judged is an evaluation, not a model" in said


def test_labels_out_of_range_get_a_sentence(tmp_path: Path) -> None:
    model = load(bundle(tmp_path / "model"))
    pixels = np.zeros((4, 16, 16, 3), np.uint8)
    source = ArraySource(pixels, np.array([0, 1, 2, 1]), NAMES, list("abcd"))
    with pytest.raises(BadInput, match="the data have labels from 0 to 2; expected 0 to 1 for 2 classes"):
        judge_source(model, source, model.preprocess)


def test_what_was_assumed_of_a_model_is_kept(data: str, tmp_path: Path) -> None:
    """A state dict says nothing of how images are prepared."""
    model = load(bundle(tmp_path / "model", config=replace(CONFIG, width=192, heads=3)))
    from safetensors.torch import save_file

    save_file(model.state_dict(), str(tmp_path / "bare.safetensors"))
    result = evaluate(Evaluate(str(tmp_path / "bare.safetensors"), data, resolutions=(16,)))
    assert any("preprocess" in said or "prepared" in said for said in result.assumed), result.assumed


def test_a_checkpoint_is_not_taken_for_the_data_that_a_model_was_trained_on(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Bundles of version 0.1.0 name the checkpoint that they began with where they should name its data."""
    torch.manual_seed(0)
    provenance = {"init": "tiny.pth", "init_trained_on": "tiny.pth"}
    save_bundle(tmp_path / "m", build(CONFIG), Preprocess(CONFIG.resolution), NAMES, provenance)
    evaluate(Evaluate(str(tmp_path / "m"), data))
    assert "which is not here" not in capsys.readouterr().err


def test_folders_of_numbers_are_judged_in_the_order_of_numbers_or_as_it_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A model without names that is always right by number; twelve folders whose order of text is another."""
    config = replace(CONFIG, num_classes=12)
    save_bundle(tmp_path / "m", build(config), Preprocess(config.resolution), tuple(map(str, range(12))), {})
    root = image_folder(tmp_path / "numbers", classes=12, each=1)
    for i, folder in enumerate(sorted(root.iterdir())):
        folder.rename(root / str(i + 1))
    result = evaluate(Evaluate(str(tmp_path / "m"), str(root)))
    said = capsys.readouterr().err
    assert "in the order of number: 1 = class 0, 2 = class 1, 3 = class 2" in said
    assert [row.name for row in result.per_class] == [str(i + 1) for i in range(12)]
    by_text = evaluate(Evaluate(str(tmp_path / "m"), str(root), classes="folders-by-text"))
    assert [row.name for row in by_text.per_class][:4] == ["1", "10", "11", "12"]
