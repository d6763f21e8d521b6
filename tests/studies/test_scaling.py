"""The scaling study: its compute axis is Table 6's, and it finds again what it was given."""

from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitrail.core.estimate import Estimate
from vitrail.core.figures import Point
from vitrail.core.files import write_json
from vitrail.models.cost import multiply_adds, training_flops
from vitrail.models.variants import variant
from vitrail.models.vit import ViTConfig
from vitrail.recipes.paper import paper
from vitrail.recipes.pretraining import IMAGES
from vitrail.studies.engine.execute import collect
from vitrail.studies.engine.plan import CLASSES
from vitrail.studies.engine.power_law import ratio_at_equal
from vitrail.studies.engine.results import measured_file
from vitrail.studies.engine.study import Study, study_runs
from vitrail.studies.over_compute import Place, frontier, laws_of, over_compute, places
from vitrail.studies.scaling import LONGER, RATES, scaling
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
    assert [len(found[family]) for family in ("ViT", "ResNet")] == [3, 3]
    said = study.finding(results)
    times = float(said.split("ResNets take ")[1].split(" times")[0])
    assert times == pytest.approx(2.5, rel=0.25)
    assert "95 % interval" in said
    assert "ViT −0.1" in said


def fill(
    study: Study,
    out: Path,
    floor: float,
    *,
    exponent: float = -0.3,
    others: float = 2.5,
    noise: float = 0.003,
    by_updates: float = 0.0,
) -> None:
    """Accuracies by law of the runs of a study; ResNets and hybrids take `others` times the compute.

    `by_updates`: an exponent of the updates besides that of the compute.
    """
    rng = np.random.default_rng(0)
    for plan in study_runs(study, out):
        model = replace(plan.config.model, num_classes=200)
        flops = 6.0 * multiply_adds(model, padding=False) * plan.config.steps * plan.config.batch
        times = 1.0 if plan.run.at["family"] == "ViT" else others
        error = (floor + (0.8 - floor) * (flops / times / 5e12) ** exponent) * np.exp(noise * rng.normal())
        error *= (plan.config.steps / 1500) ** by_updates
        images = plan.config.steps * plan.config.batch
        write_json(plan.folder / "result.json", {"total_flops": training_flops(model) * images, "seconds": 1.0})
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
        assert " No floor is seen." in said
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
    """20 times the compute are 2.4 points at an exponent of -0.01, a ratio that sizes alone cannot tell."""
    whole = scaling("medium")
    sizes = (run for run in whole.runs if run.at["rate"] == MEDIUM_RATES[0] and "shorter" not in run.at)
    study = replace(whole, runs=tuple(sizes))
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


def test_a_name_lies_over_no_point() -> None:
    """The first name would lie over the second point; the last has no room; the third has neither in its way."""
    some = [
        Point(1.0, 0.3, name="a long name"),
        Point(1.3, 0.31),
        Point(2.0, 0.5, name="third"),
        Point(100.0, 0.6, name="last"),
    ]
    (line,) = over_compute("title", "FLOPs", "accuracy", {"ViT": some}, {}, 1.0).lines
    assert [point.name for point in line.points] == ["", "", "third", ""]


