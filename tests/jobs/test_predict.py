"""`vitrail predict`: rows leave as they are made, in three kinds of file, and no kill loses or repeats one."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch

from tests.data.pictures import encoded, noise, write_parquet, write_tar
from vitrail.cli import main
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput, Interrupted
from vitrail.core.files import read_json
from vitrail.data.open.inputs import Images
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.jobs import predict as job
from vitrail.jobs.predict import Predict, predict, predict_table
from vitrail.models.build import build
from vitrail.models.vit import ViTConfig
from vitrail.serve import prediction_file as output_module
from vitrail.serve.prediction_file import PredictionFile
from vitrail.serve.predictor import PredictionBatch, Predictor
from vitrail.weights.bundle import save_bundle
from vitrail.weights.load import load

CLASSES = ("cat", "dog", "eel", "fox")
SUFFIXES = (".jsonl", ".csv", ".parquet")
HERE = Machine("cpu", 0)


def bundle(folder: Path, classes: tuple[str, ...] = CLASSES, temperature: float | None = None, seed: int = 0) -> str:
    torch.manual_seed(seed)
    config = ViTConfig(patch=4, width=16, depth=1, heads=2, mlp=32, resolution=(12, 12), num_classes=len(classes))
    model = build(config)
    if isinstance(model.head, torch.nn.Linear):
        torch.nn.init.normal_(model.head.weight)
    save_bundle(folder, model, Preprocess((12, 12)), classes, {}, temperature)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return bundle(tmp_path_factory.mktemp("models") / "bundle")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 images in folders, of which two are broken."""
    root = tmp_path_factory.mktemp("pictures")
    for i in range(150):
        (root / f"{i % 3}").mkdir(exist_ok=True)
        data = encoded(noise(14, 14 + i % 5, i)) if i not in (70, 149) else b"nothing"
        (root / f"{i % 3}" / f"{i:03}.png").write_bytes(data)
    return root


def rows_of(path: Path) -> list[dict[str, Any]]:
    match path.suffix:
        case ".parquet":
            rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
            return rows
        case ".csv":
            return list(csv.DictReader(io.StringIO(path.read_text())))
        case _:
            return [json.loads(line) for line in path.read_text().splitlines()]


