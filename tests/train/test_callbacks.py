"""Callbacks: what a user's own gets, what it can end, and the best weights that are kept over kills and going back."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import vitrail
from tests.train.small import batches, fresh, training, updater
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json, write_json
from vitrail.core.run import read_metrics
from vitrail.jobs import training as job
from vitrail.jobs.pretrain import Pretrain, pretrain
from vitrail.recipes import pretraining
from vitrail.train.callbacks import Callback, Every, KeepBest
from vitrail.train.loop import fit
from vitrail.train.schedule import Cosine
from vitrail.train.step import TrainState, train_step


class Notes(vitrail.Callback):
    """Notes what it gets, and ends training at a step."""

    every = 4

    def __init__(self, stop_at: int | None = None):
        self.calls: list[tuple[int, dict[str, float]]] = []
        self.validations: list[dict[str, float] | None] = []
        self._stop_at = stop_at

    def __call__(self, state: TrainState, metrics: dict[str, float]) -> None:
        self.calls.append((state.step, metrics))
        self.validations.append(state.validation)
        if state.step == self._stop_at:
            state.stopped = True

    @property
    def steps(self) -> list[int]:
        return [step for step, _ in self.calls]


def run(callbacks: Sequence[Callback], steps: int = 10) -> TrainState:
    config = training(steps=steps)
    state = fresh(config)
    fit(state, batches(config), updater(config), steps=steps, callbacks=callbacks, save=lambda _: None)
    return state


def test_a_callback_gets_the_means_since_its_last_call() -> None:
    often, seldom = Notes(), Notes()
    often.every = 1
    run([often, seldom])
    assert seldom.steps == [4, 8, 10]
    losses = [metrics["loss"] for _, metrics in often.calls]
    for (step, metrics), begun in zip(seldom.calls, (0, 4, 8), strict=True):
        assert metrics["loss"] == pytest.approx(sum(losses[begun:step]) / (step - begun), rel=1e-12)
        assert metrics["learning_rate"] == often.calls[step - 1][1]["learning_rate"]


def test_one_that_needs_no_metrics_gets_none() -> None:
    notes = Notes()
    notes.needs_metrics = False
    run([notes])
    assert [metrics for _, metrics in notes.calls] == [{}, {}, {}]


def test_a_callback_ends_training_and_the_others_are_called_once_more() -> None:
    before, stopping, after = Notes(), Notes(stop_at=6), Notes()
    stopping.every, before.every, after.every = 3, 4, 2
    state = run([before, stopping, after])
    assert (before.steps, stopping.steps, after.steps) == ([4, 6], [3, 6], [2, 4, 6])
    assert state.step == 6


def test_a_callback_without_a_call_is_named() -> None:
    with pytest.raises(NotImplementedError, match="Callback has no __call__"):
        run([Callback()])


# in a job


def config(**changes: Any) -> Pretrain:
    """Rises, then forgets: its learning rate grows to the end."""
    recipe = pretraining("digits")
    model = replace(recipe.model, patch=2, width=32, depth=1, heads=1, mlp=32)
    settings: dict[str, Any] = {
        "steps": 60,
        "batch": 16,
        "model": model,
        "validation": "digits@test[:64]",
        "optimizer": replace(recipe.optimizer, lr=0.15),
        "schedule": Cosine(warmup=60),
        "clip": None,
        "evaluate_every": 5,
        "log_every": 7,
        "save_every": 9,
        "precision": "float32",
    }
    return replace(recipe, **(settings | changes))


def validations(folder: Path) -> list[dict[str, Any]]:
    return [row for row in read_metrics(folder / "metrics.jsonl") if row["kind"] == "validation"]


def test_own_callbacks_see_the_validation_and_change_nothing(tmp_path: Path) -> None:
    short, notes = config(steps=12, schedule=Cosine(warmup=2)), Notes()
    plain = pretrain(short, tmp_path / "plain", Machine(workers=0))
    watched = vitrail.pretrain(short, tmp_path / "watched", Machine(workers=0), callbacks=[notes])
    assert watched.weights_sha256 == plain.weights_sha256
    assert notes.steps == [4, 8, 12]
    seen = [None if v is None else v["step"] for v in notes.validations]
    assert seen == [None, 5, 12]
    assert notes.validations[-1] is not None
    assert notes.validations[-1]["accuracy"] == watched.accuracy


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ended early."""
    folder = tmp_path_factory.mktemp("patient") / "run"
    pretrain(config(keep="best", patience=2), folder, Machine(workers=0))
    return folder


