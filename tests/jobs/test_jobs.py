"""The jobs on real digits: what they reach, what they write, and that the pieces fit together."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from vitrail.cli import main
from vitrail.core.device import Machine
from vitrail.core.files import read_json
from vitrail.data.open.names import open_data
from vitrail.jobs.evaluate import Evaluate, evaluate
from vitrail.jobs.finetune.finetune import finetune
from vitrail.jobs.inspect import Inspect, inspect
from vitrail.jobs.linear_probe import Linear, linear
from vitrail.recipes import finetuning
from vitrail.train.schedule import Cosine


def test_pretraining_learns_digits(digits_run: Path) -> None:
    result = read_json(digits_run / "result.json")
    assert result["accuracy"] > 0.6, "120 steps reach about 75 %; guessing is 10 %"
    assert result["interval"][0] < result["accuracy"] < result["interval"][1]
    assert result["total_flops"] == result["training_flops_per_image"] * 120 * 64


def test_a_bundle_judged_again_gives_the_same_accuracy(digits_run: Path) -> None:
    again = evaluate(Evaluate(model=str(digits_run / "bundle"), data="digits@test", precision="float32"))
    first = vitrail.read_run(digits_run).evaluation()
    assert again.correct == first.correct
    assert again.confusion == first.confusion


def test_evaluation_agrees_with_a_plain_loop(digits_run: Path) -> None:
    model, source = vitrail.load(digits_run), open_data("digits@test")
    right = 0
    for i in range(len(source)):
        image = torch.from_numpy(source[i].image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            right += int(model(image).logits.argmax()) == source[i].label
    assert right == read_json(digits_run / "evaluation" / "evaluation.json")["correct"]


def test_finetuning_to_a_higher_resolution_and_other_classes(digits_run: Path, tmp_path: Path) -> None:
    config = replace(
        finetuning("digits"),
        init=str(digits_run),
        train="scattered-digits@seen-train[:600]",
        validation=None,
        test="scattered-digits@seen-test",
        resolution=24,
        steps=80,
        schedule=Cosine(warmup=5),
        precision="float32",
    )
    result = finetune(config, tmp_path / "tuned", Machine(workers=0))
    rows = read_json(tmp_path / "tuned" / "transplant.json")["rows"]
    actions = {row["name"]: row["action"] for row in rows if row["action"] != "taken"}
    assert actions == {"pos_embed": "resampled", "head.weight": "left out", "head.bias": "left out"}
    assert {row["name"] for row in rows if row["action"] == "new"} == {"head.weight", "head.bias"}
    model = vitrail.load(tmp_path / "tuned")
    assert model.config.resolution == (24, 24)
    assert model.config.num_classes == 7
    assert model.classes == ("0", "1", "2", "3", "4", "5", "6")
    assert result.accuracy > 1.5 / 7, "better than guessing"


def test_few_shot_beats_guessing_and_more_shots_help(digits_run: Path) -> None:
    config = Linear(model=str(digits_run), train="digits@train", test="digits@test", shots=(1, 20), seeds=3, ridge=10.0)
    one, twenty = linear(config).rows
    assert len(one.accuracies) == 3
    assert 0.3 < one.mean < twenty.mean
    assert twenty.mean > 0.6


def test_few_shot_equals_computing_all_features_first(digits_run: Path) -> None:
    """The job computes features only of the images that are drawn; the result is that of the whole matrix."""
    from tests.evals.few_shot import few_shot_accuracy
    from vitrail.data.sources.subset import shots
    from vitrail.evals.features import features

    model = vitrail.load(digits_run)
    train, test = open_data("digits@train"), open_data("digits@test")
    everything, judged = features(model, train, model.preprocess), features(model, test, model.preprocess)
    drawn = shots(train, 5, 1)
    want = few_shot_accuracy(everything.values[drawn], everything.labels[drawn], judged.values, judged.labels, 10)
    config = Linear(model=str(digits_run), train="digits@train", test="digits@test", shots=(5, 9), seeds=2)
    assert linear(config).rows[0].accuracies[1] == pytest.approx(want, abs=1e-9)


def test_predict_names_classes_and_broken_files(digits_run: Path, tmp_path: Path, capsys) -> None:
    source = open_data("digits@test")
    for i in range(20):
        Image.fromarray(source[i].image).save(tmp_path / f"{i:02}-{source.classes[source[i].label]}.png")
    (tmp_path / "x-broken.png").write_bytes(b"nothing")
    with pytest.raises(SystemExit) as stopped:
        main(["predict", "--model", str(digits_run), str(tmp_path), "--json", "--top", "3"])
    assert stopped.value.code == 1
    rows = json.loads(capsys.readouterr().out)["predictions"]
    assert [Path(row["path"]).name for row in rows] == sorted(p.name for p in tmp_path.iterdir())
    assert rows[-1]["error"]
    assert not rows[-1]["labels"]
    for row in rows[:-1]:
        shares = [label["probability"] for label in row["labels"]]
        assert len(shares) == 3
        assert shares == sorted(shares, reverse=True)
    right = sum(Path(row["path"]).stem[-1] == row["labels"][0]["name"] for row in rows[:-1])
    assert right >= 9, "about 15 of 20 are right; guessing gives 2"


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_predict_writes_tables(digits_run: Path, tmp_path: Path, suffix: str) -> None:
    import csv

    import pyarrow.parquet as parquet

    source = open_data("digits@test")
    Image.fromarray(source[0].image).save(tmp_path / "digit.png")
    table = tmp_path / f"table.{suffix}"
    with pytest.raises(SystemExit) as stopped:
        main(["predict", "--model", str(digits_run), str(tmp_path / "digit.png"), "--out", str(table)])
    assert stopped.value.code == 0
    if suffix == "parquet":
        rows = parquet.read_table(table).to_pylist()
    elif suffix == "csv":
        rows = list(csv.DictReader(table.read_text().splitlines()))
    else:
        rows = [json.loads(line) for line in table.read_text().splitlines()]
    assert rows[0]["path"] == str(tmp_path / "digit.png")
    assert rows[0]["label"] == vitrail.Predictor(digits_run).predict([source[0].image])[0][0].name


def test_inspection_of_a_run(digits_run: Path, tmp_path: Path) -> None:
    config = Inspect(model=str(digits_run), images="digits@test", count=12, shown=3)
    summary = inspect(config, tmp_path / "inside")
    arrays = np.load(tmp_path / "inside" / "arrays.npz")
    assert summary.grid == (4, 4)
    assert arrays["position_similarity"].shape == (16, 16)
    assert arrays["attention_distance"].shape == (3, 4)
    assert arrays["rollout"].shape == (3, 4, 4)
    assert arrays["images"].shape == (3, 8, 8, 3)
    np.testing.assert_allclose(arrays["rollout"].sum((1, 2)), 1, rtol=1e-5)  # no class token: nothing is left out
    assert len(summary.images) == 3


def test_linear_with_baselines_has_three_kinds(digits_run: Path) -> None:
    config = Linear(
        model=str(digits_run), train="digits@train", test="digits@test", shots=(2,), seeds=1, baselines=True
    )
    rows = linear(config).rows
    assert [row.features for row in rows] == ["pre-trained", "random initialisation", "raw pixels"]
    assert rows[0].interval is None
