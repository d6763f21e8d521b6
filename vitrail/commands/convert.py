"""`vitrail convert`: a checkpoint in another layout."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from vitrail.commands.parsing import Command, parse


def run(args: list[str]) -> int:
    """`vitrail convert`; returns the exit code."""
    from dataclasses import asdict

    import tyro

    from vitrail.weights.convert import TOLERANCE, Layout, convert

    @dataclass(frozen=True)
    class Options:
        source: Annotated[
            str, tyro.conf.Positional
        ]  # a bundle, .npz, timm or transformers folder, .pth, hf://owner/name
        destination: Annotated[Path, tyro.conf.Positional]  # what to write: a new folder, or a new .npz
        to: Layout = "bundle"
        resolution: int | None = None  # what it was trained at, for the few files that do not say it
        model: str | None = None  # a model with as many heads ("S/16"), for the state dicts that do not say it
        tolerance: float = TOLERANCE  # of logits and representation, relative to the largest
        json: bool = False  # one JSON object on standard output, alone

    options = parse(COMMAND, Options, args)
    done = convert(
        options.source,
        options.destination,
        options.to,
        resolution=options.resolution,
        model=options.model,
        tolerance=options.tolerance,
    )
    if options.json:
        print(json.dumps({**asdict(done), "agrees": done.agrees}))
        return 0 if done.agrees else 1
    verdict = "agrees" if done.agrees else f"DIFFERS by more than {done.tolerance:g}: do not use it"
    print(f"{done.destination}: {done.parameters:,} parameters in {done.tensors} tensors, as {done.layout}")
    print(f"{done.equal_tensors} of {done.tensors} tensors are equal bit for bit after loading it back")
    print(f"largest difference of a logit {done.difference:.2g}")
    print(f"of logits and representation, relative to the largest, {done.relative:.2g}: the copy {verdict}")
    for line in done.changed:
        print(f"not in this layout: {line}")
    for name in done.left_over:
        print(f"left over in the source: {name}")
    return 0 if done.agrees else 1


COMMAND = Command(
    "convert",
    "Any checkpoint to any layout, and a check that outputs agree.",
    "vitrail convert ViT-B_16.npz models/b16 --to bundle",
    run,
)
