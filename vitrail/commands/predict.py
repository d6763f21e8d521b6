"""`vitrail predict`: images, labelled."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from vitrail.commands.parsing import Command, CommonInference, parse

if TYPE_CHECKING:
    from vitrail.serve.predictor import Prediction

MANY = 10_000  # predictions that --json without --out holds in memory before it says so


def run(args: list[str]) -> int:
    """`vitrail predict`; returns the exit code: 1 where an image is broken."""
    import tyro

    from vitrail.core.errors import BadInput
    from vitrail.jobs.predict import Predict, predict, predict_table

    @dataclass(frozen=True)
    class Options:
        paths: Annotated[tuple[str, ...], tyro.conf.Positional]  # images, folders, patterns, shards, DATA
        model: str  # a bundle, a run folder, .npz, timm or transformers folder, .pth, hf://owner/name
        top: int = 5  # labels an image
        resolution: int | None = None
        features: bool = False  # what the classifier reads, too (with --out, .parquet or .jsonl)
        all_probabilities: bool = False  # of every class, not only of the top ones (with --out)
        out: Path | None = None  # a table: .jsonl, .csv or .parquet; goes on where it was interrupted
        common: Annotated[CommonInference, tyro.conf.arg(name="")] = CommonInference()

    options = parse(COMMAND, Options, args)
    config = Predict(
        options.model, options.paths, options.top, options.resolution, options.features, options.all_probabilities
    )
    if options.out is None:
        if options.features or options.all_probabilities:
            raise BadInput("--features and --all-probabilities need a table: give --out FILE.parquet or FILE.jsonl")
        return _shown(predict(config, options.common.machine()), options.model, options.common.json)
    result = predict_table(config, options.out, options.common.machine())
    if options.common.json:
        from vitrail.records.record import as_json

        print(json.dumps({"model": options.model, "out": str(options.out), **as_json(result)}))
    else:
        broken = f", of which {result.broken:,} cannot be read" if result.broken else ""
        print(f"{result.rows:,} images{broken}: {options.out}")
    return 1 if result.broken else 0


def _shown(predictions: Iterable["Prediction"], model: str, as_json: bool) -> int:
    from vitrail.core.progress import say
    from vitrail.jobs.predict import as_row

    rows, broken = [], False
    for prediction in predictions:
        broken |= prediction.error is not None
        if as_json:
            rows.append(as_row(prediction))
            if len(rows) == MANY:
                say(f"--json holds all rows in memory: for more than {MANY:,} images give --out FILE.jsonl")
            continue
        labels = "  ".join(f"{label.name} {label.probability:.1%}" for label in prediction.labels)
        print(f"{prediction.key}: {prediction.error or labels}", flush=True)
    if as_json:
        print(json.dumps({"model": model, "predictions": rows}))
    return 1 if broken else 0


COMMAND = Command(
    "predict",
    "Label images.",
    "vitrail predict --model runs/photos cat.jpg holiday/ --top 3\n"
    "  vitrail predict --model runs/photos 'shards/*.tar' --out labels.parquet --features",
    run,
)
