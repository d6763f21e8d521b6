"""A study's runs are made once, shared, gone on with, and shown when they fail."""

import os
import signal
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.studies import stand_in
from tests.studies.stand_in import command, levels
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput, Interrupted
from vitrail.core.files import read_json, write_json
from vitrail.studies.engine.execute import collect, done, execute_only, failures, run_study, write_study
from vitrail.studies.engine.launch import spread
from vitrail.studies.engine.runs import Run
from vitrail.studies.engine.study import study_runs


def test_a_finished_run_is_not_made_again(tmp_path: Path) -> None:
    before = len(stand_in.MADE)
    run_study(levels(), tmp_path)
    assert len(stand_in.MADE) == before + 3
    results = run_study(levels(), tmp_path)
    assert len(stand_in.MADE) == before + 3
    assert results.complete
    run_study(levels(seeds=2), tmp_path)  # one more seed: the first ones are kept
    assert len(stand_in.MADE) == before + 6


def test_studies_share_runs_of_equal_configs(tmp_path: Path) -> None:
    run_study(levels(), tmp_path)
    other = replace(levels(), name="other", runs=(Run("another name", levels().runs[1].config),))
    assert study_runs(other, tmp_path)[0].folder == study_runs(levels(), tmp_path)[1].folder
    assert done(study_runs(other, tmp_path)[0], other.measures)


def test_a_run_is_known_by_its_config_and_not_by_the_name_of_its_folder(tmp_path: Path) -> None:
    """So a field that a later version adds to a config, off by default, repeats nothing."""
    run_study(levels(), tmp_path)
    first = study_runs(levels(), tmp_path)[0].folder
    moved = first.rename(first.with_name("levels-low-of-long-ago"))
    stored = read_json(moved / "config.json")
    del stored["config"]["broken"]  # as a version without that field wrote it
    write_json(moved / "config.json", stored)
    assert study_runs(levels(), tmp_path)[0].folder == moved


def test_a_failed_run_is_shown_and_the_others_go_on(tmp_path: Path) -> None:
    study = levels(broken=True)
    results = run_study(study, tmp_path)
    assert [name for name, _ in failures(results)] == ["odd"]
    told = read_json(tmp_path / "levels/study.json")
    states = {row["name"]: row["runs"][0] for row in told["rows"]}
    assert [states[name]["state"] for name in ("low", "high", "odd")] == ["finished", "finished", "failed"]
    assert states["odd"]["failure"] == "the level is broken; mend it"
    assert not results.complete
    assert told["finding"].startswith("High is 20.0 points better")


def test_a_study_whose_runs_all_fail_alike_is_bad_input(tmp_path: Path) -> None:
    study = levels()
    broken = tuple(replace(run, config=replace(run.config, broken=True)) for run in study.runs)
    with pytest.raises(BadInput, match="mend it"):
        run_study(replace(study, runs=broken), tmp_path)


def test_a_mended_run_is_no_failure_any_more(tmp_path: Path) -> None:
    study = levels(broken=True)
    run_study(study, tmp_path)
    odd = next(plan for plan in study_runs(study, tmp_path) if plan.run.name == "odd")
    assert odd.failure.is_file()
    mended = replace(study, job=lambda config, folder, _: write_json(folder / "result.json", {"accuracy": 1.0}))
    execute_only(mended, tmp_path, odd.folder.name, Machine("cpu"))
    assert not failures(collect(study, tmp_path))


def test_the_line_of_change_says_what_is_varied_and_nothing_else() -> None:
    study = levels()
    assert [study.change(run) for run in study.runs] == ["", "level = 0.7", "level = 0.6"]
    assert study.change(Run("", replace(study.runs[0].config, seed=5))) == ""


def test_an_option_that_undoes_the_study_is_refused() -> None:
    study = levels()
    same = tuple(replace(run, config=replace(run.config, level=0.1)) for run in study.runs)
    with pytest.raises(BadInput, match="'low' and 'high' of levels became the same"):
        replace(study, runs=same).check()


