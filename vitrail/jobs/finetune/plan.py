"""The plan of a sweep before it starts: trials, final runs, images and time; shortened where a budget is given."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

from vitrail.core.errors import BadInput
from vitrail.core.numbers import duration
from vitrail.core.text import ordinary_spaces
from vitrail.jobs.finetune.run import Finetune
from vitrail.jobs.finetune.schedule_rule import hyper_rule, seconds_of
from vitrail.jobs.finetune.step_time import StepTime
from vitrail.records.finetune import Plan

FEWEST = 0.1  # of the steps: a budget takes these away first
ASIDE = 0.9  # of a budget is planned: what starts, decodes and saves takes the rest


@dataclass(frozen=True)
class Sizes:
    """How many images there are."""

    train: int
    judged: int
    test: int


def held_out_share(config: Finetune, images: int) -> float | None:
    """The share that is split off: as given, none where the user names a validation, otherwise by the rule."""
    if len(config.sweep) < 2 or config.validation is not None:
        return None
    return config.held_out if config.held_out is not None else hyper_rule(config.train, images).held_out


def make_plan(config: Finetune, sizes: Sizes, classes: int, pace: StepTime, memory_there: float | None) -> Plan:
    """The plan of a config without zeros, shortened to its budget.

    A budget first takes away steps, down to a tenth; then final runs but one; then rates, from the outside of the
    sweep, so that those next to its middle stay; then steps again.

    Raises:
        BadInput: rates that are not above 0 or come twice, or a budget in which not one step fits.
    """
    rates = tuple(sorted(config.sweep)) or (config.optimizer.lr,)
    if len(set(rates)) < len(rates) or not all(rate > 0 for rate in rates):
        raise BadInput(f"the sweep {config.sweep} is to hold different rates above 0, such as 0.003 0.01 0.03")
    seeds = tuple(range(config.seed, config.seed + config.repeats + 1))
    share = held_out_share(config, sizes.train)
    steps, why = config.steps, [*_rule(config, sizes, share)]

    def seconds(steps: int, rates: int, seeds: int) -> float:
        trials = rates if rates > 1 else 0
        looks = ceil(steps / config.evaluate_every) + 1
        judging = trials * looks * sizes.judged + seeds * sizes.test
        return (trials + seeds) * steps * pace.seconds(config.batch) + judging * pace.judged

    if config.budget is not None:
        limit = ASIDE * seconds_of(config.budget)
        least = max(1, round(FEWEST * steps))
        wanted = (steps, len(seeds), len(rates))
        steps = _most(steps, least, lambda n: seconds(n, len(rates), len(seeds)) <= limit)
        while len(seeds) > 1 and seconds(steps, len(rates), len(seeds)) > limit:
            seeds = seeds[:-1]
        while len(rates) > 1 and seconds(steps, len(rates), len(seeds)) > limit:
            rates = rates[1:] if len(rates) % 2 == 0 else rates[:-1]  # from the ends in turn
        steps = _most(wanted[0], 1, lambda n: seconds(n, len(rates), len(seeds)) <= limit)
        if seconds(steps, len(rates), len(seeds)) > limit:
            raise BadInput(
                f"--budget {config.budget} is too short: one step takes {pace.seconds(config.batch):.3g} s and judging "
                f"{sizes.test:,} test images {sizes.test * pace.judged:.3g} s; take fewer pixels, a smaller --batch, "
                "or --tune head"
            )
        why += _taken(config.budget, wanted, (steps, len(seeds), len(rates)))
    warmup = round(config.schedule.warmup * steps / config.steps)
    return Plan(
        rates=rates,
        seeds=seeds,
        steps=steps,
        batch=config.batch,
        warmup=warmup,
        held_out=share if len(rates) > 1 else None,
        classes=classes,
        train_images=sizes.train,
        trial_images=sizes.train - (sizes.judged if share is not None else 0),
        judged_images=sizes.judged,
        test_images=sizes.test,
        seconds_per_step=pace.seconds(config.batch),
        seconds=seconds(steps, len(rates), len(seeds)),
        memory_gib=pace.memory_gib,
        memory_there=memory_there,
        why=tuple(why),
    )


def as_planned(config: Finetune, plan: Plan) -> Finetune:
    """The run that all trials and final runs are variants of."""
    schedule = replace(config.schedule, warmup=plan.warmup)
    single = replace(config, sweep=(), held_out=None, repeats=0, budget=None)
    return replace(single, steps=plan.steps, batch=plan.batch, schedule=schedule)


def plan_lines(plan: Plan) -> list[str]:
    """The plan as lines of text, printed before it starts."""
    said = f"{plan.steps:,} steps of {plan.batch:,} images (warm-up {plan.warmup:,})"
    rates = ", ".join(f"{rate:g}" for rate in plan.rates)
    lines = [f"plan: {said}, {plan.classes} classes"]
    if plan.trials:
        lines.append(
            f"  {plan.trials} trials at rates {rates}: learn from {plan.trial_images:,} images, chosen by "
            f"{plan.judged_images:,} held out"
        )
    runs = "1 final run" if len(plan.seeds) == 1 else f"{len(plan.seeds)} final runs"
    at = "the best rate" if plan.trials else f"rate {rates}"
    tested = f", tested once on {plan.test_images:,}" if plan.test_images else ", no test set"
    lines.append(f"  {runs} at {at}: all {plan.train_images:,} training images{tested}")
    there = f" of {plan.memory_there:,.1f} GiB free" if plan.memory_there is not None else ""
    lines.append(
        f"  about {duration(plan.seconds)} ({plan.seconds_per_step:.3g} s a step, measured on grey images), "
        f"about {plan.memory_gib:.2g} GiB{there}"
    )
    return [ordinary_spaces(line) for line in (*lines, *(f"  {sentence}" for sentence in plan.why))]


def _most(most: int, least: int, fits: Callable[[int], bool]) -> int:
    """The largest number from `least` to `most` that fits; `least` where none does."""
    if fits(most):
        return most
    low, high = least, most  # high does not fit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _rule(config: Finetune, sizes: Sizes, share: float | None) -> list[str]:
    scale = hyper_rule(config.train, sizes.train)
    said = []
    if share is not None:
        by = "as given" if config.held_out is not None else scale.source
        said.append(f"held out of every class: {share:.0%} ({by}), drawn with seed {config.seed}")
    elif len(config.sweep) > 1:
        said.append(f"the rate is chosen by {config.validation}, which the final run does not learn from")
    return said


def _taken(budget: str, wanted: tuple[int, int, int], left: tuple[int, int, int]) -> list[str]:
    named = zip(("steps", "final runs", "rates"), wanted, left, strict=True)
    taken = [f"{had:,} {name} became {has:,}" for name, had, has in named if had != has]
    return [f"to fit {budget}: {', '.join(taken)}"] if taken else [f"fits {budget} without cuts"]
