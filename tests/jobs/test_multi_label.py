"""Images of several classes each, from a table to labels: learned, gone on with, judged, predicted, and refused."""

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
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.data.open.names import open_data
from vitrail.data.transforms.mixup import Mixing
from vitrail.evals.features import features
from vitrail.jobs.evaluate import Evaluate, evaluate
from vitrail.jobs.finetune.run import Finetune, finetune_once
from vitrail.jobs.linear_probe import Linear, linear
from vitrail.jobs.predict import Predict, predict, predict_table
from vitrail.jobs.pretrain import Pretrain, pretrain
from vitrail.models.vit import ViTConfig
from vitrail.records.multi_label import MultiLabelSummary
from vitrail.report.index import make as make_page
from vitrail.train.loss import Sigmoid
from vitrail.train.optim import Adam

CPU = Machine(workers=0)
COLOURS = ("blue", "green", "red")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 noisy pictures in which any of three colours shine, and a table that names them."""
    folder = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    lines = ["path,label,split"]
    for i in range(400):
        there = rng.random(3) < [0.3, 0.5, 0.4]
        pixels = rng.integers(0, 90, (8, 8, 3))
        pixels[..., [2, 1, 0]] += (there * 120).astype(int)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
        split = "train" if i < 240 else "val" if i < 320 else "test"
        lines.append(f"{i}.png,{'|'.join(np.array(COLOURS)[there])},{split}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


def config(table: Path, steps: int = 60) -> Pretrain:
    return Pretrain(
        train=f"{table}@train",
        validation=f"{table}@val",
        test=f"{table}@test",
        steps=steps,
        batch=32,
        optimizer=Adam(lr=3e-3),
        model=ViTConfig(patch=4, width=16, depth=1, heads=2, mlp=32, resolution=(8, 8)),
        evaluate_every=30,
        save_every=20,
        log_every=20,
        precision="float32",
    )


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several") / "run"
    pretrain(config(table, 120), folder, CPU)
    return folder


def test_training_finds_all_classes(run: Path) -> None:
    judged = read_json(run / "evaluation" / "multilabel.json")
    assert judged["mean_average_precision"] > 0.9
    assert judged["f1"] > 0.8
    assert judged["thresholds"]["data"].endswith("@val"), "never those that are judged"
    assert read_json(run / "config.json")["config"]["loss"]["type"] == "Sigmoid"
    bundle = read_json(run / "bundle" / "config.json")
    assert bundle["thresholds"] == judged["thresholds"]["values"]
    assert bundle["provenance"]["thresholds_chosen"] == {"data": judged["thresholds"]["data"], "count": 80}
    assert read_json(run / "result.json")["mean_average_precision"] == judged["mean_average_precision"]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["mean_average_precision"] for row in rows if row["kind"] == "validation"]


def test_judged_again_it_gives_the_same(run: Path, table: Path, tmp_path: Path) -> None:
    again = evaluate(Evaluate(str(run / "bundle"), f"{table}@test", precision="float32"), tmp_path / "judged", CPU)
    assert isinstance(again, MultiLabelSummary)
    first = read_json(run / "evaluation" / "multilabel.json")
    assert again.mean_average_precision == pytest.approx(first["mean_average_precision"], abs=1e-6)
    assert again.f1 == first["f1"]
    assert (tmp_path / "judged" / "probabilities.parquet").exists()
    assert "Mean average precision" in make_page(tmp_path / "judged").read_text()
    assert "Mean average precision" in make_page(run).read_text()


def test_interrupted_training_ends_with_the_same_weights_whatever_the_test_labels_say(
    run: Path, table: Path, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    class Killed(vitrail.Callback):
        every = 1

        def __call__(self, state, metrics) -> None:
            if state.step == 25:
                raise Stop

    mixed = replace(config(table, 40), mixing=Mixing(mixup=0.5))
    lines = table.read_text().splitlines()
    wrong = [
        ",".join([*line.split(",")[:1], "red|green", "test"]) if line.endswith(",test") else line for line in lines
    ]
    poisoned = table.with_name("poisoned.csv")
    poisoned.write_text("\n".join(wrong) + "\n")
    pretrain(replace(mixed, test=f"{poisoned}@test"), tmp_path / "whole", CPU)
    with pytest.raises(Stop):
        pretrain(mixed, tmp_path / "cut", CPU, callbacks=[Killed()])
    pretrain(mixed, tmp_path / "cut", CPU)
    one, other = (vitrail.load(tmp_path / name).state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    thresholds = [read_json(tmp_path / name / "bundle" / "config.json")["thresholds"] for name in ("whole", "cut")]
    assert thresholds[0] == thresholds[1], "test labels, which one of them had wrong, choose nothing"


def test_prediction_names_all_classes_above_their_thresholds(run: Path, table: Path, tmp_path: Path) -> None:
    images = [str(table.parent / f"{i}.png") for i in range(320, 400)]
    model = vitrail.load(run)
    found = list(predict(Predict(str(run), tuple(images), top=1), CPU))
    shares = {}
    for prediction in found:
        shares[prediction.key] = {label.name: label.probability for label in prediction.labels}
    truth = {line.split(",")[0]: line.split(",")[1] for line in table.read_text().splitlines()[1:]}
    right = sum(set(shares[key]) == set(filter(None, truth[Path(key).name].split("|"))) for key in shares)
    assert right > 55, "of 80 images, with all classes right"
    for ending in ("jsonl", "csv", "parquet"):
        predict_table(Predict(str(run), tuple(images)), tmp_path / f"out.{ending}", CPU)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    thresholds = dict(zip(model.classes, model.thresholds, strict=True))
    for row in rows:
        assert dict(zip(row["labels"], row["probabilities"], strict=True)) == pytest.approx(
            shares[row["path"]], abs=1e-6
        )
        assert all(p >= np.float32(thresholds[n]) for n, p in zip(row["labels"], row["probabilities"], strict=True))
        assert row["label"] == (row["labels"][0] if row["labels"] else None)
    import pyarrow.parquet as pq

    assert pq.read_table(tmp_path / "out.parquet")["labels"].to_pylist() == [row["labels"] for row in rows]
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "path,label,probability,error"
    assert [line.split(",")[1] for line in lines[1:]] == ["|".join(row["labels"]) for row in rows]


def test_thresholds_are_chosen_on_other_images_and_stored(run: Path, table: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(run / "bundle", tmp_path / "bundle")
    asked = Evaluate(str(tmp_path / "bundle"), f"{table}@test", calibrate_on=f"{table}@train", store_temperature=True)
    result = evaluate(asked, None, CPU)
    stored = read_json(tmp_path / "bundle" / "config.json")
    assert isinstance(result, MultiLabelSummary)
    assert result.thresholds is not None
    assert stored["thresholds"] == list(result.thresholds.values)
    assert stored["provenance"]["thresholds_chosen"]["data"].endswith("@train")
    with pytest.raises(BadInput, match="are the images of"):
        evaluate(replace(asked, calibrate_on=f"{table}@test"), None, CPU)


def test_fine_tuning_of_a_model_of_one_class(digits_run: Path, table: Path, tmp_path: Path) -> None:
    asked = Finetune(
        init=str(digits_run),
        train=f"{table}@train",
        test=f"{table}@test",
        held_out=0.2,
        steps=60,
        batch=32,
        optimizer=Adam(lr=1e-3),
        loss=Sigmoid(),
        precision="float32",
    )
    result = finetune_once(asked, tmp_path / "tuned", CPU)
    assert result.mean_average_precision is not None
    assert result.mean_average_precision > 0.8
    judged = read_json(tmp_path / "tuned" / "evaluation" / "multilabel.json")
    assert judged["thresholds"]["data"].startswith("held-out images of")
    assert judged["thresholds"]["count"] == 48


def test_what_needs_one_class_says_so(run: Path, digits_run: Path, table: Path, tmp_path: Path, capsys) -> None:
    def refused(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        assert ended.value.code == 2
        return capsys.readouterr().err

    assert "have several classes each; " in refused("evaluate", "--model", digits_run, "--data", f"{table}@test")
    data = ("--train", f"{table}@train", "--test", f"{table}@test", "--aim", "balanced")
    assert "leave out aim" in refused("finetune", "--init", digits_run, *data, "--out", tmp_path / "auto")
    assert "several classes each" in refused("data", "duplicates", f"{table}@train", "--against", f"{table}@test")
    with pytest.raises(BadInput, match="weights of classes, logit adjustment and balanced sampling"):
        pretrain(replace(config(table), class_weights="balanced"), tmp_path / "no", CPU)


def test_frozen_features_are_judged_by_logistic_regression(digits_run: Path, table: Path) -> None:
    """The mean average precision is that of scikit-learn on the features, for the strength that was chosen."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score
    from sklearn.preprocessing import StandardScaler

    asked = Linear(str(digits_run), f"{table}@train", f"{table}@test", shots=("all",), judge=("logistic",))
    result = linear(asked, None, CPU)
    (row,) = result.rows
    assert result.measure == "mean average precision"
    assert row.interval is not None
    assert row.interval[0] < row.mean < row.interval[1] or row.mean == 1
    model = vitrail.load(digits_run)
    parts = [
        features(model, open_data(f"{table}@{part}", multi_label=True), model.preprocess) for part in ("train", "test")
    ]
    scale = StandardScaler().fit(parts[0].values.astype(np.float64))
    x, other = (scale.transform(part.values.astype(np.float64)) for part in parts)
    assert row.chosen
    fits = [
        LogisticRegression(C=1 / row.chosen[0].strength, max_iter=5000, tol=1e-8).fit(x, parts[0].labels[:, k])
        for k in range(3)
    ]
    scores = np.stack([fit.decision_function(other) for fit in fits], axis=1)
    assert row.mean == pytest.approx(average_precision_score(parts[1].labels, scores), abs=0.003)
    with pytest.raises(BadInput, match="--judge logistic --shots all"):
        linear(replace(asked, judge=("knn",)), None, CPU)
    with pytest.raises(BadInput, match="--shots all"):
        linear(replace(asked, shots=(1,)), None, CPU)
