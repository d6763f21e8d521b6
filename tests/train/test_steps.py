"""One step of training: accumulation, dropout, clipping; and the loop around it."""

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from tests.train.small import MODEL, advance, assert_equal, batches, everything, fresh, training, update, updater
from vitrail.core.errors import BadInput, Interrupted
from vitrail.data.loader.batch import Batch, BrokenExample
from vitrail.train import loop
from vitrail.train.callbacks import Callback, Every
from vitrail.train.config import TrainConfig
from vitrail.train.divergence import LossSpike
from vitrail.train.loop import Meter, fit
from vitrail.train.optim import Momentum
from vitrail.train.schedule import Cosine
from vitrail.train.step import Metrics, TrainState


def flat(state: TrainState) -> Tensor:
    return torch.cat([p.detach().flatten() for p in state.model.parameters()])


def test_training_learns() -> None:
    config = training(steps=150, batch=64, optimizer=replace(training().optimizer, lr=5e-3))
    state = fresh(config)
    rows = [update(state, batch, config) for batch in batches(config)]
    losses = [float(row.loss) for row in rows]
    assert sum(losses[-10:]) / 10 < 0.6 * sum(losses[:10]) / 10  # measured 2.27 -> 0.95
    assert rows[0].learning_rate == 0
    assert state.step == 150


@pytest.mark.parametrize("micro", [1, 5, 12, 100])
def test_accumulated_gradients_equal_the_whole_batch(micro: int) -> None:
    base = training(optimizer=Momentum(lr=1.0), schedule=Cosine(), clip=None)
    whole, parts = fresh(base), fresh(base)
    (batch,) = batches(base, stop=1)
    one = update(whole, batch, base)
    other = update(parts, batch, replace(base, micro_batch=micro))
    assert (flat(whole) - flat(parts)).abs().max() < 1e-5  # measured 1.3e-7
    assert float(other.loss) == pytest.approx(float(one.loss), rel=1e-5)
    assert float(other.gradient_norm) == pytest.approx(float(one.gradient_norm), rel=1e-5)
    assert int(other.sums["accuracy"]) == int(one.sums["accuracy"])
    assert one.images == other.images == 12


def test_dropout_is_keyed_by_seed_and_step() -> None:
    config = training(schedule=Cosine(), optimizer=Momentum(lr=0.1))
    model = replace(MODEL, dropout=0.5)
    (batch,) = batches(config, stop=1)

    def after(seed: int, step: int) -> Tensor:
        state = fresh(config, model)
        state.step = step
        torch.randn(7)  # what others draw does not matter
        update(state, batch, replace(config, seed=seed, steps=10**9))  # so long that the rate stays the same
        return flat(state)

    assert torch.equal(after(0, 4), after(0, 4))
    assert not torch.equal(after(0, 4), after(0, 5))
    assert not torch.equal(after(0, 4), after(1, 4))


def test_clipping_limits_the_global_norm() -> None:
    lr, limit = 0.5, 0.01
    config = training(optimizer=Momentum(lr=lr), schedule=Cosine(), clip=limit)
    state = fresh(config)
    before = flat(state)
    (batch,) = batches(config, stop=1)
    metrics = update(state, batch, config)
    assert float(metrics.gradient_norm) > 10 * limit  # reported as it was
    assert float((flat(state) - before).norm()) == pytest.approx(lr * limit, rel=1e-4)  # measured 1.2e-7
    free = fresh(config)
    unclipped = update(free, batch, replace(config, clip=None))
    assert float((flat(free) - before).norm()) == pytest.approx(lr * float(unclipped.gradient_norm), rel=1e-4)


def test_a_rate_of_zero_changes_nothing() -> None:
    config = training(optimizer=replace(training().optimizer, weight_decay=1.0))
    state = fresh(config)
    before = flat(state)
    advance(state, config, 1)  # the first step of a warm-up
    assert torch.equal(flat(state), before)
    advance(state, config, 1)
    assert not torch.equal(flat(state), before)


def test_the_same_run_twice_is_the_same_bit_for_bit() -> None:
    config = training(average=0.9)
    states = [fresh(config, replace(MODEL, dropout=0.1)) for _ in range(2)]
    for state in states:
        advance(state, config, 5)
    assert_equal(everything(states[0]), everything(states[1]))


# the loop


def run(config: TrainConfig, callbacks: Sequence[Callback], update_with: object = None) -> TrainState:
    state = fresh(config)
    fit(
        state,
        batches(config),
        update_with or updater(config),  # type: ignore[arg-type]
        steps=config.steps,
        callbacks=callbacks,
        save=lambda _: None,
    )
    return state


