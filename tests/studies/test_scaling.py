"""The scaling study: its compute axis is Table 6's, and it finds again what it was given."""

from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitrail.core.files import write_json
from vitrail.models.cost import multiply_adds, training_flops
from vitrail.models.variants import variant
from vitrail.models.vit import ViTConfig
from vitrail.recipes.paper import paper
from vitrail.recipes.pretraining import IMAGES
from vitrail.studies.engine.execute import collect
from vitrail.studies.engine.plan import CLASSES
from vitrail.studies.engine.results import measured_file
from vitrail.studies.engine.study import Study, study_runs
from vitrail.studies.scaling import RATES, places, scaling
from vitrail.studies.setups import MEDIUM_RATES
from vitrail.studies.table6 import FAMILIES, paper_laws, paper_ratios, table6

# Rows where the count is not Table 6's within 1 %: 55 exaFLOPs of B/32 would be 56.3; R50x1 has 50 for 50.7; 859 of
# R50+L/16 is not half of its own 1,668 (which is right within 0.2 %).
OFF = {("B/32", 7): 0.024, ("R50x1", 7): 0.014, ("R50+L/16", 7): 0.032}


@pytest.mark.parametrize("row", paper("table6").records(), ids=lambda row: f"{row['variant']}-{row['epochs']}")
def test_the_compute_axis_is_that_of_table_6(row: dict[str, Any]) -> None:
    """Within 1 % but for the three rows of OFF; the five other ViTs are within 0.15 %."""
    within = OFF.get((row["variant"], row["epochs"]), 0.0015 if row["family"] == "ViT" else 0.01)
    config = replace(variant(row["variant"]), num_classes=CLASSES["jft"])
    if isinstance(config, ViTConfig):
        config = replace(config, hidden=config.width)
    exaflops = 6 * multiply_adds(config, padding=False) * IMAGES["jft"] * row["epochs"] / 1e18
    assert exaflops == pytest.approx(row["exaFLOPs"], rel=within)


def test_resnets_of_table_6_take_two_to_four_times_the_compute_of_vits() -> None:
    """The paper's sentence from the paper's table: 3.7 times (1.8 to 7.4); by laws without a floor 3.8 (1.8 to 8)."""
    found = paper_ratios()["ResNet"]
    assert 2.0 <= found.value <= 4.0
    assert found.low is not None
    assert found.low > 1.0


def test_the_vits_of_table_6_fall_towards_a_floor() -> None:
    """3.5 % of errors in Average-5 (0.6 to 4.2), below the 4.2 % of the largest; the others may have none."""
    floors = {family: law.floor for family, law in paper_laws().items()}
    found = floors["ViT"]
    assert found is not None
    assert 0.025 < found.value < 0.0418
    assert found.low is not None
    assert found.low > 0
    assert [floors[family].low for family in ("ResNet", "hybrid")] == [0.0, 0.0]  # type: ignore[union-attr]


def test_average_5_errors_are_shares() -> None:
    compute, errors = table6("hybrid")
    assert compute == [106, 274, 246, 859, 1668]
    assert errors[0] == pytest.approx(1 - 0.9427, abs=1e-4)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Study, Path]:
    """A study whose runs were given accuracies by law: ResNets take 2.5 times the compute of ViTs."""
    study = replace(scaling("smoke"), runs=tuple(run for run in scaling("smoke").runs if run.at["family"] != "hybrid"))
    rng = np.random.default_rng(0)
    for plan in study_runs(study, tmp_path):
        model = replace(plan.config.model, num_classes=7)
        images = plan.config.steps * plan.config.batch
        flops = 6.0 * multiply_adds(model, padding=False) * images
        times = 2.5 if plan.run.at["family"] == "ResNet" else 1.0
        error = 0.5 * (flops / times / 1e12) ** -0.1 * np.exp(0.002 * rng.normal())
        write_json(plan.folder / "result.json", {"total_flops": training_flops(model) * images, "seconds": 1.0})
        for measure in study.measures:
            write_json(
                measured_file(plan, measure),
                {"measure": {}, "values": {"5-shot": 1 - error}, "count": 10_000, "seconds": 1.0},
            )
    return study, tmp_path


def test_the_finding_is_what_the_runs_say(made: tuple[Study, Path]) -> None:
    study, out = made
    results = collect(study, out)
    found = places(results, "5-shot")
    assert [len(found[family].names) for family in ("ViT", "ResNet")] == [3, 3]
    said = study.finding(results)
    times = float(said.split("ResNets take ")[1].split(" times")[0])
    assert times == pytest.approx(2.5, rel=0.25)
    assert "95 % interval" in said
    assert "ViT −0.1" in said


