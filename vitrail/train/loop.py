"""fit(state, batches, ...): the only loop. What happens now and then is a list that the caller writes."""

import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vitrail.core import dist
from vitrail.core.device import synchronize
from vitrail.core.errors import BadInput, Interrupted
from vitrail.core.progress import progress
from vitrail.core.signals import SignalWatch
from vitrail.core.watchdog import Watchdog
from vitrail.data.loader.loader import Batch, Batches
from vitrail.train.divergence import SpikeDetector
from vitrail.train.step import Metrics, TrainState


@dataclass(frozen=True)
class Every:
    """A task for every `steps` steps and after the last one. While it is `aside` the clock of training stands."""

    steps: int
    task: Callable[[TrainState], None]
    aside: bool = True


class Meter:
    """Means of the metrics since they were last read."""

    def __init__(self) -> None:
        self._since: list[Metrics] = []
        self._seconds = self._waited = self._copied = 0.0

    def add(self, metrics: Metrics) -> None:
        """Notes a step; nothing is read from the device."""
        self._since.append(metrics)

    def read(self, state: TrainState) -> dict[str, float]:
        """Loss, accuracy, rates since the last call, over all processes; nothing after a step that was left out."""
        if not self._since:
            return {}
        sums = torch.stack(
            [
                torch.stack([m.loss for m in self._since]).double().sum(),
                torch.stack([m.correct for m in self._since]).double().sum(),
                self._since[0].loss.new_tensor(sum(m.images for m in self._since), dtype=torch.float64),
            ]
        )
        total, correct, images = dist.summed(sums).tolist()
        mean = total / len(self._since)
        seconds, waited = state.seconds - self._seconds, state.waited - self._waited
        copied = state.copied - self._copied
        self._seconds, self._waited, self._copied = state.seconds, state.waited, state.copied
        last = self._since[-1]
        self._since = []
        return {
            "loss": mean,
            "accuracy": correct / images,
            "learning_rate": last.learning_rate,
            "gradient_norm": float(last.gradient_norm),
            "images_per_second": images / seconds if seconds else 0.0,
            "waiting": waited / seconds if seconds else 0.0,
            "copying": copied / seconds if seconds else 0.0,
        }

    def start(self, state: TrainState) -> None:
        """Time before this is not of this session."""
        self._seconds, self._waited, self._copied = state.seconds, state.waited, state.copied


def fit(
    state: TrainState,
    batches: Batches,
    update: Callable[[TrainState, Batch], Metrics],
    *,
    steps: int,
    meter: Meter,
    every: Iterable[Every],
    save: Callable[[TrainState], None],
    health: SpikeDetector | None = None,
    stall: float = 0.0,
    title: str = "training",
) -> None:
    """Updates until `steps` are done; after each, the tasks that are due, in order.

    Args:
        save: called after a signal, before Interrupted is raised.
        stall: seconds without a step after which a run of several processes ends with all stacks; 0: never.

    Raises:
        Interrupted: after a SIGINT or SIGTERM in any process, once the step is finished and saved.
        BadStep: the loss or the gradient is no number any more, or the loss has jumped.
    """
    health = health or SpikeDetector(state.losses)
    tasks = list(every)
    device = next(state.model.parameters()).device
    meter.start(state)
    late: _Judged | None = None
    with SignalWatch() as watch, Watchdog(stall) as dog, progress(title, steps, state.step) as bar:
        before, waited = time.perf_counter(), batches.waited
        for batch in batches:
            state.broken.add(batch.broken)
            if not len(batch.labels):
                names = "; ".join(f"{example.key}: {example.reason}" for example in batch.broken[:3])
                raise BadInput(f"step {state.step}: none of the images of its batch can be read: {names}")
            metrics = None
            pending, late = [late] if late is not None else [], None
            if state.step in state.skipped:
                state.step += 1
            else:
                begun = state.step
                metrics = update(state, batch)
                meter.add(metrics)
                late = _Judged.of(begun, metrics, batch.keys)
            due = [t for t in tasks if state.step % t.steps == 0 or state.step == steps]
            aside = any(t.aside for t in due)
            # one step late where the device works by itself; but never after something was made of a bad update
            if late is not None and (aside or state.step == steps or not judges_late(device)):
                pending, late = [*pending, late], None
            stop = _agree(watch.received, pending, health)
            if stop is not None and late is not None:
                _agree(None, [late], health)
                late = None
            if aside:
                synchronize(device)
            now = time.perf_counter()
            state.seconds += now - before
            state.waited += batches.waited - waited
            before, waited = now, batches.waited
            for task in due:
                task.task(state)
                dog.beat()
                if task.aside:
                    before = time.perf_counter()
            dog.beat()
            shown = metrics is not None and (state.step % 10 == 0 or state.step == steps)
            bar.advance(_note(state, metrics) if metrics is not None and shown else None)
            if stop is not None and state.step < steps:
                save(state)
                raise Interrupted(stop)


def judges_late(device: torch.device) -> bool:
    """Whether a step is judged when the next has been given to the device, so that it never waits for us."""
    return device.type == "cuda"


class _Judged(NamedTuple):
    """A step whose loss and gradient norm are still to be looked at: on their way to the CPU, `ready` when there."""

    step: int
    numbers: Tensor
    ready: torch.cuda.Event | None
    keys: list[str]

    @staticmethod
    def of(step: int, metrics: Metrics, keys: list[str]) -> "_Judged":
        """Starts the copy behind what the device has been given so far, and does not wait for it."""
        numbers = torch.stack([metrics.loss.double(), metrics.gradient_norm.double()])
        if not numbers.is_cuda:
            return _Judged(step, numbers, None, keys)
        there = torch.empty(2, dtype=torch.float64, pin_memory=True).copy_(numbers, non_blocking=True)
        ready = torch.cuda.Event()
        ready.record()
        return _Judged(step, there, ready, keys)

    def read(self) -> tuple[float, float]:
        """Loss of this process, and norm of the whole gradient."""
        if self.ready is not None:
            self.ready.synchronize()
        loss, norm = self.numbers.tolist()
        return loss, norm


def _agree(received: int | None, judged: list[_Judged], health: SpikeDetector) -> int | None:
    """The signal that any process has received, after all have seen the same losses; raises BadStep."""
    seen = [step.read() for step in judged]
    losses = [loss for loss, _ in seen]
    if dist.world().size > 1:
        told = torch.tensor([*losses, float(received or 0)], dtype=torch.float64)
        *losses, number = dist.summed(told).tolist()
        if number:
            received = signal.SIGINT if received is None else received
    for step, loss, (_, norm) in zip(judged, losses, seen, strict=True):
        health.check(step.step, loss, norm, step.keys)
    return received


def _note(state: TrainState, metrics: Metrics) -> str:
    rate = state.step * metrics.images / state.seconds if state.seconds else 0.0
    share = state.waited / state.seconds if state.seconds else 0.0
    accuracy = float(metrics.correct) / max(1, metrics.images)
    loss = float(metrics.loss) * dist.world().size  # about: from this process's part
    return f"loss {loss:.3f}  accuracy {accuracy:.0%}  {rate:,.0f} images/s  waiting {share:.0%}"
