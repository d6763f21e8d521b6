"""`vitrail export`: a model for another runtime, with proof."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from vitrail.commands.parsing import Command, parse


def run(args: list[str]) -> int:
    """`vitrail export`; returns the exit code: 1 where the export is not near enough, and nothing is written."""
    import tyro

    from vitrail.export.graph import Output
    from vitrail.jobs.export import Export, ExportFailed, export, summary
    from vitrail.records.export import ExportPrecision, Target
    from vitrail.records.record import as_json

    @dataclass(frozen=True)
    class Options:
        model: Annotated[str, tyro.conf.Positional]  # a bundle, run, .npz, timm or transformers folder, .pth, hf://…
        out: Annotated[Path, tyro.conf.Positional]  # a new folder
        to: Target = "onnx"
        precision: ExportPrecision = "float32"
        outputs: tuple[Output, ...] = ()  # none: probabilities and representation
        check: str | None = None  # labelled DATA on which both are judged: the same answers, or exit code 1
        most_lost: float = 0.5  # points of accuracy that the export may lose on --check
        calibrate_on: str | None = None  # DATA for the ranges of int8; none: the training images of --check
        resolution: int | None = None
        data_root: Path | None = None  # folder of the named data sets; otherwise the environment variable VITRAIL_DATA
        json: bool = False  # one JSON object on standard output, alone

    options = parse(COMMAND, Options, args)
    if options.data_root is not None:
        import os

        os.environ["VITRAIL_DATA"] = str(options.data_root)
    config = Export(
        options.model,
        options.to,
        options.precision,
        options.outputs,
        options.resolution,
        options.check,
        options.calibrate_on,
        options.most_lost,
    )
    from vitrail.report.index import REPORT, make

    try:
        info = export(config, options.out, finish=make)  # with its page: the same command again is refused
    except ExportFailed as problem:
        print(f"vitrail: {options.model} is not exported: {problem}; nothing is written", file=sys.stderr)
        return 1
    print(json.dumps(as_json(info)) if options.json else f"{summary(info, options.out)}\n{options.out / REPORT}")
    return 0


COMMAND = Command(
    "export",
    "A model for ONNX Runtime, OpenVINO, PyTorch, Triton or a browser, with the proof that it answers the same.",
    "vitrail export runs/photos exported/photos --to openvino --precision bfloat16 --check photos@test",
    run,
)
