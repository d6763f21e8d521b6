"""The plan of `finetune auto`: what is tried, for how many steps, in which time."""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from vitrail.core.numbers import duration
from vitrail.core.text import ordinary_spaces
from vitrail.jobs.finetune.candidates import Candidate
from vitrail.records.finetune import AutoPlan

DEFAULT_BUDGET = "10m"
PLANNED = 0.9  # of the budget: reading, saving and what measurements missed take the rest
EPOCHS = 20  # of the training images, at most; for few images at least USEFUL steps
USEFUL = 150  # steps of a trial below which half a batch makes twice as many
RIVALS = 300  # steps of each trial that another one must leave
FEWEST = 60  # steps, below which nothing is trained but the classifier: the first ones make features worse
BATCH = 32  # images a step where none are given; half of it where that makes fewer than USEFUL steps
MARKS = 3  # looks at a trial that has rivals, the last one at its end: before that it may be cut short
GOING_ON = 0.25  # steps and rate of a final run that goes on from its trial, by those of the trial
LEAST = 0.05  # of the trial's steps, below which it does not go on
START = 2.0  # seconds that a run takes besides its steps: checkpoint, bundle, reading it again


class Times(NamedTuple):
    """Seconds, measured on this machine with this model and these images."""

    step: float  # with the training views of its images
    judge: float  # an image, without gradients, decoded
    measured: float  # what measuring took
    fit: float = 0.0  # of the linear judge


def goes_on(plan: AutoPlan) -> bool:
    """Whether the final run goes on from the chosen trial, with the held-out images too; else it starts as that did."""
    return plan.folds == 1


def plan_lines(plan: AutoPlan) -> list[str]:
    """The plan as lines of text, printed before it starts."""
    held = f"{plan.judged_images:,} held-out images"
    lines = [
        f"plan: frozen features of {plan.train_images:,} training images in {plan.classes} classes, a linear judge "
        + (f"judged on {held}" if plan.folds else "on all of them")
    ]
    if plan.candidates:
        cut = ", each cut short once it is clearly behind" if len(plan.candidates) > 1 and goes_on(plan) else ""
        runs = f" in {plan.folds} folds" if plan.folds > 1 else ""
        lines.append(
            f"  tried from it: {', '.join(plan.candidates)}; {plan.trial_steps:,} steps of {plan.batch} images "
            f"each{runs}, judged on {held}{cut}"
        )
        about = "about " if plan.timed else ""
        final = "then the best goes on with all" if goes_on(plan) else "the best on all"
        lines.append(f"  {final} training images: {about}{plan.steps:,} steps")
    tested = f"; {plan.test_images:,} test images, judged once at the end" if plan.test_images else ""
    lines.append(
        f"  about {duration(plan.seconds)} of {duration(plan.budget_seconds)} "
        f"({plan.seconds_per_step:.3g} s a step, with decoding){tested}"
    )
    return [ordinary_spaces(line) for line in [*lines, *(f"  {sentence}" for sentence in plan.why)]]


class Sizes(NamedTuple):
    """How many images and classes there are; `held` and `folds` as in linear_judge."""

    train: int
    held: int
    test: int
    classes: int
    folds: int


def make_auto_plan(
    sizes: Sizes, times: Times, budget: float, batch: int, steps: int, known: Sequence[Candidate]
) -> AutoPlan:
    """The plan for a budget in seconds, or for `steps` where they are not 0.

    As many candidates are tried as leave RIVALS steps to each. The final run goes on from the best of them, for a
    quarter of its steps; of several folds there is no such model, trials have half of the steps, and it starts anew.

    Args:
        steps: of the run that starts from the judge: with one fold a trial, which the final run goes on from.
        known: the candidates that the model can be trained by; the first ones are tried first.
    """
    most = max(USEFUL, ceil(EPOCHS * sizes.train / batch))
    fixed = times.measured + times.fit + times.judge * (sizes.train + sizes.test) + START
    runs = max(1, sizes.folds)

    longer = 1 / GOING_ON if runs == 1 else 0.5  # a trial, in final runs

    def trial_steps(steps: int) -> int:
        return ceil(steps * longer)

    def seconds(candidates: int, steps: int) -> float:
        """If none is cut short."""
        looks = MARKS if candidates > 1 and runs == 1 else 1
        judging = looks * sizes.held * times.judge
        each = [runs * (trial_steps(steps) * times.step + START) * one.cost + judging for one in known[:candidates]]
        return fixed + (sum(each) + steps * times.step + START if candidates else 0.0)

    def fitting(candidates: int) -> int:
        """Steps of the final run."""
        left, cost = PLANNED * budget - seconds(candidates, 0), sum(one.cost for one in known[:candidates])
        return max(0, min(ceil(most / max(1, longer)), int(left / (times.step * (1 + cost * runs * longer)))))

    why: list[str] = []
    candidates = 1
    if steps == 0:
        while candidates < len(known) and trial_steps(fitting(candidates + 1)) >= min(RIVALS, most * min(1.0, longer)):
            candidates += 1
        steps = fitting(candidates)
        if max(steps, trial_steps(steps)) < FEWEST:
            candidates, steps = 0, 0
            why.append("the budget leaves no time for fine-tuning: the linear judge is the model; give a longer one")
        elif max(steps, trial_steps(steps)) >= most:
            why.append(f"training ends after {most:,} steps, {most * batch / sizes.train:.0f} epochs")
        timed = True
    else:
        timed = False
        steps = ceil(steps * GOING_ON) if runs == 1 else steps
        why.append("steps are as given, the budget does not change them")
    if sizes.folds == 0:
        candidates, steps = 0, 0
        why = ["no class has two images, so nothing can be held out to choose by: the linear judge is the model"]
    elif sizes.folds > 1:
        why.append(
            f"a fifth of {sizes.train:,} images is too few to choose by: each image is held out once, in "
            f"{sizes.folds} folds"
        )
    if fixed > budget:
        why.append("the features of training and test images alone take longer than the budget; fewer pixels help")
    return AutoPlan(
        candidates=tuple(one.name for one in known[:candidates]),
        folds=sizes.folds,
        steps=steps,
        trial_steps=trial_steps(steps),
        batch=batch,
        classes=sizes.classes,
        train_images=sizes.train,
        judged_images=sizes.held,
        test_images=sizes.test,
        budget_seconds=budget,
        timed=timed,
        seconds_per_step=times.step,
        judge_seconds=times.judge,
        seconds=seconds(candidates, steps),
        why=tuple(why),
    )


def final_steps(plan: AutoPlan, spent: float, step: float, start: float) -> int:
    """The steps of the final run by the time that is left, from `plan.steps` of a plan without a clock.

    0 where so few are left that the model of the trial is better left as it is.

    Args:
        spent: seconds until now.
        step: seconds of a step, as the trial took it.
        start: seconds of a run besides its steps, as the trial took them.
    """
    if not plan.timed:
        return plan.steps
    most = plan.trial_steps if goes_on(plan) else max(USEFUL, ceil(EPOCHS * plan.train_images / plan.batch))
    left = PLANNED * plan.budget_seconds - spent - start - plan.judge_seconds * plan.test_images
    steps = min(most, int(left / step))
    if goes_on(plan):
        return steps if steps >= LEAST * plan.trial_steps else 0
    return max(1, steps)
