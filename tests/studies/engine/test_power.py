"""What a study can see, against a simulation of studies, and the words of the plan."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.studies.stand_in import levels
from vitrail.studies.engine.execute import run_study
from vitrail.studies.engine.power import POWER, least, sights, sights_text
from vitrail.studies.engine.results import Noise, Results, Row, pooled
from vitrail.studies.engine.runs import Reached, Run


@pytest.mark.parametrize(("seeds", "runs"), [(2, 8), (3, 4), (6, 3)])
def test_the_least_difference_is_found_as_often_as_is_said(seeds: int, runs: int) -> None:
    """2,000 studies with that difference between two of their runs, by the interval that a finding has."""
    deviation, rng = 0.01, np.random.default_rng(0)
    gap = least(Noise(deviation, 10.0, ""), seeds, runs)
    assert gap is not None
    found = 0
    for _ in range(2000):
        values = rng.normal(0.5, deviation, (runs, seeds))
        values[0] += gap
        rows = [
            Row(Run(str(i), None), "", (), (), {"validation": list(row)}, {"validation": None})
            for i, row in enumerate(values)
        ]
        noise = pooled([row.values["validation"] for row in rows])
        contrast = Results("smoke", (Reached(),), rows, {"validation": noise}).contrast(
            {"0": 1.0, "1": -1.0}, "validation"
        )
        assert contrast is not None
        assert contrast.low is not None
        found += contrast.low > 0
    assert found / 2000 == pytest.approx(POWER, abs=0.03)


def test_the_plan_says_whether_seeds_are_enough(tmp_path: Path) -> None:
    study = levels()
    assert "is not known before some runs" in sights_text(study, sights(study, tmp_path))[0]
    run_study(levels(seeds=3), tmp_path)  # values of a run lie 0.01 apart
    (sight,) = sights(replace(study, seeds=3, effect=0.002), tmp_path)
    assert sight.deviation == pytest.approx(0.01)
    assert sight.freedom == 6
    assert sight.seeds is None  # for two tenths of a point fifty seeds are too few
    (wide,) = sights(replace(study, seeds=3, effect=0.05), tmp_path)
    (narrow,) = sights(replace(study, seeds=2, effect=0.016), tmp_path)
    assert "enough for the 5 points of the paper" in sights_text(replace(study, seeds=3), [wide])[0]
    assert narrow.seeds is not None
    assert narrow.seeds > 2
    assert f"take --seeds {narrow.seeds}" in sights_text(replace(study, seeds=2), [narrow])[0]
    (one,) = sights(study, tmp_path)
    assert "with one seed no difference" in sights_text(study, [one])[0]


def test_runs_of_another_length_lend_their_spread(tmp_path: Path) -> None:
    pilot = levels(seeds=2)
    pilot = replace(pilot, runs=tuple(replace(run, config=replace(run.config, level=0.2)) for run in pilot.runs[:1]))
    run_study(pilot, tmp_path)
    (sight,) = sights(levels(seeds=2), tmp_path)
    assert sight.freedom == 1
