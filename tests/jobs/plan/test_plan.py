"""Plans: their arithmetic, the paper's own runs, and what is refused."""

from dataclasses import fields, replace
from typing import Any

import pytest

from vitrail.core.device import Sharding
from vitrail.core.errors import BadInput
from vitrail.data.loader.sampler import share_of_rank
from vitrail.jobs.plan import communication
from vitrail.jobs.plan.describe import comparison, facts, memory_rows
from vitrail.jobs.plan.hardware import GIB, HARDWARE
from vitrail.jobs.plan.plan import Plan, Surroundings, hardware_of, plan
from vitrail.jobs.plan.work import work_of
from vitrail.jobs.pretrain import Pretrain
from vitrail.models.build import ModelConfig
from vitrail.models.cost import attention_multiply_adds, parameters, training_activations, training_flops
from vitrail.models.mae import MAE
from vitrail.models.objective_cost import pass_attention_multiply_adds, training_flops_of
from vitrail.models.resnet import ResNetConfig
from vitrail.models.variants import list_models, variant
from vitrail.recipes import pretraining
from vitrail.recipes.pretraining import CLASSES
from vitrail.train.optim import Adam, Muon

H100 = HARDWARE["h100"]


def recipe(name: str) -> tuple[Pretrain, ModelConfig]:
    config = pretraining(name)
    return config, replace(config.model, num_classes=CLASSES[name.split("-")[0]])


def planned(name: str = "imagenet21k-b16", devices: int = 8, batch: int = 4096, **options: Any) -> Plan:
    config, model = recipe(name)
    config = replace(config, batch=batch)
    return plan(config, model, devices=devices, **{"hardware": H100, **options})


# TPUv3-core-days of Table 2, and the exaFLOPs of Table 6 where it has the run. What a plan says with nothing fitted to
# them is 0.91, 1.13 and 0.91 of the paper's days, and within 0.1 % of its exaFLOPs. Eight cores are in the paper; how
# many the runs on JFT had is not: with 64 to 256 it is 0.89 to 1.02 and 1.05 to 1.23. Each core had a whole model.
@pytest.mark.parametrize(
    ("name", "cores", "days", "exa"),
    [("jft-h14", 128, 2500, 4262), ("jft-l16-14", 128, 680, 1567), ("imagenet21k-l16-90", 8, 230, None)],
)
def test_the_papers_runs_take_about_as_long_as_the_paper_says(
    name: str, cores: int, days: float, exa: float | None
) -> None:
    found = planned(name, cores, hardware=HARDWARE["tpuv3"], sharding="replicated")
    assert found.fits
    assert found.device_hours / 24 == pytest.approx(days, rel=0.25)
    if exa is not None:
        assert training_flops(recipe(name)[1]) * found.steps * 4096 / 1e18 == pytest.approx(exa, rel=0.002)


def test_an_h100_computes_a_step_as_it_was_reckoned_by_hand() -> None:
    """B/16 with 256 images a pass: 43.1 ms of products, 6.4 of attention, 29.7 of all else, 1.8 of the update."""
    config = replace(pretraining("imagenet-b16"), batch=256)
    model = replace(variant("B/16"), num_classes=1000)
    step = plan(config, model, devices=1, hardware=H100, recompute=False).step
    assert step.products * 1e3 == pytest.approx(43.1, rel=0.03)
    assert step.attention * 1e3 == pytest.approx(6.4, rel=0.15)
    assert step.streaming * 1e3 == pytest.approx(29.7, rel=0.03)
    assert step.update * 1e3 == pytest.approx(1.8, rel=0.03)
    assert step.seconds == pytest.approx(step.computing)


@pytest.mark.parametrize("name", list_models())
def test_work_is_that_of_the_cost_model(name: str) -> None:
    model = replace(variant(name), num_classes=1000)
    work, again = work_of(model), work_of(model, recompute=True)
    assert work.flops == training_flops(model)
    assert work.attention == 6 * attention_multiply_adds(model)
    assert again.flops == pytest.approx(4 / 3 * work.flops)
    assert work.kept == training_activations(model, 3)
    assert work.parameters == parameters(model)
    assert 0 < work.layer_parameters * work.layers <= work.parameters
    assert again.kept <= work.kept


