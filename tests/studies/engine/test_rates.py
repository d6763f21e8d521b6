"""Of several rates the validation images choose one, whatever the test images say, and findings are of that one."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.studies.stand_in import Level, command, rated
from vitrail.core.config import to_json
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.core.files import write_json
from vitrail.models.cost import multiply_adds
from vitrail.recipes.paper import paper
from vitrail.studies import MEDIUM, study
from vitrail.studies.engine.execute import collect, execute, measured_file, missing, run_study, study_result
from vitrail.studies.engine.launch import spread
from vitrail.studies.engine.rates import chosen
from vitrail.studies.engine.results import Results
from vitrail.studies.engine.runs import Reached, Run, digest
from vitrail.studies.engine.study import Study, study_runs


def filled(made: Study, out: Path) -> Results:
    """Results in which validation images prefer the first rate of each run and test images the others."""
    lowest = lowest_rates(made)
    for plan in study_runs(made, out):
        first = plan.run.at["rate"] == lowest[str(plan.run.at["of"])]
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


def lowest_rates(made: Study) -> dict[str, float]:
    """Of each run without its rate."""
    lowest: dict[str, float] = {}
    for run in made.runs:
        name, rate = str(run.at["of"]), float(run.at["rate"])
        lowest[name] = min(rate, lowest.get(name, rate))
    return lowest


@pytest.mark.parametrize("name", [name for name in MEDIUM if name != "cost"])
def test_findings_and_figures_are_of_the_rate_that_validation_images_prefer(name: str, tmp_path: Path) -> None:
    made = study(name, "medium")
    made.check()
    results = filled(made, tmp_path)
    assert results.complete
    best = chosen(results)
    lowest = lowest_rates(made)
    assert [row.run.name for row in best.rows] == list(lowest)
    assert len(made.runs) == {"head": 4, "scaling": 5, "optimizer": 3}.get(name, 2) * len(best.rows)
    for row in best.rows:
        assert "rate" not in row.run.name
        assert row.run.at["rate"] == lowest[row.run.name]
        assert max(row.values[best.measure_names[0]]) < 0.35
    if name != "head":  # which is about rates
        assert "rate" not in made.finding(results)
        assert all("rate" not in str(figure) for figure in made.figures(results)[:1])


def test_the_head_study_names_the_chosen_rate_and_what_others_cost(tmp_path: Path) -> None:
    """Test images prefer the other rates by 30 points."""
    made = study("head", "medium")
    results = filled(made, tmp_path)
    said = made.finding(results)
    assert said.startswith("Each at the rate that validation images prefer (class token 30.5")
    assert said.count("at 0.0003") == 2
    assert "the class token up to 30.0 points" in said
    first = made.figures(results)[0]
    assert [point.x for point in first.lines[0].points] == [3e-4, 1e-3, 3e-3, 9e-3]


def test_a_line_of_shapes_has_one_point_a_size(tmp_path: Path) -> None:
    """Not one for each rate."""
    made = study("shape", "medium")
    (first, *_) = made.figures(filled(made, tmp_path))
    assert [len(line.points) for line in first.lines] == [4, 4, 4, 2, 3]


def test_without_validation_images_no_rate_can_be_chosen() -> None:
    made = study("shape", "medium")
    runs = tuple(replace(run, config=replace(run.config, validation=None)) for run in made.runs)
    with pytest.raises(
        BadInput, match="chooses among learning rates by validation images, and 'base, rate 0.0007' has"
    ):
        replace(made, runs=runs).check()


def test_studies_share_runs_at_medium() -> None:
    """What one study has made another does not make again."""
    made = {name: {digest(run.config) for run in study(name, "medium").runs} for name in MEDIUM}
    assert len(made["head"] & made["position"]) == 2
    assert len(made["optimizer"] & made["scaling"]) == 6
    assert len(made["shape"] & made["scaling"]) == 4


def test_what_the_studies_must_see_is_the_paper_s() -> None:
    average = paper("table7").records()[-1]
    assert study("optimizer", "medium").effect == pytest.approx((average["R50x1 Adam"] - average["R50x1 SGD"]) / 100)
    for name in ("head", "shape", "cost"):  # figures without numbers
        assert study(name, "medium").effect is None


def test_sizes_of_the_medium_scaling_grow_over_nearly_two_decades() -> None:
    runs = [run for run in study("scaling", "medium").runs if "shorter" not in run.at]
    for family in ("ViT", "ResNet", "hybrid"):
        models = {run.at["of"]: run.config.model for run in runs if run.at["family"] == family}
        cost = [multiply_adds(replace(model, num_classes=200)) for model in models.values()]
        assert len(cost) == 5
        assert cost == sorted(cost)
        assert 1.5 < np.log10(cost[-1] / cost[0]) < 2


def begun(study: Study, out: Path) -> list[tuple[str, int]]:
    """Names and seeds of what was begun."""
    return [(plan.run.name, plan.config.seed) for plan in study_runs(study, out) if plan.begun]


def test_a_rate_costs_one_seed(tmp_path: Path) -> None:
    """The other seeds are of the rate that validation images of the first prefer; in processes of their own, too."""
    wanted = [(f"{of}, rate {rate}", 0) for of in ("one", "two") for rate in "ab"]
    wanted += [("one, rate b", 1), ("two, rate b", 1), ("one, rate b", 2), ("two, rate b", 2)]
    results = run_study(rated(seeds=3), tmp_path / "here")
    spread(rated(seeds=3), tmp_path / "there", command, jobs=3)
    assert begun(rated(seeds=3), tmp_path / "here") == begun(rated(seeds=3), tmp_path / "there") == wanted
    assert [[len(row.plans), len(row.values["validation"])] for row in results.rows] == [[1, 1], [3, 3]] * 2
    assert [row.values["validation"] for row in chosen(results).rows] == [
        pytest.approx([level, level + 0.01, level + 0.02]) for level in (0.2, 0.4)
    ]


def test_before_a_rate_is_chosen_its_other_seeds_are_counted_and_not_made(tmp_path: Path) -> None:
    some = rated(seeds=2)
    assert [plan.config.seed for plan in missing(some, tmp_path)] == [0] * 4
    assert [plan.config.seed for plan in missing(some, tmp_path, counted=True)] == [0] * 4 + [1] * 2
    execute(some, study_runs(some, tmp_path)[0], Machine("cpu"))
    assert len(missing(some, tmp_path)) == 3  # one rate is no choice
    execute(some, study_runs(some, tmp_path)[1], Machine("cpu"))
    left = [(plan.run.name, plan.config.seed) for plan in missing(some, tmp_path)]
    assert left == [("two, rate a", 0), ("two, rate b", 0), ("one, rate b", 1)]


def growing(broken: Sequence[str] = ()) -> Study:
    """Three sizes at three rates each; the first prefers rate 3, and by all of them the third would prefer it, too."""
    levels = {"one": (0.3, 0.25, 0.2), "two": (0.35, 0.4, 0.45), "three": (0.6, 0.55, 0.5)}
    runs, smaller = [], {"two": "one", "three": "two"}
    for of in levels:
        grown = {"smaller": smaller[of]} if of in smaller else {}
        for rate, level in enumerate(levels[of], start=1):
            at = {"of": of, "rate": rate, **grown}
            runs.append(Run(f"{of}, rate {rate}", Level(level, broken=of in broken), at))
    return replace(rated(seeds=1), runs=tuple(runs))


def test_a_larger_model_is_tried_at_the_rate_of_the_smaller_one_and_the_next_lower(tmp_path: Path) -> None:
    """One prefers 3, so two has 2 and 3, of which it prefers 2, so three has 1 and 2. Each waits for the smaller."""
    some, here, there = growing(), tmp_path / "here", tmp_path / "there"
    assert [plan.run.name for plan in missing(some, here)] == ["one, rate 1", "one, rate 2", "one, rate 3"]
    assert len(missing(some, here, counted=True)) == 3 + 2 + 2
    execute(some, study_runs(some, here)[2], Machine("cpu"))  # the best so far: near it the larger ones are counted
    counted = [plan.run.name for plan in missing(some, here, counted=True)]
    assert counted[:4] == ["one, rate 1", "one, rate 2", "two, rate 2", "two, rate 3"]
    execute(some, study_runs(some, here)[6], Machine("cpu"))  # three, which was begun, has no choice yet
    assert not collect(some, here).complete
    results = run_study(some, here)
    spread(some, there, command, jobs=2)
    made = {("one", 1), ("one", 2), ("one", 3), ("two", 2), ("two", 3), ("three", 1), ("three", 2)}
    assert {name for name, _ in begun(some, there)} == {f"{name}, rate {rate}" for name, rate in made}
    assert begun(some, here) == begun(some, there)
    assert results.complete
    assert [row.run.at["rate"] for row in chosen(results).rows] == [3, 2, 2]
    assert study_result(some, results).remarks[0].startswith("2 of 9 runs were not made")
    assert len(run_study(some.part(["three, rate 1", "three, rate 2"]), tmp_path / "part").rows) == 3


def test_a_longer_run_is_made_at_the_rate_of_the_shorter_one_alone(tmp_path: Path) -> None:
    """Whatever validation images would prefer after more steps; it waits for the shorter one's choice."""
    levels = {"one": (0.3, 0.25, 0.2), "long": (0.4, 0.5, 0.45)}
    runs = tuple(
        Run(
            f"{of}, rate {rate}", Level(level), {"of": of, "rate": rate, **({"shorter": "one"} if of == "long" else {})}
        )
        for of in levels
        for rate, level in enumerate(levels[of], start=1)
    )
    some = replace(rated(seeds=2), runs=runs)
    assert [plan.run.name for plan in missing(some, tmp_path)] == ["one, rate 1", "one, rate 2", "one, rate 3"]
    assert len(missing(some, tmp_path, counted=True)) == 3 + 1 + 2  # and a second seed of each
    results = run_study(some, tmp_path)
    assert begun(some, tmp_path) == [
        *((f"one, rate {n}", 0) for n in (1, 2, 3)),
        ("long, rate 3", 0),
        ("one, rate 3", 1),
        ("long, rate 3", 1),
    ]
    said = study_result(some, results).remarks
    assert "2 of 6 runs were not made: their rates are far from that of the shorter run." in said
    assert results.complete


