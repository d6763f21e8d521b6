"""On CUDA a step is judged when the next has begun; a bad one still never gets into a checkpoint. Here, on the CPU."""

import signal
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.train.small import batches, fresh, save_checkpoint, training, update
from vitrail.core.errors import Interrupted
from vitrail.core.progress import Bar
from vitrail.data.loader.batch import Batch
from vitrail.train import loop
from vitrail.train.callbacks import Save
from vitrail.train.checkpoint import checkpoint_steps, restore_checkpoint
from vitrail.train.divergence import LossSpike
from vitrail.train.loop import fit
from vitrail.train.step import Metrics, TrainState

CONFIG = training(steps=20)


@pytest.fixture(autouse=True)
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "checks_late", lambda device: True)


def run(folder: Path, bad: int, save_every: int = 5, signal_at: int | None = None) -> tuple[TrainState, list[int]]:
    """Trains until the update after `bad` steps has a loss that is no number. Returns the steps that were begun."""
    state, begun = fresh(CONFIG), list[int]()

    def breaking(state: TrainState, batch: Batch) -> Metrics:
        begun.append(state.step)
        if state.step == signal_at:
            signal.raise_signal(signal.SIGTERM)
        metrics = update(state, batch, CONFIG)
        if begun[-1] == bad:
            return metrics._replace(loss=torch.tensor(float("nan")))
        return metrics

    def save(state: TrainState) -> None:
        save_checkpoint(folder, state)

    fit(
        state,
        batches(CONFIG),
        breaking,
        steps=CONFIG.steps,
        callbacks=[Save(save_every, save)],
        save=save,
    )
    return state, begun


def test_a_bad_step_is_found_one_step_later(tmp_path: Path) -> None:
    with pytest.raises(LossSpike) as found:
        run(tmp_path, bad=7)
    assert found.value.step == 7
    assert checkpoint_steps(tmp_path) == [5]


def test_a_bad_step_before_a_save_is_found_before_it(tmp_path: Path) -> None:
    with pytest.raises(LossSpike) as found:
        run(tmp_path, bad=9)  # the update that makes step 10, which is to be saved
    assert found.value.step == 9
    assert checkpoint_steps(tmp_path) == [5]


def test_the_last_step_is_judged(tmp_path: Path) -> None:
    with pytest.raises(LossSpike) as found:
        run(tmp_path, bad=19, save_every=100)
    assert found.value.step == 19
    assert checkpoint_steps(tmp_path) == []


def test_a_bad_step_is_not_saved_after_a_signal(tmp_path: Path) -> None:
    with pytest.raises(LossSpike):
        run(tmp_path, bad=6, signal_at=6)
    assert checkpoint_steps(tmp_path) == [5]
    with pytest.raises(Interrupted):
        run(tmp_path / "good", bad=100, signal_at=6)
    assert checkpoint_steps(tmp_path / "good") == [5, 7]


def test_what_is_usual_goes_on_after_a_restart(tmp_path: Path) -> None:
    state, _ = run(tmp_path, bad=100)
    assert len(state.losses) == 20
    again = fresh(CONFIG)
    assert restore_checkpoint(tmp_path, again)
    assert list(again.losses) == list(state.losses)
    assert again.losses.maxlen == state.losses.maxlen


def test_the_copy_of_a_loss_is_awaited_on_the_stream_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[object] = []

    class Event(torch.cuda.Event):
        def __new__(cls) -> "Event":
            return object.__new__(cls)

        def __init__(self) -> None: ...

        def record(self, stream: object = None) -> None:
            recorded.append(stream)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    with FakeTensorMode():
        numbers, there = torch.zeros(2, device="cuda:1"), torch.zeros(2)
        monkeypatch.setattr(torch, "empty_like", lambda *_, **options: there)  # memory is pinned on CUDA alone
        loop._sent(numbers)
    assert recorded == ["stream of cuda:1"]


def test_what_is_shown_is_what_was_checked_and_nothing_is_read_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str | None] = []

    class Given(list[Batch]):
        steps, waited = range(20), 0.0

    state, given, read = fresh(CONFIG), Given(batches(CONFIG)), list[torch.Tensor]()
    monkeypatch.setattr(Bar, "advance", lambda self, note=None: notes.append(note))
    for name in ("__float__", "__int__", "__bool__", "item"):
        monkeypatch.setattr(torch.Tensor, name, lambda number: read.append(number) or pytest.fail("read"))

    def known(state: TrainState, batch: Batch) -> Metrics:
        state.step += 1
        return Metrics(torch.tensor(1.0 * state.step), {"accuracy": torch.tensor(3)}, 12, torch.tensor(1.0), 0.1)

    fit(state, given, known, steps=20, save=lambda _: None)
    assert not read
    assert [(i + 1, note.split("  ")[:2]) for i, note in enumerate(notes) if note] == [
        (10, ["loss 9.000", "accuracy 25%"]),  # of the step before, which the device has done
        (20, ["loss 20.000", "accuracy 25%"]),
    ]
