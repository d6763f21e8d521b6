"""Early stopping as in figure 4: a whole pre-training on a part of the images, of which the best weights are kept.

Best is the highest accuracy on the validation images, among the steps at which they are judged.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vitrail.core.device import Machine, choose_device, choose_precision
from vitrail.core.dist import joined
from vitrail.core.errors import BadInput
from vitrail.core.run import RunFolder
from vitrail.core.seeds import generator, torch_seed
from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import Subset
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.evals.classify import evaluate
from vitrail.jobs.pretrain import Pretrain
from vitrail.jobs.training import check_training, open_training_data, run_training, with_classes
from vitrail.models.build import build
from vitrail.train.loss import head_bias
from vitrail.weights.bundle import save_bundle
from vitrail.weights.tensors import read_safetensors


@dataclass(frozen=True)
class EarlyStopping(Pretrain):
    """A pre-training whose model is the one of the best validation accuracy. Smaller sets are parts of larger ones."""

    images: int | None = None  # of the training images, as many as these of a shuffle that is always the same


def stop_early(
    config: EarlyStopping, folder: Path, machine: Machine | None = None, recipe: str | None = None
) -> dict[str, Any]:
    """Pre-trains in `folder`, or continues there; returns the result, with `best_step` and `last_accuracy` in it.

    Raises:
        BadInput: no validation images, averaged or sharded weights, or what `pretrain` refuses.
        Interrupted: after a signal, once the run is saved.
    """
    check_training(config)
    config.model.check()
    machine = machine or Machine()
    if config.validation is None:
        raise BadInput("early stopping is by validation images: give --validation DATA")
    if config.average is not None or machine.sharding != "replicated":
        raise BadInput("early stopping keeps the weights themselves: leave out --average and --sharding")
    train, validation, test = open_training_data(config)
    train = first_images(train, config.images)
    model_config = with_classes(config.model, len(train.classes))
    if not model_config.head_bias:
        model_config = replace(model_config, head_bias=head_bias(config.loss, model_config.num_classes))
    device = choose_device(machine.device)
    with joined(device), closing(_BestKept(folder, "early-stopping", config, recipe)) as run:
        if run.state == "finished":
            return run.result()
        torch.manual_seed(torch_seed(config.seed, "initialise"))
        model = build(model_config)
        preprocess = Preprocess(model_config.resolution, config.resize)
        about = {"job": "early-stopping", "recipe": recipe, "trained_on": config.train, "images": len(train)}
        held_out = test or validation
        best = run.path / "best"

        def keep() -> None:
            save_bundle(best, model, preprocess, train.classes, about)

        def take_best(result: dict[str, Any]) -> dict[str, Any]:
            model.load_state_dict(read_safetensors(best / "model.safetensors"))
            digest = save_bundle(run.path / "bundle", model, preprocess, train.classes, about)
            assert held_out is not None
            dtype = choose_precision(config.precision, device)
            judged = evaluate(model, held_out, preprocess, dtype=dtype, workers=machine.workers, title="the best")
            judged.write(run.path / "evaluation", config.test or config.validation or "", str(run.path / "bundle"))
            found = {"accuracy": judged.accuracy, "interval": list(judged.interval), "weights_sha256": digest}
            return {**result, **found, "last_accuracy": result["accuracy"]}

        run.keep, run.take_best = keep, take_best
        return run_training(config, run, model, preprocess, (train, validation, test), machine, about)


def first_images(source: Source, count: int | None) -> Source:
    """The first so many of a shuffle that is always the same; raises BadInput for more than there are."""
    if count is None:
        return source
    if not 0 < count <= len(source):
        raise BadInput(f"images is {count:,}, expected 1 to {len(source):,}, as many as there are")
    return Subset(source, generator(0, "first images").permutation(len(source))[:count])


class _BestKept(RunFolder):
    """Keeps the best weights when a validation is logged, and puts them in the place of the last before the result."""

    keep: Callable[[], None]
    take_best: Callable[[dict[str, Any]], dict[str, Any]]

    def log(self, row: dict[str, Any]) -> None:
        # the weights before the row: a kill between them leaves no row without weights
        if self.writes and row["kind"] == "validation" and row["accuracy"] > self._best()[0]:
            self.keep()
        super().log(row)

    def finish(self, result: dict[str, Any]) -> None:
        super().finish({**self.take_best(result), "best_step": self._best()[1]})

    def _best(self) -> tuple[float, int]:
        """Accuracy and step of the best so far, the earliest where there are several."""
        rows = [row for row in self.metrics() if row["kind"] == "validation"]
        best = max(rows, key=lambda row: (row["accuracy"], -row["step"]), default=None)
        return (best["accuracy"], best["step"]) if best else (-1.0, 0)
