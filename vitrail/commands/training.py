"""What the commands that train share: where the config comes from, how long it trains, and the run shown."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vitrail.commands.parsing import PROOFS, Command, Common, parse, percent, show
from vitrail.commands.parsing import options as options_of
from vitrail.core.address import refuse_address
from vitrail.core.columns import give_columns
from vitrail.core.errors import BadInput, unknown

if TYPE_CHECKING:
    from vitrail.core.device import Machine
    from vitrail.records.run import RunResult


@dataclass(frozen=True)
class CommonTraining(Common):
    """Options of training on one device or, under torchrun, on many. They do not change results, rounding apart."""

    epochs: float | None = None  # in place of --steps: passes over the training images, 0.1 for a tenth of one
    print_config: bool = False  # print the whole config as JSON, for --config, and train nothing
    sharding: Literal["replicated", "sharded", "hybrid"] = "replicated"  # in each process a whole model, or a part
    compile: bool | None = None  # torch.compile of the layers; None: on CUDA
    deterministic: bool = False  # on CUDA: only kernels that add in the same order every time; slower
    graphs: bool = False  # CUDA graphs of the whole model: for small ones, whose kernels are short
    recompute: bool = False  # activations again in the backward pass: less memory, a third more time
    stall: float = 600.0  # seconds without a step after which many processes print their stacks and stop
    accept_changed_data: bool = False  # go on although images were added to the data of the run, or removed
    track: tuple[str, ...] = ()  # trackio, wandb: where the numbers go besides the run folder

    def machine(self) -> "Machine":
        """Where to run."""
        from vitrail.core.loggers import check_loggers

        check_loggers(self.track)
        names = ("sharding", "compile", "deterministic", "graphs", "recompute", "stall", "accept_changed_data", "track")
        return replace(super().machine(), **{name: getattr(self, name) for name in names})


def read_options(
    command: Command,
    args: list[str],
    recipes: Mapping[str, Callable[[], Any]],
    kind: type,
    common: type,
    writes: bool = True,
) -> tuple[str | None, Any]:
    """The recipe's name, and its options with those of `args` put in, warm-up and steps settled.

    `out` is a path, or the address that was given.
    The config is that of the recipe that comes first, or of the file after --config. Prints it and exits with
    --print-config.

    Args:
        writes: whether --out must be given.

    Raises:
        BadInput: no recipe and no file, both, an unknown option, --steps and --epochs together, or no --out.
    """
    name, base, rest = start(command, args, recipes, kind)
    title = f"{command.name} {name or '--config FILE'}"
    about_out = "folder to write, or its address in an object store"
    options_type, default = options_of(kind, default=base, common=common, out=about_out)
    out, rest = _address_of_out(rest)
    options = parse(command._replace(name=title), options_type, rest, default)
    options.common.find_data()
    options = replace(options, config=_settled(options, base, {arg.split("=", 1)[0].replace("_", "-") for arg in rest}))
    if options.common.print_config:
        from vitrail.core.run import asked_for

        print(json.dumps(asked_for(command.name, name, options.config), indent=1))
        raise SystemExit(0)
    if out is not None:
        options = replace(options, out=out)
    if options.out is None and writes:
        raise BadInput(f"give a folder to write: --out runs/{name or 'a'}")
    return name, options


def _address_of_out(args: list[str]) -> tuple[str | None, list[str]]:
    """The address that --out is, before it becomes a path, and the other arguments; None where it is none."""
    from vitrail.core.object_store import is_remote

    given, rest = _taken("--out", args)
    return (given[-1], rest) if given and is_remote(given[-1]) else (None, args)


def start(
    command: Command,
    args: list[str],
    recipes: Mapping[str, Callable[[], Any]],
    kind: type,
    job: str | None = None,
    out: str = " --out DIR",
) -> tuple[str | None, Any, list[str]]:
    """The recipe's name, the config to start from, and the other arguments; shows what there is with --help.

    Args:
        job: whose configs --config reads; None: the command's.
        out: what --help says after RECIPE.
    """
    files, rest = _taken("--config", args)
    named = bool(rest) and not rest[0].startswith("-")
    if files:
        if named:
            raise BadInput(f"the recipe {rest[0]} and --config {files[-1]} are two configs to start from; give one")
        return (*_from_file(Path(files[-1]), job or command.name, kind), rest)
    if not named:
        if rest and rest[0] in ("-h", "--help", "--help-all"):
            print(_help(command, list(recipes), out))
            raise SystemExit(0)
        raise BadInput(
            f"vitrail {command.name} needs a recipe first, or --config FILE; known are: {', '.join(recipes)}"
        )
    if rest[0] not in recipes:
        raise unknown("recipe", rest[0], recipes)
    return rest[0], recipes[rest[0]](), rest[1:]


def _help(command: Command, known: list[str], out: str) -> str:
    return "\n".join(
        [
            f"usage: vitrail {command.name} RECIPE{out} [options]",
            f"       vitrail {command.name} --config FILE{out} [options]",
            f"\n{command.about}\n\nrecipes: {', '.join(known)}",
            "FILE: config.json of a run, or what --print-config printed\n",
            f"For example:\n  {command.usage}\n\nThe options of a recipe: vitrail {command.name} {known[0]} --help",
        ]
    )


def _taken(option: str, args: list[str]) -> tuple[list[str], list[str]]:
    """The values of an option, and the other arguments."""
    values, rest, words = [], [], iter(args)
    for word in words:
        if word == option:
            values.append(next(words, ""))
        elif word.startswith(f"{option}="):
            values.append(word.partition("=")[2])
        else:
            rest.append(word)
    return values, rest


def _from_file(file: Path, job: str, kind: type) -> tuple[str | None, Any]:
    """The recipe's name and the config of config.json, which may be given by its folder; its columns of tables hold."""
    from vitrail.core.config import from_json
    from vitrail.core.files import read_json

    refuse_address(file, "--config")
    file = file / "config.json" if file.is_dir() else file
    if not file.is_file():
        raise BadInput(f"--config {file} is no file; give config.json of a run, or what --print-config printed")
    stored = read_json(file)
    if not isinstance(stored, dict) or "config" not in stored:
        raise BadInput(f"--config {file} holds no config; give config.json of a run, or what --print-config printed")
    if stored.get("job") != job:
        raise BadInput(f"--config {file} is of `vitrail {stored.get('job')}`, this is `vitrail {job}`")
    if stored.get("columns"):
        give_columns(stored["columns"])
    return stored.get("recipe"), from_json(kind, stored["config"], str(file))


