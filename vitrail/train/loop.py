"""fit(state, batches, ...): the only loop. What happens now and then is a list of callbacks that the caller writes."""

import signal
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from vitrail.core import dist
from vitrail.core.device import synchronize
from vitrail.core.errors import BadInput, Interrupted
from vitrail.core.progress import progress
from vitrail.core.signals import SignalWatch
from vitrail.core.watchdog import Watchdog
from vitrail.data.loader.batch import Batch
from vitrail.data.loader.loader import Batches
from vitrail.train.callbacks import Callback
from vitrail.train.divergence import SpikeDetector
from vitrail.train.objective import summary
from vitrail.train.step import Metrics, TrainState


def fit(
    state: TrainState,
    batches: Batches,
    update: Callable[[TrainState, Batch], Metrics],
    *,
    steps: int,
    callbacks: Iterable[Callback] = (),
    save: Callable[[TrainState], None],
    stall: float = 0.0,
    title: str = "training",
) -> None:
    """Updates until `steps` are done or a callback sets `state.stopped`; after each step, the callbacks that are due.

    Args:
        save: called after a signal, before Interrupted is raised.
        stall: seconds without a step after which a run of several processes ends with all stacks; 0: never.

    Raises:
        Interrupted: after a SIGINT or SIGTERM in any process, once the step is finished and saved.
        LossSpike: the loss or the gradient is NaN or infinite, or the loss has jumped.
    """
    detector = SpikeDetector(state.losses)
    listed = [(callback, Meter(state)) for callback in callbacks]
    device = next(state.model.parameters()).device
    pending: PendingCheck | None = None
    checked: PendingCheck | None = None
    with SignalWatch() as signals, Watchdog(stall) as watchdog, progress(title, steps, state.step) as bar:
        before, waited = time.perf_counter(), batches.waited
        for batch in batches:
            state.broken.add(batch.broken)
            if not len(batch.labels):
                names = "; ".join(f"{example.key}: {example.reason}" for example in batch.broken[:3])
                raise BadInput(f"step {state.step}: none of the images of its batch can be read: {names}")
            metrics = None
            to_check, pending = [pending] if pending is not None else [], None
            if state.step in state.skipped:
                state.step += 1
            else:
                begun = state.step
                metrics = update(state, batch)
                for callback, meter in listed:
                    if callback.needs_metrics:
                        meter.add(metrics)
                pending = PendingCheck.of(begun, metrics, batch.keys, signals.received)
            due = [(c, meter) for c, meter in listed if state.step % c.every == 0 or state.step == steps]
            pause = any(callback.pause_clock for callback, _ in due)
            # one step late where the device works by itself; but never after something was made of a bad update
            if pending is not None and (pause or state.step == steps or not checks_late(device)):
                to_check, pending = [*to_check, pending], None
            stop = sync_stop_and_check(signals.received, to_check, detector)
            if stop is not None and pending is not None:
                sync_stop_and_check(None, [pending], detector)
                to_check, pending = [*to_check, pending], None
            checked = to_check[-1] if to_check else checked
            if pause:
                synchronize(device)
            now = time.perf_counter()
            state.seconds += now - before
            state.data_wait_seconds += batches.waited - waited
            before, waited = now, batches.waited
            for callback, meter in due:
                callback(state, meter.read(state))
                watchdog.beat()
                if callback.pause_clock:
                    before = time.perf_counter()
            watchdog.beat()
            shown = checked is not None and checked.images > 0 and (state.step % 10 == 0 or state.step == steps)
            bar.advance(_note(state, checked) if checked is not None and shown else None)
            if state.stopped:
                sync_stop_and_check(None, [] if pending is None else [pending], detector)
                for callback, meter in listed:  # this was the last step, after all
                    if (callback, meter) not in due:
                        callback(state, meter.read(state))
                return
            if stop is not None and state.step < steps:
                save(state)
                raise Interrupted(stop)


