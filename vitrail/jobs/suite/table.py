"""The table of a suite: a row a task, the means of the groups and of all tasks, and a sentence of what they show."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from vitrail.core.estimate import Estimate
from vitrail.evals.paired import mean_of, over_draws, over_images, unpaired
from vitrail.jobs.suite.suite import PublishedResult, Rejudged, Suite, Task
from vitrail.jobs.suite.task import TUNED, Score
from vitrail.records.suite import (
    How,
    OtherAccuracy,
    PublishedAccuracy,
    PublishedMean,
    State,
    SuiteDifference,
    SuiteMean,
    SuiteScore,
    SuiteTask,
    ValueWithInterval,
)

Side = Literal["model", "baseline"]
FOLDERS: dict[Side, str] = {"model": "model", "baseline": "against"}  # of a side within OUT
ALL = "all tasks"


@dataclass
class TaskResult:
    """What is known of a task: its scores, and which test images were right, for the model and for the baseline."""

    task: Task | Rejudged
    state: State = "waiting"
    sentence: str = ""  # why it failed or is absent
    counts: dict[str, int | None] = field(default_factory=dict)  # images to train and to test on, classes
    scores: dict[Side, tuple[Score, ...]] = field(default_factory=dict)
    right: dict[Side, dict[tuple[str, int], bool]] = field(default_factory=dict)
    seconds: float = 0.0  # of work, over all sessions
    folder: str = ""

    def estimate(self, of: str, side: Side = "model") -> Estimate | None:
        """The accuracy of that name."""
        return next((score.estimate for score in self.scores.get(side, ()) if score.of == of), None)

    def difference(self, of: str) -> tuple[Estimate, How] | None:
        """Accuracy of the model less that of the baseline, and how they were compared; None where one is missing."""
        first, second = (_named(self.scores.get(side, ()), of) for side in ("model", "baseline"))
        if first is None or second is None:
            return None
        if first.values or second.values:  # means, of which the right answers of one run say nothing
            if len(first.values) == len(second.values) > 1 and not _constant(first.values, second.values):
                how: How = "paired by seeds" if of == TUNED else "paired by draws"
                return over_draws(first.values, second.values), how
            return unpaired(first.estimate, second.estimate), "unpaired"
        mine, theirs = self.right.get("model", {}), self.right.get("baseline", {})
        if mine and mine.keys() == theirs.keys() and len(mine) == first.count:
            keys = sorted(mine)
            pair = (np.array([side[key] for key in keys], dtype=bool) for side in (mine, theirs))
            return over_images(*pair), "paired by images"
        return unpaired(first.estimate, second.estimate), "unpaired"


def _constant(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether all pairs differ by the same amount: a spread of zero would look like certainty."""
    return float(np.ptp(np.subtract(first, second))) < 1e-12


def _named(scores: Sequence[Score], of: str) -> Score | None:
    return next((score for score in scores if score.of == of), None)


def names_of(results: Sequence[TaskResult]) -> list[str]:
    """The names of all scores, in their order."""
    every = [score.of for result in results for side in result.scores.values() for score in side]
    return sorted(dict.fromkeys(every), key=lambda name: int(name.split()[0]) if name[0].isdigit() else -1)


def headline(names: Sequence[str]) -> str | None:
    """The score that is spoken of: five shots, as in the paper, where there are any, or the last."""
    return "5 shots" if "5 shots" in names else (names[-1] if names else None)


def rows(results: Sequence[TaskResult]) -> list[SuiteTask]:
    """A row a task, as suite.json holds it."""
    return [_row(result, names_of(results)) for result in results]


def _row(result: TaskResult, names: Sequence[str]) -> SuiteTask:
    task = result.task
    return SuiteTask(
        name=task.name,
        group=task.group,
        in_means=isinstance(task, Task),
        state=result.state,
        sentence=result.sentence,
        train=task.finetune.train if isinstance(task, Task) else None,
        test=task.finetune.test if isinstance(task, Task) else task.test,
        counts=result.counts,
        layout=task.layout,
        scores=[score for of in names if (score := _score(result, of)) is not None],
        published=[PublishedAccuracy(model=p.model, accuracy=p.accuracy, source=p.source) for p in task.published],
        seconds=result.seconds,
        folder=result.folder,
    )


def _score(result: TaskResult, of: str) -> SuiteScore | None:
    score, other = (_named(result.scores.get(side, ()), of) for side in ("model", "baseline"))
    if score is None and other is None:
        return None
    compared = result.difference(of)
    return SuiteScore(
        of=of,
        accuracy=score.estimate.value if score else None,
        interval=score.estimate.interval if score else None,
        count=score.count if score else None,
        against=OtherAccuracy(accuracy=other.estimate.value, interval=other.estimate.interval) if other else None,
        difference=compared and SuiteDifference(**compared[0]._asdict(), how=compared[1]),
    )


