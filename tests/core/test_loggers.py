"""Loggers: what they are told, what they remember when a run goes back or goes on, and that none stops training."""

import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from vitrail.core import loggers
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.core.loggers import Loggers, check_loggers
from vitrail.core.run import RunFolder, read_metrics
from vitrail.jobs import training
from vitrail.jobs.pretrain import Pretrain, pretrain
from vitrail.recipes import pretraining


def row(step: int, loss: float, kind: str = "train") -> dict[str, Any]:
    return {"kind": kind, "step": step, "loss": loss, "communicating": None}


def curve(folder: Path, name: str = "train/loss") -> list[tuple[int, float]]:
    """What TensorBoard shows of a run."""
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, round(event.value, 4)) for event in events.Scalars(name)]


class Fake(ModuleType):
    """A package that notes what it was asked to do, and in which thread."""

    def __init__(self, name: str):
        super().__init__(name)
        self.calls: list[tuple[Any, ...]] = []
        self.threads: set[int] = set()
        self.problem: Exception | None = None
        self.hanging = threading.Event()
        self.hanging.set()

    def init(self, **options: Any) -> "Fake":
        print("hello from the tracker")
        self._note("init", options)
        return self

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self._note("define_metric", name, step_metric)

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        self._note("log", values, step)

    def finish(self) -> None:
        self._note("finish")

    def _note(self, *call: Any) -> None:
        self.threads.add(threading.get_ident())
        self.hanging.wait(20)
        if self.problem is not None and call[0] == "log":
            raise self.problem
        self.calls.append(call)

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == name]


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Fake]:
    """trackio and wandb, as if they were installed; TensorBoard is left out."""
    found = {name: Fake(name) for name in loggers.KNOWN}
    for name, fake in found.items():
        monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.setattr(loggers, "find_spec", lambda name: object() if name in found else None)
    return found


def small() -> Pretrain:
    recipe = pretraining("digits")
    schedule = replace(recipe.schedule, warmup=2)
    return replace(recipe, steps=12, batch=8, schedule=schedule, log_every=1, save_every=5, evaluate_every=6)


def test_tensorboard_shows_the_rows(tmp_path: Path) -> None:
    tracked = Loggers(tmp_path, (), {}, 0)
    for step in (1, 2, 3):
        tracked.log(row(step, 1 / step))
    tracked.log(row(3, 0.5, "validation"))
    tracked.close()
    assert curve(tmp_path) == [(1, 1.0), (2, 0.5), (3, 0.3333)]
    assert curve(tmp_path, "validation/loss") == [(3, 0.5)]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"train/loss", "validation/loss"}, "nothing that was not measured"


@pytest.mark.parametrize("files", [0, 8, 9])
def test_tensorboard_forgets_what_a_run_went_back_from(tmp_path: Path, monkeypatch, files: int) -> None:
    """Also where the process has made so many files before: of one second, that of number 10 is read before 9."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(files))
    tracked = Loggers(tmp_path, (), {}, 0)
    for step in range(1, 6):
        tracked.log(row(step, 1.0))
    tracked.rewind(3)
    tracked.log(row(4, 2.0))
    tracked.close()
    assert curve(tmp_path) == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)]
    again = Loggers(tmp_path, (), {}, 2)  # started again from the checkpoint of step 2
    again.log(row(3, 3.0))
    again.close()
    assert curve(tmp_path) == [(1, 1.0), (2, 1.0), (3, 3.0)]


def test_a_run_that_goes_on_has_one_curve_the_one_of_its_metrics(tmp_path: Path, monkeypatch: Any) -> None:
    original, machine = training.train_step, Machine("cpu", workers=0)

    def broken_off(state: Any, batch: Any, **options: Any) -> Any:
        if state.step == 8:
            raise KeyboardInterrupt
        return original(state, batch, **options)

    monkeypatch.setattr(training, "train_step", broken_off)
    with pytest.raises(KeyboardInterrupt):
        pretrain(small(), tmp_path / "run", machine)
    monkeypatch.undo()
    assert [step for step, _ in curve(tmp_path / "run")] == list(range(1, 9))
    pretrain(small(), tmp_path / "run", machine)
    rows = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "train"]
    shown = curve(tmp_path / "run")
    assert [step for step, _ in shown] == list(range(1, 13))
    assert dict(shown) == pytest.approx({r["step"]: r["loss"] for r in rows}, abs=1e-4)
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 2


def test_trackio_and_wandb_are_told_the_same_and_know_the_run_again(tmp_path: Path, fakes: dict[str, Fake]) -> None:
    folder = tmp_path / "a run"
    folder.mkdir()
    for step in (0, 1):
        tracked = Loggers(folder, ("wandb", "trackio", "wandb"), {"seed": 3}, step)
        tracked.log(row(step + 1, 0.5))
        tracked.close()
    first, second = (options for (options,) in fakes["wandb"].named("init"))
    assert first == second
    assert (first["project"], first["name"], first["resume"]) == ("vitrail", "a run", "allow")
    assert first["config"] == {"seed": 3}
    assert first["dir"] == str(folder)
    assert fakes["wandb"].named("define_metric")[:2] == [("step", None), ("*", "step")]
    assert [values for values, _ in fakes["wandb"].named("log")] == [
        {"train/loss": 0.5, "step": 1},
        {"train/loss": 0.5, "step": 2},
    ]
    first, second = (options for (options,) in fakes["trackio"].named("init"))
    assert first == second
    assert first["name"].startswith("a run-")
    assert fakes["trackio"].named("log") == [({"train/loss": 0.5}, 1), ({"train/loss": 0.5}, 2)]
    assert all(fake.calls[-1] == ("finish",) for fake in fakes.values())
    other = tmp_path / "other"
    other.mkdir()
    Loggers(other, ("wandb",), {}, 0).close()
    assert fakes["wandb"].named("init")[-1][0]["id"] != fakes["wandb"].named("init")[0][0]["id"]


def test_what_a_tracker_prints_stays_out_of_standard_output(tmp_path: Path, fakes: Any, capsys: Any) -> None:
    tracked = Loggers(tmp_path, ("trackio",), {}, 0)
    tracked.close()
    print("{}")
    heard = capsys.readouterr()
    assert heard.out == "{}\n"
    assert "hello from the tracker" in heard.err


def test_one_that_fails_is_reported_once_and_dropped(tmp_path: Path, fakes: dict[str, Fake], capsys: Any) -> None:
    fakes["wandb"].problem = ConnectionError("no route to host\n  details")
    tracked = Loggers(tmp_path, ("trackio", "wandb"), {}, 0)
    for step in range(1, 6):
        tracked.log(row(step, 1.0))
    tracked.close()
    text = " ".join(capsys.readouterr().err.split())
    assert text.count("wandb: no route to host; the run goes on without it, its numbers are in metrics.jsonl") == 1
    assert "details" not in text
    assert len(fakes["trackio"].named("log")) == 5, "the other one goes on"


def test_tensorboard_on_a_full_disk_says_one_line(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """Its own thread prints a traceback, where nothing is done about it."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
    loggers = Loggers(tmp_path, (), {}, 0)
    for step in range(3):
        loggers.log({"kind": "train", "step": step, "loss": 1.0})
    loggers.close()
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.count("the run goes on without it") == 1


