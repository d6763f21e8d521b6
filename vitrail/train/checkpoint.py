"""Save whole, restore exactly, keep the newest: `checkpoints/step-00001000/{state.safetensors, state.json}`."""

import re
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_folder, read_json, write_json
from vitrail.core.progress import say
from vitrail.train.step import TrainState
from vitrail.weights.tensors import read_safetensors, write_safetensors

LOWER = "Lower the learning rate, lengthen the warm-up, or set --clip 1, and start again in another folder"
KEPT = 2  # the newest, and one before it in case a disk loses it
FORMAT = 1


def save_checkpoint(folder: Path, state: TrainState) -> None:
    """Writes all that the next step depends on, and removes all but the newest KEPT.

    Raises:
        BadInput: it could not be written (a full disk), or the weights are no longer numbers; the checkpoints before
            it are whole.
    """
    tensors = _tensors(state)
    if not all(bool(torch.isfinite(t).all()) for t in tensors.values()):
        raise BadInput(f"the weights hold NaN or infinity at step {state.step}, which is not saved. {LOWER}")
    path = folder / f"step-{state.step:08d}"
    try:
        with atomic_folder(path) as temporary:
            write_safetensors(temporary / "state.safetensors", tensors)
            numbers = {
                "format": FORMAT,
                "step": state.step,
                "seconds": state.seconds,
                "waited": state.waited,
                "restarts": state.restarts,
                "broken": state.broken.found,
            }
            write_json(temporary / "state.json", numbers)
    except (OSError, SafetensorError) as problem:
        kept = _steps(folder)
        last = f"the checkpoint of step {kept[-1]} is whole" if kept else "there is no earlier checkpoint"
        raise BadInput(
            f"could not save step {state.step} to {path}: {problem}; {last}. Make room and run the same command again"
        ) from None
    for step in _steps(folder)[:-KEPT]:
        shutil.rmtree(folder / f"step-{step:08d}", ignore_errors=True)


def restore_checkpoint(folder: Path, state: TrainState) -> bool:
    """Restores the newest checkpoint that is whole, into `state`; False when there is none.

    Raises:
        BadInput: there are checkpoints, but none of them can be read.
    """
    problems = []
    for step in reversed(_steps(folder)):
        path = folder / f"step-{step:08d}"
        try:
            numbers, tensors = read_json(path / "state.json"), read_safetensors(path / "state.safetensors")
            counters = [numbers[key] for key in ("step", "seconds", "waited", "restarts", "broken")]
            _restore(state, tensors)
        except (BadInput, KeyError, TypeError, ValueError, RuntimeError) as problem:
            problems.append(f"{path}: {problem}")
            say(f"skipping a damaged checkpoint: {path}: {problem}")
            continue
        state.step, state.seconds, state.waited, restarts, broken = counters
        state.restarts = restarts + 1
        state.broken.found.update(broken)
        return True
    if problems:
        raise BadInput("no checkpoint can be read: " + "; ".join(problems))
    return False


def _steps(folder: Path) -> list[int]:
    names = (re.fullmatch(r"step-(\d{8,})", p.name) for p in folder.glob("step-*"))
    return sorted(int(match[1]) for match in names if match)


def _tensors(state: TrainState) -> dict[str, Tensor]:
    tensors = {f"model.{name}": t for name, t in state.model.state_dict().items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in values.items()}
    if state.average is not None:
        tensors |= {f"average.{name}": t for name, t in state.average.items()}
    return tensors


def _restore(state: TrainState, tensors: dict[str, Tensor]) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

    values: dict[int, dict[str, Tensor]] = {}
    for name, tensor in part("optimizer.").items():
        index, key = name.split(".", 1)
        values.setdefault(int(index), {})[key] = tensor
    average = part("average.")
    state.model.load_state_dict(part("model."))
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": values, "param_groups": groups})
    if state.average is not None:
        for name, tensor in state.average.items():
            tensor.copy_(average[name])
