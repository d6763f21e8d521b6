"""Runs whose folder is an address: what a store held at any moment is enough for the bytes of an undisturbed run."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
import torch

from tests.crash import compare
from tests.crash.compare import difference
from tests.fake_store import Change, FakeStore
from tests.jobs.finetune.test_sweep import pictures, sweeping
from tests.scenarios import many
from vitrail.cli import main
from vitrail.core import mirror
from vitrail.core.device import Machine
from vitrail.core.digests import sha256_of
from vitrail.core.errors import BadInput, Interrupted
from vitrail.core.files import make_folder
from vitrail.core.mirror import mirrored
from vitrail.jobs.finetune.finetune import finetune
from vitrail.jobs.pretrain import pretrain
from vitrail.recipes import pretraining
from vitrail.train.callbacks import Callback
from vitrail.train.schedule import Cosine
from vitrail.train.step import TrainState
from vitrail.weights.bundle import read_bundle
from vitrail.weights.load import read_pretrained

AT = "memory://bucket/runs/a"
HERE = Machine(device="cpu", workers=0)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    monkeypatch.setattr(mirror, "PAUSE", 0.0)
    return FakeStore(monkeypatch)


@pytest.fixture
def on_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """On another machine, with a cache of its own that has the same name: it stands in what runs write."""
    monkeypatch.setenv("VITRAIL_CACHE", "cache")

    def move(name: str) -> None:
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)

    move("first")
    return move


def pretraining_run(folder: Path, callbacks: Sequence[Callback] = ()) -> None:
    recipe = pretraining("digits")
    config = replace(
        recipe,
        steps=12,
        batch=16,
        schedule=Cosine(warmup=2),
        log_every=1,
        save_every=4,
        evaluate_every=3,
        keep="best",
        train="digits@train[:400]",
        validation="digits@train[400:500]",
        test="digits@test[:100]",
        precision="float32",
        model=replace(recipe.model, dropout=0.1),
    )
    pretrain(config, folder, HERE, callbacks=callbacks)


def contents(folder: Path) -> dict[str, str]:
    """Without locks: they are no part of what is mirrored, and what is finished is not opened again."""
    return {name: digest for name, digest in compare.contents(folder).items() if Path(name).name != ".lock"}


def recorded(run: Callable[[Path], None], store: FakeStore) -> tuple[dict[str, str], list[Change]]:
    """What the folder of an undisturbed run holds, and what was done to the store meanwhile."""
    with mirrored(AT) as folder:
        run(folder)
    return contents(folder), list(store.changes)


def test_a_run_ends_with_the_same_bytes_wherever_it_was_killed(
    store: FakeStore, on_machine: Callable[[str], None]
) -> None:
    """At the start, in the first checkpoint, amid the run, in the last upload; each goes on on another machine."""
    undisturbed, changes = recorded(pretraining_run, store)
    assert len(changes) > 40
    for kill in (1, 3, len(changes) // 2, len(changes) - 8):
        store.become(changes[:kill])
        on_machine(f"after {kill}")
        with mirrored(AT) as folder:
            pretraining_run(folder)
        assert not difference(contents(folder), undisturbed), f"killed after {changes[kill - 1].name}"


@pytest.mark.slow
def test_the_same_at_every_upload(store: FakeStore, on_machine: Callable[[str], None]) -> None:
    undisturbed, changes = recorded(pretraining_run, store)
    for kill in range(1, len(changes)):
        store.become(changes[:kill])
        on_machine(f"after {kill}")
        with mirrored(AT) as folder:
            pretraining_run(folder)
        assert not difference(contents(folder), undisturbed), f"killed after {changes[kill - 1].name}"


@pytest.mark.slow
def test_a_sweep_goes_on_in_the_same_way(store: FakeStore, on_machine: Callable[[str], None], tmp_path: Path) -> None:
    for split, each in (("train", 20), ("test", 15)):
        pictures(tmp_path / "photos" / split, each, seed=each)
    asked = sweeping(
        tmp_path, sweep=(0.05, 0.1), repeats=2, log_every=3
    )  # a row is a mean since the one before, or the start
    undisturbed, changes = recorded(lambda folder: finetune(asked, folder, HERE) and None, store)
    for kill in range(2, len(changes), len(changes) // 8):
        store.become(changes[:kill])
        on_machine(f"after {kill}")
        with mirrored(AT) as folder:
            finetune(asked, folder, HERE)
        ours, theirs = (
            {name: digest for name, digest in found.items() if name != "plan.json"}  # which has times in it
            for found in (contents(folder), undisturbed)
        )
        assert not difference(ours, theirs), f"killed after {changes[kill - 1].name}"


def test_by_the_command_line(
    store: FakeStore, on_machine: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Pre-trained to an address, shown again, evaluated from there and fine-tuned from there to another."""

    def call(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            main([*words, "--device", "cpu", "--workers", "0"])
        assert end.value.code == 0, capsys.readouterr().err
        return capsys.readouterr().out

    few = ("--steps", "4", "--batch", "16", "--schedule.warmup", "1")
    call("pretrain", "digits", *few, "--out", AT)
    for name in ("report.html", "result.json", "metrics.jsonl", "bundle/config.json", "bundle/model.safetensors"):
        assert f"/bucket/runs/a/{name}" in store.names()
    on_machine("second")
    before = len(store.changes)
    assert "4 steps" in call("pretrain", "digits", *few, f"--out={AT}/")
    assert not [change for change in store.changes[before:] if change.name.endswith(".safetensors")]
    assert "of 100 images" in call("evaluate", "--model", AT, "--data", "digits@test[:100]")
    call("finetune", "digits", "--init", f"{AT}/bundle", "--train", "digits@train[:100]", "--test", "digits@test[:100]",
         "--steps", "2", "--batch", "16", "--out", "memory://bucket/runs/b")  # fmt: skip
    assert "/bucket/runs/b/bundle/model.safetensors" in store.names()
    assert not Path("memory:").exists()


def test_what_takes_paths_alone_refuses_addresses_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    out = ["--out", "s3://b/x"]
    commands = {
        "--out": [
            ["demo", *out],
            ["linear", "--model", "m", "--train", "digits", "--test", "digits", *out],
            ["evaluate", "--model", "m", "--data", "digits", *out],
            ["inspect", "--model", "m", "--images", "digits", *out],
            ["suite", "small", "--model", "m", *out],
            ["study", "position", *out],
            ["benchmark", "m", *out],
            ["data", "check", "digits", *out],
            ["data", "duplicates", "digits", *out],
            ["predict", "--model", "m", "a.jpg", *out],
        ],
        "OUT": [["export", "m", "s3://b/x"], ["data", "prepare", "digits", "s3://b/x"]],
        "DESTINATION": [["convert", "m", "s3://b/x"]],
        "FOLDER": [["report", "s3://b/x"]],
        "--watch": [["serve", "--watch", "s3://b/x"]],
        "--collect": [["serve", "m", "--collect", "s3://b/x"]],
        "--data-root": [["evaluate", "--model", "m", "--data", "digits", "--data-root", "s3://b/x"]],
        "--config": [["pretrain", "--config", "s3://b/x", "--out", "runs/a"]],
    }
    for option, lines in commands.items():
        for words in lines:
            with pytest.raises(SystemExit) as end:
                main(words)
            assert end.value.code == 2
            assert f"vitrail: {option} is s3://b/x, an address, where a path" in capsys.readouterr().err, words
    assert not list(tmp_path.iterdir())


def test_python_refuses_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="a folder to write is s3://bucket/runs/a, an address"):
        pretraining_run("s3://bucket/runs/a")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    Path("s3:").mkdir()  # who has such a folder means it
    make_folder(Path("s3:/runs/a"))
    assert (tmp_path / "s3:/runs/a").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_on_one_machine_after_the_other(tmp_path: Path, processes: int) -> None:
    """With SIGKILL, amid steps, checkpoints and uploads; the store is a disk that they share."""
    at = f"file://{tmp_path}/store/runs/a"
    asked = many.command(Path("a"), processes, "replicated", 0, "--save-every", "3")
    asked[asked.index("--out") + 1] = at
    undisturbed = many.run(tmp_path / "undisturbed", processes, "replicated", "--save-every", "3")
    for number, step in enumerate((4, 13, 31)):
        cache = tmp_path / f"machine-{number}"
        process = subprocess.Popen(asked, env=many.environment(VITRAIL_CACHE=str(cache)), start_new_session=True)
        try:
            end = time.monotonic() + 300
            while not any(many.last_step(file.parent) >= step for file in cache.glob("runs/*/a/metrics.jsonl")):
                assert process.poll() is None
                assert time.monotonic() < end, "the run does not get on"
                time.sleep(0.005)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for worker in many.workers_of(at):  # type: ignore[arg-type]
                os.kill(worker, signal.SIGKILL)
    done = subprocess.run(
        asked, env=many.environment(VITRAIL_CACHE=str(tmp_path / "last")), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"fetching {at}" in done.stderr
    result = json.loads((tmp_path / "store/runs/a/result.json").read_text())
    assert result["weights_sha256"] == undisturbed["weights_sha256"]
    assert result["restarts"] >= 1
    model = read_pretrained(at)
    assert sha256_of(tmp_path / "store/runs/a/bundle/model.safetensors") == result["weights_sha256"]
    assert model.provenance["source"] == at


class StopAt(Callback):
    """A signal after a step."""

    def __init__(self, step: int):
        self._step = step

    def __call__(self, state: TrainState, metrics: dict[str, float]) -> None:
        if state.step == self._step:
            os.kill(os.getpid(), signal.SIGTERM)


S3 = "needs s3fs and moto[server], which the extras do not bring"


@pytest.mark.slow
def test_by_the_protocol_of_s3(
    tmp_path: Path, on_machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By s3fs, to moto's server; one run is interrupted and goes on elsewhere."""
    pytest.importorskip("s3fs", reason=S3)
    server = pytest.importorskip("moto.server", reason=S3).ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "DEFAULT_REGION": "us-east-1"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
        fsspec.filesystem("s3").mkdir("bucket")
        at = "s3://bucket/runs/a"
        with pytest.raises(Interrupted), mirrored(at) as folder:
            pretraining_run(folder, [StopAt(6)])
        on_machine("second")
        with mirrored(at) as folder:
            assert (folder / "checkpoints/step-00000007").exists()
            pretraining_run(folder)
        pretraining_run(tmp_path / "undisturbed")
        ours, theirs = contents(folder), contents(tmp_path / "undisturbed")
        for name in ("metrics.jsonl", "bundle/model.safetensors", "best/model.safetensors", "result.json"):
            assert ours[name] == theirs[name]
        weights = read_pretrained(f"{at}/bundle").state
        assert all(torch.equal(weights[name], tensor) for name, tensor in read_bundle(folder / "bundle").state.items())
        names = set(fsspec.filesystem("s3").find("bucket/runs/a"))
        assert "bucket/runs/a/bundle/model.safetensors" in names
    finally:
        server.stop()
