"""`vitrail plan`: a pre-training on accelerators that are not here."""

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from vitrail.commands.parsing import Command, Common, parse
from vitrail.commands.parsing import options as options_of
from vitrail.commands.training import start

if TYPE_CHECKING:
    from vitrail.core.device import Sharding
    from vitrail.jobs.pretrain import Pretrain

GIGA = 1e9


@dataclass(frozen=True)
class Accelerators(Common):
    """Where the run would be. What is not given is that of the kind, as its maker says."""

    gpus: tuple[int, ...] = (8,)  # how many accelerators; several numbers: a table
    kind: str = "h100"  # h100, h200, b200, a100, a100-40, l40s, rtx-4090, tpuv3 (a core)
    classes: int | None = None  # of the data; None: of the data set that the recipe names, or 1000
    node: int | None = None  # accelerators of a machine
    memory: float | None = None  # GiB of each
    link: float | None = None  # GB/s each way between two of one machine
    network: float | None = None  # GB/s each way between machines, of each accelerator
    reached: float | None = None  # part of the peak that large products reach
    cores: int = 14  # of processors, for each accelerator
    image_ms: float = 1.05  # milliseconds of a core to decode and augment an image: photographs; prepared ones 0.3
    image_kb: float = 110.0  # kilobytes of its file; prepared ones 25
    reading: float = 2.0  # GB/s of data into each machine
    writing: float = 1.0  # GB/s of checkpoints from each machine


@dataclass(frozen=True)
class CommonPlan(Accelerators):
    """How the run would be spread, and where."""

    sharding: Literal["auto", "replicated", "sharded", "hybrid"] = "auto"  # auto: the fastest
    recompute: bool | None = None  # activations again in the backward pass; None: where it is needed


def run(args: list[str]) -> int:
    """`vitrail plan`; returns the exit code: 1 where it does not fit into memory."""
    from vitrail.jobs.pretrain import Pretrain
    from vitrail.recipes import PRETRAINING

    name, base, rest = start(COMMAND, args, PRETRAINING, Pretrain, job="pretrain", out="")
    title = name or "--config FILE"
    kind, default = options_of(Pretrain, default=base, common=CommonPlan, out="")
    options = parse(COMMAND._replace(name=f"plan {title}"), kind, rest, default)
    said = options.common
    sharding = None if said.sharding == "auto" else said.sharding
    return show_plan(name, options.config, said, sharding, said.recompute)


def show_plan(
    name: str | None, config: "Pretrain", said: Accelerators, sharding: "Sharding | None", recompute: bool | None
) -> int:
    """Prints what the pre-training takes on these accelerators; returns the exit code, 1 where it does not fit.

    Args:
        name: of the recipe; None for a config of a file.
        sharding, recompute: None for the fastest.
    """
    from vitrail.jobs.plan.describe import assumptions, comparison, facts
    from vitrail.jobs.plan.plan import Surroundings, hardware_of, plan
    from vitrail.recipes.pretraining import CLASSES

    title = name or "--config FILE"
    known = CLASSES.get(config.train.partition("@")[0])
    classes = said.classes or config.model.num_classes or known or 1000
    hardware = _told(hardware_of(said.kind), said)
    around = Surroundings(
        cores=said.cores,
        image_seconds=said.image_ms / 1000,
        image_bytes=said.image_kb * 1000,
        reading=said.reading * GIGA,
        writing=said.writing * GIGA,
    )
    plans = [
        plan(
            config,
            replace(config.model, num_classes=classes),
            devices=number,
            hardware=hardware,
            around=around,
            objective=config.objective,
            sharding=sharding,
            recompute=recompute,
        )
        for number in said.gpus
    ]
    if said.json:
        print(json.dumps({"recipe": name, "classes": classes, "plans": [_as_json(made) for made in plans]}))
    else:
        text = (
            [facts(plans[0], around, title)] if len(plans) == 1 else [f"{title} on {hardware.name}", *comparison(plans)]
        )
        text += ["", f"assumed: {classes:,} classes", *assumptions(hardware, around)]
        print("\n".join(text))
    return 0 if all(made.fits for made in plans) else 1


def _told(hardware: Any, said: Accelerators) -> Any:
    """The figures of the kind, with those that were given in their place."""
    from vitrail.jobs.plan.hardware import GIB

    given = {
        "node": said.node,
        "memory": said.memory and said.memory * GIB,
        "link": said.link and said.link * GIGA,
        "network": said.network and said.network * GIGA,
        "products": said.reached,
    }
    return replace(hardware, **{name: value for name, value in given.items() if value is not None})


def _as_json(made: Any) -> dict[str, Any]:
    found = asdict(made)
    found["limits"] = [limit._asdict() for limit in made.limits]
    sizes = made.work.matrices.items()
    found["work"]["matrices"] = [{"rows": rows, "columns": columns, "count": count} for (rows, columns), count in sizes]
    found["memory"]["total"], found["step"]["seconds"] = made.memory.total, made.step.seconds
    return {**found, "device_hours": made.device_hours, "idle": made.idle}


COMMAND = Command(
    "plan",
    "A pre-training on GPUs that are not here: memory, time, what fails first.",
    "vitrail plan imagenet21k-b16 --gpus 1 8 64 1024 --kind h100",
    run,
    ("gpus", "kind", "classes", "model", "batch", "steps", "sharding", "recompute", "network", "image-ms"),
)