def test_each_model_but_the_smallest_names_the_next_smaller_of_its_family() -> None:
    """And all have the same rates, two of them those of the other studies; longer runs name the short one."""
    sizes: dict[str, list[tuple[Any, Any]]] = {family: [] for family in FAMILIES}
    longer = []
    for name, runs in groupby(scaling("medium").runs, key=lambda run: run.at["of"]):
        tried = list(runs)
        assert [run.config.optimizer.lr for run in tried] == [run.at["rate"] for run in tried] == list(RATES)
        ((smaller, shorter),) = {(run.at.get("smaller"), run.at.get("shorter")) for run in tried}
        if shorter is None:
            sizes[str(tried[0].at["family"])].append((name, smaller))
        else:
            longer.append((name, shorter, tried[0].config.steps, tried[0].config.schedule.warmup))
    assert RATES[1:3] == MEDIUM_RATES
    for named in sizes.values():
        assert [smaller for _, smaller in named] == [None, *(name for name, _ in named[:-1])]
    assert longer == [
        (f"{name}, {steps} updates", name, steps, steps // 10)
        for steps, count in LONGER.items()
        for named in sizes.values()
        for name, _ in named[:count]
    ]


def test_laws_go_through_what_no_cheaper_run_beats() -> None:
    """Of a law with a penalty of 5 % on every second run, all of these but the first lie above cheaper ones."""
    compute = np.geomspace(1e12, 1e14, 11)
    errors = 0.8 * (compute / 1e12) ** -0.05 * np.where(np.arange(11) % 2, 1.05, 1.0)
    some = [Place(float(compute[i]), Estimate(1 - float(errors[i])), str(i), 1.0) for i in range(11)]
    assert [place.name for place in frontier(some)] == ["0", "2", "4", "6", "8", "10"]
    (law,) = laws_of({"ViT": frontier(some)}).values()
    assert law.exponent.value == pytest.approx(-0.05, abs=1e-6)


def test_95_percent_of_the_ratios_hold_it_where_laws_go_through_a_frontier() -> None:
    """40 draws of a grid as of scale medium; of 150 with errors of 0.5, 1, 2 % in 97, 99, 98 of 100."""
    rng = np.random.default_rng(5)
    size = np.array([6.4, 19.7, 44.7, 144, 335, *[6.4, 19.7, 44.7] * 2])
    updates = np.array([1.0] * 5 + [2.0] * 3 + [4.0] * 3)
    errors = 0.35 + 0.33 * (0.35 * (size / 6.4) ** -0.35 + 0.65 * updates**-0.3) + 0.0002 * size / updates

    def drawn(times: float) -> list[Place]:
        noisy = errors * np.exp(0.01 * rng.normal(size=len(size)))
        some = [Place(times * c, Estimate(1 - e), "", 1.0) for c, e in zip(size * updates, noisy, strict=True)]
        return sorted(some, key=lambda place: place.compute)

    held = 0
    for _ in range(40):
        laws = laws_of({"ViT": frontier(drawn(1.0)), "ResNet": frontier(drawn(2.5))})
        found = ratio_at_equal(laws["ViT"], laws["ResNet"])
        assert found is not None
        assert found.interval is not None
        assert found.interval[1] < 10 * found.interval[0]  # the decade that sizes alone did not reach
        held += found.interval[0] <= 2.5 <= found.interval[1]
    assert held >= 36


def test_what_updates_and_what_sizes_buy_is_told_apart(tmp_path: Path) -> None:
    """Errors that fall with updates^-0.1 and with size^-0.02, and a law through the best of each compute."""
    whole = scaling("medium")
    study = replace(whole, runs=tuple(run for run in whole.runs if run.at["rate"] == MEDIUM_RATES[0]))
    fill(study, tmp_path, 0.0, exponent=-0.02, noise=0.002, by_updates=-0.08)
    said = study.finding(collect(study, tmp_path))
    by_updates, by_size = said.split("by the powers ViT −")[1], said.split("at as many updates ViT −")[1]
    assert float(by_updates.split(" ")[0]) == pytest.approx(0.1, abs=0.01)
    assert float(by_size.split(" ")[0]) == pytest.approx(0.02, abs=0.01)
    assert "no cheaper one of it beats" in study.figures(collect(study, tmp_path))[0].note


def test_sizes_alone_say_nothing_of_updates(made: tuple[Study, Path]) -> None:
    study, out = made
    assert "more updates" not in study.finding(collect(study, out))


def test_every_scale_can_be_planned(tmp_path: Path) -> None:
    for scale in ("smoke", "small", "medium", "paper"):
        study = scaling(scale)
        study.check()
        results = collect(study, tmp_path)
        assert "Unfinished" in study.finding(results)
        assert study.figures(results)
