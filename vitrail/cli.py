"""The command line: one sub-command a job, from one explicit table. A command imports only what it needs."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from vitrail.command import Command, Common, parse, show
from vitrail.command import options as options_of
from vitrail.core.errors import BadInput, Interrupted, nearest, unknown

if TYPE_CHECKING:
    from vitrail.core.device import Machine

PROOFS = Path(__file__).parent / "recipes/proofs"  # as recipes.proof says; a report is to start without torch


@dataclass(frozen=True)
class CommonTraining(Common):
    """Options of training on one device or, under torchrun, on many. They do not change results, rounding apart."""

    sharding: Literal["replicated", "sharded", "hybrid"] = "replicated"  # in each process a whole model, or a part
    compile: bool | None = None  # torch.compile of the layers; None: on CUDA
    deterministic: bool = False  # on CUDA: only kernels that add in the same order every time; slower
    graphs: bool = False  # CUDA graphs of the whole model: for small ones, whose kernels are short
    recompute: bool = False  # activations again in the backward pass: less memory, a third more time
    stall: float = 600.0  # seconds without a step after which many processes print their stacks and stop
    track: tuple[str, ...] = ()  # trackio, wandb: where the numbers go besides the run folder

    def machine(self) -> "Machine":
        """Where to run."""
        from dataclasses import replace

        from vitrail.core.trackers import check_trackers

        check_trackers(self.track)
        names = ("sharding", "compile", "deterministic", "graphs", "recompute", "stall", "track")
        return replace(super().machine(), **{name: getattr(self, name) for name in names})


def _parse(command: str, kind: Any, args: list[str], default: Any = None) -> Any:
    return parse(command, COMMANDS[command.split()[0]], kind, args, default)


def _recipe_name(command: str, args: list[str], recipes: Mapping[str, Any]) -> tuple[str, list[str]]:
    known = list(recipes)
    if not args or args[0].startswith("-"):
        entry = COMMANDS[command]
        if args and args[0] in ("-h", "--help"):
            print(f"usage: vitrail {command} RECIPE [options]\n\n{entry.about}\n\nrecipes: {', '.join(known)}\n")
            print(f"For example:\n  {entry.usage}\n\nThe options of a recipe: vitrail {command} {known[0]} --help")
            raise SystemExit(0)
        raise BadInput(f"vitrail {command} needs a recipe first; known are: {', '.join(known)}")
    if args[0] not in recipes:
        raise unknown("recipe", args[0], known)
    return args[0], args[1:]


def _pretrain(args: list[str]) -> int:
    from vitrail.jobs.pretrain import Pretrain, pretrain
    from vitrail.recipes import PRETRAINING

    return _train("pretrain", args, PRETRAINING, Pretrain, pretrain)


def _finetune(args: list[str]) -> int:
    from vitrail.jobs.finetune import Finetune, finetune
    from vitrail.recipes import FINETUNING

    return _train("finetune", args, FINETUNING, Finetune, finetune)


def _train(
    command: str,
    args: list[str],
    recipes: Mapping[str, Callable[[], Any]],
    kind: type,
    job: Callable[..., dict[str, Any]],
) -> int:
    name, rest = _recipe_name(command, args, recipes)
    options_type, default = options_of(kind, out=True, default=recipes[name](), common=CommonTraining)
    options = _parse(f"{command} {name}", options_type, rest, default)
    from vitrail.core.dist import launched

    result = job(options.config, options.out, options.common.machine(), name)
    return _show_run(options, result) if launched().first else 0


def _show_run(options: Any, result: dict[str, Any]) -> int:
    from vitrail.report import make
    from vitrail.report.verdict import of_run

    page = make(options.out, PROOFS)
    verdict = of_run(options.out)
    text = f"{result['steps']} steps in {result['seconds']:.0f} s, {result['images_per_second']:,.0f} images/s"
    if result["accuracy"] is not None:
        text = f"accuracy {_percent(result)} of {result['count']:,} images; {text}"
    said = None if verdict is None else {"bound": verdict.bound, "said": str(verdict)}
    lines = [text, *([] if verdict is None else [str(verdict)]), f"model: {options.out / 'bundle'}", str(page)]
    show({**result, "folder": str(options.out), "verdict": said}, options.common, "\n".join(lines))
    return 0


def _percent(result: dict[str, Any]) -> str:
    low, high = result["interval"]
    return f"{result['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%})"


def _linear(args: list[str]) -> int:
    from vitrail.jobs.linear import Linear, linear

    kind, _ = options_of(Linear, out=None, default=None)
    options = _parse("linear", kind, args)
    result = linear(options.config, options.out, options.common.machine())
    lines = []
    for row in result["rows"]:
        low, high = row["interval"] or (row["mean"], row["mean"])
        spread = f"  ({low:.1%} to {high:.1%} over {len(row['accuracies'])} draws)" if row["interval"] else ""
        lines.append(f"{row['features']:>22}  {row['shots']:>3} shots  {row['mean']:.1%}{spread}")
    lines += [f"broken: {b['key']}: {b['reason']}" for b in result["broken"]]
    if options.out is not None:
        from vitrail.report import make

        lines.append(str(make(options.out)))
    show(result, options.common, "\n".join(lines))
    return 1 if result["broken"] else 0


def _evaluate(args: list[str]) -> int:
    from vitrail.jobs.evaluate import Evaluate, evaluate

    kind, _ = options_of(Evaluate, out=None, default=None)
    options = _parse("evaluate", kind, args)
    result = evaluate(options.config, options.out, options.common.machine())
    text = f"accuracy {_percent(result)} of {result['count']:,} images; loss {result['loss']:.3f}"
    text += f"; calibration error {result['calibration']['ece']:.1%}"
    if result["broken"]:
        text += "\nbroken images:\n" + "\n".join(f"  {b['key']}: {b['reason']}" for b in result["broken"])
    if options.out is not None:
        from vitrail.report import make

        text += f"\n{make(options.out)}"
    show(result, options.common, text)
    return 1 if result["broken"] else 0


def _predict(args: list[str]) -> int:
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

    options = _parse("predict", Options, args)
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


def _inspect(args: list[str]) -> int:
    from vitrail.jobs.inspect import Inspect, inspect
    from vitrail.report import make

    kind, _ = options_of(Inspect, out=None, default=None)
    options = _parse("inspect", kind, args)
    if options.out is None:
        raise BadInput("vitrail inspect needs --out DIR for its figures")
    result = inspect(options.config, options.out, options.common.machine())
    show(result, options.common, str(make(options.out)))
    return 0


def _demo(args: list[str]) -> int:
    import tyro

    from vitrail.jobs.demo import demo
    from vitrail.recipes.small import demo as recipe
    from vitrail.report import make

    @dataclass(frozen=True)
    class Options:
        out: Path = Path("runs/demo")  # folder to write
        common: Annotated[Common, tyro.conf.arg(name="")] = Common()

    options = _parse("demo", Options, args)
    result = demo(recipe(), options.out, options.common.machine())
    for run in result["runs"].values():
        make(options.out / run)
    page = make(options.out)
    show({**result, "report": str(page)}, options.common, f"{result['seconds']:.0f} s; open {page}")
    return 0


def _data(args: list[str]) -> int:
    from vitrail.cli_data import data

    return data(args)


def _report(args: list[str]) -> int:
    import tyro

    from vitrail.report import make

    @dataclass(frozen=True)
    class Options:
        folder: Annotated[
            Path, tyro.conf.Positional
        ]  # a run, an evaluation, an inspection, a demo, or a folder of them
        json: bool = False  # one JSON object on standard output, alone

    options = _parse("report", Options, args)
    page = make(options.folder, PROOFS)
    print(json.dumps({"report": str(page)}) if options.json else page)
    return 0


def _recipes(args: list[str]) -> int:
    import tyro

    from vitrail.recipes.table import chosen, describe, facts, listing

    @dataclass(frozen=True)
    class Options:
        name: Annotated[tuple[str, ...], tyro.conf.Positional] = ()  # "digits", "finetune digits"; none: a line of each
        json: bool = False  # one JSON object on standard output, alone

    options = _parse("recipes", Options, args)
    rows = [describe(command, name) for command, name in chosen(options.name)]
    if options.json:
        print(json.dumps({"recipes": rows}))
        return 0
    print("\n\n".join(map(facts, rows)) if options.name else listing(rows))
    return 0


def _models(args: list[str]) -> int:
    import tyro

    from vitrail.models.table import describe, facts, listing, names

    @dataclass(frozen=True)
    class Options:
        name: Annotated[tuple[str, ...], tyro.conf.Positional] = ()  # whose facts to print; none: a table of all
        resolution: int = 224  # pixels of a side
        num_classes: int = 1000
        json: bool = False  # one JSON object on standard output, alone

    options = _parse("models", Options, args)
    rows = [describe(name, options.resolution, options.num_classes) for name in options.name or names()]
    if options.json:
        print(json.dumps({"models": rows}))
        return 0
    print(f"{options.resolution} x {options.resolution} pixels, {options.num_classes} classes\n")
    print("\n\n".join(map(facts, rows)) if options.name else listing(rows))
    return 0


def _convert(args: list[str]) -> int:
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

    options = _parse("convert", Options, args)
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


COMMANDS = {
    "demo": Command("The whole story on real digits: pre-train, transfer, look inside.", "vitrail demo", _demo),
    "pretrain": Command(
        "Pre-train a new model by a recipe.",
        "vitrail pretrain cifar10 --data-root data --out runs/cifar10",
        _pretrain,
    ),
    "finetune": Command(
        "Fine-tune a model to your classes.",
        "vitrail finetune folder --init runs/cifar10 --train photos@train --test photos@test --out runs/photos",
        _finetune,
    ),
    "linear": Command(
        "Few-shot accuracy of frozen features, in closed form.",
        "vitrail linear --model runs/cifar10 --train photos@train --test photos@test --shots 1 5 10",
        _linear,
    ),
    "evaluate": Command(
        "Accuracy with its interval, per class, calibration.",
        "vitrail evaluate --model runs/cifar10 --data cifar10@test --out runs/judged",
        _evaluate,
    ),
    "predict": Command("Label images.", "vitrail predict --model runs/photos cat.jpg holiday/ --top 3", _predict),
    "inspect": Command(
        "Filters, positions, attention distance, rollout.",
        "vitrail inspect --model runs/cifar10 --images cifar10@test --out runs/inside",
        _inspect,
    ),
    "convert": Command(
        "Any checkpoint to any layout, and a check that outputs agree.",
        "vitrail convert ViT-B_16.npz models/b16 --to bundle",
        _convert,
    ),
    "data": Command(
        "Examine data, prepare them, find copies of test images.",
        "vitrail data check photos --out runs/checked",
        _data,
    ),
    "report": Command("(Re)make the page of a run or of a folder of runs.", "vitrail report runs", _report),
    "recipes": Command(
        "The recipes, or one: source, cost, what to expect, proof.", "vitrail recipes cifar10", _recipes
    ),
    "models": Command("The models, with sizes and cost.", "vitrail models B/16 --resolution 384", _models),
}


def _help() -> str:
    lines = [f"  {name:<10} {command.about}" for name, command in COMMANDS.items()]
    examples = [f"  {command.usage}" for command in COMMANDS.values()]
    return "\n".join(
        [
            "usage: vitrail COMMAND [options]",
            "\nPre-train, transfer, study and look inside Vision Transformers.\n",
            *lines,
            "\nFor example:",
            *examples,
            "\nThe options of a command: vitrail COMMAND --help. With --debug errors show where they come from.",
        ]
    )


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs a command and exits: 0 done, 1 done and something found, 2 bad input, 130 or 143 stopped by a signal."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    if not args or args[0] in ("-h", "--help", "help"):
        print(_help())
        raise SystemExit(0 if args else 2)
    if args[0] == "--version":
        from importlib.metadata import version

        print(version("vitrail"))
        raise SystemExit(0)
    raise SystemExit(_run(args, debug))


def _run(args: list[str], debug: bool) -> int:
    try:
        if args[0] not in COMMANDS:
            raise BadInput(f"unknown command {args[0]!r}{nearest(args[0], COMMANDS)}")
        return COMMANDS[args[0]].run(args[1:])
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # somebody closed the pager
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (BadInput, OSError) as problem:
        if debug:
            raise
        print(f"vitrail: {problem}", file=sys.stderr)
        return 2
    except Interrupted as problem:
        print(f"vitrail: {problem}; the same command goes on from here", file=sys.stderr)
        return 128 + problem.number
