"""A plan sums what is still to do, measures alike runs once, and says what it cannot try."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.studies.stand_in import levels
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.core.files import write_json
from vitrail.jobs.forecast.forecast import GPUS, Forecast
from vitrail.models.cost import training_flops
from vitrail.models.position import Learned1d, Relative
from vitrail.studies import study
from vitrail.studies.engine import plan as planning
from vitrail.studies.engine.study import study_runs

TRIED: list[object] = []


def quick(config, model, **_):  # type: ignore[no-untyped-def]
    """A forecast of one second a step, without a measurement."""
    TRIED.append(model)
    flops = float(training_flops(model)) * config.steps * config.batch
    seconds = float(config.steps)
    return Forecast(seconds + 5.0, 2.0, 1.0, seconds, 2.0, 1.0, 0.5, flops, "its own", "whole")


def test_the_sum_is_of_what_is_still_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "forecast", quick)
    made = replace(study("position", "smoke"), measures=())
    first = study_runs(made, tmp_path)[0].folder
    whole = planning.plan(made, tmp_path, Machine("cpu"), jobs=2)
    write_json(first / "config.json", {"config": {}})
    write_json(first / "result.json", {})
    rest = planning.plan(made, tmp_path, Machine("cpu"), jobs=2)
    assert [row["todo"] for row in whole["rows"]] == [2] * 8
    assert [row["todo"] for row in rest["rows"]] == [1, *[2] * 7]
    one = whole["rows"][0]
    assert whole["total"]["total_flops"] - rest["total"]["total_flops"] == one["total_flops"]
    assert whole["total"]["seconds"] - rest["total"]["seconds"] == pytest.approx(one["seconds"])
    assert one["seconds"] == 255.0
    assert one["images"] == 250 * 64
    text = planning.plan_text(whole)
    assert all(row["name"] in text for row in whole["rows"])
    assert all(name in text for name in GPUS)


def test_of_models_that_grow_two_rates_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All five of the smallest of each of the three families, and one of a longer run."""
    monkeypatch.setattr(planning, "forecast", quick)
    made = study("scaling", "medium")
    runs = (replace(run, config=replace(run.config, train="scattered-digits@seen-train")) for run in made.runs)
    found = planning.plan(replace(made, runs=tuple(runs), measures=()), tmp_path, Machine("cpu"))
    counted: dict[str, int] = {}
    for row in found["rows"]:
        model = row["name"].split(", rate")[0]
        counted[model] = counted.get(model, 0) + row["todo"]
    smallest = ("ViT-64/4", "R8x0.5", "R5x0.5+64/4")
    longer = {model: counted.pop(model) for model in list(counted) if "updates" in model}
    assert list(longer.values()) == [1] * 21
    assert len(counted) == 15
    assert all(count == (5 if model in smallest else 2) for model, count in counted.items())
    assert planning.NEAR in planning.plan_text(found)


def test_added_positions_are_tried_as_one_and_relative_ones_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "forecast", quick)
    TRIED.clear()
    planning.plan(study("position", "smoke"), tmp_path, Machine("cpu"))
    kinds = {model.position for model in TRIED}  # type: ignore[attr-defined]
    assert kinds == {Learned1d(), Relative()}


def test_what_an_objective_costs_is_in_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "forecast", quick)
    made = study("masked", "paper")
    rows = {row["name"]: row for row in planning.plan(made, tmp_path, Machine("cpu"))["rows"]}
    labels, mae = rows["supervised"], rows["MAE"]
    assert mae["flops_per_image"] < 0.6 * labels["flops_per_image"], "the encoder sees a quarter"
    assert mae["total_flops"] == pytest.approx(labels["total_flops"], rel=1e-3), "of as much compute"
    assert mae["seconds"] == pytest.approx(labels["seconds"], rel=0.01)
    assert mae["images"] > 1.7 * labels["images"]


def test_the_papers_runs_are_planned_without_their_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object, **__: object) -> Forecast:
        raise BadInput("this machine is too small")

    monkeypatch.setattr(planning, "forecast", too_large)
    found = planning.plan(study("position", "paper"), tmp_path, Machine("cpu"))
    base = found["rows"][0]
    assert base["seconds"] is None
    assert base["total_flops"] == pytest.approx(224e18, rel=0.03)  # Table 6: B/16, 7 epochs, 224 exaFLOPs
    assert base["gpus"]["H100"] > 86400
    assert "too small" in planning.plan_text(found)


def test_runs_that_are_no_training_have_no_forecast() -> None:
    found = planning.plan(levels(), None, Machine("cpu"))
    assert [row["parameters"] for row in found["rows"]] == [None] * 3
    assert found["total"]["seconds"] == 0