class Meter:
    """Means of the metrics since they were last read."""

    def __init__(self, state: TrainState) -> None:
        self._since: list[Metrics] = []
        self._mark(state)  # time before this belongs to another session

    def add(self, metrics: Metrics) -> None:
        """Notes a step; nothing is read from the device."""
        self._since.append(metrics)

    def read(self, state: TrainState) -> dict[str, float]:
        """Loss, what the objective counts, and rates since the last call, over all processes; empty without a step."""
        if not self._since:
            return {}
        names = self._since[0].sums
        each = [torch.stack([m.loss for m in self._since]).double().sum()]
        each += [torch.stack([m.sums[name] for m in self._since]).double().sum(dim=0) for name in names]
        each += [each[0].new_tensor(sum(m.images for m in self._since))]
        found = dist.summed(torch.cat([one.flatten() for one in each])).split([one.numel() for one in each])
        total, images = float(found[0]), int(found[-1])
        seconds = state.seconds - self._seconds
        waiting = state.data_wait_seconds - self._data_wait_seconds
        copying = state.transfer_seconds - self._transfer_seconds
        count, last = len(self._since), self._since[-1]
        self._since = []
        self._mark(state)
        return {
            "loss": total / count,
            **summary(dict(zip(names, found[1:-1], strict=True)), images),
            "learning_rate": last.learning_rate,
            "gradient_norm": float(last.gradient_norm),
            "images_per_second": images / seconds if seconds else 0.0,
            "waiting": waiting / seconds if seconds else 0.0,
            "copying": copying / seconds if seconds else 0.0,
        }

    def _mark(self, state: TrainState) -> None:
        self._seconds = state.seconds
        self._data_wait_seconds, self._transfer_seconds = state.data_wait_seconds, state.transfer_seconds


def checks_late(device: torch.device) -> bool:
    """Whether a step is checked when the next one has been given to the device, which then never waits for us."""
    return device.type == "cuda"


class PendingCheck(NamedTuple):
    """The loss and the gradient norm of a step, on their way to the CPU to be checked; they are there after `ready`.

    So is whether any process was signalled before: that travels with the loss, in one sum over processes on the device,
    and nobody waits for it by itself. Where the objective counts right answers these come along, to be shown.
    """

    step: int
    numbers: Tensor  # loss of the global batch, signalled processes, gradient norm, and perhaps right answers
    ready: torch.cuda.Event | None
    keys: list[str]
    images: int

    @staticmethod
    def of(step: int, metrics: Metrics, keys: list[str], received: int | None) -> "PendingCheck":
        """Starts the sum and the copy, which come after what the device was given so far, and waits for neither."""
        loss = metrics.loss.double()
        shared = dist.summed(torch.stack([loss, torch.full_like(loss, float(received is not None))]))
        own = [metrics.gradient_norm] + ([metrics.sums["accuracy"]] if "accuracy" in metrics.sums else [])
        numbers, ready = torch.cat([shared, torch.stack([number.double() for number in own])]), None
        if numbers.is_cuda:
            numbers, ready = _sent(numbers)
        return PendingCheck(step, numbers, ready, keys, metrics.images)

    def read(self) -> tuple[float, bool, float]:
        """Loss of the global batch, whether any process was signalled before, norm of the whole gradient."""
        if self.ready is not None:
            self.ready.synchronize()
        loss, signalled, norm, *_ = self.numbers.tolist()
        return loss, signalled > 0, norm

    def accuracy(self) -> float | None:
        """Of this process's images, once `read`; None where nothing is counted."""
        _, _, _, *right = self.numbers.tolist()
        return right[0] / max(1, self.images) if right else None


def _sent(numbers: Tensor) -> tuple[Tensor, torch.cuda.Event]:
    """A copy on the CPU, which is there after the event."""
    there = torch.empty_like(numbers, device="cpu", pin_memory=True).copy_(numbers, non_blocking=True)
    ready = torch.cuda.Event()
    ready.record(torch.cuda.current_stream(numbers.device))  # the current one may be of another device
    return there, ready


def sync_stop_and_check(received: int | None, steps: list[PendingCheck], detector: SpikeDetector) -> int | None:
    """Checks the losses, the same in every process, and returns the signal that any process has received.

    Of several processes all hear of a signal with the numbers of the same step: none of them goes by its own.

    Raises:
        LossSpike: in all processes.
    """
    found = [step.read() for step in steps]
    if dist.world().size > 1:
        heard = signal.SIGINT if received is None else received
        received = heard if any(signalled for _, signalled, _ in found) else None
    for step, (loss, _, norm) in zip(steps, found, strict=True):
        detector.check(step.step, loss, norm, step.keys)
    return received


def _note(state: TrainState, checked: PendingCheck) -> str:
    """Of the last step that was checked: on CUDA the one before."""
    rate = state.step * checked.images / state.seconds if state.seconds else 0.0
    share = state.data_wait_seconds / state.seconds if state.seconds else 0.0
    right = checked.accuracy()
    accuracy = "" if right is None else f"accuracy {right:.0%}  "
    return f"loss {state.losses[-1]:.3f}  {accuracy}{rate:,.0f} images/s  waiting {share:.0%}"