def test_seeds_are_made_in_turn() -> None:
    names = [(plan.run.name, plan.config.seed) for plan in study_runs(levels(seeds=2), Path("nowhere"))]
    assert names == [(name, seed) for seed in (0, 1) for name in ("low", "high", "odd")]


def test_runs_in_processes_of_their_own_give_the_same_results(tmp_path: Path) -> None:
    run_study(levels(seeds=2), tmp_path / "here")
    spread(levels(seeds=2), tmp_path / "there", command, jobs=2)
    here, there = (read_json(tmp_path / name / "levels/study.json") for name in ("here", "there"))
    assert here == there


def test_a_process_that_fails_leaves_its_last_words(tmp_path: Path) -> None:
    spread(levels(broken=True), tmp_path, command, jobs=2)
    row = read_json(tmp_path / "levels/study.json")["rows"][2]
    assert row["runs"][0]["failure"] == "ended with code 1; the level is broken; mend it"
    spread(levels(), tmp_path / "dead", lambda plan: ["tests.studies.no_such_module"], jobs=3)
    assert "No module named" in read_json(study_runs(levels(), tmp_path / "dead")[0].failure)["said"]


def test_a_second_attempt_says_its_own_reason(tmp_path: Path) -> None:
    """A run that failed and was then killed was killed, whatever it said the first time."""
    study = levels().part([])
    plan = study_runs(study, tmp_path)[0]
    write_json(plan.failure, {"said": "the old reason", "trace": ""})
    spread(study, tmp_path, lambda _: ["timeit", "-n1", "-r1", "import os; os.kill(os.getpid(), 9)"], jobs=1)
    assert read_json(plan.failure)["said"].startswith("killed by signal 9")


def test_a_signal_ends_the_processes_and_the_study_goes_on_later(tmp_path: Path) -> None:
    """The processes sleep; they must be gone when `spread` returns."""
    children: list[subprocess.Popen[bytes]] = []

    def sleeping(plan: object) -> list[str]:
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return ["timeit", "-n1", "-r1", "import time; time.sleep(60)"]

    original = subprocess.Popen

    class Watched(original):  # type: ignore[misc, valid-type]
        def __init__(self, *args: object, **kwargs: object):
            super().__init__(*args, **kwargs)
            children.append(self)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(subprocess, "Popen", Watched)
        spread(levels(), tmp_path, sleeping, jobs=1)
    assert len(children) == 1
    assert children[0].poll() is not None
    assert run_study(levels(), tmp_path).complete


def test_study_json_says_whole_numbers_of_the_cost(tmp_path: Path) -> None:
    write_study(levels(), tmp_path)  # before anything ran
    told = read_json(tmp_path / "levels/study.json")
    assert told["finding"].startswith("Unfinished: 0 of 3 runs")
    run_study(levels(seeds=2), tmp_path)
    told = read_json(tmp_path / "levels/study.json")
    assert told["cost"]["runs"] == 6
    assert told["cost"]["seconds"] == 6.0


def test_one_run_alone_by_the_name_of_its_folder(tmp_path: Path) -> None:
    plan = study_runs(levels(), tmp_path)[1]
    execute_only(levels(), tmp_path, plan.folder.name, Machine("cpu"))
    assert [done(each, levels().measures) for each in study_runs(levels(), tmp_path)] == [False, True, False]
    with pytest.raises(BadInput, match="did you mean"):
        execute_only(levels(), tmp_path, plan.folder.name + "0", Machine("cpu"))


def test_a_part_of_a_study_keeps_its_base_and_says_that_it_is_one(tmp_path: Path) -> None:
    part = levels().part(["odd"])
    assert [run.name for run in part.runs] == ["low", "odd"]
    run_study(part, tmp_path)
    assert read_json(tmp_path / "levels/study.json")["finding"].startswith("A part of the study, of 2 runs")
    with pytest.raises(BadInput, match="did you mean 'odd'"):
        levels().part(["od"])
