"""A checkpoint is all that the next step depends on; the newest that is whole is restored, exactly."""

import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.small import MODEL, advance, assert_equal, everything, fresh, save_checkpoint, training
from vitrail.core.dist import World
from vitrail.core.errors import BadInput
from vitrail.core.temporary import remove_leftovers
from vitrail.data.loader.batch import BrokenExample
from vitrail.train import checkpoint
from vitrail.train.checkpoint import KEPT, restore_checkpoint
from vitrail.train.config import TrainConfig
from vitrail.train.optim import Adam, Momentum, Muon, OptimizerConfig
from vitrail.train.sharded import snapshot, write_shard
from vitrail.train.step import TrainState

NOISY = replace(MODEL, dropout=0.1)


@pytest.mark.parametrize(
    "optimizer",
    [Adam(weight_decay=0.1), Momentum(weight_decay=0.1), Muon(weight_decay=0.1)],
    ids=["adam", "momentum", "muon"],
)
@pytest.mark.parametrize("average", [None, 0.9])
@pytest.mark.parametrize("at", [0, 4])
def test_continuing_equals_never_having_stopped(
    tmp_path: Path, optimizer: OptimizerConfig, average: float | None, at: int
) -> None:
    config = training(optimizer=optimizer, average=average)
    whole = fresh(config, NOISY)
    advance(whole, config, at)
    save_checkpoint(tmp_path, whole)
    advance(whole, config, 3)

    torch.manual_seed(99)
    resumed = fresh(config, NOISY)
    with torch.no_grad():
        for p in resumed.model.parameters():
            p.fill_(5)  # nothing may be left of the new start
    assert restore_checkpoint(tmp_path, resumed)
    assert resumed.step == at
    advance(resumed, config, 3)
    assert_equal(everything(resumed), everything(whole))


@pytest.mark.parametrize("optimizer", [Adam(), Muon()], ids=["adam", "muon"])
def test_what_a_continued_run_saves_is_the_same_file(tmp_path: Path, optimizer: OptimizerConfig) -> None:
    """An optimiser that was restored has its states in another order; a file has them in one."""
    config = training(optimizer=optimizer)
    for name in ("whole", "resumed"):
        state = fresh(config)
        advance(state, config, 2)
        if name == "resumed":
            save_checkpoint(tmp_path / name, state)
            state = fresh(config)
            assert restore_checkpoint(tmp_path / name, state)
        advance(state, config, 2)
        save_checkpoint(tmp_path / name, state)
    part = "step-00000004/part-0-of-1.safetensors"
    assert (tmp_path / "whole" / part).read_bytes() == (tmp_path / "resumed" / part).read_bytes()


def saved(tmp_path: Path, config: TrainConfig, steps: tuple[int, ...] = (2, 4)) -> TrainState:
    state = fresh(config)
    for step in steps:
        advance(state, config, step - state.step)
        save_checkpoint(tmp_path, state)
    return state


def test_counters_and_broken_images_come_back(tmp_path: Path) -> None:
    config = training()
    state = fresh(config)
    state.seconds, state.data_wait_seconds, state.restarts = 12.5, 0.25, 1
    state.broken.add([BrokenExample(0, "a.png", "empty file")])
    save_checkpoint(tmp_path, state)
    again = fresh(config)
    restore_checkpoint(tmp_path, again)
    assert (again.seconds, again.data_wait_seconds, again.restarts) == (12.5, 0.25, 2)
    assert again.broken.found == {"a.png": "empty file"}


def test_only_the_newest_remain(tmp_path: Path) -> None:
    saved(tmp_path, training(), (1, 2, 3, 5))
    assert KEPT == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003", "step-00000005"]


def test_what_a_kill_left_too_many_goes_when_the_run_goes_on(tmp_path: Path) -> None:
    """It came between the name of the newest and the removal of the oldest."""
    config = training()
    saved(tmp_path, config, (4, 5))
    oldest = tmp_path / "step-00000001"
    shutil.copytree(tmp_path / "step-00000004", oldest)
    assert restore_checkpoint(tmp_path, fresh(config))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000004", "step-00000005"]
    shutil.copytree(tmp_path / "step-00000004", oldest)
    (tmp_path / "step-00000005" / "state.json").write_text("{")
    assert restore_checkpoint(tmp_path, fresh(config))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000001", "step-00000004", "step-00000005"]


