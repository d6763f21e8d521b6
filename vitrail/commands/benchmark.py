"""`vitrail benchmark`: images a second of every runtime that is installed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from vitrail.commands.parsing import Command, parse


def run(args: list[str]) -> int:
    """`vitrail benchmark`; returns the exit code."""
    import tyro

    from vitrail.export.speed import BATCHES, SECONDS
    from vitrail.jobs.benchmark import BenchmarkConfig, benchmark, summary
    from vitrail.records.record import as_json

    @dataclass(frozen=True)
    class Options:
        model: Annotated[str, tyro.conf.Positional]  # MODEL, or a folder that `vitrail export` wrote
        batches: tuple[int, ...] = BATCHES
        seconds: float = SECONDS  # of each measurement
        compiled: bool = False  # torch.compile too, which takes a minute to start
        resolution: int | None = None
        out: Path | None = None  # folder to write benchmark.json to
        json: bool = False  # one JSON object on standard output, alone

    options = parse(COMMAND, Options, args)
    config = BenchmarkConfig(options.model, options.resolution, options.batches, options.seconds, options.compiled)
    result = benchmark(config, options.out)
    print(json.dumps(as_json(result)) if options.json else summary(result))
    return 0


COMMAND = Command(
    "benchmark",
    "Images a second of a model or an export, by every runtime that is installed.",
    "vitrail benchmark runs/photos --batches 1 32",
    run,
)
