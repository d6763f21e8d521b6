"""Runs of the command line on several processes, for the tests."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

STEPS = 50
ARGUMENTS = (
    f"--steps {STEPS} --schedule.warmup 4 --batch 24 --micro-batch 7 --log-every 1 --save-every 11 "
    "--evaluate-every 25 --average 0.98 --precision float32 --augment.flip --workers 0 --device cpu"
).split()
OBJECTIVES = {
    "labels": "--mixing.mixup 0.2 --mixing.cutmix 1.0".split(),
    "masked-patches": "--objective masked-patches".split(),
    "mae": "--objective mae --objective.decoder-width 16 --objective.decoder-depth 1 --objective.decoder-heads 2 "
    "--objective.decoder-mlp 24".split(),
}


def command(
    folder: Path, processes: int, sharding: str, restarts: int = 0, *more: str, objective: str = "labels"
) -> list[str]:
    """`vitrail pretrain digits`, under torchrun where there is more than one process."""
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
        launcher += [f"--max-restarts={restarts}", "-m"]
    job = ["vitrail", "pretrain", "digits", "--out", str(folder), "--sharding", sharding]
    return [*launcher, *job, *ARGUMENTS, *OBJECTIVES[objective], *more]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def run(
    folder: Path, processes: int, sharding: str = "replicated", *more: str, objective: str = "labels"
) -> dict[str, Any]:
    """To the end; returns result.json."""
    asked = command(folder, processes, sharding, 0, *more, objective=objective)
    done = subprocess.run(asked, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def run_until(
    folder: Path, step: int, processes: int, sharding: str = "replicated", objective: str = "labels", *more: str
) -> None:
    """Until `step` is logged; then all of it is killed."""
    asked = command(folder, processes, sharding, 0, *more, objective=objective)
    process = subprocess.Popen(
        asked, env=environment(), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 120
        while last_step(folder) < step:
            assert process.poll() is None
            assert time.monotonic() < end, "the run does not get on"
            time.sleep(0.005)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for worker in workers_of(folder):
            os.kill(worker, signal.SIGKILL)


def last_step(folder: Path) -> int:
    found = rows(folder)
    return int(found[-1]["step"]) if found else 0


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl; a last line that is still being written is left out."""
    metrics = folder / "metrics.jsonl"
    found = []
    for line in metrics.read_text().splitlines() if metrics.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def workers_of(folder: Path) -> list[int]:
    """The process ids of the workers that torchrun has started for a run in this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"vitrail" in words and str(folder).encode() in words and b"torch.distributed.run" not in words:
            found.append(int(path.name))
    return sorted(found)


def differences(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> float:
    """The largest relative difference of the losses; everything that is counted must be equal."""
    assert [(row["kind"], row["step"]) for row in ours] == [(row["kind"], row["step"]) for row in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a.get("accuracy") == b.get("accuracy")
        assert a.get("count") == b.get("count")
    return max(abs(a["loss"] - b["loss"]) / abs(a["loss"]) for a, b in zip(ours, theirs, strict=True))
