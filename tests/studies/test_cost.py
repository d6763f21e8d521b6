"""The study of speed: measured for real on tiny models, in a second or two."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vitrail.core.device import Machine, available_memory
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json, write_json
from vitrail.jobs.throughput import Throughput, measure_throughput
from vitrail.models.cost import inference_activations, multiply_adds
from vitrail.studies.cost import cost
from vitrail.studies.engine.execute import collect, run_study
from vitrail.studies.engine.study import study_runs


def test_a_study_of_speed_ends_in_a_finding(tmp_path: Path) -> None:
    """Larger images are slower: 16 tokens against 256 are a factor of more than ten, of which two are asked for."""
    study = cost("smoke")
    chosen = [run for run in study.runs if run.at["model"] == "ViT-64/4"]
    runs = tuple(replace(run, config=replace(run.config, seconds=0.1, batches=(8, 64))) for run in chosen)
    study = replace(study, runs=runs)
    results = run_study(study, tmp_path, Machine())
    rates = {row.run.name: row.values["images/s"][0] for row in results.rows}
    assert rates["ViT-64/4, 16 pixels"] > 2 * rates["ViT-64/4, 64 pixels"]
    said = study.finding(results)
    assert "with a power of its side: ViT-64/4" in said
    assert "a training step takes" in said
    assert len(study.figures(results)) == 4
    assert read_json(tmp_path / "cost" / "study.json")["complete"]


def test_the_largest_batch_is_what_the_memory_holds(tmp_path: Path) -> None:
    config = Throughput(cost("smoke").runs[0].config.model, (1,), 0.01)
    result = measure_throughput(config, tmp_path / "speed", Machine())
    room = available_memory(torch.device("cpu"))
    assert room is not None
    each = inference_activations(config.model, 3)
    assert result.reckoned
    assert room / each / 3 < result.largest_batch < 3 * room / each  # in float32 or bfloat16, while others allocate
    assert result.largest_training_batch < result.largest_batch
    assert measure_throughput(config, tmp_path / "speed") == result


def test_no_batch_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected sizes from 1 on"):
        measure_throughput(Throughput(cost("smoke").runs[0].config.model, ()), tmp_path / "speed")


def test_the_medium_scale_covers_two_decades_of_pixels_and_measures_twice(tmp_path: Path) -> None:
    study = cost("medium")
    sides = sorted({int(run.at["side"]) for run in study.runs})
    assert (sides[-1] / sides[0]) ** 2 >= 100
    widest = [multiply_adds(run.config.model) for run in study.runs if run.at["side"] == sides[-1]]
    assert max(widest) > 10 * min(widest)
    for plan in study_runs(study, tmp_path):
        rate = 4e5 / plan.run.at["side"] ** 2 * (0.9 if plan.config.seed else 1.1)  # type: ignore[operator]
        found = {"images_per_second": rate, "training_images_per_second": rate / 3}
        batches = {"largest_batch": 8, "largest_training_batch": 4}
        write_json(plan.folder / "result.json", {**found, **batches, "seconds": 1.0})
    results = collect(study, tmp_path)
    said = study.finding(results)
    assert "Ti/16 2.0 (2.0 to 2.0)" in said
    assert "takes 3.0 times an inference" in said
    assert all(len(row.values["images/s"]) == 2 for row in results.rows)


def test_every_scale_can_be_planned(tmp_path: Path) -> None:
    for scale in ("smoke", "small", "medium", "paper"):
        study = cost(scale)
        study.check()
        for run in study.runs:
            run.config.model.check()
        assert "Unfinished" in study.finding(collect(study, tmp_path))
