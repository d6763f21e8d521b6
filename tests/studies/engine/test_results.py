"""Means, intervals and comparisons of runs, against scipy and by simulation."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.studies.stand_in import Level, figures, finding
from vitrail.core.estimate import wilson
from vitrail.studies.engine.execute import collect
from vitrail.studies.engine.findings import differs, no_more_than_noise
from vitrail.studies.engine.results import Results
from vitrail.studies.engine.runs import Reached, Run
from vitrail.studies.engine.study import Study, study_runs


def reached(folder: Path, values: list[list[float]], count: int | None = 1000, key: str = "accuracy") -> Results:
    """Results of runs r0, r1, ... with these values of their seeds."""
    runs = tuple(Run(f"r{i}", Level(float(i))) for i in range(len(values)))
    measures = (Reached("validation", key),)
    study = Study("s", "?", "", "smoke", runs, measures, finding, figures, seeds=max(map(len, values)))
    for plan in study_runs(study, folder):
        mine = values[int(plan.config.level)]
        if plan.config.seed < len(mine):
            plan.folder.mkdir(parents=True)
            result = {key: mine[plan.config.seed], "count": count}
            (plan.folder / "result.json").write_text(json.dumps(result))
    return collect(study, folder)


def test_two_runs_with_seeds_are_compared_as_by_the_t_test_of_scipy(tmp_path: Path) -> None:
    first, second = [0.61, 0.64, 0.60], [0.55, 0.57, 0.58]
    found = reached(tmp_path, [first, second], key="loss").contrast({"r0": 1.0, "r1": -1.0}, "validation")
    reference = stats.ttest_ind(first, second).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_the_p_of_equal_runs_is_that_of_an_analysis_of_variance(tmp_path: Path) -> None:
    groups = [[0.61, 0.64], [0.55, 0.57], [0.62, 0.60], [0.58, 0.59]]
    results = reached(tmp_path, groups, key="loss")
    p = results.alike([f"r{i}" for i in range(4)], "validation")
    assert p == pytest.approx(stats.f_oneway(*groups).pvalue, abs=1e-12)


def test_intervals_of_two_seeds_hold_the_truth_as_often_as_they_say(tmp_path: Path) -> None:
    """Eight runs of two seeds, 40 times: 95 % of 320 intervals, give or take 4 (they share their noise)."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.3, 0.6, 8)
    inside = 0
    for trial in range(40):
        drawn = truth[:, None] + 0.01 * rng.standard_normal((8, 2))
        results = reached(tmp_path / str(trial), drawn.tolist())
        found = [results.value(row, "validation") for row in results.rows]
        inside += sum(f.low <= t <= f.high for f, t in zip(found, truth, strict=True))  # type: ignore[operator]
    assert abs(inside / 320 - 0.95) < 0.04  # measured: 0.938


def test_runs_of_all_accuracies_are_as_sure_as_images_make_them(tmp_path: Path) -> None:
    """Pooled as plain numbers, the sure ones have the noise of the unsure: six times their own at 99 %."""
    rng = np.random.default_rng(0)
    truth, inside, widths = np.array([0.4, 0.5, 0.9, 0.99]), np.zeros(4), np.zeros(4)
    for trial in range(100):
        drawn = rng.binomial(1000, truth[:, None], (4, 2)) / 1000
        results = reached(tmp_path / str(trial), drawn.tolist())
        found = [results.value(row, "validation") for row in results.rows]
        inside += [f.low <= t <= f.high for f, t in zip(found, truth, strict=True)]  # type: ignore[operator]
        widths += [f.high - f.low for f in found]  # type: ignore[operator]
    assert (inside >= 88).all()  # of 100; measured: 92, 94, 96, 96
    expected = np.sqrt(truth * (1 - truth))
    assert widths / widths[1] == pytest.approx(expected / expected[1], rel=0.1)  # measured: 4 % at most


def test_one_seed_has_the_interval_of_its_test_images(tmp_path: Path) -> None:
    results = reached(tmp_path, [[0.3], [0.999]])
    found = results.value(results.rows[0], "validation")
    assert (found.low, found.high) == pytest.approx(wilson(300, 1000), abs=2e-3)  # measured: 0.0006
    assert results.value(results.rows[1], "validation").high == 1.0  # never above
    assert "one seed" in results.noise_of("validation")


def test_without_seeds_and_images_no_interval_is_made_up(tmp_path: Path) -> None:
    results = reached(tmp_path, [[120.0], [130.0]], count=None)
    assert results.value(results.rows[0], "validation").interval is None
    assert results.alike(["r0", "r1"], "validation") is None


def test_a_run_without_values_has_no_contrast(tmp_path: Path) -> None:
    results = reached(tmp_path, [[0.5], []])
    assert results.contrast({"r0": 1.0, "r1": -1.0}, "validation") is None
    assert not results.complete


def test_findings_say_which_way_and_whether_it_may_be_chance(tmp_path: Path) -> None:
    results = reached(tmp_path, [[0.50, 0.51], [0.40, 0.41], [0.402, 0.409]])
    clear = results.contrast({"r0": 1.0, "r1": -1.0}, "validation")
    turned = results.contrast({"r1": 1.0, "r0": -1.0}, "validation")
    unsure = results.contrast({"r1": 1.0, "r2": -1.0}, "validation")
    assert clear is not None
    assert turned is not None
    assert unsure is not None
    assert differs(clear, "better", "worse").startswith("10.0 points better (95 % interval ")
    assert differs(turned, "better", "worse") == differs(clear, "better", "worse").replace("better", "worse")
    assert "may be chance" in differs(unsure, "better", "worse")
    assert "no more than the noise" in no_more_than_noise(results, ["r1", "r2"], "validation")
    assert "more than the noise" in no_more_than_noise(results, ["r0", "r1"], "validation")
    assert "no more" not in no_more_than_noise(results, ["r0", "r1"], "validation")