def test_mae_sees_a_quarter() -> None:
    model = variant("B/16")
    work, whole = work_of(model, MAE()), work_of(model)
    assert work.flops == training_flops_of(model, MAE())
    assert 0 < pass_attention_multiply_adds(model, MAE()) < attention_multiply_adds(model)
    assert work.kept < whole.kept


def test_memory_is_that_of_sixteen_bytes_a_parameter() -> None:
    """Adam, replicated: weights, gradients, two moments, and casts to bfloat16."""
    found = planned(sharding="replicated").memory
    count = parameters(recipe("imagenet21k-b16")[1])
    assert found.weights + found.gradients + found.optimizer == 16 * count
    assert found.copies == 2 * count
    assert found.total == pytest.approx(sum(getattr(found, field.name) for field in fields(found)))
    assert sum(size for _, size in memory_rows(found)) == pytest.approx(found.total)


def test_muon_keeps_half_of_its_matrices_and_takes_longer() -> None:
    """B/16: 85 of 102 million weights; 1.6 TFLOP a step on each accelerator, whatever its images."""
    config, model = recipe("imagenet21k-b16")
    found = {}
    for optimizer in (Adam(), Muon()):
        made = plan(replace(config, optimizer=optimizer), model, devices=8, hardware=H100, sharding="sharded")
        found[type(optimizer)] = made
    adam, muon = found[Adam], found[Muon]
    matrices = 12 * (4 * 768**2 + 2 * 768 * 3072)
    assert 8 * (adam.memory.optimizer - muon.memory.optimizer) == pytest.approx(4 * matrices)
    assert adam.checkpoint_bytes - muon.checkpoint_bytes == pytest.approx(4 * matrices)
    flops = 12 * 5 * 2 * (4 * 3 * 768**3 + 2 * (2 * 4 + 1) * 768**3)
    assert flops == pytest.approx(1.63e12, rel=0.01)
    longest = flops / (H100.peak * H100.width_share(768, 768))
    assert 0.5 * longest < muon.step.update - adam.step.update < longest
    gathered = muon.step.communication - adam.step.communication
    assert gathered == pytest.approx(muon.step.exposed - adam.step.exposed)
    assert gathered > 2 * matrices * 7 / 8 / communication.bus(H100, 8)
    alone = plan(replace(config, optimizer=Muon()), model, devices=8, hardware=H100, sharding="replicated")
    assert alone.step.communication == planned(batch=config.batch, sharding="replicated").step.communication


def test_shards_divide_what_they_hold() -> None:
    whole, parts = (planned("jft-h14", 64, sharding=how).memory for how in ("replicated", "sharded"))
    assert whole.weights == 64 * parts.weights
    assert whole.optimizer == 64 * parts.optimizer
    assert parts.gradients < whole.gradients
    assert planned("jft-h14", 64, sharding="hybrid").memory.weights == 8 * parts.weights


def test_gradients_are_whole_until_the_last_pass() -> None:
    config, model = recipe("jft-h14")
    one = plan(replace(config, micro_batch=64), model, devices=64, hardware=H100, sharding="sharded").memory
    two = plan(replace(config, micro_batch=32), model, devices=64, hardware=H100, sharding="sharded").memory
    assert two.gradients > 4 * parameters(model) > one.gradients


