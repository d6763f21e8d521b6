"""The study of equal compute: its runs cost the same, and the finding names the best depth."""

from pathlib import Path

import numpy as np
import pytest

from vitrail.core.files import write_json
from vitrail.jobs.pretrain import Pretrain
from vitrail.models.cost import training_flops
from vitrail.studies.compute import compute
from vitrail.studies.engine.execute import collect
from vitrail.studies.engine.runs import Scale
from vitrail.studies.engine.study import study_runs
from vitrail.train.optim import Muon


def rate(config: Pretrain) -> float:
    """Adam's."""
    return config.optimizer.adam_lr if isinstance(config.optimizer, Muon) else config.optimizer.lr


@pytest.mark.parametrize("scale", ["smoke", "small", "paper"])
def test_runs_of_a_compute_cost_the_same_and_rates_fall_with_the_width(scale: Scale) -> None:
    runs = compute(scale).runs
    for run in runs:
        spent = training_flops(run.config.model) * run.config.steps * run.config.batch
        assert spent == pytest.approx(run.at["compute"], rel=0.03)  # whole steps
        assert rate(run.config) * run.config.model.width == pytest.approx(
            rate(runs[0].config) * runs[0].config.model.width, rel=0.01
        )
        run.config.model.check()


def test_the_finding_names_the_best_depth_of_each_compute(tmp_path: Path) -> None:
    made = compute("small")
    for plan in study_runs(made, tmp_path):
        best = {3e11: 1.0, 1.2e12: 2.0, 5e12: 3.0, 1.5e13: 4.0, 4.5e13: 20.0}[float(plan.run.at["compute"])]
        accuracy = 0.4 - 0.05 * np.log(float(plan.run.at["depth"]) / best) ** 2
        write_json(plan.folder / "result.json", {"accuracy": accuracy, "count": 10_000_000})
    results = collect(made, tmp_path)
    said = made.finding(results)
    assert (
        "is 3 (all of the 95 % interval) layers for 5e12 FLOPs, 4 (all of the 95 % interval) layers for 1.5e13" in said
    )
    assert "beyond 6 (all of the 95 % interval) layers for 4.5e13 FLOPs" in said
    (figure,) = made.figures(results)
    assert [line.name for line in figure.lines] == [
        "3e11 FLOPs",
        "1.2e12 FLOPs",
        "5e12 FLOPs",
        "1.5e13 FLOPs",
        "4.5e13 FLOPs",
    ]
