"""fit(state, batches, ...): the only loop. What happens now and then is a list that the caller writes."""

import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import NamedTuple

import torch

from vitrail.core import dist
from vitrail.core.device import synchronize
from vitrail.core.errors import BadInput, Interrupted
from vitrail.core.progress import progress
from vitrail.data.batches import Batch, Batches
from vitrail.train.health import Health
from vitrail.train.step import Metrics, TrainState
from vitrail.train.watchdog import Watchdog


@dataclass(frozen=True)
class Every:
    """A task for every `steps` steps and after the last one. While it is `aside` the clock of training stands."""

    steps: int
    task: Callable[[TrainState], None]
    aside: bool = True


class SignalWatch:
    """Remembers SIGINT and SIGTERM until the step is finished; a second one stops at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._old: dict[int, object] = {}

    def __enter__(self) -> "SignalWatch":
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._old[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: whoever runs us decides about signals
                break
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number


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
    health: Health | None = None,
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
    health = health or Health()
    stop: int | None = None
    tasks = list(every)
    device = next(state.model.parameters()).device
    meter.start(state)
    late: _Late | None = None
    with SignalWatch() as watch, Watchdog(stall) as dog, progress(title, steps, state.step) as bar:
        before, waited = time.perf_counter(), batches.waited
        for batch in batches:
            state.broken.add(batch.broken)
            if not len(batch.labels):
                raise BadInput(f"step {state.step}: none of the images of its batch can be read: {batch.broken[:3]}")
            metrics = None
            if state.step in state.skipped:
                state.step += 1
            else:
                begun = state.step
                metrics = update(state, batch)
                meter.add(metrics)
                now_known = _Late(begun, metrics, batch.keys)
                # on CUDA one step late: its numbers are there while the device still works on this one
                judged, late = (late, now_known) if device.type == "cuda" else (now_known, None)
                stop = _agree(watch.received, judged, health)
            due = [t for t in tasks if state.step % t.steps == 0 or state.step == steps]
            if any(t.aside for t in due):
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


class _Late(NamedTuple):
    """A step whose numbers are still to be looked at."""

    step: int
    metrics: Metrics
    keys: list[str]


def _agree(received: int | None, judged: _Late | None, health: Health) -> int | None:
    """The signal that any process has received, after all have seen the same loss; raises BadStep."""
    loss = float(judged.metrics.loss) if judged is not None else 0.0
    world = dist.world()
    if world.size > 1:
        loss, number = dist.summed(torch.tensor([loss, float(received or 0)], dtype=torch.float64)).tolist()
        if number:
            received = signal.SIGINT if received is None else received
    if judged is not None:
        health.check(judged.step, loss, float(judged.metrics.gradient_norm), judged.keys)
    return received


def _note(state: TrainState, metrics: Metrics) -> str:
    rate = state.step * metrics.images / state.seconds if state.seconds else 0.0
    share = state.waited / state.seconds if state.seconds else 0.0
    accuracy = float(metrics.correct) / max(1, metrics.images)
    loss = float(metrics.loss) * dist.world().size  # about: from this process's part
    return f"loss {loss:.3f}  accuracy {accuracy:.0%}  {rate:,.0f} images/s  waiting {share:.0%}"
