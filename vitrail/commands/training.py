"""What the commands that train share: a recipe, options put into it, the run shown."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vitrail.commands.parsing import PROOFS, Command, Common, parse, percent, show
from vitrail.commands.parsing import options as options_of
from vitrail.core.errors import BadInput, unknown

if TYPE_CHECKING:
    from vitrail.core.device import Machine


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

        from vitrail.core.loggers import check_trackers

        check_trackers(self.track)
        names = ("sharding", "compile", "deterministic", "graphs", "recompute", "stall", "track")
        return replace(super().machine(), **{name: getattr(self, name) for name in names})


def recipe_name(command: Command, args: list[str], recipes: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The recipe that comes first, and the other arguments; shows what there is with --help."""
    known = list(recipes)
    if not args or args[0].startswith("-"):
        if args and args[0] in ("-h", "--help"):
            print(f"usage: vitrail {command.name} RECIPE [options]\n\n{command.about}\n\nrecipes: {', '.join(known)}\n")
            print(
                f"For example:\n  {command.usage}\n\nThe options of a recipe: vitrail {command.name} {known[0]} --help"
            )
            raise SystemExit(0)
        raise BadInput(f"vitrail {command.name} needs a recipe first; known are: {', '.join(known)}")
    if args[0] not in recipes:
        raise unknown("recipe", args[0], known)
    return args[0], args[1:]


def train(
    command: Command,
    args: list[str],
    recipes: Mapping[str, Callable[[], Any]],
    kind: type,
    job: Callable[..., dict[str, Any]],
) -> int:
    """Runs `job` with the config of the recipe that `args` name, their options put in; returns the exit code."""
    name, rest = recipe_name(command, args, recipes)
    options_type, default = options_of(kind, out=True, default=recipes[name](), common=CommonTraining)
    options = parse(command._replace(name=f"{command.name} {name}"), options_type, rest, default)
    from vitrail.core.dist import launched

    result = job(options.config, options.out, options.common.machine(), name)
    return show_run(options, result) if launched().first else 0


def show_run(options: Any, result: dict[str, Any]) -> int:
    """The page, and what a person or a program wants to know of a finished run; returns the exit code."""
    from vitrail.report import make
    from vitrail.report.sections.bottleneck import of_run

    page = make(options.out, PROOFS)
    verdict = of_run(options.out)
    text = f"{result['steps']} steps in {result['seconds']:.0f} s, {result['images_per_second']:,.0f} images/s"
    if result["accuracy"] is not None:
        text = f"accuracy {percent(result)} of {result['count']:,} images; {text}"
    said = None if verdict is None else {"bound": verdict.bound, "said": str(verdict)}
    lines = [text, *([] if verdict is None else [str(verdict)]), f"model: {options.out / 'bundle'}", str(page)]
    show({**result, "folder": str(options.out), "verdict": said}, options.common, "\n".join(lines))
    return 0
