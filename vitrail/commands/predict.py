"""`vitrail predict`: images, labelled."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from vitrail.commands.parsing import Command, Common, parse
from vitrail.core.errors import BadInput


def run(args: list[str]) -> int:
    """`vitrail predict`; returns the exit code."""
    import tyro

    from vitrail.jobs.predict import Predict, as_row, predict, write_table

    @dataclass(frozen=True)
    class Options:
        paths: Annotated[tuple[str, ...], tyro.conf.Positional]  # images, folders, patterns
        model: str  # a bundle, a run folder, .npz, timm or transformers folder, .pth, hf://owner/name
        top: int = 5  # labels an image
        resolution: int | None = None
        out: Path | None = None  # a table: .jsonl, .csv or .parquet
        common: Annotated[Common, tyro.conf.arg(name="")] = Common()

    options = parse(COMMAND, Options, args)
    if not options.paths:
        raise BadInput("nothing to label: give images, folders or patterns")
    config = Predict(options.model, options.paths, options.top, options.resolution)
    rows = []
    for prediction in predict(config, options.common.machine()):
        rows.append(as_row(prediction))
        if not options.common.json and options.out is None:
            labels = "  ".join(f"{label.name} {label.probability:.1%}" for label in prediction.labels)
            print(
                f"{prediction.key}: {labels}" if prediction.error is None else f"{prediction.key}: {prediction.error}"
            )
    if options.out is not None:
        write_table(rows, options.out)
    if options.common.json:
        print(json.dumps({"model": options.model, "predictions": rows}))
    elif options.out is not None:
        print(f"{len(rows):,} images: {options.out}")
    return 1 if any(row["error"] for row in rows) else 0


COMMAND = Command(
    "predict",
    "Label images.",
    "vitrail predict --model runs/photos cat.jpg holiday/ --top 3",
    run,
)
