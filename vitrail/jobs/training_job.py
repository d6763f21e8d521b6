"""What a training run is made of, and how its model is judged."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail.core.device import Device, Machine
from vitrail.core.run import RunFolder
from vitrail.data.sources.base import Source
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.evals.classify import Evaluation, evaluate
from vitrail.evals.multi_label import MultiLabelEvaluation, evaluate_multi_label
from vitrail.jobs.training_data import Sources, usual_thresholds
from vitrail.models.build import Model
from vitrail.models.objective import Learner, TrainedModel
from vitrail.train.callbacks import KeepBest
from vitrail.train.checkpoint import Saver
from vitrail.train.config import TrainConfig
from vitrail.train.reconstruct import judge_objective
from vitrail.weights.bundle import save_bundle


@dataclass(frozen=True)
class TrainingJob:
    """What a training run is made of."""

    config: TrainConfig
    run: RunFolder
    preprocess: Preprocess
    data: Sources
    machine: Machine
    device: Device
    provenance: dict[str, Any]
    saver: Saver

    def evaluate(self, model: Model, source: Source, title: str = "evaluating") -> Evaluation | MultiLabelEvaluation:
        """By all processes together; where bits are not to depend on their number, by each alone."""
        workers, dtype, together = self.machine.workers, self.device.dtype, self.config.fixed_parts is None
        if source.multi_label:
            return evaluate_multi_label(
                model, source, self.preprocess, dtype=dtype, workers=workers, title=title, together=together
            )
        return evaluate(model, source, self.preprocess, dtype=dtype, workers=workers, title=title, together=together)

    def judge(self, model: TrainedModel, source: Source) -> dict[str, float]:
        """What a row of metrics says of an evaluation."""
        if isinstance(model, Learner):
            workers, dtype = self.machine.workers, self.device.dtype
            seed, together = self.config.seed, self.config.fixed_parts is None
            return judge_objective(
                model, source, self.preprocess, seed=seed, dtype=dtype, workers=workers, together=together
            )
        result = self.evaluate(model, source)
        found = {"accuracy": result.accuracy, "loss": result.loss, "count": result.count}
        if isinstance(result, MultiLabelEvaluation):
            found["mean_average_precision"] = result.mean_average_precision
        return found

    def keep_best(self, model: Model) -> KeepBest:
        """The best weights so far, in `best/`."""

        def save(folder: Path, about: dict[str, Any]) -> None:
            save_bundle(
                folder,
                model,
                self.preprocess,
                self.data[0].classes,
                {**self.provenance, **about},
                thresholds=usual_thresholds(self.data[0]),
            )

        every, patience = self.config.evaluate_every, self.config.patience
        return KeepBest(every, self.run.path / "best", save, self.run.metrics(), patience)
