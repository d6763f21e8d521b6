"""The command line: fast help, every command documented, one JSON object alone on standard output."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vitrail.cli import COMMANDS, main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "vitrail", *arguments], capture_output=True, text=True, timeout=120)


def test_help_is_fast_and_lists_every_command() -> None:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = run("--help")
        seconds.append(time.perf_counter() - start)
    assert done.returncode == 0
    for name, command in COMMANDS.items():
        assert name in done.stdout
        assert command.usage in done.stdout
    print(f"vitrail --help: {min(seconds):.2f} s")
    assert min(seconds) < 0.5


def test_help_imports_no_torch() -> None:
    program = "import sys; sys.argv = ['vitrail', '--help']\ntry:\n import vitrail.cli; vitrail.cli.main()\n"
    program += "except SystemExit: pass\nprint('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "False"


def test_no_command_is_bad_usage(capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2


@pytest.mark.parametrize("name", [n for n in COMMANDS if n not in ("pretrain", "finetune")])
def test_every_command_explains_itself_with_an_example(name: str, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert f"vitrail {name}" in shown
    assert "For example" in shown


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_help_of_recipes(name: str, capsys) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert "digits" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main([name, "digits", "--help"])
    assert stopped.value.code == 0
    assert "--optimizer.lr" in capsys.readouterr().out


def test_models_and_recipes_as_json(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["models", "B/16", "--resolution", "384", "--json"])
    assert json.loads(capsys.readouterr().out)["models"][0]["parameters"] == 86_859_496
    with pytest.raises(SystemExit):
        main(["recipes", "--json"])
    names = {row["recipe"] for row in json.loads(capsys.readouterr().out)["recipes"]}
    assert {"digits", "scattered-digits", "cifar10", "tiny-imagenet", "folder"} <= names


def test_evaluate_json_is_alone_on_standard_output(digits_run: Path) -> None:
    done = run("evaluate", "--model", str(digits_run), "--data", "digits@test", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["count"] == 445


def test_the_public_names_are_what_they_say() -> None:
    import vitrail

    for name in vitrail.__all__:
        assert name == "__version__" or getattr(vitrail, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vitrail.nothing  # type: ignore[attr-defined]
    assert set(vitrail._HOMES) | {"__version__"} == set(vitrail.__all__)


def test_import_costs_nothing() -> None:
    program = "import vitrail, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("name", ["runs/a/metrics.jsonl", None])
def test_a_full_disk_is_a_sentence_that_says_what_to_do(name: str | None, capsys, monkeypatch) -> None:
    def full(_: list[str]) -> int:
        raise OSError(28, "No space left on device", name)

    monkeypatch.setitem(COMMANDS, "models", COMMANDS["models"]._replace(run=full))
    with pytest.raises(SystemExit) as stopped:
        main(["models"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "the disk is full" in said
    assert "make room and run the same command again" in said
    assert name is None or name in said


def test_a_worker_that_was_killed_is_a_sentence(capsys, monkeypatch) -> None:
    problem = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    def killed(_: list[str]) -> int:
        raise problem

    monkeypatch.setitem(COMMANDS, "models", COMMANDS["models"]._replace(run=killed))
    with pytest.raises(SystemExit) as ended:
        main(["models"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("vitrail: a worker process died (killed for want of memory")
    problem = RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError, match="shapes"):
        main(["models"])


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_ends_with_a_sentence_and_goes_on(tmp_path: Path) -> None:
    """SIGKILL, as by the system for want of memory, while it trains."""
    words = [sys.executable, "-m", "vitrail", "pretrain", "digits", "--save-every", "5", "--workers", "2"]
    words += ["--steps", "100000", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    checkpoints = tmp_path / "run/checkpoints"
    while not list(checkpoints.glob("step-0000001?")):
        assert process.poll() is None
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (worker, *_) = [pid for pid in children if "data_worker" in Path(f"/proc/{pid}/comm").read_text()]
    os.kill(int(worker), signal.SIGKILL)
    said = process.communicate(timeout=120)[1].splitlines()
    assert process.returncode == 2, said
    assert said[-1].startswith("vitrail: a worker process died")
