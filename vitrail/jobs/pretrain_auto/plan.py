"""The plan of `pretrain auto`: depth and steps for what may be spent, and what the run will reach."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import exp, hypot, log, sqrt
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from vitrail.core.errors import BadInput
from vitrail.core.estimate import Interval, wilson
from vitrail.core.numbers import duration, percent
from vitrail.jobs.pretrain_auto.config import BATCH, DEPTHS, MANY_EPOCHS, Facts, vit_of
from vitrail.jobs.pretrain_auto.law import Carried, Law, accuracy_at, log_odds
from vitrail.models.cost import training_flops
from vitrail.records.auto import HalfPilot, PilotResult, PretrainPlan

PLANNED = 0.93  # of the budget: what measurements missed takes the rest
PILOT = 1 / 16  # of the compute, but for short runs, whose pilot has half of FEWEST steps
LARGEST_PILOT = 1 / 5  # of the compute, above which there is none
VAGUE = 0.3  # of an interval of accuracy, from which on that is said
FEWEST = 100  # steps of a run that is worth a plan
WIDER = 0.6  # a wider model computes faster, in FLOPs a second, by this power of the width (of 64 to 192 on a CPU)


class Cost(NamedTuple):
    """What a run of a depth takes on this machine, in seconds."""

    step: float
    besides: float  # start, evaluation of the test images, end


def depth_for(law: Law, flops: float) -> int:
    """The best depth for this compute, among DEPTHS."""
    low, high = DEPTHS
    return int(np.clip(round(law.best_depth(flops)), low, high))


def step_flops(depth: int, facts: Facts) -> float:
    """Of training, with a classifier for these classes."""
    return float(training_flops(replace(vit_of(depth, facts), num_classes=facts.classes))) * BATCH


def depth_in_time(law: Law, facts: Facts, seconds: float, first: int, cost: Callable[[int], Cost]) -> int:
    """The depth that reaches most, by the law, of what it computes in so many seconds.

    Measured is one depth at a time, from `first` on; the speed of others is taken from it by WIDER.
    """
    depth, measured = first, dict[int, Cost]()
    while depth not in measured:
        measured[depth] = cost(depth)
        depth = max(range(DEPTHS[0], DEPTHS[1] + 1), key=partial(_reached, law, facts, seconds, measured))
    return depth


def _reached(law: Law, facts: Facts, seconds: float, measured: Mapping[int, Cost], depth: int) -> float:
    """Log-odds after so many seconds, by the depth that was measured and is the nearest; less than any of no steps."""
    nearest = min(measured, key=lambda known: abs(known - depth))
    took, each = measured[nearest], step_flops(depth, facts)
    step = took.step * each / step_flops(nearest, facts) * (nearest / depth) ** WIDER
    steps = (seconds - took.besides) / step
    return law.odds(depth, steps * each) if steps >= FEWEST else -1e9 * step


def steps_in_time(seconds: float, cost: Cost, budget: float) -> int:
    """The steps that fit; raises BadInput where they are too few."""
    steps = int((seconds - cost.besides) / cost.step)
    if steps < FEWEST:
        least = FEWEST * cost.step + cost.besides + budget - seconds
        raise BadInput(
            f"a budget of {duration(budget)} leaves {max(0, steps)} steps of {cost.step:.2g} s here, too few "
            f"to learn from: give at least {duration(1.1 * least)}"
        )
    return steps


def steps_for(flops: float, each: float) -> int:
    """The steps of so much compute; raises BadInput where they are too few."""
    steps = round(flops / each)
    if steps < FEWEST:
        least = 1.05 * FEWEST * each  # enough when it is rounded
        raise BadInput(f"{flops:.2g} FLOPs are {steps} steps of {each:.2g} FLOPs, too few: give {least:.2g}")
    return steps


def foretold(
    law: Law, carried: Sequence[Carried], pilot: PilotResult, depth: int, flops: float, classes: int
) -> tuple[float, Interval | None]:
    """The accuracy of a run of this depth and compute, and what holds it in 95 % of cases.

    By its pilot, the law's gain, and the share of such a gain that is reached: the one from the half pilot to the
    pilot, times what followed on such a one on other data; where there is no half pilot, that of other data. None where
    fewer than two tell how far it lies apart.
    """
    gain, error = law.gain(depth, flops, (pilot.depth, pilot.flops))
    before = log_odds(pilot.accuracy, classes)
    own = share_of_half(law, pilot, classes)
    known = [one for one in carried if one.reached > 0 and (own is None or one.half is not None)]
    shares = [log(one.reached / one.gain / ((one.half if own else None) or 1.0)) for one in known] or [0.0]
    share, count = float(np.mean(shares)) + log(own or 1.0), len(shares)
    expected = accuracy_at(before + exp(share) * gain, classes)
    if count < 2:
        return expected, None
    # all of the logarithm of the gain
    errors = [float(np.std(shares, ddof=1)) * sqrt(1 + 1 / count), error / gain, _error(pilot, pilot, classes) / gain]
    if own and pilot.half:
        both = hypot(_error(pilot, pilot, classes), _error(pilot, pilot.half, classes))
        errors.append(both / (before - log_odds(pilot.half.accuracy, classes)))
    reach = float(student.ppf(0.975, count - 1)) * hypot(*errors)
    ends = (accuracy_at(before + exp(share + sign * reach) * gain, classes) for sign in (-1, 1))
    return expected, (next(ends), next(ends))


def _error(pilot: PilotResult, judged: PilotResult | HalfPilot, classes: int) -> float:
    """The standard error of log-odds, by the number of images that judged."""
    low, high = (log_odds(end, classes) for end in wilson(round(judged.accuracy * pilot.count), pilot.count))
    return (high - low) / 3.92


def share_of_half(law: Law, pilot: PilotResult, classes: int) -> float | None:
    """Of the law's gain, what was reached from the half pilot to the pilot; None where nothing was."""
    if pilot.half is None:
        return None
    gain, _ = law.gain(pilot.depth, pilot.flops, (pilot.depth, pilot.half.flops))
    reached = log_odds(pilot.accuracy, classes) - log_odds(pilot.half.accuracy, classes)
    return reached / gain if reached > 0 and gain > 0 else None


