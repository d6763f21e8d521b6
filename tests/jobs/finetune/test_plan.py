"""The plan: what is counted, and what a budget takes away first."""

from dataclasses import replace
from typing import Any

import pytest

from vitrail.core.config import from_json, to_json
from vitrail.core.errors import BadInput
from vitrail.jobs.finetune.plan import Sizes, as_planned, make_plan, plan_lines
from vitrail.jobs.finetune.run import Finetune
from vitrail.jobs.finetune.step_time import StepTime
from vitrail.records.finetune import Plan
from vitrail.train.schedule import Cosine

SIZES = Sizes(train=1000, judged=100, test=200)
PACE = StepTime(step=0.1, image=0.01, judged=0.003, tried=8, memory_gib=1.5)


def planned(budget: str | None = None, **changes: Any) -> Plan:
    config = Finetune(
        "photos@train", steps=500, batch=90, schedule=Cosine(100), sweep=(0.03, 0.001, 0.01, 0.003), repeats=2
    )
    return make_plan(replace(config, budget=budget, **changes), SIZES, 5, PACE, 10.0)


def test_everything_is_counted() -> None:
    plan = planned()
    assert plan.rates == (0.001, 0.003, 0.01, 0.03)
    assert plan.seeds == (0, 1, 2)
    assert (plan.trial_images, plan.held_out) == (900, 0.1)
    assert plan.seconds_per_step == pytest.approx(1.0)
    # seven runs of 500 seconds; each trial judged twice, each final run once
    assert plan.seconds == pytest.approx(7 * 500 + 4 * 2 * 100 * 0.003 + 3 * 200 * 0.003)
    said = "\n".join(plan_lines(plan))
    for part in (
        "4 trials at rates 0.001, 0.003, 0.01, 0.03",
        "900 images",
        "3 final runs",
        "58 min",
        "1.5 GiB of 10.0",
    ):
        assert part in said
    assert from_json(Plan, to_json(plan)) == plan


@pytest.mark.parametrize(
    ("budget", "rates", "seeds", "steps"),
    [
        ("2h", 4, 3, (500, 500)),
        ("30m", 4, 3, (220, 240)),  # 1620 s for 7 runs
        ("5m", 4, 1, (50, 55)),  # 7 runs of a tenth do not fit, 5 do
        ("3m", 2, 1, (50, 55)),  # nor 5
        ("30s", 1, 1, (20, 30)),  # not even one run of a tenth: what remains
    ],
)
def test_a_budget_takes_steps_then_final_runs_then_rates(
    budget: str, rates: int, seeds: int, steps: tuple[int, int]
) -> None:
    plan = planned(budget)
    assert (len(plan.rates), len(plan.seeds)) == (rates, seeds)
    assert steps[0] <= plan.steps <= steps[1]
    assert plan.warmup == round(plan.steps / 5)
    assert f"fit{'s' if budget == '2h' else ''} {budget}" in " ".join(plan.why)


def test_the_rates_that_stay_are_those_of_the_middle() -> None:
    assert planned("3m").rates == (0.003, 0.01)
    assert planned("30s").rates == (0.01,)
    assert planned("30s").trials == 0


def test_no_time_at_all_is_refused() -> None:
    with pytest.raises(BadInput, match="--budget 1s is too short: one step takes 1 s"):
        planned("1s")


@pytest.mark.parametrize("sweep", [(0.01, 0.01), (0.0, 0.1), (-1.0, 1.0)])
def test_rates_must_differ_and_be_positive(sweep: tuple[float, ...]) -> None:
    with pytest.raises(BadInput, match="different rates above 0"):
        planned(sweep=sweep)


def test_a_named_validation_is_what_the_rate_is_chosen_by() -> None:
    plan = planned(validation="photos@val")
    assert plan.held_out is None
    assert plan.trial_images == 1000
    assert any("photos@val" in sentence for sentence in plan.why)


def test_the_runs_follow_the_plan() -> None:
    config = Finetune("photos@train", steps=500, batch=90, schedule=Cosine(100), sweep=(0.01, 0.03), budget="30s")
    plan = make_plan(config, SIZES, 5, PACE, None)
    run = as_planned(config, plan)
    assert (run.steps, run.schedule.warmup) == (plan.steps, plan.warmup)
    assert (run.sweep, run.budget, run.repeats) == ((), None, 0)
