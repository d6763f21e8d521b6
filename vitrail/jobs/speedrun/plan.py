"""What a speedrun would do and take: on this machine by a short measurement, on GPUs by arithmetic. Nothing starts."""

from pathlib import Path
from typing import Any

from vitrail.core.device import Machine, choose_device
from vitrail.core.errors import BadInput
from vitrail.core.numbers import duration, percent, quantity
from vitrail.core.pool import usable_cores
from vitrail.core.text import ordinary_spaces
from vitrail.data.open.names import open_data
from vitrail.jobs.forecast.forecast import GPUS, forecast, gpu_share
from vitrail.jobs.pretrain import Pretrain
from vitrail.jobs.speedrun.rules import CORES, SEEDS, P, check_rules
from vitrail.jobs.speedrun.speedrun import PLACES, finished
from vitrail.jobs.training_data import with_classes
from vitrail.models.cost import parameters, training_flops
from vitrail.records.record import as_json
from vitrail.records.speedrun import Track


def plan(
    track: Track, config: Pretrain, out: Path | None, machine: Machine, seeds: int, changes: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The track, what is done and to do, the cost of a seed; `seconds` is None where this machine cannot say it.

    Raises:
        BadInput: a config that is no run of the track, or a folder of something else.
    """
    check_rules(track, config)
    made = finished(out, track, config) if out is not None else []
    done = [one.seed for one in made if one.seed < seeds]
    model, seconds, said = config.model, None, ""
    if choose_device(machine.device).type != track.device:
        said = f"this is not {PLACES[track.device]}, so that nothing is measured"
    else:
        try:
            train, test = open_data(config.train, "train"), open_data(track.test, "test")
            threads = min(CORES, usable_cores()) if track.device == "cpu" else None
            cost = forecast(
                config,
                with_classes(model, len(train.classes)),
                train_images=len(train),
                test_images=len(test),
                resize=config.resize,
                machine=machine,
                threads=threads,
            )
            seconds = cost.seconds
        except BadInput as problem:
            said = str(problem)
    flops = training_flops(model) * config.steps * config.batch
    return {
        "track": as_json(track),
        "changes": list(changes),
        "seeds": seeds,
        "done": done,
        "todo": [seed for seed in range(seeds) if seed not in done],
        "parameters": parameters(model),
        "steps": config.steps,
        "images": config.steps * config.batch,
        "total_flops": flops,
        "seconds": seconds,
        "said": said,
        "gpus": {name: flops / (gpu_share(model) * peak) for name, peak in GPUS.items()},
    }


def plan_text(found: dict[str, Any]) -> str:
    """The plan in sentences."""
    track = found["track"]
    here = found["said"] if found["seconds"] is None else f"{duration(found['seconds'])}, by a short measurement"
    gpus = ", ".join(f"{name} {duration(seconds)}" for name, seconds in found["gpus"].items())
    other = f"another than the track's: {'; '.join(found['changes'])}" if found["changes"] else "the track's"
    done = f"{len(found['done'])} done, {len(found['todo'])} to do, each in a process of its own"
    lines = [
        f"track       {track['name']}: above {percent(track['bar'])} of {track['test']} within "
        f"{duration(track['seconds'])} on {PLACES[track['device']]}",
        f"recipe      {track['recipe']}, {other}",
        f"seeds       {found['seeds']}: {done}; {SEEDS} and p < {P} decide",
        f"model       {quantity(found['parameters'])} parameters without the classifier",
        f"training    {found['steps']:,} steps, {found['images']:,} images, {quantity(found['total_flops'], 'FLOP')}",
        f"time here   of one seed: {here}",
        f"on one GPU  by arithmetic and an assumed share of its peak, not measured: {gpus}",
    ]
    return ordinary_spaces("\n".join(lines))