def test_one_that_hangs_holds_up_neither_the_rows_nor_for_long_the_end(
    tmp_path: Path, fakes: dict[str, Fake], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(loggers, "WAITING", 20)
    fakes["wandb"].hanging.clear()
    start = time.perf_counter()
    tracked = Loggers(tmp_path, ("wandb",), {}, 0)
    for step in range(1, 11):
        tracked.log(row(step, 1.0))
    assert time.perf_counter() - start < 0.5
    tracked.close(patience=0.2)
    assert time.perf_counter() - start < 2
    assert "has not finished within 0.2 s" in capsys.readouterr().err
    later = Loggers(tmp_path, ("wandb",), {}, 0)
    for step in range(1, 50):
        later.log(row(step, 1.0))
    later.close(patience=0.2)
    assert capsys.readouterr().err.count("it is 20 rows behind") == 1
    fakes["wandb"].hanging.set()


def test_a_run_with_a_broken_tracker_is_the_run_without(tmp_path: Path, fakes: dict[str, Fake]) -> None:
    fakes["trackio"].problem = OSError("disk full")
    plain = pretrain(small(), tmp_path / "plain", Machine("cpu", workers=0))
    broken = pretrain(small(), tmp_path / "broken", Machine("cpu", workers=0, track=("trackio", "wandb")))
    assert broken.weights_sha256 == plain.weights_sha256
    logged = fakes["wandb"].named("log")
    assert [values["step"] for values, _ in logged if "train/loss" in values] == list(range(1, 13))
    assert [values["step"] for values, _ in logged if "validation/loss" in values] == [6, 12]
    assert threading.get_ident() not in fakes["wandb"].threads
    (options,) = fakes["wandb"].named("init")[0]
    assert options["config"]["batch"] == 8


def test_one_that_cannot_be_imported_is_reported_too(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    def without(name: str) -> ModuleType:
        raise ImportError("protobuf is too old")

    monkeypatch.setattr(loggers, "import_module", without)
    tracked = Loggers(tmp_path, (), {}, 0)
    tracked.log(row(1, 1.0))
    tracked.close()
    assert "tensorboard: protobuf is too old; the run goes on without it" in " ".join(capsys.readouterr().err.split())


def test_only_the_first_process_tracks(tmp_path: Path, fakes: dict[str, Fake]) -> None:
    run = RunFolder(tmp_path / "run", "pretrain", small())
    run.writes = False
    run.track(("wandb",), 0)
    run.log(row(1, 1.0))
    run.close()
    assert not fakes["wandb"].calls


def test_unknown_and_missing_loggers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"unknown tracker 'wanb'; did you mean 'wandb'\?"):
        check_loggers(["wanb"])
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"track trackio: trackio is not installed; pip install 'vitrail\[logging\]'"):
        check_loggers(["trackio"])


def test_without_tensorboard_nothing_is_written_and_nothing_imported(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    before = threading.active_count()
    tracked = Loggers(tmp_path, (), {}, 0)
    tracked.log(row(1, 1.0))
    assert threading.active_count() == before
    tracked.close()
    assert not list(tmp_path.iterdir())
