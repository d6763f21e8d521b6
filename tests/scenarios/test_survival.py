"""One of two processes is killed again and again, at random moments; torchrun starts them anew, and nothing is lost."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.scenarios.many import command, environment, rows, run, workers_of

KILLS = 20
STEPS = ("--steps", "300", "--save-every", "3", "--evaluate-every", "5")  # long enough to be killed in


def unreadable_checkpoints(folder: Path) -> list[str]:
    """The names of checkpoints that cannot be read whole, of those that have a name; there should be none, ever."""
    broken = []
    for path in folder.glob("checkpoints/step-*"):
        try:
            parts = json.loads((path / "state.json").read_text())["parts"]
            for rank in range(parts):
                with safe_open(path / f"part-{rank}-of-{parts}.safetensors", framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118 - not a dict
                        file.get_tensor(name)
        except FileNotFoundError:
            if path.exists():  # otherwise an old one that was removed meanwhile
                broken.append(path.name)
        except Exception as problem:
            broken.append(f"{path.name}: {problem}")
    return broken


def survive(folder: Path, kills: int, seed: int, sharding: str, objective: str) -> tuple[int, list[str]]:
    """Runs with torchrun and kills one worker at random moments. Returns how often, and what was ever unreadable."""
    rng = random.Random(seed)
    asked = command(folder, 2, sharding, kills + 2, *STEPS, objective=objective)
    said = folder.with_suffix(".log")
    with open(said, "w") as log:
        process = subprocess.Popen(asked, env=environment(), stdout=subprocess.DEVNULL, stderr=log)
    killed, broken, dead = 0, [], set[int]()
    end = time.monotonic() + 60 + 30 * kills
    while process.poll() is None and killed < kills:
        assert time.monotonic() < end, "the run does not end"
        workers = [w for w in workers_of(folder) if w not in dead]
        if len(workers) < 2:
            time.sleep(0.01)
            continue
        if rng.random() < 0.3:
            time.sleep(rng.uniform(0, 4))  # while it starts
        else:
            wanted = len(rows(folder)) + rng.randint(1, 12)
            while process.poll() is None and len(rows(folder)) < wanted and time.monotonic() < end:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.35))  # somewhere in a step, a save, an evaluation
        try:
            os.kill(rng.choice(workers), signal.SIGKILL)
        except ProcessLookupError:  # it has ended meanwhile
            continue
        killed += 1
        broken += unreadable_checkpoints(folder)
        dead.update(workers)
        while process.poll() is None and set(workers_of(folder)) & set(workers):
            time.sleep(0.01)
        broken += unreadable_checkpoints(folder)
    process.wait(timeout=300)
    assert process.returncode == 0, said.read_text()[-3000:]
    return killed, broken


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sharding", "objective"),
    [("replicated", "labels"), ("sharded", "labels"), ("replicated", "masked-patches"), ("sharded", "mae")],
)
def test_twenty_kills_cost_nothing_but_time(tmp_path: Path, sharding: str, objective: str) -> None:
    killed, broken = survive(tmp_path / "killed", KILLS, len(sharding), sharding, objective)
    undisturbed = run(tmp_path / "whole", 2, sharding, *STEPS, objective=objective)
    survived = json.loads((tmp_path / "killed" / "result.json").read_text())
    said = f"{killed} kills, {survived['restarts']} restarts, {len(broken)} unreadable checkpoints seen"
    print(f"{sharding}, {objective}: {said}")
    assert not broken
    assert killed == KILLS
    assert survived["restarts"] >= 1  # those that got as far as a save
    assert survived["weights_sha256"] == undisturbed["weights_sha256"]
    assert survived["accuracy"] == undisturbed["accuracy"]
    assert survived.get("objective") == undisturbed.get("objective")  # without labels what is judged
