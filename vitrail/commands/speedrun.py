"""`vitrail speedrun`: a plain ViT to a bar of accuracy within a time, and whether the bar is reached."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from vitrail.commands.parsing import Command, Common, parse_known, with_options
from vitrail.core.errors import BadInput

if TYPE_CHECKING:
    from vitrail.core.device import Machine
    from vitrail.records.speedrun import SpeedrunResult


@dataclass(frozen=True)
class Options(Common):
    """Any other option is one of the recipe, as `vitrail pretrain RECIPE --help` lists them, and makes it another."""

    name: str = ""  # a track, or a data set that has one track on this device; --list shows them
    out: Path | None = None  # folder of this speedrun
    seeds: int = 5  # how many: 0, 1, 2, ...; decide it before the first, five at least
    compile: bool | None = None  # torch.compile of the layers, which counts in the time; None: on CUDA
    graphs: bool = False  # CUDA graphs of the whole model: for small ones, whose kernels are short
    plan: bool = False  # start nothing, only show what would run, and its cost
    list: bool = False  # the tracks there are

    def machine(self) -> "Machine":
        """Where to run."""
        from dataclasses import replace

        return replace(super().machine(), compile=self.compile, graphs=self.graphs)


def run(args: list[str]) -> int:
    """`vitrail speedrun`; returns the exit code: 1 where the bar is not reached."""
    options, overrides = _parse(args)
    if options.list:
        return _list(options)
    if not options.name:
        raise BadInput("vitrail speedrun needs a track first, such as cifar10; vitrail speedrun --list shows them")
    from vitrail.core.config import departures, to_json
    from vitrail.core.device import choose_device
    from vitrail.jobs.speedrun.plan import plan, plan_text
    from vitrail.jobs.speedrun.speedrun import speedrun
    from vitrail.recipes.speedruns import find, recipe_of
    from vitrail.records.record import as_json
    from vitrail.report.index import make

    machine = options.machine()
    track = find(options.name, choose_device(machine.device).type)
    if options.out is None and not options.plan:
        raise BadInput("give a folder to write: --out runs/speedrun")
    own = recipe_of(track)
    config = with_options(own, overrides, f"vitrail speedrun {options.name}")
    changes = tuple(departures(to_json(own), to_json(config)))
    if options.plan:
        found = plan(track, config, options.out, machine, options.seeds, changes)
        print(json.dumps(found) if options.json else plan_text(found))
        return 0
    assert options.out is not None
    command = ["vitrail", "speedrun", *args]
    result = speedrun(track, config, options.out, machine, seeds=options.seeds, changes=changes, command=command)
    written = make(options.out)
    if options.json:
        print(json.dumps({**as_json(result), "folder": str(options.out)}))
    else:
        print("\n".join([_table(result), "", result.finding, str(written)]))
    return 0 if result.reached else 1


def _parse(args: list[str]) -> tuple[Options, list[str]]:
    import tyro

    @dataclass(frozen=True)
    class WithName(Options):
        name: Annotated[str, tyro.conf.Positional] = field(default="")

    return parse_known(COMMAND._replace(about=f"{COMMAND.about}\n\n{Options.__doc__}"), WithName, args)


def _table(result: "SpeedrunResult") -> str:
    from vitrail.core.numbers import duration, percent
    from vitrail.core.text import table

    rows = [["seed", "accuracy", "time", "start", "data, model", "training", "judging"]]
    for one in result.attempts:
        times = (one.seconds, one.starting, one.preparing, one.training, one.judging)
        rows.append([str(one.seed), percent(one.accuracy, 2), *map(duration, times)])
    return "\n".join(table(rows, ">"))


def _list(options: Options) -> int:
    from vitrail.core.text import table
    from vitrail.recipes.speedruns import TRACKS, about
    from vitrail.records.record import as_json

    if options.json:
        print(json.dumps({"tracks": as_json(TRACKS)}))
    else:
        print("\n".join(table([[about(track), f"recipe {track.recipe}"] for track in TRACKS])))
    return 0


COMMAND = Command(
    "speedrun",
    "Train a plain ViT to a bar of accuracy in a given time; whether it is reached.",
    "vitrail speedrun cifar10 --device cpu --seeds 5 --data-root data --out runs/speedrun",
    run,
    ("NAME", "out", "seeds", "plan", "list", "device"),
)