def _settled(options: Any, base: Any, given: set[str]) -> Any:
    """The config with the steps of --epochs, and a warm-up that fits a run shorter than the recipe's warm-up."""
    from vitrail.core.progress import say

    config = options.config
    if options.common.epochs is not None:
        if "--steps" in given:
            raise BadInput("--steps and --epochs both say how long to train; give one of them")
        config = with_epochs(config, options.common.epochs)
    warmup = config.schedule.warmup
    if 0 < config.steps < warmup and "--schedule.warmup" not in given:
        shorter = warmup * config.steps // base.steps if base.steps else config.steps // 10
        config = replace(config, schedule=replace(config.schedule, warmup=shorter))
        say(f"warm-up of {shorter} steps in place of {warmup}, in proportion to the {config.steps:,} steps of this run")
    return config


def with_epochs(config: Any, epochs: float) -> Any:
    """The config with the steps of so many passes over its training images, which are counted; says how many.

    Of a fine-tuning the held-out images are counted, too. Raises BadInput for no positive number.
    """
    from vitrail.core.progress import say
    from vitrail.jobs.finetune.schedule_rule import batch_for
    from vitrail.jobs.unlabelled_training import open_train

    if not 0 < epochs < float("inf"):
        raise BadInput(f"--epochs is {epochs:g}, expected a number above 0, such as 0.1 or 90")
    images = len(open_train(config))
    batch = config.batch or batch_for(images)
    steps = max(1, round(epochs * images / batch))
    say(f"{epochs:g} epochs of {images:,} images in batches of {batch} are {steps:,} steps")
    return replace(config, steps=steps, batch=batch)


def train(
    command: Command,
    args: list[str],
    recipes: Mapping[str, Callable[[], Any]],
    kind: type,
    job: "Callable[..., RunResult]",
    common: type = CommonTraining,
) -> int:
    """Runs `job` with the config of the recipe that `args` name, their options put in; returns the exit code."""
    name, options = read_options(command, args, recipes, kind, common)
    from vitrail.core.dist import launched
    from vitrail.core.mirror import mirrored

    with mirrored(options.out) as folder:
        result = job(options.config, folder, options.common.machine(), name)
        return show_run(replace(options, out=folder), result) if launched().first else 0


def show_run(options: Any, result: "RunResult") -> int:
    """The page, and what a person or a program wants to know of a finished run; returns the exit code."""
    from vitrail.report.index import make
    from vitrail.report.sections.bottleneck import of_run

    page = make(options.out, PROOFS)
    verdict = of_run(options.out)
    text = f"{result.steps} steps in {result.seconds:.0f} s, {result.images_per_second:,.0f} images/s"
    if result.mean_average_precision is not None:
        text = f"mean average precision {result.mean_average_precision:.1%} of {result.count:,} images; {text}"
    elif result.accuracy is not None:
        text = f"accuracy {percent(result.accuracy, result.interval)} of {result.count:,} images; {text}"
    said = None if verdict is None else {"bound": verdict.bound, "said": str(verdict)}
    lines = [text, *([] if verdict is None else [str(verdict)]), f"model: {options.out / 'bundle'}", str(page)]
    show(result, options.common, "\n".join(lines), folder=str(options.out), verdict=said)
    return 0
