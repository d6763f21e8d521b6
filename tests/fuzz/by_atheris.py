"""libFuzzer, by atheris, as the one that makes up inputs; what is a fault, and what is counted, stays the same.

It ends its process when its time is over, so it runs in one of its own, which leaves what it has found in a file.
"""

import base64
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.fuzzer import Found

NEEDED = "--engine atheris needs atheris, of which there are wheels for Linux: pip install '.[fuzz]'"


def fuzz_by_atheris(name: str, folder: Path, seed: int, seconds: float) -> Found:
    """So long, in a process of its own, from the good inputs and those that are kept.

    Raises:
        SystemExit: atheris is not installed, or the process died of an input, which lies in `folder/input`.
    """
    if find_spec("atheris") is None:
        raise SystemExit(NEEDED)
    asked = [
        sys.executable,
        "-m",
        "tests.fuzz.under_libfuzzer",
        name,
        str(folder),
        str(seed),
        str(max(1, round(seconds))),
    ]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    left = folder / "found.json"
    if not left.exists() or done.returncode != 0:
        raise SystemExit(f"{name}: the process of libFuzzer ended with {done.returncode}: {done.stderr[-2000:]}")
    found = json.loads(left.read_text())
    faults = [(what, base64.b64decode(data)) for what, data in found["faults"]]
    corpus = [path.read_bytes() for path in sorted((folder / "corpus").glob("*"))]
    return Found(**{**found, "faults": faults, "corpus": corpus})