def fill(
    study: Study, out: Path, floor: float, *, exponent: float = -0.3, others: float = 2.5, noise: float = 0.003
) -> None:
    """Accuracies by law of the runs of a study; ResNets and hybrids take `others` times the compute."""
    rng = np.random.default_rng(0)
    for plan in study_runs(study, out):
        model = replace(plan.config.model, num_classes=200)
        flops = 6.0 * multiply_adds(model, padding=False) * plan.config.steps * plan.config.batch
        times = 1.0 if plan.run.at["family"] == "ViT" else others
        error = (floor + (0.8 - floor) * (flops / times / 5e12) ** exponent) * np.exp(noise * rng.normal())
        write_json(plan.folder / "result.json", {"total_flops": training_flops(model) * 256_000, "seconds": 1.0})
        for measure in study.measures:
            about = {"measure": {}, "values": dict.fromkeys(measure.names, 1 - error), "count": 10_000, "seconds": 1.0}
            write_json(measured_file(plan, measure), about)


@pytest.mark.parametrize("floor", [0.0, 0.2])
def test_the_finding_and_the_figure_have_a_floor_where_the_runs_do(floor: float, tmp_path: Path) -> None:
    whole = scaling("medium")
    study = replace(whole, runs=tuple(run for run in whole.runs if run.at["rate"] == MEDIUM_RATES[0]))
    fill(study, tmp_path, floor)
    results = collect(study, tmp_path)
    said = study.finding(results)
    times = float(said.split("ResNets take ")[1].split(" times")[0])
    assert times == pytest.approx(2.5, rel=0.15)
    ours = study.figures(results)[0]
    curve = next(line for line in ours.lines if line.name == "ViT" and not line.dots).points
    if not floor:
        assert said.endswith(" No floor is seen.")
        assert "floor" not in ours.note
        return
    assert "It falls towards a floor: ViT " in said
    found = float(said.split("floor: ViT ")[1].split("\u00a0%")[0])
    assert found == pytest.approx(20, abs=2)
    assert "may be none" not in said
    assert "error = floor + a · compute^b" in ours.note
    dots = next(line for line in ours.lines if line.colour == curve_colour(ours, "ViT") and line.dots).points
    for dot in dots:  # the curve goes through the points, which a straight line would not
        near = min(curve, key=lambda p: abs(np.log(p.x / dot.x)))
        assert near.y == pytest.approx(dot.y, abs=0.02)


def test_where_errors_hardly_fall_accuracy_at_equal_compute_is_said(tmp_path: Path) -> None:
    """20 times the compute are 2.4 points at an exponent of -0.01, a ratio that nothing can tell."""
    whole = scaling("medium")
    study = replace(whole, runs=tuple(run for run in whole.runs if run.at["rate"] == MEDIUM_RATES[0]))
    fill(study, tmp_path, 0.0)
    assert "With the same compute" not in study.finding(collect(study, tmp_path))
    fill(study, tmp_path, 0.0, exponent=-0.01, others=20.0, noise=0.01)
    said = study.finding(collect(study, tmp_path)).split("With the same compute ")[1].split(". The error")[0]
    assert "; hybrids are " in said
    assert said.endswith(" teraFLOPs")
    worse = float(said.removeprefix("ResNets are ").split(" points worse (95 % interval ")[0])
    assert worse == pytest.approx(100 * 0.8 * (20**0.01 - 1), abs=1.0)


def curve_colour(figure: Any, family: str) -> int:
    return next(line.colour for line in figure.lines if line.name == family)


def test_figures_hold_runs_laws_and_the_paper_s(made: tuple[Study, Path]) -> None:
    study, out = made
    ours, theirs = study.figures(collect(study, out))
    assert [len(line.points) for line in ours.lines] == [3, 40, 3, 40]
    assert sum(len(line.points) for line in theirs.lines if not line.joined) == 18


def test_each_model_but_the_smallest_names_the_next_smaller_of_its_family() -> None:
    """And all have the same rates, two of them those of the other studies."""
    sizes: dict[str, list[tuple[Any, Any]]] = {family: [] for family in FAMILIES}
    for name, runs in groupby(scaling("medium").runs, key=lambda run: run.at["of"]):
        tried = list(runs)
        assert [run.config.optimizer.lr for run in tried] == [run.at["rate"] for run in tried] == list(RATES)
        (smaller,) = {run.at.get("smaller") for run in tried}
        sizes[str(tried[0].at["family"])].append((name, smaller))
    assert RATES[1:3] == MEDIUM_RATES
    for named in sizes.values():
        assert [smaller for _, smaller in named] == [None, *(name for name, _ in named[:-1])]


def test_every_scale_can_be_planned(tmp_path: Path) -> None:
    for scale in ("smoke", "small", "medium", "paper"):
        study = scaling(scale)
        study.check()
        results = collect(study, tmp_path)
        assert "Unfinished" in study.finding(results)
        assert study.figures(results)
