"""`--columns` belongs to what a run was asked for: written, shown, taken with --config, refused where it differs."""

import json
from pathlib import Path

import pytest
from PIL import Image

from vitrail.cli import main
from vitrail.records.read_run import read_run

SHORT = "--steps 2 --batch 4 --model.patch 4 --workers 0 --device cpu --model Ti/16 --model.resolution 8 8".split()
COLUMNS = ["--columns", "image=one", "label=three"]


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two ways to label four images."""
    monkeypatch.setenv("VITRAIL_COLUMNS", "")  # what a command says to its process ends with the test
    rows = [f"{i}.png,{'xy'[i % 2]},{'uv'[i // 2]}" for i in range(4)]
    for i in range(4):
        Image.new("RGB", (8, 8), (60 * i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "table.csv").write_text("\n".join(["one,two,three", *rows]) + "\n")
    return str(tmp_path / "table.csv")


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_columns_are_written_shown_taken_and_refused(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = str(tmp_path / "runs/a"), str(tmp_path / "runs/b")
    assert call("pretrain", "folder", "--train", table, "--out", a, *SHORT, *COLUMNS) == 0
    assert read_run(a).columns == {"image": "one", "label": "three"}
    assert "image one, label three" in (tmp_path / "runs/a/report.html").read_text()
    capsys.readouterr()
    other = ["--columns", "image=one", "label=two"]
    assert call("pretrain", "folder", "--train", table, "--out", a, *SHORT, *other) == 2
    assert f"{a} holds a run by other --columns (label: 'three' → 'two')" in capsys.readouterr().err
    assert call("pretrain", "folder", "--train", table, "--out", a, *SHORT, *COLUMNS) == 0
    monkeypatch.setenv("VITRAIL_COLUMNS", "")
    assert call("pretrain", "--config", a, "--out", b) == 0
    first, second = (json.loads((Path(run) / "config.json").read_text()) for run in (a, b))
    assert first == second
