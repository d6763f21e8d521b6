"""The command line: one sub-command a job, from one explicit table. A command imports only what it needs."""

import errno
import os
import sys
from typing import NoReturn

from vitrail.commands import (
    benchmark,
    convert,
    data,
    demo,
    evaluate,
    export,
    finetune,
    inspect,
    linear,
    models,
    plan,
    predict,
    pretrain,
    recipes,
    report,
    serve,
    speedrun,
    study,
    suite,
)
from vitrail.core.errors import LATER, BadInput, Interrupted, Unreachable, nearest

COMMANDS = {
    command.name: command
    for command in (
        demo.COMMAND,
        pretrain.COMMAND,
        finetune.COMMAND,
        linear.COMMAND,
        evaluate.COMMAND,
        predict.COMMAND,
        serve.COMMAND,
        inspect.COMMAND,
        suite.COMMAND,
        study.COMMAND,
        speedrun.COMMAND,
        convert.COMMAND,
        export.COMMAND,
        benchmark.COMMAND,
        data.COMMAND,
        report.COMMAND,
        recipes.COMMAND,
        plan.COMMAND,
        models.COMMAND,
    )
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
    """Runs a command and exits.

    0 done, 1 done and something found, 2 bad input, 75 a store does not answer, 130 or 143 stopped by a signal.
    """
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
        print(f"vitrail: {_sentence(problem)}", file=sys.stderr)
        return LATER if isinstance(problem, Unreachable) else 2
    except RuntimeError as problem:
        from vitrail.core.pool import LOST, is_lost_worker

        if debug or not is_lost_worker(problem):
            raise
        print(f"vitrail: {LOST}. The same command goes on from the last checkpoint", file=sys.stderr)
        return 2
    except Interrupted as problem:
        print(f"vitrail: {problem}; the same command goes on from here", file=sys.stderr)
        return 128 + problem.number


def _sentence(problem: BadInput | OSError) -> str:
    """What the system says of a full disk lacks a name, and what to do."""
    if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" {problem.filename}" if problem.filename else ""
        return (
            f"the disk is full, and{where or ' a file'} could not be written; make room and run the same command again"
        )
    return str(problem)