def test_tasks_run_when_due_and_after_the_last_step() -> None:
    due: dict[int, list[int]] = {3: [], 5: [], 100: []}
    order: list[str] = []

    def note(steps: int, name: str) -> Every:
        def task(state: TrainState) -> None:
            due[steps].append(state.step)
            order.append(name)

        return Every(steps, task)

    state = run(training(steps=10), [note(3, "a"), note(5, "b"), note(100, "c")])
    assert due == {3: [3, 6, 9, 10], 5: [5, 10], 100: [10]}
    assert order[-3:] == ["a", "b", "c"]
    assert state.step == 10
    assert 0 < state.data_wait_seconds <= state.seconds


def test_the_clock_stands_during_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = 0.0

    def long_task(_: TrainState) -> None:
        nonlocal passed
        passed += 1000

    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: perf_counter() + passed))
    assert run(training(steps=3), [Every(1, long_task)]).seconds < 1000
    counted = run(training(steps=3), [Every(1, long_task, pause_clock=False)])
    assert 2000 <= counted.seconds < 3000  # the task after the last step comes after the last reading


def test_a_signal_during_a_step_saves_it_and_stops() -> None:
    config, saved = training(steps=10), []
    plain = updater(config)

    def signalled(state: TrainState, batch: Batch) -> Metrics:
        if state.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(state, batch)  # type: ignore[no-any-return]

    state = fresh(config)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as raised:
        fit(
            state,
            batches(config),
            signalled,
            steps=10,
            save=lambda s: saved.append((s.step, everything(s))),
        )
    assert raised.value.number == signal.SIGTERM
    assert [step for step, _ in saved] == [4]  # the step was finished first
    undisturbed = fresh(config)
    advance(undisturbed, config, 4)
    assert_equal(saved[0][1], everything(undisturbed))
    assert signal.getsignal(signal.SIGTERM) is handler  # and signals mean again what they meant


def test_a_loss_that_is_no_number_is_caught_at_its_step() -> None:
    config = training(steps=10)
    plain = updater(config)

    def exploding(state: TrainState, batch: Batch) -> Metrics:
        metrics: Metrics = plain(state, batch)
        return metrics._replace(loss=metrics.loss * float("nan")) if state.step == 4 else metrics

    state = fresh(config)
    with pytest.raises(LossSpike, match="step 3: the loss is nan") as caught:
        fit(state, batches(config), exploding, steps=10, save=lambda _: None)
    assert caught.value.step == 3
    assert caught.value.keys == next(iter(batches(config, 3, 4))).keys


def test_a_step_that_is_to_be_left_out_changes_nothing_but_the_count() -> None:
    config = training(steps=6)
    state, asked = fresh(config), []
    state.skipped.append(2)

    def counted(state: TrainState, batch: Batch) -> Metrics:
        asked.append(state.step)
        return updater(config)(state, batch)  # type: ignore[no-any-return]

    fit(state, batches(config), counted, steps=6, save=lambda _: None)
    assert asked == [0, 1, 3, 4, 5]
    assert state.step == 6


def test_a_batch_without_a_readable_image_stops_with_a_sentence() -> None:
    empty = Batch.of(torch.empty(0, 3, 8, 8, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
    empty.broken.append(BrokenExample(4, "x", "cut off"))
    config = training(steps=2)
    loader = batches(config)
    loader._batches = lambda: iter([empty])  # type: ignore[method-assign]
    with pytest.raises(BadInput, match="none of the images of its batch can be read: x: cut off"):
        fit(fresh(config), loader, updater(config), steps=2, save=lambda _: None)


def test_the_meter_averages_since_it_was_last_read() -> None:
    state = fresh(training())
    meter = Meter(state)

    def row(loss: float, correct: int) -> Metrics:
        return Metrics(torch.tensor(loss), {"accuracy": torch.tensor(correct)}, 8, torch.tensor(1.5), 0.01)

    meter.add(row(1.0, 2))
    meter.add(row(3.0, 4))
    state.seconds, state.data_wait_seconds = 4.0, 1.0
    first = meter.read(state)
    assert first["loss"] == 2.0
    assert first["accuracy"] == 6 / 16
    assert first["images_per_second"] == 4.0
    assert first["waiting"] == 0.25
    meter.add(row(5.0, 8))
    state.seconds = 6.0
    assert meter.read(state)["loss"] == 5.0
