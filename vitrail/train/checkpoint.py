"""Save whole, restore exactly, keep the newest: `checkpoints/step-00001000/{part-0-of-1.safetensors, state.json}`.

Each process writes what it holds, beside the training; the first waits for the others' files and gives the folder its
name. What was written by some number of processes is read by any other.
"""

import itertools
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from vitrail.core import dist
from vitrail.core.digests import sealed, sha256_of, unsealed
from vitrail.core.errors import BadInput
from vitrail.core.files import make_folder, read_json, sync_folder, write_json
from vitrail.core.progress import say
from vitrail.core.watchdog import beat
from vitrail.train.divergence import ADVICE, Diverged
from vitrail.train.sharded import Rows, ShardFiles, local, snapshot, write_shard
from vitrail.train.step import TrainState

KEPT = 2  # the newest, and one before it in case a disk loses it
FORMAT = 3
PATIENCE = 1800.0  # seconds that the first process waits for the files of the others
_saves = itertools.count()  # of this process


class Saver:
    """Writes checkpoints in the background: `save` copies the state and returns, a thread writes it; one at a time."""

    def __init__(self, folder: Path, saved: Callable[[], None] = lambda: None):
        """`saved` is called by the thread of the first process when a checkpoint is whole."""
        self._folder, self._saved = folder, saved
        self._thread: threading.Thread | None = None
        self._problem: Exception | None = None

    def save(self, state: TrainState) -> None:
        """Copies the state to the CPU and starts to write it, once the checkpoint before is written.

        Raises:
            BadInput: the one before could not be written (a full disk); the checkpoints before it are whole.
            Diverged: the weights are no longer numbers; likewise.
        """
        self.wait()
        copies, rows = snapshot(_tensors(state), dist.world())
        if dist.any_of(not all(bool(torch.isfinite(t).all()) for t in copies.values())):
            raise Diverged(
                f"the weights hold NaN or infinity at step {state.step}, which is not saved. {ADVICE}, "
                "and start again in another folder"
            )
        numbers = _numbers(state)
        meeting = f"checkpoint {next(_saves)}"  # the same in all processes, which save together
        arguments = (self._folder, state.step, dist.world(), copies, rows, numbers, meeting)
        self._thread = threading.Thread(target=self._write, args=arguments, name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Waits until everything is written; raises BadInput where it could not be."""
        while self._thread is not None:
            self._thread.join(timeout=10)
            beat()
            if not self._thread.is_alive():
                self._thread = None
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem

    def save_now(self, state: TrainState) -> None:
        """Saves, and returns when it is written."""
        self.save(state)
        self.wait()

    def _write(self, *arguments: Any) -> None:
        try:
            _write(*arguments)
            if dist.world().first:
                self._saved()
        except Exception as problem:  # of any kind: a thread would end with it, and the run go on unsaved
            self._problem = problem


def _write(
    folder: Path,
    step: int,
    world: dist.World,
    copies: dict[str, Tensor],
    rows: dict[str, Rows],
    numbers: dict[str, Any],
    meeting: str,
) -> None:
    """Writes the part of one process; the first one names the folder when all are there, and removes old ones.

    That all are there it hears through the store by which the processes met; the marks in the folder are the proof, and
    are looked at once all have said so: a thousand names asked for again and again are too much for a network's disk.
    """
    path, unfinished = folder / f"step-{step:08d}", folder / f".step-{step:08d}.0.tmp"
    parts = [unfinished / _part(rank, world.size) for rank in range(world.size)]
    try:
        if world.size == 1:
            shutil.rmtree(unfinished, ignore_errors=True)
        make_folder(unfinished)
        write_shard(parts[world.rank], copies, rows)
        done = [part.with_suffix(".done") for part in parts]
        # the last touch of the folder: a part alone may be there while its writer still syncs the folder's names
        _mark(done[world.rank], sha256_of(parts[world.rank]))
        dist.arrive(meeting)
        if not world.first:
            return
        _await(done, meeting)
        digests = [mark.read_text(encoding="utf-8") for mark in done]
        for mark in done:
            mark.unlink()
        about = {**numbers, "format": FORMAT, "parts": world.size, "sha256": digests}
        write_json(unfinished / "state.json", sealed(about))
        sync_folder(unfinished)
        _discard(path)  # an older one of this step, of a run that went back
        unfinished.rename(path)
        sync_folder(folder)
    except (OSError, SafetensorError) as problem:
        if world.size == 1:
            shutil.rmtree(unfinished, ignore_errors=True)
        kept = checkpoint_steps(folder)
        last = f"the checkpoint of step {kept[-1]} is whole" if kept else "there is no earlier checkpoint"
        raise BadInput(
            f"could not save step {step} to {path}: {problem}; {last}. Make room and run the same command again"
        ) from None
    _keep_newest(folder, step)


def _keep_newest(folder: Path, step: int) -> None:
    """Removes what is older than the checkpoint of `step` and the one before it."""
    for old in [one for one in checkpoint_steps(folder) if one <= step][:-KEPT]:
        _discard(folder / f"step-{old:08d}")


def _discard(path: Path) -> None:
    """Takes its name from a checkpoint first: what has one is whole, and what a kill leaves is known for rubbish."""
    aside = path.with_name(f".{path.name}.1.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    with suppress(OSError):  # there is none, or the disk fails: then it stays as it is
        path.rename(aside)
        sync_folder(path.parent)  # or a power cut brings back the name, and not all of the files
    shutil.rmtree(aside, ignore_errors=True)


def discard_checkpoints(run: Path) -> None:
    """Removes all checkpoints of a finished run, which never goes back to them; a power cut brings none back."""
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    sync_folder(run)


def _part(rank: int, size: int) -> str:
    return f"part-{rank}-of-{size}.safetensors"


def _mark(done: Path, text: str) -> None:
    """There with its text, or not there; once it is, the folder may get its name at any moment."""
    temporary = done.with_suffix(".mark")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(done)


def _await(marks: list[Path], meeting: str) -> None:
    end = time.monotonic() + PATIENCE
    while not (_all_said_so(len(marks), meeting) and all(mark.exists() for mark in marks)):
        if time.monotonic() > end:
            raise OSError(f"the other processes did not write their parts within {PATIENCE:.0f} s")
        time.sleep(0.02)


def _all_said_so(processes: int, meeting: str) -> bool:
    """Also where there is nothing to say it by: then the marks alone count."""
    arrived = dist.arrived(meeting) if processes > 1 else None
    return arrived is None or arrived >= processes


def restore_checkpoint(folder: Path, state: TrainState) -> bool:
    """Restores the newest checkpoint that is whole, into `state`; False when there is none.

    Every process reads what it holds, whatever the number of processes that wrote it.

    Raises:
        BadInput: there are checkpoints, but none of them can be read.
    """
    problems = []
    for step in reversed(checkpoint_steps(folder)):
        path = folder / f"step-{step:08d}"
        problem = _try_to_restore(path, state)
        heard = [p for p in dist.gathered_json(problem) if p is not None]
        if not heard:
            state.restarts += 1
            if dist.world().first:
                _keep_newest(folder, step)  # a kill may have come before the oldest was removed
            return True
        problems.append(f"{path}: {heard[0]}")
        if dist.world().first:
            say(f"skipping a damaged checkpoint: {path}: {heard[0]}")
    if problems:
        raise BadInput("no checkpoint can be read: " + "; ".join(problems))
    return False


def _try_to_restore(path: Path, state: TrainState) -> str | None:
    """Returns what is wrong with the checkpoint, or None: then `state` is now that of the checkpoint."""
    try:
        numbers = unsealed(read_json(path / "state.json"), path / "state.json")
        if numbers["format"] != FORMAT:
            return f"it has the format {numbers['format']!r}, this vitrail reads {FORMAT}"
        names = ("step", "seconds", "waited", "restarts", "micro_batch", "broken", "skipped", "losses")
        counters = [numbers[name] for name in names]
        parts = [path / _part(rank, numbers["parts"]) for rank in range(numbers["parts"])]
        _check_digests(parts, numbers.get("sha256"))
        _restore(state, ShardFiles(parts))
    except (BadInput, OSError, KeyError, TypeError, ValueError, RuntimeError) as problem:
        return str(problem)
    state.step, state.seconds, state.data_wait_seconds, state.restarts, micro_batch, broken, skipped, losses = counters
    state.micro_batch = micro_batch if numbers["parts"] == dist.world().size else 0  # of other processes: decided anew
    state.broken.found.update(broken)
    state.skipped[:] = skipped
    state.stopped = numbers.get("stopped", False)  # version 0.1.0 had no such thing
    state.losses.clear()
    state.losses.extend(losses)
    return None


def _check_digests(parts: list[Path], digests: list[str] | None) -> None:
    """Each process reads some of the parts whole, whoever needs their rows; version 0.1.0 kept no digests."""
    world = dist.world()
    for path, digest in list(zip(parts, digests or [], strict=digests is not None))[world.rank :: world.size]:
        if sha256_of(path) != digest:
            raise BadInput(f"{path} is damaged: its digest is of something else")


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint, oldest first."""
    names = (re.fullmatch(r"step-(\d{8,})", p.name) for p in folder.glob("step-*"))
    return sorted(int(match[1]) for match in names if match)


def _numbers(state: TrainState) -> dict[str, Any]:
    for found in dist.gathered_json(state.broken.found):
        state.broken.found.update(found)
    return {
        "step": state.step,
        "seconds": state.seconds,
        "waited": state.data_wait_seconds,
        "restarts": state.restarts,
        "micro_batch": state.micro_batch,
        "broken": state.broken.found,
        "skipped": list(state.skipped),
        "stopped": state.stopped,
        "losses": list(state.losses),
    }


def _tensors(state: TrainState) -> dict[str, Tensor]:
    tensors = {f"model.{name}": t for name, t in state.model.state_dict().items()}
    for name, values in _optimizer_states(state):
        tensors |= {f"optimizer.{name}.{key}": torch.as_tensor(value) for key, value in values.items()}
    if state.average is not None:
        tensors |= {f"average.{name}": t for name, t in state.average.items()}
    return tensors


def _optimizer_states(state: TrainState) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the name of each parameter and what the optimiser keeps of it."""
    names: dict[Tensor, str] = {p: name for name, p in state.model.named_parameters()}
    for parameter, values in state.optimizer.state.items():
        yield names[parameter], {key: value for key, value in values.items() if value is not None}


def _restore(state: TrainState, shards: ShardFiles) -> None:
    for name, tensor in state.model.state_dict().items():
        shards.read_into(f"model.{name}", tensor)
    for name, tensor in (state.average or {}).items():
        shards.read_into(f"average.{name}", tensor)
    state.optimizer.state.clear()
    for name, parameter in state.model.named_parameters():
        prefix = f"optimizer.{name}."
        for stored in sorted(n for n in shards.names() if n.startswith(prefix)):
            key = stored.removeprefix(prefix)
            value = torch.zeros(()) if key == "step" else torch.zeros_like(parameter)
            if key == "step" and parameter.is_cuda:
                value = value.to(local(parameter).device)  # where fused optimisers keep it
            shards.read_into(stored, value)
            state.optimizer.state[parameter][key] = value
