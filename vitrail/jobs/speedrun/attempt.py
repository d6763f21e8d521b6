"""One seed of a speedrun, in the process that was started for it: train, judge once, and say how long it took.

The clock is the system's, which does not jump and is the same in all processes: the parent reads it before it starts
this one, so that the interpreter, imports, data and compilation count. It stops when the test images are judged.
"""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from vitrail.core.config import from_json
from vitrail.core.device import Machine, Precision
from vitrail.core.errors import BadInput, Interrupted
from vitrail.core.pool import usable_cores
from vitrail.data.open.names import open_data
from vitrail.evals.classifier import load_classifier
from vitrail.evals.classify import Evaluation
from vitrail.jobs.pretrain import Pretrain, pretrain
from vitrail.records.record import load_record, parse_record, write_record
from vitrail.records.run import Environment
from vitrail.records.speedrun import Attempt, Caches

# The package is the one that the parent runs, wherever it was started. Cores are taken before any library counts them.
# `argv` is what environment.json says the command was.
PROGRAM = """
import json, os, sys
told = json.loads(sys.stdin.read())
sys.argv, sys.path[0] = told["argv"], told["path"]
if told["cores"]:
    os.sched_setaffinity(0, told["cores"])
from vitrail.jobs.speedrun.attempt import main
main(told)
"""


def main(told: dict[str, Any]) -> NoReturn:
    """Exits with 0, with 2 and a sentence for bad input, or as a run that a signal stopped."""
    entered = time.monotonic()
    try:
        attempt(told, entered)
    except BadInput as problem:
        print(f"vitrail: {problem}", file=sys.stderr)
        raise SystemExit(2) from None
    except Interrupted as problem:
        raise SystemExit(128 + problem.number) from None
    raise SystemExit(0)


def attempt(told: dict[str, Any], entered: float) -> Attempt:
    """Trains and judges as `told` says (jobs/speedrun/speedrun.py), and writes attempt.json last.

    Args:
        entered: what the clock said after the imports.

    Raises:
        BadInput: data, a model or a machine that cannot be used; test images that cannot be read.
        Interrupted: after a signal.
    """
    folder, machine = Path(told["folder"]), Machine(**told["machine"])
    config: Pretrain = from_json(Pretrain, told["config"])
    started = datetime.now(UTC).isoformat(timespec="seconds")
    run = pretrain(config, folder, machine, told["recipe"])
    trained = time.monotonic()
    judged = _judge(folder / "bundle", told["test"], config, machine)
    ended = time.monotonic()
    judged.write(folder / "evaluation", told["test"], str(folder / "bundle"))
    environment = load_record(Environment, folder / "environment.json")
    done = Attempt(
        seed=config.seed,
        accuracy=judged.accuracy,
        interval=judged.interval,
        count=judged.count,
        seconds=ended - told["begun"],
        starting=entered - told["begun"],
        preparing=trained - entered - run.seconds,
        training=run.seconds,
        judging=ended - trained,
        steps=run.steps,
        parameters=run.parameters,
        total_flops=run.total_flops,
        weights_sha256=run.weights_sha256,
        caches=parse_record(Caches, told["caches"]),
        load=told["load"],
        processor=environment.processor,
        device=environment.device,
        cores=usable_cores(),
        threads=environment.threads,
        precision=environment.precision,
        compiled=environment.compiled,
        vitrail=environment.vitrail,
        torch=environment.torch,
        python=environment.python,
        commit=told["commit"],
        changed=told["changed"],
        started=started,
    )
    write_record(folder / "attempt.json", done)
    return done


def _judge(bundle: Path, test: str, config: Pretrain, machine: Machine) -> Evaluation:
    """One view of every test image, by the weights as they were written."""
    source = open_data(test, "test")
    precision: Precision = "float32" if config.precision == "float32" else "auto"
    classifier = load_classifier(str(bundle), (), 1, precision, machine)
    if source.classes != classifier.classes:
        raise BadInput(f"{test} has other classes than {config.train}")
    judged = classifier.judged(source)
    if judged.count != len(source):
        raise BadInput(f"{len(source) - judged.count} of the {len(source):,} images of {test} cannot be read")
    return judged
