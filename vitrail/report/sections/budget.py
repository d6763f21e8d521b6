"""What `pretrain auto` planned, and what came of it."""

from typing import Any

from vitrail.core import numbers
from vitrail.report.blocks import Block, Facts, Section, paragraphs
from vitrail.report.folder import Folder, Json, texts


def section(folder: Folder, result: Json | None) -> Section | None:
    """None for a run that was not planned by a budget."""
    plan = folder.json("plan.json") if folder.has("plan.json") else None
    if plan is None:
        return None
    facts = [
        ("size", f"{numbers.count(plan.get('depth'))} layers of width {numbers.count(plan.get('width'))}"),
        ("steps", f"{numbers.count(plan.get('steps'))} of {numbers.count(plan.get('batch'))} images"),
    ]
    expected = plan.get("expected")
    if numbers.known(expected):
        facts.append(("expected accuracy", _within(expected, plan.get("interval"))))
    reached = (result or {}).get("accuracy")
    if numbers.known(reached):
        facts.append(("reached", _within(reached, (result or {}).get("interval"))))
    if numbers.known(plan.get("budget_seconds")):
        facts.append(("budget", numbers.duration(plan["budget_seconds"])))
    said: list[Block] = paragraphs([f"{text[:1].upper()}{text[1:]}." for text in texts(plan.get("why"))])
    return Section("The plan", "plan", [Facts(facts), *said])


def _within(value: Any, interval: object) -> str:
    both = isinstance(interval, list) and len(interval) == 2 and all(numbers.known(end) for end in interval)
    ends = f" ({' to '.join(numbers.percent(end) for end in interval)})" if both and isinstance(interval, list) else ""
    return numbers.percent(value) + ends
