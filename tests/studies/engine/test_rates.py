"""Of several rates the validation images choose one, whatever the test images say, and findings are of that one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitrail.core.config import to_json
from vitrail.core.files import write_json
from vitrail.models.cost import multiply_adds
from vitrail.studies import MEDIUM, study
from vitrail.studies.engine.execute import collect, measured_file
from vitrail.studies.engine.rates import chosen
from vitrail.studies.engine.results import Results
from vitrail.studies.engine.runs import Reached
from vitrail.studies.engine.study import Study, study_runs


def filled(made: Study, out: Path) -> Results:
    """Results in which validation images prefer the first rate of each run and test images the others."""
    rates = sorted({float(run.at["rate"]) for run in made.runs})
    for plan in study_runs(made, out):
        first = plan.run.at["rate"] == rates[0]
        plan.folder.mkdir(parents=True)
        write_json(plan.folder / "config.json", {"config": to_json(plan.config)})
        value = (0.3 if first else 0.6) + 0.01 * plan.config.seed
        write_json(plan.folder / "result.json", {"accuracy": value, "count": 10_000, "total_flops": 1e12})
        row = {"kind": "validation", "step": 500, "accuracy": 0.8 if first else 0.7}
        (plan.folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        for measure in made.measures:
            if not isinstance(measure, Reached):
                values = dict.fromkeys(measure.names, value)
                about = {"measure": {}, "values": values, "count": 10_000, "seconds": 1.0}
                write_json(measured_file(plan, measure), about)
    return collect(made, out)


@pytest.mark.parametrize("name", MEDIUM)
def test_findings_and_figures_are_of_the_rate_that_validation_images_prefer(name: str, tmp_path: Path) -> None:
    made = study(name, "medium")
    made.check()
    results = filled(made, tmp_path)
    assert results.complete
    best = chosen(results)
    assert len(best.rows) * len({run.at["rate"] for run in made.runs}) == len(made.runs)
    for row in best.rows:
        assert "rate" not in row.run.name
        assert row.run.at["rate"] == min(float(run.at["rate"]) for run in made.runs)
        assert max(row.values[best.measure_names[0]]) < 0.35
    assert "rate" not in made.finding(results)
    assert all("rate" not in str(figure) for figure in made.figures(results)[:1])


def test_sizes_of_the_medium_scaling_grow_over_nearly_two_decades() -> None:
    runs = study("scaling", "medium").runs
    for family in ("ViT", "ResNet", "hybrid"):
        models = {run.at["of"]: run.config.model for run in runs if run.at["family"] == family}
        cost = [multiply_adds(replace(model, num_classes=200)) for model in models.values()]
        assert len(cost) == 5
        assert cost == sorted(cost)
        assert 1.5 < np.log10(cost[-1] / cost[0]) < 2