def test_the_largest_pass_fits_and_one_more_part_would_not_be_needed() -> None:
    found = planned("jft-h14", 8, sharding="sharded", recompute=False)
    assert found.memory.total <= H100.memory
    config, model = recipe("jft-h14")
    passes = -(-found.images // found.micro_batch)
    fewer = -(-found.images // (passes - 1))
    larger = plan(
        replace(config, micro_batch=fewer), model, devices=8, hardware=H100, sharding="sharded", recompute=False
    )
    assert not larger.fits


def test_what_does_not_fit_is_said() -> None:
    small = replace(HARDWARE["rtx-4090"], memory=8 * GIB)
    found = planned("jft-h14", 1, hardware=small)
    assert not found.fits
    assert "does not fit" in facts(found, Surroundings(), "jft-h14")
    assert found.first.name == "memory"
    assert planned("jft-h14", 1024, hardware=small).fits


def test_recomputation_is_taken_where_nothing_else_fits() -> None:
    config, model = recipe("jft-h14")
    one = replace(config, batch=64, micro_batch=64)
    need = plan(one, model, devices=1, hardware=H100, recompute=False).memory.total
    tight = replace(H100, memory=0.6 * need)
    assert plan(one, model, devices=1, hardware=tight).recompute
    assert not plan(one, model, devices=1, hardware=H100).recompute


@pytest.mark.parametrize("sharding", ["replicated", "sharded", "hybrid"])
def test_more_accelerators_take_less_time_and_more_hours(sharding: Sharding) -> None:
    """Up to some number: whole shards of B/16 are slower on 1,024 than on 256."""
    plans = [planned(devices=n, sharding=sharding) for n in (16, 64, 128)]
    days = [made.seconds for made in plans]
    assert days == sorted(days, reverse=True)
    assert [made.device_hours for made in plans] == sorted(made.device_hours for made in plans)
    assert all(0 <= made.step.exposed <= made.step.communication for made in plans)


def test_a_slower_network_takes_longer_and_fails_first() -> None:
    fast, slow = planned(devices=64), planned(devices=64, hardware=replace(H100, network=1e9), sharding="replicated")
    assert slow.step.seconds > 2 * fast.step.seconds
    assert slow.first.name == "network"


def test_a_ring_sends_each_byte_twice() -> None:
    free = replace(H100, link_latency=0.0, network_latency=0.0, joined=1.0)
    assert communication.all_reduce(1e9, 8, free) == pytest.approx(2 * 7 / 8 * 1e9 / 450e9)
    assert communication.all_reduce(1e9, 64, free) == pytest.approx(2 * 63 / 64 * 1e9 / 50e9)
    assert communication.all_reduce(1e9, 1, H100) == 0
    assert communication.across(1e9, 8, free) == pytest.approx(2 * 7 / 8 * 1e9 / 50e9)


def test_small_parts_wait_for_the_host() -> None:
    found = planned(devices=1024)
    assert found.images == 4
    assert found.first.name == "host"
    assert found.step.seconds == found.step.host


def test_resnets_are_planned_too() -> None:
    config = pretraining("jft-r152x2")
    assert isinstance(config.model, ResNetConfig)
    assert plan(config, replace(config.model, num_classes=18_291), devices=64, hardware=H100).fits


def test_what_makes_no_sense_is_refused() -> None:
    for devices, words in ((0, "at least 1"), (8192, "cannot be shared by 8192"), (12, "whole number of machines")):
        with pytest.raises(BadInput, match=words):
            planned(devices=devices)
    with pytest.raises(BadInput, match="h100"):
        hardware_of("h10")


def test_uneven_parts_wait_for_the_largest() -> None:
    """4,096 images on 3: 1,366, 1,365, 1,365. The step is that of 1,366, and two of three wait for one image."""
    found, larger = planned(devices=3), planned(devices=3, batch=4098)
    parts = [share_of_rank(4096, rank, 3) for rank in range(3)]
    sizes = [part.stop - part.start for part in parts]
    assert (found.images, found.fuller) == (max(sizes), sizes.count(max(sizes))) == (1366, 1)
    assert found.step == larger.step
    assert found.images_per_second == pytest.approx(larger.images_per_second * 4096 / 4098)
    assert found.idle == pytest.approx(2 / (3 * 1366))
    assert (planned(devices=8).fuller, planned(devices=8).idle) == (0, 0)


def test_uneven_parts_are_said() -> None:
    said, even = (facts(planned(devices=n), Surroundings(), "imagenet21k-b16") for n in (3, 4))
    assert "at most 1,366 images a step on each" in said
    assert "4,096 images are shared by 3 in parts of 1,366 (1 of them) and 1,365 (2)" in said
    assert "--batch 4,095 or 4,098 is shared evenly" in said
    assert "0.05 %" in said
    assert "1,024 images a step on each" in even
    assert "shared by" not in even
    assert "1,365 or 1,366" in comparison([planned(devices=3)])[1]


def test_a_table_has_a_line_a_plan() -> None:
    lines = comparison([planned(devices=n) for n in (1, 8)])
    assert len(lines) == 3
    assert "H100" in facts(planned(), Surroundings(), "imagenet21k-b16")
