"""Exact resume: kill a run anywhere, start it again, and the weights are those of a run that was never killed."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vitrail.core.device import Machine
from vitrail.core.errors import BadInput, Interrupted
from vitrail.core.files import read_json
from vitrail.jobs import training
from vitrail.jobs.pretrain import Pretrain, pretrain
from vitrail.models.mae import MAE
from vitrail.models.masked_patches import MaskedPatches
from vitrail.models.objective import Labels, Objective
from vitrail.recipes import pretraining
from vitrail.train.schedule import Cosine
from vitrail.train.step import TrainState
from vitrail.weights.tensors import read_safetensors

STEPS = 120


def config(objective: Objective = Labels()) -> Pretrain:
    """Everything that has a state: dropout, averaging, Adam, a random view, micro-batches, a save now and then."""
    recipe = pretraining("digits")
    return replace(
        recipe,
        objective=objective,
        steps=STEPS,
        batch=16,
        schedule=Cosine(warmup=4),
        micro_batch=8,
        average=0.98,
        log_every=1,
        save_every=9,
        evaluate_every=1000,
        precision="float32",
        augment=replace(recipe.augment, flip=True),
        model=replace(recipe.model, dropout=0.1),
    )


ARGUMENTS = (
    f"--steps {STEPS} --schedule.warmup 4 --batch 16 --micro-batch 8 --average 0.98 --log-every 1 --save-every 9 "
    "--evaluate-every 1000 --precision float32 --augment.flip --model.dropout 0.1"
).split()


def last_step(folder: Path) -> int:
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    try:
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except ValueError:
        return 0


def run_until_killed(folder: Path, workers: int, step: int, more: Sequence[str] = ()) -> None:
    """Starts the command line and kills it with SIGKILL as soon as it has logged `step`."""
    command = [sys.executable, "-m", "vitrail", "pretrain", "digits", "--out", str(folder), "--workers", str(workers)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([*command, *ARGUMENTS, *more], env=environment, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 120
        while last_step(folder) < step:
            assert process.poll() is None, process.stderr.read().decode()  # type: ignore[union-attr]
            assert time.monotonic() < end, "the run does not get on"
            time.sleep(0.001)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize(
    ("objective", "more", "kills"),
    [
        pytest.param(Labels(), "", 1, id="labels, once"),
        pytest.param(Labels(), "", 3, id="labels", marks=pytest.mark.slow),
        pytest.param(MaskedPatches(), "--objective masked-patches", 3, id="masked-patches", marks=pytest.mark.slow),
        pytest.param(
            MAE(decoder_depth=1, decoder_width=16, decoder_heads=2, decoder_mlp=24),
            "--objective mae --objective.decoder-depth 1 --objective.decoder-width 16 --objective.decoder-heads 2 "
            "--objective.decoder-mlp 24",
            3,
            id="mae",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_kills_and_other_workers_give_the_same_bytes(
    tmp_path: Path, objective: Objective, more: str, kills: int
) -> None:
    asked = config(objective)
    undisturbed = pretrain(asked, tmp_path / "undisturbed", Machine(workers=0))
    rng = random.Random()
    steps = sorted(rng.sample(range(5, STEPS - 30), kills))
    print(f"killed at steps {steps}")
    for kill, workers in zip(steps, (1, 0, 2)[:kills], strict=True):
        run_until_killed(tmp_path / "killed", workers, kill, more.split())
        assert not (tmp_path / "killed" / "result.json").exists()
    result = pretrain(asked, tmp_path / "killed", Machine(workers=1))
    assert result.weights_sha256 == undisturbed.weights_sha256, f"killed at {steps}"
    assert result.restarts >= 1  # kills between two checkpoints count as one
    rows = (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()
    logged = [json.loads(row)["step"] for row in rows]
    assert logged == [*range(1, STEPS + 1), STEPS], "every step is logged once, and the final evaluation"


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    """The comparison above could tell."""
    short = replace(config(), steps=5)
    first = pretrain(short, tmp_path / "a", Machine(workers=0))
    second = pretrain(replace(short, seed=1), tmp_path / "b", Machine(workers=0))
    assert first.weights_sha256 != second.weights_sha256


@pytest.fixture
def interrupt_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Sends this process a signal during a step."""

    def install(step: int, number: int) -> None:
        original = training.train_step

        def disturbed(state: TrainState, batch, **options):  # type: ignore[no-untyped-def]
            if state.step == step:
                os.kill(os.getpid(), number)
            return original(state, batch, **options)

        monkeypatch.setattr(training, "train_step", disturbed)

    return install


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(tmp_path: Path, interrupt_at, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    short = replace(config(), steps=30)
    undisturbed = pretrain(short, tmp_path / "undisturbed", Machine(workers=0))
    with monkeypatch.context(), pytest.raises(Interrupted) as stopped:
        interrupt_at(12, number)
        pretrain(short, tmp_path / "run", Machine(workers=0))
    monkeypatch.undo()
    assert stopped.value.number == number
    assert read_json(tmp_path / "run" / "checkpoints" / "step-00000013" / "state.json")["step"] == 13
    result = pretrain(short, tmp_path / "run", Machine(workers=0))
    assert result.weights_sha256 == undisturbed.weights_sha256


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path: Path, interrupt_at, monkeypatch) -> None:
    short = replace(config(), steps=30, save_every=10)
    undisturbed = pretrain(short, tmp_path / "undisturbed", Machine(workers=0))
    interrupt_at(12, signal.SIGTERM)
    with pytest.raises(Interrupted):
        pretrain(short, tmp_path / "run", Machine(workers=0))
    monkeypatch.undo()
    checkpoints = tmp_path / "run" / "checkpoints"
    whole = (checkpoints / "step-00000013" / "part-0-of-1.safetensors").read_bytes()

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # a checkpoint is larger: writing it fails half-way
    try:
        with pytest.raises(BadInput, match=r"could not save step 20.*the checkpoint of step 13 is whole"):
            pretrain(short, tmp_path / "run", Machine(workers=0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (checkpoints / "step-00000013" / "part-0-of-1.safetensors").read_bytes() == whole
    read_safetensors(checkpoints / "step-00000013" / "part-0-of-1.safetensors")
    assert not list(checkpoints.glob(".*")), "half a file was left behind"
    result = pretrain(short, tmp_path / "run", Machine(workers=0))
    assert result.weights_sha256 == undisturbed.weights_sha256


def test_a_finished_run_is_shown_and_not_repeated(tmp_path: Path) -> None:
    short = replace(config(), steps=5)
    first = pretrain(short, tmp_path / "run", Machine(workers=0))
    weights = tmp_path / "run" / "bundle" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    assert pretrain(short, tmp_path / "run", Machine(workers=0)) == first
    assert weights.stat().st_mtime_ns == written


def test_another_config_is_refused_with_the_difference(tmp_path: Path) -> None:
    short = replace(config(), steps=5)
    pretrain(short, tmp_path / "run", Machine(workers=0))
    with pytest.raises(BadInput, match=r"optimizer\.lr: 0\.002 → 0\.1"):
        pretrain(replace(short, optimizer=replace(short.optimizer, lr=0.1)), tmp_path / "run", Machine(workers=0))
