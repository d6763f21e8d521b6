"""`pretrain auto`: the run that makes most of a time, of compute, or of a depth.

The folder is that of a run, with `pilot/` and `plan.json` in it: a plan that is there is followed, and what is missing
is done.
"""

import time
from dataclasses import replace
from pathlib import Path

from vitrail.core.config import from_json, to_json
from vitrail.core.device import Device, Machine
from vitrail.core.dist import launched
from vitrail.core.errors import BadInput
from vitrail.core.progress import say
from vitrail.core.resumable import refuse_another
from vitrail.core.run import PLANNED_FILES
from vitrail.core.text import ordinary_spaces
from vitrail.data.open.names import open_data, require_classes
from vitrail.data.sources.base import Source
from vitrail.jobs.finetune.schedule_rule import seconds_of
from vitrail.jobs.forecast.forecast import forecast
from vitrail.jobs.pretrain import Pretrain, pretrain
from vitrail.jobs.pretrain_auto.config import BATCH, AutoPretrain, Facts, look_at, run_of, vit_of
from vitrail.jobs.pretrain_auto.law import shipped_law
from vitrail.jobs.pretrain_auto.pilot import run_pilot
from vitrail.jobs.pretrain_auto.plan import (
    FEWEST,
    LARGEST_PILOT,
    PILOT,
    PLANNED,
    Cost,
    compute_for,
    depth_for,
    depth_in_time,
    foretold,
    mirrors,
    plan_lines,
    reasons,
    step_flops,
    steps_for,
    steps_in_time,
)
from vitrail.records.auto import Foretold, PilotResult, PretrainPlan
from vitrail.records.record import load_record, write_record
from vitrail.records.run import RunResult

LIKELY = 0.3  # of the peak of the device, that a training step reaches: where the search for a depth starts
TRIED = 1000  # steps of the run whose cost is measured: any number


def pretrain_auto(
    asked: AutoPretrain, folder: Path, machine: Machine | None = None, *, only_plan: bool = False
) -> tuple[PretrainPlan, RunResult | None]:
    """Plans in `folder` and trains there, or goes on; returns the plan, and the result where it is not only planned.

    Raises:
        BadInput: data, a folder or a budget that cannot be used, or several processes.
        Interrupted: after a signal, once the run is saved.
    """
    begun = time.perf_counter()
    asked.check()
    if launched().size > 1:
        raise BadInput(
            "pretrain auto plans in one process: make its plan by --plan there, then torchrun ... pretrain --config "
            f"{folder / 'plan.json'} --out another folder"
        )
    machine = machine or Machine()
    plan = _stored(asked, folder)
    if plan is None:
        _check_unused(folder)
        plan = _planned(asked, folder, machine, begun)
        folder.mkdir(parents=True, exist_ok=True)
        write_record(folder / "plan.json", plan)
    for line in plan_lines(plan):
        say(ordinary_spaces(line))
    if only_plan:
        return plan, None
    config: Pretrain = from_json(Pretrain, plan.config, str(folder / "plan.json"))
    result = pretrain(config, folder, machine, "auto")
    if result.accuracy is not None and result.count is not None:
        _compare(plan, result, folder, time.perf_counter() - begun)
    return plan, result


def _stored(asked: AutoPretrain, folder: Path) -> PretrainPlan | None:
    """The plan that the folder has; raises BadInput where it was made for other options."""
    file = folder / "plan.json"
    if not file.exists():
        return None
    plan = load_record(PretrainPlan, file)
    advice = "give another folder, or the options of that plan"
    refuse_another(folder, plan.asked, asked, f"{folder} was planned with other options", advice)
    return plan


