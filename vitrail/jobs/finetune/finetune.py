"""Fine-tuning: one run, or the paper's protocol where there is something to choose, to repeat or to fit into a time."""

from collections.abc import Sequence
from pathlib import Path

from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.jobs.finetune.run import Finetune, finetune_once
from vitrail.jobs.finetune.sweep import sweep
from vitrail.records.finetune import FinetuneResult
from vitrail.records.run import RunResult
from vitrail.train.callbacks import Callback
from vitrail.weights.pretrained import PretrainedModel

__all__ = ["Finetune", "finetune"]


def finetune(
    config: Finetune,
    folder: str | Path,
    machine: Machine | None = None,
    recipe: str | None = None,
    start: PretrainedModel | None = None,
    *,
    callbacks: Sequence[Callback] = (),
) -> RunResult | FinetuneResult:
    """Fine-tunes in `folder`, or continues there, and returns the result (docs/files.md: result.json).

    Without a sweep, repeats and a budget it is a single run in the folder itself. `accuracy`, `interval` and `count`
    are those of the test images in both cases; of several final runs the mean, and its interval over seeds.
    `start`: the model of `config.init`, where it is read already.

    Raises:
        BadInput: a model, data, sizes or a folder that cannot be used.
        Interrupted: after a signal, once the run is saved.
    """
    if config.aim is not None:
        raise BadInput("an aim is of finetune auto; a recipe has class_weights, sampling.balanced and logit adjustment")
    folder = Path(folder)
    if config.sweep or config.repeats or config.budget:
        return sweep(config, folder, machine, recipe, start, callbacks)
    return finetune_once(config, folder, machine, recipe, start=start, callbacks=callbacks)