def test_an_old_checkpoint_loses_its_name_before_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill while it is removed leaves nothing that is called a checkpoint."""
    monkeypatch.setattr("shutil.rmtree", lambda *args, **options: None)
    saved(tmp_path, training(), (1, 2, 3))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".step-00000001.1.tmp", "step-00000002", "step-00000003"]
    monkeypatch.undo()
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_no_checkpoint_is_a_new_start(tmp_path: Path) -> None:
    state = fresh(training())
    assert not restore_checkpoint(tmp_path, state)
    assert not restore_checkpoint(tmp_path / "not there", state)
    assert (state.step, state.restarts) == (0, 0)


PART = "part-0-of-1.safetensors"
DAMAGES = {
    "weights cut": lambda p: (p / PART).write_bytes((p / PART).read_bytes()[:2000]),
    "weights missing": lambda p: (p / PART).unlink(),
    "weights empty": lambda p: (p / PART).write_bytes(b""),
    "numbers cut": lambda p: (p / "state.json").write_text((p / "state.json").read_text()[:20]),
    "numbers missing": lambda p: (p / "state.json").unlink(),
    "numbers of nothing": lambda p: (p / "state.json").write_text("{}"),
    "numbers a list": lambda p: (p / "state.json").write_text("[]"),
    "weights of nothing": lambda p: write_shard(p / PART, *snapshot({"a": torch.zeros(1)}, World())),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    config = training(average=0.9)
    saved(tmp_path, config)
    DAMAGES[damage](tmp_path / "step-00000004")
    resumed, expected = fresh(config), fresh(config)
    assert restore_checkpoint(tmp_path, resumed)
    assert resumed.step == 2
    advance(expected, config, 3)
    advance(resumed, config, 1)
    assert_equal(everything(resumed), everything(expected))


def test_nothing_but_damage_is_refused_with_the_list(tmp_path: Path) -> None:
    config = training()
    saved(tmp_path, config)
    for step in (2, 4):
        DAMAGES["weights cut"](tmp_path / f"step-{step:08d}")
    with pytest.raises(BadInput, match=r"no checkpoint can be read: .*step-00000004.*step-00000002"):
        restore_checkpoint(tmp_path, fresh(config))


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    config = training()
    saved(tmp_path, config)
    with pytest.raises(BadInput, match="no checkpoint can be read"):
        restore_checkpoint(tmp_path, fresh(config, replace(MODEL, width=24)))


def test_a_full_disk_says_so_and_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = training()
    state = saved(tmp_path, config)
    before = everything(state)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_shard", full)
    state.step = 6
    with pytest.raises(BadInput, match=r"could not save step 6 .*No space left.* the checkpoint of step 4 is whole"):
        save_checkpoint(tmp_path, state)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000004"]
    again = fresh(config)
    assert restore_checkpoint(tmp_path, again)
    assert again.step == 4
    assert_equal(everything(again), before)


def test_leftovers_of_a_killed_save_are_not_taken_for_checkpoints(tmp_path: Path) -> None:
    config = training()
    saved(tmp_path, config)
    (tmp_path / ".step-00000006.123.tmp").mkdir()
    (tmp_path / "step-notes").mkdir()
    state = fresh(config)
    assert restore_checkpoint(tmp_path, state)
    assert state.step == 4
    assert json.loads((tmp_path / "step-00000004" / "state.json").read_text())["step"] == 4


def test_the_folder_keeps_its_name_until_every_process_has_left_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process must not rename the folder as soon as it sees a part that another is still syncing."""
    state = fresh(training())
    copies, rows = snapshot(checkpoint._tensors(state), World())
    numbers, plain = checkpoint._numbers(state), write_shard

    def slow(path: Path, *what: Any) -> None:
        plain(path, *what)
        if "part-1-" in path.name:
            time.sleep(0.3)  # the part has its name; its writer is not done
            assert path.parent.is_dir()

    monkeypatch.setattr(checkpoint, "write_shard", slow)
    worlds = [World(rank, 2) for rank in range(2)]
    problems: list[BaseException] = []

    def write(world: World) -> None:
        try:
            checkpoint._write(tmp_path, 5, world, copies, rows, numbers, "here")
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=write, args=(world,)) for world in worlds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert not problems
    assert sorted(p.name for p in (tmp_path / "step-00000005").iterdir()) == [
        "part-0-of-2.safetensors",
        "part-1-of-2.safetensors",
        "state.json",
    ]


@pytest.mark.parametrize("problem", [MemoryError("no room"), RuntimeError("a bug"), BadInput("a full disk")])
def test_whatever_happens_to_the_thread_that_writes_is_raised_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def fail(*_: object) -> None:
        raise problem

    monkeypatch.setattr(checkpoint, "write_shard", fail)
    saver = checkpoint.Saver(tmp_path)
    saver.save(fresh(training()))
    with pytest.raises(type(problem), match=str(problem)):
        saver.wait()