def test_patience_ends_training_and_the_model_is_the_best(patient: Path) -> None:
    result, rows = read_json(patient / "result.json"), validations(patient)
    best = max(row["accuracy"] for row in rows)
    assert result["accuracy"] == best
    assert result["best_step"] == next(row["step"] for row in rows if row["accuracy"] == best)
    assert result["steps"] == result["best_step"] + 10 < 60
    assert rows[-1]["step"] == result["steps"]
    stored = read_json(patient / "checkpoints" / f"step-{result['steps']:08d}" / "state.json")
    assert stored["stopped"] is True


@pytest.mark.parametrize("kill", ["evaluation", "save", "finish"])
def test_a_kill_anywhere_gives_the_same_best_weights_and_the_same_end(
    patient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill: str
) -> None:
    whole = read_json(patient / "result.json")

    class Killed(BaseException):
        pass

    calls = []

    def killing(original: Any, at: int) -> Any:
        def task(*arguments: Any, **options: Any) -> Any:
            calls.append(1)
            if len(calls) == at:
                raise Killed
            return original(*arguments, **options)

        return task

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if kill == "evaluation":  # the weights are kept, the checkpoint of the step is not
            patch.setattr(job.Evaluate, "__call__", killing(job.Evaluate.__call__, 3))
        elif kill == "save":
            patch.setattr(job.Save, "__call__", killing(job.Save.__call__, 2))
        else:
            patch.setattr(KeepBest, "restore", killing(KeepBest.restore, 1))
        pretrain(config(keep="best", patience=2), tmp_path / "killed", Machine(workers=0))
    again = pretrain(config(keep="best", patience=2), tmp_path / "killed", Machine(workers=0))
    for name in ("weights_sha256", "best_step", "steps", "accuracy", "last_accuracy"):
        assert getattr(again, name) == whole[name], name
    rows = [
        [(row["step"], row["accuracy"]) for row in validations(folder)] for folder in (patient, tmp_path / "killed")
    ]
    assert rows[0] == rows[1]


def test_the_best_stays_the_best_after_going_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row is dropped when a run goes back to before it; the weights and their accuracy are still known."""
    broken: list[int] = []

    def breaking(state: TrainState, batch: Any, **options: Any) -> Any:
        metrics = train_step(state, batch, **options)
        if state.step == 17 and not broken:
            broken.append(state.step)
            return metrics._replace(loss=torch.tensor(float("nan")))
        return metrics

    monkeypatch.setattr(job, "train_step", breaking)
    seen: list[tuple[int, float]] = []

    def note(state: TrainState) -> None:
        assert state.validation is not None
        seen.append((state.step, state.validation["accuracy"]))

    result = pretrain(
        config(keep="best", save_every=60), tmp_path / "run", Machine(workers=0), callbacks=[Every(5, note)]
    )
    assert [step for step, _ in seen][:5] == [5, 10, 15, 5, 10]  # it went back to the start
    best = max(accuracy for _, accuracy in seen)
    assert (result.best_step, result.accuracy) == next((s, a) for s, a in seen if a == best)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"patience": 2}, "patience is 2: it takes a number from 1, and keep as best"),
        ({"patience": 0, "keep": "best"}, "patience is 0"),
        ({"keep": "best", "validation": None}, "give validation"),
        ({"keep": "best", "average": 0.9}, "leave out average"),
    ],
)
def test_what_cannot_be_kept_is_refused(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        pretrain(config(**changes), tmp_path / "run", Machine(workers=0))


def kept(folder: Path, rows: list[tuple[int, float]], provenance: dict[str, Any]) -> KeepBest:
    """A KeepBest that goes on from these validation rows, with a bundle of this provenance."""
    write_json(folder / "config.json", {"provenance": provenance})
    named = [{"kind": "validation", "step": step, "accuracy": accuracy} for step, accuracy in rows]
    return KeepBest(5, folder, lambda *_: None, named)


def test_kept_weights_are_known_by_their_own_step_where_their_row_is_gone(tmp_path: Path) -> None:
    """Saved at step 10, killed before the checkpoint: the folder does not hold the best of the rows that are left."""
    best = kept(tmp_path, [(5, 0.4)], {"step": 10, "validation_accuracy": 0.6})
    assert (best.step, best.accuracy) == (10, 0.6)
    state = fresh(training())
    state.step, state.validation = 10, {"step": 10, "accuracy": 0.5}  # done again by another number of processes
    best(state, {})
    assert (best.step, best.accuracy) == (10, 0.6)


def test_weights_that_version_0_1_0_kept_are_the_best_of_the_rows(tmp_path: Path) -> None:
    best = kept(tmp_path, [(5, 0.4), (10, 0.6), (15, 0.6), (20, 0.5)], {"job": "early-stopping"})
    assert (best.step, best.accuracy) == (10, 0.6)
