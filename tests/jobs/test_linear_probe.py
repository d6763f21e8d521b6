"""Frozen features, judged: each judge is what it is said to be, features are computed once, bad input is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from tests.evals.few_shot import few_shot_accuracy
from tests.scenarios.test_bad_input import image_folder, refused, run
from vitrail.core.errors import BadInput
from vitrail.data.open.names import open_data
from vitrail.data.sources.subset import Subset, shots
from vitrail.data.transforms.pipeline import Preprocess, SquareResize, eval_transform
from vitrail.evals import feature_cache
from vitrail.evals.features import features
from vitrail.jobs.linear_probe import Linear, linear
from vitrail.models.build import build
from vitrail.models.vit import ViTConfig
from vitrail.report.index import make
from vitrail.weights.bundle import save_bundle
from vitrail.weights.load import load

CONFIG = ViTConfig(patch=4, width=16, depth=2, heads=2, mlp=32, resolution=(8, 8), num_classes=10)
TRAIN, TEST = "digits@train[:300]", "digits@test[:150]"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("linear") / "model"
    save_bundle(folder, build(CONFIG), Preprocess((8, 8), SquareResize()), tuple("0123456789"), {})
    return str(folder)


@pytest.fixture
def config(model: str, tmp_path: Path) -> Linear:
    kept = str(tmp_path / "kept")
    return Linear(model, TRAIN, TEST, shots=(2, "all"), seeds=2, features=kept, precision="float32")


def test_each_judge_is_what_it_is_said_to_be(config: Linear) -> None:
    result = linear(replace(config, judge=("ridge", "knn", "majority", "logistic")))
    rows = {(row.judge, row.shots): row for row in result.rows}
    assert len(rows) == len(result.rows) == 8
    loaded, train, test = load(config.model), open_data(TRAIN, "train"), open_data(TEST, "test")
    found, judged = (features(loaded, s, loaded.preprocess, dtype=torch.float32) for s in (train, test))
    drawn = shots(train, 2, 1)
    for places, row, i in ((drawn, rows["ridge", 2], 1), (np.arange(300), rows["ridge", "all"], 0)):
        want = few_shot_accuracy(found.values[places], found.labels[places], judged.values, judged.labels, 10)
        # a tie of two scores may fall otherwise, as batches are of other sizes
        assert row.accuracies[i] == pytest.approx(want, abs=0.007)
    peer = KNeighborsClassifier(20, metric="cosine", algorithm="brute").fit(found.values, found.labels)
    assert rows["majority", "all"].mean == pytest.approx(peer.score(judged.values, judged.labels), abs=0.007)
    for row in rows.values():
        over = "images" if row.shots == "all" else "draws"
        assert row.interval_over == over
        assert row.interval[0] < row.mean < row.interval[1] or row.accuracies[0] == row.mean
        if (row.judge, row.shots) != ("majority", 2):  # all 20 images vote, so it is always the first class
            assert row.mean > 0.2, "twice guessing"
    assert rows["logistic", "all"].chosen[0].by_held_out
    assert rows["ridge", "all"].images == 300
    assert rows["ridge", 2].images == 20


def test_features_are_computed_once_and_then_read(config: Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    first = linear(config)
    monkeypatch.setattr(feature_cache, "feature_parts", None)
    assert linear(replace(config, judge=("ridge", "majority"))).rows[:2] == first.rows
    with pytest.raises(TypeError):  # a view of other pixels has other features
        linear(replace(config, view="official"))
    monkeypatch.undo()
    assert linear(replace(config, features="none")).rows[1].mean == pytest.approx(first.rows[1].mean, abs=0.01)
    half = linear(replace(config, stored="float16")).rows[1].mean
    assert half == pytest.approx(first.rows[1].mean, abs=0.02)


def test_layers_are_judged_beside_the_representation(config: Linear, tmp_path: Path) -> None:
    result = linear(replace(config, layers=True, shots=(5,)), tmp_path / "out")
    places = [(row.layer, row.tokens) for row in result.rows]
    kinds = ("class token", "mean of patches")
    assert places == [(None, None), *((depth, kind) for depth in range(3) for kind in kinds)]
    by_place = dict(zip(places, result.rows, strict=True))
    assert by_place[0, "class token"].mean < 0.2, "before the encoder it is the same for all images"
    assert by_place[0, "mean of patches"].mean > 0.25
    plain = linear(replace(config, shots=(5,))).rows[0]
    assert by_place[None, None].mean == pytest.approx(plain.mean, abs=0.01)
    page = make(tmp_path / "out").read_text()
    assert "By layer" in page
    assert "of 2 tells the most" in page


def test_the_official_view_squares_and_then_cuts(model: str) -> None:
    from vitrail.data.sources.base import ArraySource
    from vitrail.data.transforms.crops import centre_crop, resize
    from vitrail.data.transforms.pipeline import official_few_shot_view

    pixels = np.random.default_rng(0).integers(0, 255, (1, 60, 90, 3)).astype(np.uint8)
    source = ArraySource(pixels, np.zeros(1), ("a",), ["0"])
    preprocess = Preprocess((28, 28), SquareResize())
    (squared,), view = official_few_shot_view((source,), preprocess)
    seen = eval_transform(squared[0].image, view)  # type: ignore[arg-type]
    assert (seen == centre_crop(resize(pixels[0], (32, 32)), (28, 28))).all()
    assert (seen != eval_transform(pixels[0], preprocess)).any()


def test_the_page_says_what_was_found(config: Linear, tmp_path: Path) -> None:
    linear(replace(config, judge=("ridge", "knn"), baselines=True), tmp_path / "out")
    page = make(tmp_path / "out").read_text()
    for said in ("with all 300 images", "k-NN, pre-trained", "over the test images", "raw pixels", "all (30)"):
        assert said in page, said


def test_the_command_prints_rows_or_json(config: Linear, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("linear", "--model", config.model, "--train", TRAIN, "--test", TEST, "--features", config.features)
    options = (*options, "--shots", 1, "all", "--judge", "ridge", "knn", "--seeds", 2)
    code, out, _ = run(capsys, *options)
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()] == ["ridge", "ridge", "knn", "knn"]
    assert "over 2 draws" in out
    assert "all images" in out
    code, out, _ = run(capsys, *options, "--json")
    assert len(json.loads(out)["rows"]) == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": TEST}, "is the training set"),
        ({"train": "digits@train[:300]", "test": "digits@train[200:]"}, "are among those of"),
        ({"ridge": 0.0}, "the ridge is 0, expected a number above 0"),
        ({"judge": ("knn",), "neighbours": 0}, "0 neighbours asked for"),
        ({"judge": ("knn",), "temperature": -1.0}, "the temperature of the votes is -1"),
        ({"judge": ()}, "no judge is named"),
        ({"shots": (0,)}, "must be at least 1"),
        ({"shots": (40,)}, "40 shots asked for, but class"),
        ({"test": "scattered-digits@seen-test"}, "they must be the same"),
    ],
)
def test_bad_input_gets_a_sentence(config: Linear, changes: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        linear(replace(config, **changes))  # type: ignore[arg-type]


def test_an_unknown_judge_and_a_class_without_images(
    config: Linear, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("linear", "--model", config.model, "--train", TRAIN, "--test", TEST)
    assert "judge" in refused(capsys, *options, "--judge", "oracle")
    train = open_data(TRAIN, "train")
    lacking = Subset(train, np.flatnonzero(train.labels != 4))
    from vitrail.jobs.linear_probe import _draws

    with pytest.raises(BadInput, match="has no image of class '4', so nothing can learn it"):
        _draws(replace(config, shots=("all",)), lacking, 0)


def test_broken_images_count_only_where_they_are_drawn(config: Linear, tmp_path: Path) -> None:
    train, test = image_folder(tmp_path / "train", each=150, side=9), image_folder(tmp_path / "test", each=40, side=10)
    (train / "class-0" / "0.jpg").write_bytes(b"no picture")
    torch.manual_seed(0)
    two = replace(CONFIG, num_classes=2)
    save_bundle(tmp_path / "two", build(two), Preprocess((8, 8)), ("class-0", "class-1"), {})
    config = replace(config, model=str(tmp_path / "two"), train=str(train), test=str(test))
    (row,) = linear(replace(config, shots=("all",))).rows
    assert row.images == 299
    assert row.mean == 1, "one is dark, the other bright"
    with pytest.raises(BadInput, match=r"1 of the drawn images are broken \(.*0\.jpg: "):
        linear(replace(config, shots=(150,), seeds=1))
