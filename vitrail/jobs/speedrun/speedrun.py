"""The seeds of a speedrun, one after another, each in a process of its own; what is finished is not repeated.

A seed that was interrupted starts over from nothing: a run that goes on from a checkpoint would have a clock that lies.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import vitrail
from vitrail.core.cache import cache_folder
from vitrail.core.config import to_json
from vitrail.core.device import Machine, choose_device
from vitrail.core.dist import launched
from vitrail.core.errors import BadInput
from vitrail.core.progress import say
from vitrail.core.resumable import claim_folder, refuse_another
from vitrail.core.signals import SignalWatch
from vitrail.jobs.pretrain import Pretrain
from vitrail.jobs.speedrun import attempt as child
from vitrail.jobs.speedrun.rules import CORES, check_rules
from vitrail.jobs.speedrun.verdict import verdict
from vitrail.records.record import as_json, load_record, write_record
from vitrail.records.speedrun import Attempt, SpeedrunResult, Track

PAUSE = 0.1  # seconds between two looks at the process
FILE = "speedrun.json"


def speedrun(
    track: Track,
    config: Pretrain,
    folder: Path,
    machine: Machine | None = None,
    *,
    seeds: int = 5,
    changes: Sequence[str] = (),
    command: Sequence[str] = (),
) -> SpeedrunResult:
    """Makes the seeds that are missing in `folder`, and returns what speedrun.json holds (docs/files.md).

    Args:
        changes: the options by which `config` is another than that of the track's recipe.
        command: the words that make it again.

    Raises:
        BadInput: a config that is no run of the track, another device, a folder of something else, a seed that failed.
        Interrupted: after a signal; the seed at work is lost.
    """
    machine = machine or Machine()
    check_rules(track, config)
    if seeds < 1:
        raise BadInput(f"--seeds is {seeds}, expected at least 1")
    if launched().size > 1:
        raise BadInput("a speedrun is of one device: start it without torchrun")
    if choose_device(machine.device).type != track.device:
        raise BadInput(f"{track.name} is a track of {PLACES[track.device]}; give --device {track.device} there")
    file = folder / FILE
    others = [place for place in folder.iterdir() if not place.name.startswith(".")] if folder.is_dir() else []
    if others and not file.is_file():
        raise BadInput(f"--out {folder} holds other files and no speedrun; give a new or an empty folder")
    with claim_folder(folder):
        state = _open(file, track, config, changes, seeds, command)
        for seed in range(seeds):
            if not (folder / f"seed-{seed}/attempt.json").is_file():
                state = replace(state, starts={**state.starts, str(seed): state.starts.get(str(seed), 0) + 1})
                write_record(file, state)
                say(f"seed {seed}, to be judged once on {track.test}; the clock runs from the start of its process")
                _run(track, replace(config, seed=seed), folder / f"seed-{seed}", machine, command)
            state = _judged(folder, state)
            write_record(file, state)
        return state


PLACES = {"cpu": f"{CORES} cores of a processor", "cuda": "one GPU"}


def _open(
    file: Path, track: Track, config: Pretrain, changes: Sequence[str], seeds: int, command: Sequence[str]
) -> SpeedrunResult:
    """What lies there, with the seeds that are asked for now; raises BadInput where it is of something else."""
    if not file.is_file():
        return verdict(track, to_json(config), (), changes=changes, asked=(seeds,), command=command)
    stored = load_record(SpeedrunResult, file)
    _check_same(stored, file.parent, track, config)
    asked = stored.asked if seeds <= max(stored.asked) else (*stored.asked, seeds)
    return _judged(file.parent, replace(stored, asked=asked, command=command))


def _check_same(stored: SpeedrunResult, folder: Path, track: Track, config: Pretrain) -> None:
    advice = "give another folder, or the options of that one to go on with it"
    refuse_another(folder, as_json(stored.track), as_json(track), f"{folder} holds another track", advice)
    refuse_another(folder, stored.config, config, f"{folder} holds a speedrun of another config", advice)


def finished(folder: Path, track: Track, config: Pretrain) -> list[Attempt]:
    """The finished seeds of a folder that may not be there yet; raises BadInput where it is of something else."""
    if not (folder / FILE).is_file():
        return []
    _check_same(load_record(SpeedrunResult, folder / FILE), folder, track, config)
    return _attempts(folder)


def _attempts(folder: Path) -> list[Attempt]:
    """In the order of the seeds."""
    found = [load_record(Attempt, file) for file in folder.glob("seed-*/attempt.json")]
    return sorted(found, key=lambda attempt: attempt.seed)


def _judged(folder: Path, state: SpeedrunResult) -> SpeedrunResult:
    return verdict(
        state.track,
        state.config,
        _attempts(folder),
        changes=state.changes,
        asked=state.asked,
        starts=state.starts,
        command=state.command,
    )


def _run(track: Track, config: Pretrain, folder: Path, machine: Machine, command: Sequence[str]) -> None:
    """One seed in a process of its own, from nothing: an empty folder and an empty cache of compiled code."""
    if folder.exists():
        shutil.rmtree(folder)
    commit, changed = commit_of_package()
    told: dict[str, Any] = {
        "config": to_json(config),
        "recipe": track.recipe,
        "test": track.test,
        "folder": str(folder),
        "machine": asdict(machine),
        "cores": _cores() if track.device == "cpu" else [],
        "caches": {"folder": "warm" if _warm(cache_folder()) else "cold"},
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "commit": commit,
        "changed": changed,
        "argv": list(command) or sys.argv,
        "path": str(Path(vitrail.__file__).parent.parent),
    }
    with tempfile.TemporaryDirectory(prefix="vitrail-compiled-") as compiled, SignalWatch() as watch:
        own = {name: f"{compiled}/{name.lower()}" for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")}
        told["begun"] = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-c", child.PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # ours is for the result alone; what the run says goes to standard error
            env={**os.environ, **own},
        )
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(told).encode())
            process.stdin.close()
            while process.poll() is None:
                watch.check()
                time.sleep(PAUSE)
        finally:
            process.terminate()  # one that has ended, or that had the signal already, does not mind
            process.wait()
        watch.check()
    if process.returncode or not (folder / "attempt.json").is_file():
        ended = f"was killed by signal {-process.returncode}" if process.returncode < 0 else "failed"
        raise BadInput(f"seed {config.seed} {ended}; what it said is above, and the same command starts it over")


def _cores() -> list[int]:
    """The first cores that this process may use, as many as the track has; none where it cannot be held to some."""
    return sorted(os.sched_getaffinity(0))[:CORES] if hasattr(os, "sched_getaffinity") else []


def _warm(cache: Path) -> bool:
    """Whether earlier processes left anything but data sets."""
    return cache.is_dir() and any(place.name != "data" for place in cache.iterdir())


def commit_of_package(package: Path = Path(vitrail.__file__).parent) -> tuple[str | None, bool]:
    """The commit of the checkout that the package is part of, and whether its files are other than there.

    None where it is part of none: installed, or without git.
    """

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(package), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # not a virtual environment within somebody's checkout
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", "."))
    except (OSError, subprocess.CalledProcessError):
        return None, False