def exit_code(*args: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    return int(stopped.value.code or 0)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_holds_what_the_model_says_of_each_image(
    suffix: str, model: str, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"labels{suffix}"
    result = predict_table(Predict(model, (str(pictures),), top=2), out, HERE)
    assert (result.rows, result.broken) == (150, 2)
    rows = rows_of(out)
    files = sorted(pictures.rglob("*.png"))
    assert [row["path"] for row in rows] == [str(file) for file in files]
    predictor = Predictor(model, "cpu")
    for row, file in zip(rows, files, strict=True):
        if file.name in ("070.png", "149.png"):
            assert row["error"] == "not an image of a known format"
            assert row["label"] in (None, "")
            continue
        first, second = predictor.predict([file], top=2)[0]
        assert not row["error"]
        assert row["label"] == first.name
        # the fused kernel rounds by place in the batch: measured 6e-8
        assert float(row["probability"]) == pytest.approx(first.probability, abs=1e-6)
        if suffix == ".csv":
            assert row["label_2"] == second.name
            assert float(row["probability_2"]) == pytest.approx(second.probability, abs=1e-6)
        else:
            assert row["labels"] == [first.name, second.name]
            assert row["probabilities"] == pytest.approx([first.probability, second.probability], abs=1e-6)


def test_all_forms_hold_the_same_numbers(model: str, pictures: Path, tmp_path: Path) -> None:
    tables = []
    for suffix in SUFFIXES:
        asked = Predict(model, (str(pictures),), top=3, all_probabilities=True, features=suffix != ".csv")
        predict_table(asked, tmp_path / f"t{suffix}", HERE)
        tables.append(rows_of(tmp_path / f"t{suffix}"))
    lines, cells, columns = tables
    assert lines == columns
    for line, cell in zip(lines, cells, strict=True):
        if line["error"]:
            assert line["features"] is line["all_probabilities"] is None
            continue
        assert len(line["features"]) == 16
        assert sum(line["all_probabilities"]) == pytest.approx(1, abs=1e-6)
        assert [float(cell[f"probability of {name}"]) for name in CLASSES] == line["all_probabilities"]
        assert sorted(line["all_probabilities"], reverse=True)[:3] == line["probabilities"]


def test_a_stored_temperature_calibrates(pictures: Path, tmp_path: Path, model: str) -> None:
    softer = bundle(tmp_path / "softer", temperature=2.0)
    file = str(pictures / "0" / "000.png")
    asked = Predict(model, (file,), all_probabilities=True)
    predict_table(asked, tmp_path / "a.jsonl", HERE)
    predict_table(Predict(softer, (file,), all_probabilities=True), tmp_path / "b.jsonl", HERE)
    (plain,), (soft,) = rows_of(tmp_path / "a.jsonl"), rows_of(tmp_path / "b.jsonl")
    roots = np.sqrt(plain["all_probabilities"])  # softmax(x / 2) is in proportion to the root of softmax(x)
    assert soft["all_probabilities"] == pytest.approx(roots / roots.sum(), abs=1e-6)
    assert soft["label"] == plain["label"]
    assert soft["probability"] < plain["probability"]


def test_a_model_without_a_classifier_gives_features(tmp_path: Path, pictures: Path) -> None:
    bare = bundle(tmp_path / "bare", ())
    asked = Predict(bare, (str(pictures / "1"),), features=True)
    predict_table(asked, tmp_path / "t.parquet", HERE)
    rows = rows_of(tmp_path / "t.parquet")
    assert set(rows[0]) == {"path", "features", "error"}
    assert len(rows[0]["features"]) == 16
    with pytest.raises(BadInput, match="has no classifier"):
        predict_table(Predict(bare, (str(pictures),)), tmp_path / "u.parquet", HERE)


def test_shards_of_all_kinds_give_the_same_rows(model: str, tmp_path: Path) -> None:
    images = [encoded(noise(14, 14, i)) for i in range(20)]
    write_parquet(tmp_path / "x.parquet", images, [0] * 20)
    write_tar(tmp_path / "tar" / "x-0.tar", images[:12], ["0"] * 12)
    write_tar(tmp_path / "tar" / "x-1.tar", images[12:], ["0"] * 8)
    folder = tmp_path / "files"
    folder.mkdir()
    for i, data in enumerate(images):
        (folder / f"{i:02}.png").write_bytes(data)
    names = ["x.parquet", "tar", "tar/x-*.tar", "tar/x-{0..1}.tar", "files", "files/*.png"]
    said = [list(predict(Predict(model, (str(tmp_path / name),)), HERE)) for name in names]
    one_by_one = Predict(model, tuple(str(f) for f in sorted(folder.iterdir())))
    said.append(list(predict(one_by_one, HERE)))
    for rows in said:
        assert len(rows) == 20
        assert [row.labels for row in rows] == [row.labels for row in said[0]]
    together = list(predict(Predict(model, (str(tmp_path / "x.parquet"), str(folder / "03.png"))), HERE))
    assert [row.labels for row in together[:20]] == [row.labels for row in said[0]]
    assert together[20].key == str(folder / "03.png")


def test_shards_need_no_labels(model: str, tmp_path: Path) -> None:
    import pyarrow as pa

    images = [encoded(noise(14, 14, i)) for i in range(5)]
    parquet.write_table(pa.table({"image": images}), tmp_path / "x.parquet")
    assert len(list(predict(Predict(model, (str(tmp_path / "x.parquet"),)), HERE))) == 5


def test_the_order_and_the_numbers_do_not_depend_on_workers(
    model: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for workers in (0, 2):
        predict_table(Predict(model, (str(pictures),)), tmp_path / f"{workers}.jsonl", Machine("cpu", workers))
    assert (tmp_path / "0.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()


def killed_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is stopped after so many batches, with those written that were due."""
    add = PredictionFile.add
    seen = []

    def stopping(self: PredictionFile, answers: PredictionBatch) -> None:
        seen.append(answers)
        if len(seen) > count:
            raise KeyboardInterrupt
        add(self, answers)

    monkeypatch.setattr(PredictionFile, "add", stopping)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("after", [0, 1, 2])
def test_what_was_interrupted_goes_on_to_the_same_file(
    suffix: str, after: int, model: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Predict(model, (str(pictures),), features=suffix != ".csv")
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    monkeypatch.setattr(output_module, "SECONDS", 0.0)  # every batch is a piece
    predict_table(asked, whole, HERE)
    with monkeypatch.context() as patched:
        killed_after(after, patched)
        with pytest.raises(KeyboardInterrupt):
            predict_table(asked, out, HERE)
    assert not out.exists()
    judged, over = [], Predictor.over

    def counted(self: Predictor, images: Images, *args: Any, **options: Any) -> Iterator[PredictionBatch]:
        judged.append(len(images))
        return over(self, images, *args, **options)

    monkeypatch.setattr(Predictor, "over", counted)
    result = predict_table(asked, out, HERE)
    assert judged == [150 - 64 * after]
    assert rows_of(out) == rows_of(whole)
    if suffix != ".parquet":
        assert out.read_bytes() == whole.read_bytes()
    assert (result.rows, result.broken) == (150, 2)
    assert not Path(f"{out}.parts").exists()


def test_a_finished_output_is_shown_and_not_repeated(
    model: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.csv"
    first = predict_table(Predict(model, (str(pictures),)), out, HERE)
    monkeypatch.setattr(Predictor, "over", None)
    assert predict_table(Predict(model, (str(pictures),)), out, HERE) == first


def test_another_question_is_refused_with_the_difference(model: str, pictures: Path, tmp_path: Path) -> None:
    out, asked = tmp_path / "out.csv", Predict(model, (str(pictures),), top=1)
    predict_table(asked, out, HERE)
    with pytest.raises(BadInput, match=r"another question \(top: 1 → 2\); give another --out"):
        predict_table(Predict(model, (str(pictures),), top=2), out, HERE)
    other = bundle(tmp_path / "other", seed=1)
    with pytest.raises(BadInput, match=r"model: '.*' → '.*other'; weights: '"):
        predict_table(Predict(other, (str(pictures),), top=1), out, HERE)
    out.write_text("mine")
    with pytest.raises(BadInput, match="has been changed since it was written"):
        predict_table(asked, out, HERE)
    out.unlink()
    predict_table(asked, out, HERE)
    assert len(rows_of(out)) == 150


def test_other_names_of_the_classes_are_another_question(pictures: Path, tmp_path: Path) -> None:
    first = bundle(tmp_path / "bundle")
    out = tmp_path / "rows.csv"
    predict_table(Predict(first, (str(pictures),)), out, HERE)
    settings = read_json(tmp_path / "bundle" / "config.json")
    settings["classes"] = ["ant", "bee", "cow", "doe"]
    (tmp_path / "bundle" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(BadInput, match="classes"):
        predict_table(Predict(first, (str(pictures),)), out, HERE)


def test_a_temperature_is_left_behind_at_another_resolution(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle", temperature=2.0)
    assert load(folder).temperature == 2.0
    assert load(folder, resolution=12).temperature == 2.0
    assert load(folder, resolution=24).temperature is None


def test_images_that_came_since_are_another_question(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(70):
        (folder / f"{i:02}.png").write_bytes(encoded(noise(6, 6, i)))
    monkeypatch.setattr(output_module, "SECONDS", 0.0)
    with monkeypatch.context() as patched:
        killed_after(1, patched)
        with pytest.raises(KeyboardInterrupt):
            predict_table(Predict(model, (str(folder),)), tmp_path / "out.csv", HERE)
    (folder / "00a.png").write_bytes(encoded(noise(6, 6, 99)))
    with pytest.raises(BadInput, match="images: 70 → 71"):
        predict_table(Predict(model, (str(folder),)), tmp_path / "out.csv", HERE)


def test_a_file_of_others_is_left_alone(model: str, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "notes.csv"
    out.write_text("mine")
    with pytest.raises(BadInput, match="is there, and no unfinished output"):
        predict_table(Predict(model, (str(pictures),)), out, HERE)
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--out", "x.txt"], "x.txt: expected a name that ends in .jsonl, .csv, .parquet"),
        (["--out", "x.csv", "--features"], "a CSV file holds no --features"),
        (["--features"], "--features and --all-probabilities need a table"),
        (["--top", "0"], "--top 0: at least one label"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(
    args: list[str], sentence: str, model: str, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("predict", "--model", model, pictures, *args) == 2
    assert sentence in capsys.readouterr().err


def test_a_folder_without_images_and_a_pattern_without_matches_are_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no images"):
        list(predict(Predict(model, (str(tmp_path),)), HERE))
    for name in ("gone.png", "*.png", "gone"):
        with pytest.raises(BadInput, match="no such image"):
            list(predict(Predict(model, (str(tmp_path / name),)), HERE))


def test_json_is_one_object_and_the_exit_code_says_that_images_are_broken(
    model: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("predict", "--model", model, pictures / "0", "--json", "--device", "cpu") == 0
    assert len(json.loads(capsys.readouterr().out)["predictions"]) == 50
    out = tmp_path / "o.parquet"
    assert exit_code("predict", "--model", model, pictures, "--json", "--out", out, "--device", "cpu") == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["rows"], said["broken"]) == (150, 2)
    assert said == {"model": model, "out": str(out), **read_json(Path(f"{out}.json"))}
    assert exit_code("predict", "--model", model, pictures, "--device", "cpu") == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 150
    assert sum("not an image of a known format" in line for line in lines) == 2


def test_a_signal_stops_it_with_what_was_done_safe(
    model: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = job._answers

    def signalled(*args: Any) -> Any:
        for number, some in enumerate(answers(*args)):
            if number == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield some

    out = tmp_path / "out.jsonl"
    with monkeypatch.context() as patched:
        patched.setattr(job, "_answers", signalled)
        with pytest.raises(Interrupted):
            predict_table(Predict(model, (str(pictures),)), out, HERE)
    (piece,) = Path(f"{out}.parts").glob("0*")
    assert piece.name == "000000000-000000128-1.jsonl"
    predict_table(Predict(model, (str(pictures),)), out, HERE)
    assert len(rows_of(out)) == 150


def test_row_groups_of_pieces_become_large(
    model: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_module, "SECONDS", 0.0)
    predict_table(Predict(model, (str(pictures),)), tmp_path / "x.parquet", HERE)
    assert parquet.ParquetFile(tmp_path / "x.parquet").num_row_groups == 1


SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from vitrail.core.device import Machine
from vitrail.jobs.predict import Predict, predict_table
from vitrail.serve import prediction_file
prediction_file.SECONDS = 0.05
model, data, out, workers = sys.argv[1:]
predict_table(Predict(model, (data,), features=True), Path(out), Machine("cpu", int(workers)))
"""


def started(model: str, data: Path, out: Path, workers: int = 0) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", SCRIPT, model, str(data), str(out), str(workers)]
    return subprocess.Popen(arguments, stderr=subprocess.DEVNULL)


def many(path: Path, count: int) -> Path:
    """So many rows that share 50 pictures, some of them broken."""
    pictures = [encoded(noise(14, 14, i), "JPEG") if i != 33 else b"broken" for i in range(50)]
    write_parquet(path, [pictures[7 * i % 50] for i in range(count)], [0] * count, rows=1000)
    return path


def test_a_sigkill_loses_and_repeats_no_row(model: str, tmp_path: Path) -> None:
    data = many(tmp_path / "data.parquet", 3000)
    predict_table(Predict(model, (str(data),), features=True), tmp_path / "whole.jsonl", HERE)
    out = tmp_path / "out.jsonl"
    process = started(model, data, out, workers=1)
    while process.poll() is None and not list(Path(f"{out}.parts").glob("0*")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not out.exists()
    predict_table(Predict(model, (str(data),), features=True), out, HERE)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.slow
def test_memory_is_the_same_after_100_000_images(model: str, tmp_path: Path) -> None:
    data, out = many(tmp_path / "data.parquet", 100_000), tmp_path / "out.parquet"
    process, held = started(model, data, out), dict[int, float]()
    while process.poll() is None:
        pieces = sorted(piece.name for piece in Path(f"{out}.parts").glob("0*"))
        if pieces:
            held[int(pieces[-1].split("-")[1])] = anonymous(process.pid)
        time.sleep(0.2)
    assert process.returncode == 0
    after = {rows: held[min(held, key=lambda n: abs(n - rows))] for rows in (10_000, 100_000)}
    print({rows: f"{mib:.0f} MiB" for rows, mib in after.items()})
    assert after[100_000] < after[10_000] + 40


def anonymous(process: int) -> float:
    """MiB of a process but for mapped files, which the system takes back as it likes."""
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return int(rows["RssAnon"].split()[0]) / 1024 if "RssAnon" in rows else 0.0


@pytest.mark.slow
def test_ten_random_kills_give_the_rows_of_one_run(model: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(int(time.time()))
    data = many(tmp_path / "data.parquet", 100_000)
    assert started(model, data, tmp_path / "whole.parquet").wait() == 0
    out, kills = tmp_path / "out.parquet", 0
    while kills < 10:
        process = started(model, data, out, workers=int(rng.integers(3)))
        done = len(list(Path(f"{out}.parts").glob("0*")))
        while process.poll() is None and len(list(Path(f"{out}.parts").glob("0*"))) <= done:
            time.sleep(0.05)
        time.sleep(float(rng.uniform(0, 1.5)))
        assert process.poll() is None, "it was over before it was killed"
        process.kill()
        process.wait()
        kills += 1
    assert started(model, data, out, workers=1).wait() == 0
    assert parquet.read_table(out).equals(parquet.read_table(tmp_path / "whole.parquet"))
