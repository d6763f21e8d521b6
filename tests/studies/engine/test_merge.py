"""Runs of two machines become one study: taken whole and once, compared where both made them, never mixed."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.studies import stand_in
from tests.studies.engine.test_plan import quick
from tests.studies.stand_in import levels
from vitrail.cli import main
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json, write_json
from vitrail.core.locks import lock_or_wait
from vitrail.core.resumable import LOCK
from vitrail.report.index import make
from vitrail.studies.engine import plan as planning
from vitrail.studies.engine.execute import run_study, write_study
from vitrail.studies.engine.merge import done_with, merge
from vitrail.studies.engine.results import measured_file, read_measured
from vitrail.studies.engine.runs import FewShot, StudyRun
from vitrail.studies.engine.study import Study, run_folders, study_runs

FEW = FewShot("a@train", "a@test")
HERE, THERE = (
    {"processor": name, "threads": 1, "device": "cpu", "precision": "float32", "torch": "2.13.0", "vitrail": "0.2"}
    for name in ("one kind", "another kind")
)


def part(*names: str) -> Study:
    """The base and these."""
    return levels().part(names)


def place(study: Study, out: Path, name: str) -> StudyRun:
    return next(plan for plan in study_runs(study, out) if plan.run.name == name)


def made(study: Study, out: Path, environment: dict[str, Any], weights: str = "f" * 64) -> None:
    """Makes all runs, as if by a machine."""
    run_study(study, out)
    for plan in study_runs(study, out):
        write_json(plan.folder / "environment.json", environment)
        write_json(plan.folder / "result.json", {**read_json(plan.folder / "result.json"), "weights_sha256": weights})


def measure(plan: StudyRun, value: float, **more: Any) -> None:
    content = {"measure": {}, "values": {"5-shot": value}, "count": 100, **more}
    write_json(measured_file(plan, FEW), content)


def test_what_two_machines_made_is_one_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    made(part("high"), here, HERE)
    made(part("odd"), there, THERE)
    write_json(place(levels(), there, "odd").folder / "checkpoints/step-1/state.json", {})
    before = len(stand_in.MADE)
    merge(levels(), here, [there])
    assert f"runs of {there}: 1 taken, 1 here already" in capsys.readouterr().err
    assert run_study(levels(), here).complete
    assert len(stand_in.MADE) == before, "nothing is made again"
    cost = read_json(here / "levels/study.json")["cost"]
    assert cost["runs"] == 3
    assert cost["machines"] == {"one kind, 1 thread, float32": 2, "another kind, 1 thread, float32": 1}
    taken = place(levels(), here, "odd").folder
    assert taken.parent == here / "runs"
    assert not (taken / "checkpoints").exists()
    merge(levels(), here, [there])  # once more changes nothing
    assert "0 taken, 2 here already" in capsys.readouterr().err


def test_equal_runs_are_taken_once_and_unlike_ones_are_said_with_both_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    made(levels(), here, HERE)
    made(levels(), there, HERE)
    merge(levels(), here, [there])
    assert "other results" not in capsys.readouterr().err
    assert not list((here / "runs").glob("*.differs.json"))
    low = place(levels(), there, "low").folder / "result.json"
    right = read_json(low)
    write_json(low, {**right, "accuracy": 0.51, "weights_sha256": "0" * 64})
    merge(levels(), here, [there])
    said = capsys.readouterr().err
    assert "low, seed 0, was made in" in said
    assert "accuracy 0.5 here and 0.51 there" in said
    assert "weights_sha256 ffffffffff here and 0000000000 there" in said
    assert "should be equal bit for bit" in said
    assert "high, seed 0, was" not in said
    write_study(levels(), here)
    rows = {row["name"]: row for row in read_json(here / "levels/study.json")["rows"]}
    assert rows["low"]["values"]["validation"]["values"] == [0.5], "the run that is here counts"
    assert "0.51 there" in rows["low"]["runs"][0]["differs"][0]
    assert "differs" not in rows["high"]["runs"][0]
    assert "accuracy 0.5 here and 0.51 there" in make(here / "levels").read_text(encoding="utf-8")
    write_json(low, right)
    merge(levels(), here, [there])
    assert not list((here / "runs").glob("*.differs.json"))


def test_other_machines_are_named_where_they_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(part(), tmp_path / "here", HERE)
    made(part(), tmp_path / "there", THERE, "0" * 64)
    merge(part(), tmp_path / "here", [tmp_path / "there"])
    said = capsys.readouterr().err
    assert "Here one kind, 1 thread, float32, torch 2.13.0, vitrail 0.2, there another kind, 1 thread" in said
    assert "bit for bit" not in said


def test_what_failed_or_was_only_begun_there_is_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    run_study(levels(broken=True), there)
    begun = place(levels(), there, "high").folder
    (begun / "result.json").unlink()
    merge(levels(), here, [there])
    assert [folder.name for folder in run_folders(here / "runs")] == [place(levels(), here, "low").folder.name]
    assert not list((here / "runs").glob("*.failed.json"))
    assert "1 taken, 1 not finished there" in capsys.readouterr().err


def test_a_run_that_was_begun_or_failed_here_is_replaced_by_the_finished_one(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    run_study(part(), there)
    low = place(part(), here, "low")
    write_json(low.folder / "config.json", read_json(place(part(), there, "low").folder / "config.json"))
    write_json(low.folder / "checkpoints/step-1/state.json", {})
    write_json(low.failure, {"said": "no memory", "trace": ""})
    with lock_or_wait(low.folder / LOCK):
        merge(part(), here, [there])
        assert not place(part(), here, "low").finished, "somebody is at work there"
    merge(part(), here, [there])
    assert place(part(), here, "low").finished
    assert not (low.folder / "checkpoints").exists()
    assert not low.failure.exists()


def test_measures_come_with_their_run_and_later_ones_only_for_the_same_weights(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    study = replace(levels(), measures=(*levels().measures, FEW))
    made(part("high", "odd"), there, THERE)
    measure(place(study, there, "low"), 0.25, folder="tuned-x")
    write_json(place(study, there, "low").folder / "tuned-x/result.json", {"accuracy": 0.25})
    merge(study, here, [there])
    found = read_measured(place(study, here, "low"), FEW)
    assert found is not None
    assert found.values == {"5-shot": 0.25}
    assert read_json(place(study, here, "low").folder / "tuned-x/result.json") == {"accuracy": 0.25}
    # the others are measured there after they were taken, one of them by now with other weights
    for name, weights in (("high", "f" * 64), ("odd", "0" * 64)):
        plan = place(study, there, name)
        measure(plan, 0.5, folder="tuned-y")
        write_json(plan.folder / "tuned-y/result.json", {"accuracy": 0.5})
        write_json(plan.folder / "result.json", {**read_json(plan.folder / "result.json"), "weights_sha256": weights})
    expected = {"low": True, "high": True, "odd": False}
    for name, whether in expected.items():
        assert done_with(place(study, here, name), [place(study, there, name)], study.measures) == whether
    merge(study, here, [there])
    for name, whether in expected.items():
        assert (read_measured(place(study, here, name), FEW) is not None) == whether, name
    assert (place(study, here, "high").folder / "tuned-y/result.json").is_file()


def test_a_copy_that_was_cut_short_is_no_run(tmp_path: Path) -> None:
    """Half of one lies under a hidden name, with its config."""
    run_study(part(), tmp_path)
    low = place(part(), tmp_path, "low")
    low.folder.rename(low.folder.with_name(f".{low.folder.name}.0.tmp"))
    assert not place(part(), tmp_path, "low").finished
    with pytest.raises(BadInput, match="holds no runs"):
        merge(part(), tmp_path / "here", [tmp_path])


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    run_study(part(), tmp_path / "there")
    with pytest.raises(BadInput, match=r"empty holds no runs in .*empty/runs, as"):
        merge(part(), tmp_path / "here", [tmp_path / "empty"])
    with pytest.raises(BadInput, match=r"did you mean .*there\?"):
        merge(part(), tmp_path / "here", [tmp_path / "there/runs"])
    with pytest.raises(BadInput, match="is --out itself"):
        merge(part(), tmp_path / "there", [tmp_path / "there"])


def test_runs_of_other_images_under_one_name_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where one machine has half a data set: in one table the runs would be compared for what they were fed."""
    here, there = tmp_path / "here", tmp_path / "there"
    monkeypatch.setattr(stand_in.Level, "train", "photos@train", raising=False)
    run_study(part("high"), here)
    run_study(part("odd"), there)
    images = {"count": 10, "classes": {"a": 5, "b": 5}, "digest": "x"}
    for out, name, about in (
        (here, "high", images),
        (there, "low", images),
        (there, "odd", {**images, "digest": "y"}),
    ):
        write_json(place(levels(), out, name).folder / "data.json", {"format": 1, "parts": {"train": about}})
    merge(levels(), here, [there])
    assert "photos@train has images of other names, or in another order" in capsys.readouterr().err
    write_json(
        place(levels(), there, "odd").folder / "data.json", {"format": 1, "parts": {"train": {**images, "count": 9}}}
    )
    with pytest.raises(BadInput, match=r"photos@train was other data in .* \(9 images, 2 classes\) than in"):
        merge(levels(), here, [there])


