"""The process of libFuzzer. Its top imports nothing of vitrail: atheris counts branches of what comes after it."""

import base64
import json
import logging
import sys
import time
from pathlib import Path


def _main(name: str, place: str, seed: str, seconds: str) -> None:
    import atheris  # optional

    with atheris.instrument_imports(include=["vitrail"]):
        from tests.fuzz.fuzzer import Session
        from tests.fuzz.kept import known
        from tests.fuzz.parsers import PARSERS

    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    folder = Path(place)
    session = Session(PARSERS[name], folder)
    (folder / "corpus").mkdir(exist_ok=True)
    for i, data in enumerate([*session.seeds, *known(name)]):
        (folder / "corpus" / f"known-{i}").write_bytes(data)
    written = -1.0

    def attempt(data: bytes) -> None:
        nonlocal written
        session.attempt(data)
        if time.monotonic() - written > 1:
            written = time.monotonic()
            found = session.found([])._asdict()
            found["faults"] = [(what, base64.b64encode(data).decode()) for what, data in session.faults.items()]
            (folder / "found.json").write_text(json.dumps(found))

    limits = f"-max_total_time={seconds} -max_len=65536 -len_control=0 -rss_limit_mb=0 -timeout=600"
    atheris.Setup([sys.argv[0], str(folder / "corpus"), f"-seed={seed}", "-verbosity=0", *limits.split()], attempt)
    atheris.Fuzz()


if __name__ == "__main__":
    _main(*sys.argv[1:])
