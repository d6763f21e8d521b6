"""Counters and histograms in the text format of Prometheus."""

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from vitrail.core.numbers import Number

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
IMAGES = (1, 2, 4, 8, 16, 32, 64)

_Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Numbers by name and labels. What a name means is said once, in HELP."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, dict[_Labels, float]] = defaultdict(lambda: defaultdict(float))
        self._histograms: dict[str, dict[_Labels, list[float]]] = defaultdict(dict)
        self._gauges: dict[str, Callable[[], Mapping[str, Number]]] = {}

    def add(self, name: str, amount: Number = 1, **labels: str) -> None:
        """To a counter."""
        with self._lock:
            self._counts[name][tuple(labels.items())] += amount

    def observe(self, name: str, value: Number, **labels: str) -> None:
        """Into a histogram."""
        limits, _ = HISTOGRAMS[name]
        with self._lock:
            found = self._histograms[name].setdefault(tuple(labels.items()), [0.0] * (len(limits) + 2))
            found[bisect_left(limits, value)] += 1
            found[-1] += value

    def gauge(self, name: str, read: Callable[[], Mapping[str, Number]]) -> None:
        """Read when it is asked for: by the name of the model, "" for one of the server."""
        self._gauges[name] = read

    def text(self) -> str:
        """All of them."""
        lines: list[str] = []
        with self._lock:
            for name, help_ in COUNTERS.items():
                lines += _head(name, "counter", help_)
                counted: Mapping[_Labels, float] = self._counts.get(name) or {(): 0.0}
                lines += [f"{name}{_in_braces(labels)} {value:.17g}" for labels, value in counted.items()]
            for name, (limits, help_) in HISTOGRAMS.items():
                lines += _head(name, "histogram", help_)
                for labels, found in self._histograms.get(name, {}).items():
                    lines += _histogram(name, labels, limits, found)
        for name, read in self._gauges.items():
            lines += _head(name, "gauge", GAUGES[name])
            for model, value in read().items():
                lines.append(f"{name}{_in_braces((('model', model),) if model else ())} {value:.17g}")
        return "\n".join(lines) + "\n"


COUNTERS = {
    "vitrail_requests_total": "Requests, by what was asked and status.",
    "vitrail_images_total": "Images answered, by model.",
    "vitrail_errors_total": "Requests and images refused, by kind.",
    "vitrail_decoders_lost_total": "Decoders replaced, by reason.",
    "vitrail_reloads_total": "Reloads by model and result.",
}
HISTOGRAMS: dict[str, tuple[Sequence[Number], str]] = {
    "vitrail_request_seconds": (SECONDS, "From the headers of a request to the end of its answer, by what was asked."),
    "vitrail_batch_images": (IMAGES, "Images of a pass of the model."),
    "vitrail_batch_seconds": (SECONDS, "Seconds of a pass of the model."),
}
GAUGES = {
    "vitrail_queue_images": "Images in work or waiting.",
    "vitrail_images_per_second": "Images answered a second, over the last ten.",
    "vitrail_ready": "1 where a model answers.",
}


def _head(name: str, kind: str, help_: str) -> list[str]:
    return [f"# HELP {name} {help_}", f"# TYPE {name} {kind}"]


def _in_braces(labels: _Labels) -> str:
    escaped = (f'{key}="{_escaped(value)}"' for key, value in labels)
    return "{" + ",".join(escaped) + "}" if labels else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _histogram(name: str, labels: _Labels, limits: Sequence[Number], found: Sequence[Number]) -> list[str]:
    lines, total = [], 0.0
    for limit, count in zip([*(f"{limit:g}" for limit in limits), "+Inf"], found, strict=False):
        total += count
        lines.append(f"{name}_bucket{_in_braces((*labels, ('le', limit)))} {total:.17g}")
    return [
        *lines,
        f"{name}_sum{_in_braces(labels)} {found[-1]:.17g}",
        f"{name}_count{_in_braces(labels)} {total:.17g}",
    ]
