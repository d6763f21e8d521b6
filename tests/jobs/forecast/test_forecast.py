"""Forecasts: how parts are added up, and that the beginning of a run is tried. Margins: benchmarks/forecast.py."""

from dataclasses import replace
from pathlib import Path

import pytest

from vitrail.core.errors import BadInput
from vitrail.jobs.forecast import forecast as module
from vitrail.jobs.forecast.forecast import GPUS, REACHED, forecast, gpu_share
from vitrail.jobs.forecast.measure import MeasuredCost, Task
from vitrail.models.cost import multiply_adds, training_flops
from vitrail.models.variants import variant
from vitrail.models.vit import ViTConfig
from vitrail.recipes import pretraining
from vitrail.train.optim import Muon

CONFIG = replace(pretraining("digits"), steps=100, evaluate_every=50, save_every=40)
MODEL = replace(CONFIG.model, num_classes=10)

PARTS = MeasuredCost(
    start_seconds=3.0,
    decode_seconds=2.0,
    step_seconds=0.5,
    evaluation_start=0.25,
    evaluation_image=0.001,
    save_seconds=0.1,
    finish_seconds=1.0,
    memory=2**30,
    data="its own",
    measured="whole",
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """What is asked to be measured, with PARTS as the answer."""
    tasks: list[Task] = []

    def measured(task: Task, threads: int | None = None) -> MeasuredCost:
        tasks.append(task)
        return PARTS

    monkeypatch.setattr(module, "measure_in_subprocess", measured)
    return tasks


def test_a_run_is_the_sum_of_its_parts(asked: list[Task]) -> None:
    found = forecast(CONFIG, MODEL, train_images=1000, validation_images=200, test_images=400)
    assert found.training_seconds == 50.0
    assert found.evaluation_seconds == pytest.approx(2 * (0.25 + 0.2) + 0.25 + 0.4)  # two validations, then the test
    assert found.finish_seconds == pytest.approx(1.0 + 3 * 0.1)
    assert found.seconds == pytest.approx(5.0 + 50.0 + 1.55 + 1.3)
    assert found.memory_gib == 1.0


def test_without_images_to_judge_nothing_is_judged(asked: list[Task]) -> None:
    assert forecast(CONFIG, MODEL, train_images=1000).evaluation_seconds == 0.0


def test_configs_of_another_length_rate_and_seed_are_one_measurement(asked: list[Task]) -> None:
    others = [
        replace(CONFIG, steps=10**6, seed=7, evaluate_every=3),
        replace(CONFIG, optimizer=replace(CONFIG.optimizer, lr=0.1)),
        replace(CONFIG, batch=32),
    ]
    for config in (CONFIG, *others):
        forecast(config, MODEL, train_images=1000)
    assert asked[0] == asked[1] == asked[2]
    assert asked[3] != asked[0]
    for rate in (1e-3, 2e-3):
        forecast(replace(CONFIG, optimizer=Muon(lr=10 * rate, adam_lr=rate)), MODEL, train_images=1000)
    assert asked[4] == asked[5]


def test_a_gpu_is_arithmetic(asked: list[Task]) -> None:
    """B/16 for 7 epochs of JFT: 224 exaFLOPs (Table 6) are 6.5 days of an H100 at 40 % of its peak."""
    model = replace(variant("B/16"), hidden=768, num_classes=18_291)
    config = replace(CONFIG, steps=517_822, batch=4096)
    found = forecast(config, model, train_images=303_000_000, validation_images=1000)
    evaluations = 2 * multiply_adds(model) * 1000 * (517_822 // 50 + 2)
    assert found.total_flops == pytest.approx(training_flops(model) * 517_822 * 4096 + evaluations, rel=1e-9)
    assert found.on_gpu("H100") == pytest.approx(found.total_flops / (found.reached * GPUS["H100"]))
    assert 224e18 / (REACHED * GPUS["H100"]) / 86400 == pytest.approx(6.55, abs=0.01)
    with pytest.raises(BadInput, match="H100"):
        found.on_gpu("H1000")


def test_the_beginning_of_a_real_run_is_measured(tmp_path: Path) -> None:
    """Sane numbers from a process of its own: a few milliseconds a step, a few hundred MiB."""
    found = forecast(
        replace(CONFIG, resident=True), MODEL, train_images=1352, validation_images=445, resize=CONFIG.resize
    )
    assert found.data == "its own"
    assert found.measured == "whole"
    assert 0.0005 < found.seconds_per_step < 2.0
    assert 0.2 < found.memory_gib < 3.0
    assert found.start_seconds > 0.5


@pytest.mark.slow
def test_data_that_are_not_here_are_replaced_by_noise_and_large_models_by_their_first_layers() -> None:
    """L/16 on a data set that no machine has: its step is 190 times that of Ti/16's smallest, whatever the machine."""
    config = replace(CONFIG, train="jft@train", validation=None, batch=4096)
    model = replace(variant("L/16"), num_classes=100)
    found = forecast(config, model, train_images=303_000_000)
    assert found.data == "random images"
    assert found.measured == "part"
    assert found.seconds_per_step > 100  # 1.5 PFLOP on a CPU
    assert found.memory_gib > 4  # 304 M parameters of 16 bytes


def test_what_cannot_be_measured_is_said() -> None:
    with pytest.raises(BadInput, match="heads"):
        forecast(CONFIG, replace(MODEL, heads=5), train_images=1000)


def test_small_models_reach_less_of_a_gpu() -> None:
    shares = [gpu_share(ViTConfig(width=width, heads=4)) for width in (192, 384, 768, 1024, 1280, 1664)]
    assert shares == sorted(shares)
    assert shares[1:] == pytest.approx([0.22, 0.333, 0.396, 0.4, 0.4], abs=1e-3)
