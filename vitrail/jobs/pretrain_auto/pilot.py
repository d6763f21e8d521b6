"""The pilot of `pretrain auto`: a short run before the plan, judged on images held out, and on the same mirrored.

A second one, half as long, says what compute buys on these data.
"""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitrail.core.config import from_json
from vitrail.core.device import Device, Machine
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.core.progress import say
from vitrail.data.decode.image import to_pixels
from vitrail.data.sources.base import Example, Source
from vitrail.data.sources.subset import stratified
from vitrail.evals.classify import Evaluation, evaluate
from vitrail.jobs.pretrain import Pretrain, pretrain
from vitrail.jobs.pretrain_auto.config import BATCH, AutoPretrain, Facts, run_of
from vitrail.jobs.pretrain_auto.plan import Cost, step_flops
from vitrail.models.vit import ViTConfig
from vitrail.records.auto import HalfPilot, PilotResult
from vitrail.weights.load import load

HELD = 0.1  # of the training images, held out of the pilot
MOST = 5_000  # images that are held out
LEAST = 25  # steps of a half pilot: at fewer a model has hardly moved


class Mirrored(Source):
    """The same images, mirrored."""

    def __init__(self, of: Source):
        self.of, self.classes, self.labels, self.several = of, of.classes, of.labels, of.several

    def __getitem__(self, index: int) -> Example:
        """Raises BrokenImage where it cannot be read."""
        example = self.of[index]
        return example._replace(image=np.ascontiguousarray(to_pixels(example.image)[:, ::-1]))

    def valid_labels(self, key: str) -> tuple[int, ...]:
        """Those of the image."""
        return self.of.valid_labels(key)


def run_pilot(
    asked: AutoPretrain,
    source: Source,
    facts: Facts,
    planned: int,
    steps: int,
    folder: Path,
    machine: Machine,
    cost: Cost,
) -> PilotResult | None:
    """Trains and judges it in `folder`, or goes on there with the depth and the steps that it was begun with.

    `planned`: the depth of the run.

    None where nothing can be held out.
    """
    begun = time.perf_counter()
    config = _config(asked, facts, planned, steps, folder)
    try:
        rest, held = stratified(source, min(HELD, MOST / len(source)), asked.seed)
    except BadInput:
        return None
    assert isinstance(config.model, ViTConfig)
    depth, half = config.model.depth, config.steps // 2
    say(f"a pilot of {config.steps:,} steps, judged on {len(held):,} images that it does not learn from")
    result = pretrain(config, folder, machine, data=(rest, None, held), inside=False)
    device = Device.find(machine.device)
    model = load(folder / "bundle").to(device.device)
    assert result.accuracy is not None
    assert result.count is not None
    mirrored = evaluate(
        model, Mirrored(held), model.preprocess, dtype=device.dtype, workers=machine.workers, title="mirrored"
    )
    assert isinstance(mirrored, Evaluation)
    each, shorter = step_flops(depth, facts), None
    if half >= LEAST:
        say(f"the same at {half:,} steps")
        less = pretrain(
            _config(asked, facts, depth, half, folder / "half"), folder / "half", machine,
            data=(rest, None, held), inside=False,
        )  # fmt: skip
        assert less.accuracy is not None
        shorter = HalfPilot(steps=half, flops=half * each, accuracy=less.accuracy)
    return PilotResult(
        depth=depth,
        steps=config.steps,
        flops=config.steps * each,
        seconds=time.perf_counter() - begun,
        slower=result.seconds / (config.steps * cost.step) if cost.step and depth == planned else 1.0,
        accuracy=result.accuracy,
        mirrored=mirrored.accuracy,
        count=result.count,
        half=shorter,
    )


def _config(asked: AutoPretrain, facts: Facts, depth: int, steps: int, folder: Path) -> Pretrain:
    """What the pilot in the folder was begun with, or a new one's: without flips, and tested on nothing."""
    begun = folder / "config.json"
    if begun.exists():
        stored: Pretrain = from_json(Pretrain, read_json(begun)["config"], str(begun))
        return stored
    config = replace(run_of(asked, facts, depth, steps, flip=False), test=None)
    return replace(config, save_every=max(1, steps // 4), log_every=max(1, min(50, steps // 10)), batch=BATCH)
