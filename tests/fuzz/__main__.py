"""`python -m tests.fuzz PARSER... [--minutes N]`: hostile bytes for some parsers, or for all; docs/survival.md.

`--engine atheris` has libFuzzer make them up (`pip install '.[fuzz]'`); faults are the same.
"""

import argparse
import logging
import random
import tempfile
from pathlib import Path

from tests.fuzz.by_atheris import fuzz_by_atheris
from tests.fuzz.fuzzer import Found, fuzz
from tests.fuzz.kept import keep, known
from tests.fuzz.parsers import PARSERS


def main() -> int:
    """Prints a line for each parser and each fault, whose input is kept in build/fuzz; 1 where there was a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("parsers", nargs="*", metavar="PARSER", help=f"of {', '.join(PARSERS)}; none: all")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--engine", choices=["own", "atheris"], default="own")
    parser.add_argument("--keep", action="store_true", help="small inputs that reach further: in tests/fuzz/corpus")
    asked = parser.parse_args()
    seed = random.randrange(1 << 30) if asked.seed is None else asked.seed
    print(f"seed {seed}\n\n| parser | inputs | an hour of processor | read | refused | lines reached | "
          "slowest, s | MiB more | faults |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    bad = 0
    for name in asked.parsers or PARSERS:
        with tempfile.TemporaryDirectory() as folder:
            engine = fuzz_by_atheris if asked.engine == "atheris" else fuzz_by_ours
            found = engine(name, Path(folder), seed, 60 * asked.minutes)
            if asked.keep:
                keep(name, PARSERS[name], found.corpus, Path(folder))
        rate = found.inputs / max(1e-9, found.seconds) * 3600
        print(
            f"| {name} | {found.inputs:,} | {rate:,.0f} | {found.read:,} | {found.refused:,} | "
            f"{found.reached} of {found.lines} | {found.slowest:.2f} | {found.memory:.0f} | "
            f"{len(found.faults)} |",
            flush=True,
        )
        bad += len(found.faults)
        for number, (what, data) in enumerate(found.faults):
            kept = Path("build/fuzz") / f"{name}-{seed}-{number}"
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(data)
            print(f"    {kept}: {what}", flush=True)
    return 1 if bad else 0


def fuzz_by_ours(name: str, folder: Path, seed: int, seconds: float) -> Found:
    """The parser of that name, from its good inputs and those that are kept."""
    return fuzz(PARSERS[name], folder, seed, seconds=seconds, known=known(name))


if __name__ == "__main__":
    raise SystemExit(main())