def _check_unused(folder: Path) -> None:
    """Raises BadInput for a folder of something else, before a pilot is made there."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file, expected a folder or a new name")
    there = [place.name for place in folder.iterdir()] if folder.is_dir() else []
    if others := [name for name in there if not name.startswith(".") and name not in PLANNED_FILES]:
        raise BadInput(f"{folder} holds other files ({others[0]}) and no plan; give a new or an empty folder")


def _planned(asked: AutoPretrain, folder: Path, machine: Machine, begun: float) -> PretrainPlan:
    law, runs = shipped_law()
    source = open_data(asked.train, "train")
    require_classes(source, asked.train)
    facts = look_at(source)
    budget = None if asked.budget is None else seconds_of(asked.budget)
    test = 0 if asked.test is None else len(open_data(asked.test, "test"))

    def left() -> float:
        assert budget is not None
        return PLANNED * budget - (time.perf_counter() - begun)

    def cost(depth: int) -> Cost:
        return _cost(run_of(asked, facts, depth, TRIED, True), facts, test, machine)

    cheap = Cost(0.0, 0.0)
    if budget is None:
        flops = asked.flops if asked.flops is not None else compute_for(law, asked.depth or 0)
        depth = asked.depth or depth_for(law, flops)
        steps_for(flops, step_flops(depth, facts))
    else:
        say(f"measuring what steps take on this machine, for a budget of {asked.budget}")
        peak = Device.find(machine.device).peak_flops
        first = depth_for(law, LIKELY * peak * budget)
        depth = depth_in_time(law, facts, (1 - PILOT) * left(), first, cost)
        cheap = cost(depth)
        flops = step_flops(depth, facts) * steps_in_time(left(), cheap, budget)
    each = step_flops(depth, facts)
    pilot = _pilot(asked, source, facts, depth, round(flops / each), folder, machine, cheap)
    if budget is None:
        steps = steps_for(flops - (pilot.flops if pilot else 0.0), each)
        seconds = None
    else:
        slower = Cost(cheap.step * (pilot.slower if pilot else 1.0), cheap.besides)
        steps = steps_in_time(left(), slower, budget)
        seconds = steps * slower.step + slower.besides
    flops, epochs = steps * each, steps * BATCH / facts.images
    config = run_of(asked, facts, depth, steps, flip=pilot is not None and mirrors(pilot, facts.classes))
    expected, interval = foretold(law, runs.carried, pilot, depth, flops, facts.classes) if pilot else (None, None)
    return PretrainPlan(
        depth=depth,
        width=vit_of(depth, facts).width,
        steps=steps,
        batch=BATCH,
        epochs=epochs,
        flops=flops,
        seconds=seconds,
        budget_seconds=budget,
        best_depth=law.best_depth(flops),
        pilot=pilot,
        expected=expected,
        interval=interval,
        why=tuple(reasons(law, facts, depth, flops, epochs, pilot)),
        asked=to_json(asked),
        config=to_json(config),
    )


def _pilot(
    asked: AutoPretrain,
    source: Source,
    facts: Facts,
    depth: int,
    steps: int,
    folder: Path,
    machine: Machine,
    cost: Cost,
) -> PilotResult | None:
    """Before a run of so many steps; None where it would have fewer than say anything, or take too many of them."""
    short = max(round(PILOT * steps), FEWEST // 2)
    if short > LARGEST_PILOT * steps:
        return None
    return run_pilot(asked, source, facts, depth, short, folder / "pilot", machine, cost)


def _cost(config: Pretrain, facts: Facts, test: int, machine: Machine) -> Cost:
    """What it takes here, measured on its first steps in another process."""
    model = replace(config.model, num_classes=facts.classes)
    found = forecast(config, model, train_images=facts.images, test_images=test, resize=config.resize, machine=machine)
    return Cost(found.seconds_per_step, found.start_seconds + found.evaluation_seconds + found.finish_seconds)


def _compare(plan: PretrainPlan, result: RunResult, folder: Path, seconds: float) -> None:
    """Writes what came of the plan, once."""
    assert result.accuracy is not None
    assert result.count is not None
    inside = None
    if plan.interval is not None and result.interval is not None:
        inside = plan.interval[0] <= result.interval[1] and result.interval[0] <= plan.interval[1]
    record = Foretold(
        expected=plan.expected,
        interval=plan.interval,
        reached=result.accuracy,
        count=result.count,
        inside=inside,
        seconds=seconds,
        budget_seconds=plan.budget_seconds,
    )
    if not (folder / "foretold.json").exists():
        write_record(folder / "foretold.json", record)
