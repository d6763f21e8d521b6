"""`python -m tests.fuzz PARSER... [--minutes N]`: hostile bytes for some parsers, or for all; docs/survival.md."""

import argparse
import logging
import random
import tempfile
import time
from pathlib import Path

from tests.fuzz.fuzzer import fuzz
from tests.fuzz.parsers import PARSERS


def main() -> int:
    """Prints a line for each parser and each fault, whose input is kept in build/fuzz; 1 where there was a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("parsers", nargs="*", metavar="PARSER", help=f"of {', '.join(PARSERS)}; none: all")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each")
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    seed = random.randrange(1 << 30) if asked.seed is None else asked.seed
    print(f"seed {seed}\n\n| parser | inputs | an hour | read | refused | lines reached | slowest, s | faults |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    bad = 0
    for name in asked.parsers or PARSERS:
        start = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            found = fuzz(PARSERS[name], Path(folder), seed, seconds=60 * asked.minutes)
        rate = found.inputs / max(1e-9, time.process_time() - start) * 3600
        print(
            f"| {name} | {found.inputs:,} | {rate:,.0f} | {found.read:,} | {found.refused:,} | "
            f"{found.reached} of {found.lines} | {found.slowest:.2f} | {len(found.faults)} |",
            flush=True,
        )
        bad += len(found.faults)
        for number, (what, data) in enumerate(found.faults):
            kept = Path("build/fuzz") / f"{name}-{seed}-{number}"
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(data)
            print(f"    {kept}: {what}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
