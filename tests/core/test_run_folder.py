"""A run folder belongs to one config of one job and to one process at a time."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from vitrail.core import run as run_module
from vitrail.core.dist import World
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.core.run import RunFolder, environment, read_metrics


@dataclass(frozen=True)
class Rate:
    lr: float = 0.1


@dataclass(frozen=True)
class Config:
    steps: int = 3
    rate: Rate = Rate()


def test_a_folder_goes_from_new_to_unfinished_to_finished(tmp_path: Path) -> None:
    states = []
    for _ in range(2):
        with RunFolder(tmp_path / "run", "pretrain", Config()) as run:
            states.append(run.state)
    with RunFolder(tmp_path / "run", "pretrain", Config()) as run:
        run.finish({"accuracy": 0.5})
    with RunFolder(tmp_path / "run", "pretrain", Config()) as run:
        assert read_json(run.path / "result.json") == {"accuracy": 0.5}
        states.append(run.state)
    assert states == ["new", "unfinished", "finished"]


def test_another_config_is_refused_with_the_difference(tmp_path: Path) -> None:
    RunFolder(tmp_path, "pretrain", Config()).close()
    with pytest.raises(BadInput, match=r"rate\.lr: 0\.1 → 0\.2"):
        RunFolder(tmp_path, "pretrain", Config(rate=Rate(0.2)))


def test_after_a_refusal_the_right_config_still_opens(tmp_path: Path) -> None:
    RunFolder(tmp_path, "pretrain", Config()).close()
    try:
        RunFolder(tmp_path, "pretrain", Config(steps=4))
    except BadInput:
        with RunFolder(tmp_path, "pretrain", Config()) as run:  # the refused handle must not hold the lock
            assert run.state == "unfinished"


def test_another_job_is_refused(tmp_path: Path) -> None:
    RunFolder(tmp_path, "pretrain", Config()).close()
    with pytest.raises(BadInput, match="holds a 'pretrain' run, not a 'finetune' run"):
        RunFolder(tmp_path, "finetune", Config())


def test_a_run_of_another_version_is_refused_with_the_key(tmp_path: Path) -> None:
    RunFolder(tmp_path, "pretrain", Config()).close()
    stored = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(stored.replace('"steps"', '"step_count"'))
    with pytest.raises(BadInput, match="another version.*'step_count'.*'steps'"):
        RunFolder(tmp_path, "pretrain", Config())


def test_a_folder_of_other_files_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BadInput, match="holds other files"):
        RunFolder(tmp_path, "pretrain", Config())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(BadInput, match="is a file"):
        RunFolder(tmp_path / "run", "pretrain", Config())


def test_an_open_folder_is_refused_to_everyone_else(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "pretrain", Config()), pytest.raises(BadInput, match="in use by another process"):
        RunFolder(tmp_path, "pretrain", Config())
    RunFolder(tmp_path, "pretrain", Config()).close()


def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    program = "\n".join(
        [
            "import sys, time",
            "from dataclasses import dataclass",
            "from vitrail.core.run import RunFolder",
            "@dataclass(frozen=True)",
            "class Rate:",
            "    lr: float = 0.1",
            "@dataclass(frozen=True)",
            "class Config:",
            "    steps: int = 3",
            "    rate: Rate = Rate()",
            "run = RunFolder(sys.argv[1], 'pretrain', Config())",
            "print('open', flush=True)",
            "time.sleep(60)",
        ]
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    with pytest.raises(BadInput, match="in use by another process"):
        RunFolder(tmp_path, "pretrain", Config())
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with RunFolder(tmp_path, "pretrain", Config()) as run:
        assert run.state == "unfinished"


def test_a_torn_last_line_is_left_out_and_overwritten(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "pretrain", Config()) as run:
        for step in (1, 2):
            run.log({"step": step})
        with open(tmp_path / "metrics.jsonl", "a") as file:
            file.write('{"step": 3, "lo')
        assert [row["step"] for row in run.metrics()] == [1, 2]
        run.truncate_metrics(2)
        run.log({"step": 3})
        assert [row["step"] for row in run.metrics()] == [1, 2, 3]


def test_rewinding_drops_what_will_be_done_again(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "pretrain", Config()) as run:
        for step in (10, 20, 20, 30):
            run.log({"step": step})
        run.truncate_metrics(20)
        assert [row["step"] for row in run.metrics()] == [10, 20, 20]
        run.truncate_metrics(0)
        assert run.metrics() == []


def test_metrics_of_a_run_that_logged_nothing_are_empty(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_the_environment_names_versions_and_what_the_caller_adds() -> None:
    facts = environment(device="cpu")
    assert facts["device"] == "cpu"
    assert {"vitrail", "python", "torch", "command", "started"} <= facts.keys()


@pytest.mark.parametrize("at", ["log", "sync", "finish"])
def test_a_folder_that_is_removed_meanwhile_is_made_anew(at: str, tmp_path: Path, capsys) -> None:
    """What the run still finds lies in a folder that can be gone on with, as one of this config."""
    with RunFolder(tmp_path / "run", "pretrain", Config(), "digits") as run:
        run.log({"step": 1})
        before = read_json(run.path / "config.json")
        (tmp_path / "run").rename(tmp_path / "moved")
        match at:
            case "log":
                run.log({"step": 2})
            case "sync":
                run.sync_metrics()
            case "finish":
                run.finish({"accuracy": 0.5})
        run.log({"step": 3})
    assert capsys.readouterr().err.count("was removed or moved") == 1
    assert read_json(tmp_path / "run/config.json") == before
    assert [row["step"] for row in read_metrics(tmp_path / "run/metrics.jsonl")][-1] == 3
    with RunFolder(tmp_path / "run", "pretrain", Config(), "digits") as again:
        assert again.state == ("finished" if at == "finish" else "unfinished")


def test_a_process_that_does_not_see_the_folder_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another machine, where the first process made it, or soon will be seen to have."""
    monkeypatch.setattr(run_module, "SEEN", 0.0)
    monkeypatch.setattr(run_module.dist, "world", lambda: World(rank=3, size=4))
    monkeypatch.setattr(run_module.dist, "gathered_json", lambda value: [{"state": "new"}, value])
    with pytest.raises(BadInput, match=r"process 3 on .* does not see .*run, which the first one writes: all need"):
        RunFolder(tmp_path / "run", "pretrain", Config())
    monkeypatch.setattr(run_module, "SEEN", 60.0)
    (tmp_path / "run").mkdir()
    later = threading.Timer(0.3, (tmp_path / "run" / "config.json").touch)
    later.start()
    assert RunFolder(tmp_path / "run", "pretrain", Config()).state == "new"
    later.join()
