"""What happens now and then while training: log, evaluate, keep the best weights, save; and what a user adds.

`fit` calls each callback after every `every` steps and after the last step, in the order of the list, in every process.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vitrail.core import dist
from vitrail.core.files import read_json
from vitrail.core.progress import say
from vitrail.core.run import RunFolder
from vitrail.models.build import Model
from vitrail.models.objective import TrainedModel
from vitrail.train.step import TrainState
from vitrail.train.weight_averaging import use_averaged
from vitrail.weights.tensors import read_safetensors


class Callback:
    """Something done now and then in a training run. Subclass it, and pass it in `callbacks=[...]`:

        class Print(vitrail.Callback):
            every = 100

            def __call__(self, state, metrics):
                print(state.step, metrics["loss"], state.validation)

    A callback that only looks leaves an exactly resumable run as it is. One that sets `state.stopped` ends training
    after this step. After an interruption, and after going back from a loss that jumped, steps are done again.
    """

    every: int = 1  # steps
    pause_clock: bool = True  # its time does not count as training; False: it does, and the device is not waited for
    needs_metrics: bool = True  # False: `metrics` is empty, and no sum over the device and the processes is made for it

    def __call__(self, state: TrainState, metrics: dict[str, float]) -> None:
        """Called when due.

        Args:
            state: of the run, after `state.step` updates.
            metrics: means since the last call of this callback, over all processes: `loss`, `accuracy`,
                `images_per_second`, `waiting` and `copying` (shares of the time); `learning_rate` and
                `gradient_norm` of the last step. Empty where every step since then was skipped.
        """
        raise NotImplementedError(f"{type(self).__name__} has no __call__(state, metrics)")


class Every(Callback):
    """A function of the state as a callback."""

    needs_metrics = False

    def __init__(self, every: int, function: Callable[[TrainState], None], pause_clock: bool = True):
        self.every, self.pause_clock, self._function = every, pause_clock, function

    def __call__(self, state: TrainState, metrics: dict[str, float]) -> None:
        self._function(state)


class Log(Callback):
    """Appends a row of kind "train" to metrics.jsonl: the metrics, and `usage(state, images per second)`."""

    pause_clock = False

    def __init__(
        self, every: int, run: RunFolder, epoch: float, usage: Callable[[TrainState, float], Mapping[str, float | None]]
    ):
        """`epoch`: the share of an epoch that a step is."""
        self.every, self._run, self._epoch, self._usage = every, run, epoch, usage

    def __call__(self, state: TrainState, metrics: dict[str, float]) -> None:
        if metrics:
            row = {"kind": "train", "step": state.step, "epoch": state.step * self._epoch, **metrics}
            row |= self._usage(state, metrics["images_per_second"])
            self._run.log({**row, "seconds": state.seconds, "session": state.restarts})


class Evaluate(Callback):
    """Evaluates the model, averaged where its weights are, into `state.validation` and a row of kind "validation"."""

    needs_metrics = False

    def __init__(self, every: int, run: RunFolder, evaluate: Callable[[TrainedModel], Mapping[str, float]]):
        """`evaluate` returns `accuracy`, `loss` and `count`, the same in every process; without labels others."""
        self.every, self._run, self._evaluate = every, run, evaluate

    def __call__(self, state: TrainState, metrics: dict[str, float]) -> None:
        with use_averaged(state.model, state.average):
            state.validation = {"step": state.step, **self._evaluate(state.model)}
        self._run.log({"kind": "validation", **state.validation, "seconds": state.seconds})


class KeepBest(Callback):
    """Keeps the weights of the highest validation accuracy (or mean average precision), the earliest of equal ones.

    They are a bundle in `folder`. It belongs after the Evaluate with the same `every`. The bundle's provenance says
    step and accuracy, so that a run that goes on knows them. `patience`: training ends after this many evaluations in a
    row that are not better.
    """

    needs_metrics = False

    def __init__(
        self,
        every: int,
        folder: Path,
        save: Callable[[Path, dict[str, Any]], Any],
        rows: list[dict[str, Any]],
        patience: int | None = None,
    ):
        """
        Args:
            save: writes a bundle of the model to a folder, whole or not at all, with these facts in its provenance.
            rows: of metrics.jsonl so far, up to the checkpoint from which the run goes on.
        """
        self.every, self._folder, self._save, self._patience = every, folder, save, patience
        known = _best_so_far(folder, rows) if dist.world().first else None
        self.step, self.accuracy, self._not_better = dist.gathered_json(known)[0]

    def __call__(self, state: TrainState, metrics: dict[str, float]) -> None:
        assert state.validation is not None
        assert state.validation["step"] == state.step, "KeepBest comes after the Evaluate of the same step"
        measure = _measure(state.validation)
        accuracy = state.validation[measure]
        if accuracy > self.accuracy:
            self.step, self.accuracy, self._not_better = state.step, accuracy, 0
            if dist.world().first:
                self._save(self._folder, {"step": state.step, f"validation_{measure}": accuracy})
        elif state.step > self.step:  # before it, a run does again what it did before it was interrupted
            self._not_better += 1
            if self._patience is not None and self._not_better >= self._patience:
                state.stopped = True
                if dist.world().first:
                    say(
                        f"step {state.step}: {self._not_better} evaluations without a better one than "
                        f"{self.accuracy:.1%} at step {self.step}; training ends"
                    )

    def restore(self, model: Model) -> None:
        """Puts the best weights into the model; every process must call it."""
        dist.barrier()  # the first process has written them
        model.load_state_dict(read_safetensors(self._folder / "model.safetensors"))


def _best_so_far(folder: Path, rows: list[dict[str, Any]]) -> tuple[int, float, int]:
    """Step and accuracy of the bundle in `folder`, and how many evaluations came after it; (0, -1, 0) without one."""
    judged = [row for row in rows if row["kind"] == "validation"]
    if not (folder / "config.json").exists():
        return 0, -1.0, 0
    provenance = read_json(folder / "config.json")["provenance"]
    known = [
        provenance[key] for key in ("validation_mean_average_precision", "validation_accuracy") if key in provenance
    ]
    if known:
        step, accuracy = provenance["step"], known[0]
    else:  # of version 0.1.0, which knew it from the rows alone
        best = max(judged, key=lambda row: (row["accuracy"], -row["step"]), default={"step": 0, "accuracy": -1.0})
        step, accuracy = best["step"], best["accuracy"]
    return step, accuracy, sum(row["step"] > step for row in judged)


def _measure(validation: Mapping[str, Any]) -> str:
    """What the best is judged by: the accuracy, or of several classes an image the mean average precision."""
    return "mean_average_precision" if "mean_average_precision" in validation else "accuracy"


class Save(Callback):
    """Saves a checkpoint; `save` may return before it is written."""

    needs_metrics = False

    def __init__(self, every: int, save: Callable[[TrainState], None]):
        self.every, self._save = every, save

    def __call__(self, state: TrainState, metrics: dict[str, float]) -> None:
        self._save(state)