def test_where_the_smaller_model_failed_all_rates_are_tried(tmp_path: Path) -> None:
    results = run_study(growing(broken=["one"]), tmp_path)
    assert [len(row.values.get("validation", ())) for row in results.rows] == [0] * 3 + [1] * 3 + [1]
    assert [row.run.at["rate"] for row in chosen(results).rows][1:] == [1, 1]


def test_a_rate_that_fails_is_not_chosen(tmp_path: Path) -> None:
    results = run_study(rated(broken=True), tmp_path)
    assert [len(row.values.get("validation", ())) for row in results.rows] == [2, 0, 2, 0]
    assert [row.run.at["rate"] for row in chosen(results).rows] == ["a", "a"]


def test_a_study_of_rates_makes_all_seeds_of_all(tmp_path: Path) -> None:
    assert [len(row.plans) for row in run_study(rated(all_rates=True), tmp_path).rows] == [2] * 4
    assert study("head", "medium").all_rates


def test_seeds_that_only_one_rate_has_do_not_choose(tmp_path: Path) -> None:
    """A second seed that is worse must not unseat the rate whose first seed was best: that was chosen and repeated."""
    some = rated(seeds=2)
    run_study(some, tmp_path)
    later = next(plan for plan in study_runs(some, tmp_path) if plan.config.seed and plan.begun)
    worse = {"kind": "validation", "step": 1, "accuracy": 0.0}
    (later.folder / "metrics.jsonl").write_text(json.dumps(worse) + "\n")
    assert [row.run.at["rate"] for row in chosen(collect(some, tmp_path)).rows] == ["b", "b"]