def reasons(law: Law, facts: Facts, depth: int, flops: float, epochs: float, pilot: PilotResult | None) -> list[str]:
    """What decided, and what is assumed, a sentence each."""
    best = law.best_depth(flops)
    said = [
        f"of {flops:.2g} FLOPs {best:.1f} layers reach most, by the law; width, heads, MLP and rate go with the depth"
    ]
    if not law.compute[0] <= flops <= law.compute[1]:
        said.append(f"the law knows {law.compute[0]:.1g} to {law.compute[1]:.1g} FLOPs: this is beyond it")
    if not law.depths[0] <= depth <= law.depths[1]:
        said.append(f"the law knows {law.depths[0]} to {law.depths[1]} layers: {depth} are beyond it")
    if depth != int(np.clip(round(best), *DEPTHS)):
        said.append(f"{depth} layers make the most of the time on this machine")
    if pilot is None:
        said.append("there is no room for a pilot: whether images may be mirrored is not known, and they are not")
    else:
        loss = (
            f"{percent(pilot.accuracy)} of {pilot.count:,} held-out images, {percent(pilot.mirrored)} of them mirrored"
        )
        may = "images are mirrored" if mirrors(pilot, facts.classes) else "mirrored they are other things: none is"
        said.append(f"a pilot of {pilot.steps:,} steps, which saw none mirrored, reached {loss}: {may}")
        share = share_of_half(law, pilot, facts.classes)
        if pilot.half is not None and share is not None:
            half = f"half as many steps reached {percent(pilot.half.accuracy)}"
            said.append(f"{half}: compute gains {share:.2g} times what it does in the law")
    if epochs >= MANY_EPOCHS:
        said.append(
            f"{epochs:,.0f} epochs: images are mixed, too; the law is of fewer, and its gain may not be reached"
        )
    return said


KEPT = 0.8  # of what a pilot knows above chance, that is left of mirrored images where mirroring does no harm


def mirrors(pilot: PilotResult, classes: int) -> bool:
    """Whether mirrored images are as good as others: to a model that saw none they are nearly as well known."""
    chance = 1 / classes
    learned = wilson(round(pilot.accuracy * pilot.count), pilot.count)[0] > chance
    return learned and pilot.mirrored - chance >= KEPT * (pilot.accuracy - chance)


def plan_lines(plan: PretrainPlan) -> list[str]:
    """The plan as lines of text, printed before the run starts."""
    takes = "" if plan.seconds is None else f", about {duration(plan.seconds)}"
    lines = [
        f"plan: {plan.depth} layers of width {plan.width}, {plan.steps:,} steps of {plan.batch} images "
        f"({plan.epochs:.3g} epochs), {plan.flops:.3g} FLOPs{takes}"
    ]
    if plan.expected is not None:
        within = "" if plan.interval is None else f" ({percent(plan.interval[0])} to {percent(plan.interval[1])})"
        lines.append(f"  expected accuracy {percent(plan.expected)}{within}")
        if plan.interval is not None and plan.interval[1] - plan.interval[0] > VAGUE:
            lines.append("  so short a pilot says little about data unlike those of the law")
    return [*lines, *(f"  {sentence}" for sentence in plan.why)]


def compute_for(law: Law, depth: int) -> float:
    """The FLOPs of which this depth is the best one; raises BadInput where the law cannot say."""
    flops = law.compute_of(float(depth))
    if not flops < exp(100):
        raise BadInput("by the law the best depth does not grow with compute: give --flops or --budget")
    return flops
