"""`python -m tests.crash JOB...`: the crash loop of some jobs, or of all; docs/survival.md.

With `--minutes N` the table of all faults, as far apart as the time allows; it goes on where it was stopped.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.crash.interposer import FAULTS
from tests.crash.jobs import JOBS
from tests.crash.loop import Loop
from tests.crash.table import END, START, Table, put

KINDS = [*(name for name in FAULTS if name != "none"), "inodes"]
USUAL = KINDS[:-1]  # the last one needs the right to mount a disk


def main() -> int:
    """Prints a line for each fault that was not survived, and a table at the end; 1 where there was one."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("jobs", nargs="*", default=[], metavar="JOB", help=f"of {', '.join(JOBS)}; all or none: all")
    parser.add_argument("--fault", nargs="+", choices=KINDS, default=USUAL)
    parser.add_argument("--every", type=int, default=1, help="each so-manyth operation")
    parser.add_argument("--start", type=int, default=1, help="the first operation")
    parser.add_argument("--at", type=int, help="this operation alone")
    parser.add_argument("--list", action="store_true", help="only the operations of the undisturbed run")
    parser.add_argument("--minutes", type=float, help="the table, in so long; --fault, --every, --start are not heard")
    parser.add_argument(
        "--kept", type=Path, default=Path("build/crash.jsonl"), help="what has been tried, with --minutes"
    )
    parser.add_argument("--page", type=Path, help=f"a page with {START} and {END}, between which the table is put")
    asked = parser.parse_args()
    jobs = list(JOBS) if asked.jobs in ([], ["all"]) else asked.jobs
    if asked.minutes is not None:
        table = Table(asked.kept, partial(print, flush=True), jobs)
        survived = table.run(asked.minutes)
        print(f"\n{table.markdown()}")
        if asked.page:
            put(asked.page, table.markdown())
        return 0 if survived else 1
    rows, lost = [], 0
    for name in jobs:
        with tempfile.TemporaryDirectory(prefix="vitrail-crash-") as folder, Loop(JOBS[name], Path(folder)) as loop:
            print(f"{name}: {len(loop.operations)} operations", flush=True)
            if asked.list:
                for number, (kind, path) in enumerate(loop.operations, 1):
                    print(f"{number:5d} {kind:6s} {path.removeprefix(f'{loop.world}/')}")
                continue
            for fault in asked.fault:
                start, tried, bad, last = time.monotonic(), 0, 0, 0
                outcomes = (
                    [loop.at(fault, asked.at)]
                    if asked.at and fault != "inodes"
                    else loop.over(fault, asked.every, asked.start)
                )
                for outcome in outcomes:
                    if outcome is None:
                        continue
                    tried, last = tried + 1, outcome.n
                    if outcome.problem:
                        bad += 1
                        print(f"  {fault} {outcome.n} ({outcome.operation}): {outcome.problem}", flush=True)
                seconds = time.monotonic() - start
                print(f"  {fault}: {tried - bad} of {tried} survived, the last at {last}, {seconds:.0f} s", flush=True)
                rows.append((name, fault, len(loop.operations), tried, tried - bad))
                lost += bad
    if rows:
        print("\n| job | operations | fault | tried | survived |\n|---|---|---|---|---|")
        for name, fault, operations, tried, survived in rows:
            print(f"| {name} | {operations} | {fault} | {tried} | {survived} |")
    return 1 if lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