def means(suite: Suite, results: Sequence[TaskResult]) -> list[SuiteMean]:
    """The mean of each group and of all tasks, for each score, over the tasks that have it; and how many these are.

    Beside them the published means of the same tasks, so that a mean over fewer tasks is compared with its like.
    """
    counted = [result for result in results if isinstance(result.task, Task)]
    return [_mean(of, group, counted) for of in names_of(results) for group in (*suite.groups, ALL)]


def _mean(of: str, group: str, counted: Sequence[TaskResult]) -> SuiteMean:
    inside = [result for result in counted if group in (ALL, result.task.group)]
    having = [result for result in inside if result.estimate(of) is not None]
    compared = [result for result in having if result.difference(of) is not None]
    differences = [pair[0] for result in compared if (pair := result.difference(of)) is not None]
    return SuiteMean(
        of=of,
        group=group,
        tasks=len(having),
        expected=len(inside),
        mean=_value([result.estimate(of) or Estimate(0) for result in having]),
        difference=_value(differences),
        compared=len(compared) or None,
        against=_value([_other(result, of) for result in compared]),
        published=_published([result.task.published for result in having or inside]),
    )


def _value(estimates: list[Estimate]) -> ValueWithInterval | None:
    return ValueWithInterval(**mean_of(estimates)._asdict()) if estimates else None


def _other(result: TaskResult, of: str) -> Estimate:
    estimate = result.estimate(of, "baseline")
    assert estimate is not None  # it has a difference
    return estimate


def _published(tasks: Sequence[tuple[PublishedResult, ...]]) -> list[PublishedMean]:
    """The mean of each published model that has all these tasks."""
    models = dict.fromkeys(published.model for task in tasks for published in task)
    made = []
    for model in models:
        values = [p.accuracy for task in tasks for p in task if p.model == model]
        if len(values) == len(tasks):
            made.append(PublishedMean(model=model, accuracy=float(np.mean(values)), tasks=len(values)))
    return made


def sentence(suite: Suite, results: Sequence[TaskResult], model: str, against: str | None) -> str:
    """The result of the suite, with its uncertainty, in one sentence."""
    of = headline(names_of(results))
    found = [row for row in means(suite, results) if row.of == of and row.group == ALL and row.tasks]
    if of is None or not found or found[0].mean is None:
        return f"No task of {suite.name} is done."
    row, mean = found[0], found[0].mean
    over = f"{row.tasks} of {row.expected} tasks" if row.tasks < row.expected else f"{row.tasks} tasks"
    over = over if row.expected > 1 else "one task"
    how = f"{of} a class" if of != "fine-tuned" else of
    if row.difference is None or row.compared is None:
        value, within = mean.value, mean.interval
        shown = f" (95 % interval {within[0]:.1%} to {within[1]:.1%})" if within else ""
        return f"{model} reaches {value:.1%}{shown} on average over {over}, {how}."
    over = f"{row.compared} of {row.expected} tasks" if row.compared < row.expected else over
    value, within = row.difference.value, row.difference.interval
    first = f"{model} is {abs(100 * value):.1f} points {'better' if value >= 0 else 'worse'} than {against}"
    if within is None:
        said = f"{first} on average over {over}, {how}; no interval is known"
    elif within[0] <= 0 <= within[1]:
        said = (
            f"{model} and {against} cannot be told apart on average over {over}, {how}: the difference is "
            f"{100 * value:+.1f} points (95 % interval {100 * within[0]:+.1f} to {100 * within[1]:+.1f})"
        )
    else:
        low, high = sorted(abs(100 * end) for end in within)
        said = f"{first} (95 % interval {low:.1f} to {high:.1f}) on average over {over}, {how}"
    return f"{said}; {_tally(results, of)}."


def _tally(results: Sequence[TaskResult], of: str) -> str:
    """How many tasks are better, worse, neither; each by its own 95 % interval."""
    verdicts = {"better": 0, "worse": 0, "not to be told apart": 0}
    for result in results:
        compared = result.difference(of) if isinstance(result.task, Task) else None
        if compared is not None:
            within = compared[0].interval
            told = within is not None and not within[0] <= 0 <= within[1]
            verdict = "not to be told apart" if not told else ("better" if compared[0].value > 0 else "worse")
            verdicts[verdict] += 1
    return ", ".join(f"{verdict} on {count}" for verdict, count in verdicts.items() if count)