def test_the_plan_counts_what_lies_elsewhere_as_done_and_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "forecast", quick)
    run_study(part("high"), tmp_path / "there")
    run_study(part("odd"), tmp_path / "here")
    found = planning.plan(levels(2), tmp_path / "here", Machine("cpu"), others=[tmp_path / "there"])
    assert [row["todo"] for row in found["rows"]] == [1, 1, 1]
    assert not place(levels(), tmp_path / "here", "high").folder.exists()


def test_the_command_takes_and_gives_commands_of_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitrail.studies.study", lambda *_: levels())

    def said(*args: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["study", "levels", "--out", str(tmp_path / "here"), *args])
        assert ended.value.code == 0
        return capsys.readouterr().out

    run_study(part("high"), tmp_path / "a")
    run_study(part("odd"), tmp_path / "b")
    two = ["--merge", str(tmp_path / "a"), str(tmp_path / "b")]
    commands = said(*two[:2], "--jobs", "2", "--commands").splitlines()
    assert len(commands) == 1
    odd = place(levels(), tmp_path / "here", "odd").folder.name
    assert shlex.split(commands[0]) == ["vitrail", *"study levels --out".split(), str(tmp_path / "here"), "--only", odd]
    told = json.loads(said(*two, "--jobs", "2", "--json"))  # which leaves no process anything to do
    assert told["complete"]
    assert told["finding"].startswith("High is 20.0 points better")


def test_an_address_is_no_folder_to_merge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["study", "head", "--out", str(tmp_path), "--merge", str(tmp_path), "s3://bucket/runs"])
    assert ended.value.code == 2
    assert "--merge is s3://bucket/runs, an address" in capsys.readouterr().err
