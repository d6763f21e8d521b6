"""Where the time of a training run went: the sentence of findings/bottleneck.py and the shares over the steps."""

from collections.abc import Sequence
from pathlib import Path

from vitrail.core import numbers
from vitrail.findings import bottleneck
from vitrail.findings.bottleneck import Verdict, verdict
from vitrail.report.blocks import Chart, Section, Text
from vitrail.report.charts.stacked_area import Layer, stack_chart
from vitrail.report.folder import Folder, Json
from vitrail.report.sections import training_curves

MOST = 120  # rows in the chart: neighbours beyond it are averaged
COLOUR = {"computing": 0, "waiting": 1, "copying": 4, "communicating": 3}
NAMES = {"waiting": "waiting for data"}
SEEN = 0.01  # what never takes so much of the time is not drawn


def of_run(folder: Folder | Path) -> Verdict | None:
    """The verdict on a run folder; None where nothing was logged."""
    opened = folder if isinstance(folder, Folder) else Folder(folder)
    train, _ = training_curves.metrics(opened)
    config = (opened.json("config.json") or {}).get("config")
    resident = isinstance(config, dict) and bool(config.get("resident"))
    return verdict(train, opened.json("environment.json") or {}, resident=resident)


def section(folder: Folder) -> Section | None:
    """None where the log has no speeds yet."""
    judged = of_run(folder)
    if judged is None:
        return None
    train, _ = training_curves.metrics(folder)
    rows = [row for row in train if numbers.known(row.get("waiting"))]
    chart = Chart(None)
    if rows:
        ends, layers = _layers(rows)
        said = "Shares of the training time over the steps: " + ", ".join(layer.name for layer in layers) + "."
        chart = Chart(stack_chart(ends, layers, title=said), _note(layers))
    blocks = [Text(judged.sentence), Text(judged.memory), chart, Text(bottleneck.RULES, quiet=True)]
    return Section("Where the time went", "time", blocks)


def _layers(rows: Sequence[Json]) -> tuple[list[float], list[Layer]]:
    """The ends of the rows, and computing below what is lost; what is never seen is left out."""
    size = -(-len(rows) // MOST)
    groups = [rows[i : i + size] for i in range(0, len(rows), size)]
    lost = {
        name: [sum(_share(row, name) for row in group) / len(group) for group in groups]
        for name in ("waiting", "copying", "communicating")
    }
    computing = [max(0.0, 1 - sum(parts)) for parts in zip(*lost.values(), strict=True)]
    shares = {"computing": computing, **{name: values for name, values in lost.items() if max(values) >= SEEN}}
    layers = [Layer(NAMES.get(name, name), values, COLOUR[name]) for name, values in shares.items()]
    return [0.0, *(float(group[-1]["step"]) for group in groups)], layers


def _share(row: Json, name: str) -> float:
    value = row.get(name)
    return min(1.0, max(0.0, float(value))) if numbers.known(value) else 0.0  # type: ignore[arg-type]


def _note(layers: Sequence[Layer]) -> str:
    drawn = {layer.name for layer in layers}
    absent = [name for name in ("waiting", "copying", "communicating") if NAMES.get(name, name) not in drawn]
    if not absent:
        return ""
    said = " and ".join(absent) if len(absent) < 3 else "waiting, copying and communicating"
    return f"Not drawn: {said}, below {numbers.percent(SEEN, 0)} of the time everywhere or not measured."
