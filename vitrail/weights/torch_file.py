"""Files of torch (`.pth`, `.pt`, `.ckpt`, any suffix), read with nothing of the file executed.

torch's restricted reader builds tensors and plain containers. What training scripts save beside the weights
(arguments, numbers of numpy, paths, configs, states of optimisers) is on a list of names; an empty stand-in takes its
place, so that not even these classes are imported. Any other object is refused by its name.
"""

import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.core.errors import BadInput

_BESIDE_WEIGHTS = re.compile(
    r"argparse\.Namespace|types\.SimpleNamespace|numpy\..*|pathlib\..*|collections\.(defaultdict|deque)|datetime\..*|"
    r"typing\..*|uuid\.UUID|decimal\.Decimal|copyreg\._reconstructor|torch\.torch_version\.TorchVersion|torch\.optim\..*|"
    r"builtins\.(object|list|dict|tuple|int|float|str|bool|bytes|frozenset|slice|range)|"
    r"omegaconf\..*|yacs\.config\.CfgNode|easydict\.EasyDict|addict\.(addict\.)?Dict|ml_collections\..*|"
    r"mm(engine|cv)\.(utils\.)?config\..*|(pytorch_lightning|lightning|lightning_fabric|lightning_utilities)\..*"
)
_DICTS = re.compile(r".*\.(defaultdict|CfgNode|EasyDict|Dict|ConfigDict|AttributeDict|dict)")
_GLOBAL = re.compile(r"(?:GLOBAL|unsupported GLOBAL) ([^\s`'\"]+)|Found (?:unsafe )?global[: ]+([^\s`'\"]+)")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


class StandIn:
    """What becomes of an object beside the weights: nothing that was in it is kept."""

    def __new__(cls, *_: Any) -> Any:
        """Takes the arguments of any class."""
        return object.__new__(cls)

    def __setstate__(self, _: Any) -> None:
        """Takes any state."""


class StandInForDict:
    """Of a class that is a dictionary; torch's reader fills nothing but plain ones."""

    def __new__(cls, *_: Any) -> Any:
        """A new dictionary."""
        return OrderedDict()


def is_torch_file(path: Path) -> bool:
    """Whether a file begins as torch.save writes it: a zip archive with a pickle in it, or a pickle."""
    with path.open("rb") as file:
        start = file.read(2)
    if start != b"PK":
        return start[:1] == b"\x80"
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def read_torch(path: Path) -> Any:
    """What was saved: tensors, numbers and texts in plain containers, and stand-ins.

    Raises:
        BadInput: not such a file, an object that is not on the list, or an archive that would grow when it is read.
    """
    if not path.is_file():
        raise BadInput(f"{path} does not exist")
    allowed: dict[str, Any] = {}
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                claimed = sum(member.file_size for member in archive.infolist())
                scripted = any(name.endswith("constants.pkl") for name in archive.namelist())
            if claimed > path.stat().st_size + 1_000_000:  # torch never compresses
                raise BadInput(f"{path} would unpack to {claimed / 2**30:.1f} GiB: this is no file of torch")
            if scripted:
                raise BadInput(f"{path} is a program of torch.jit, which is never run: save its state_dict()")
            _allow(torch.serialization.get_unsafe_globals_in_checkpoint(path), allowed, path)
        while True:
            with warnings.catch_warnings(), torch.serialization.safe_globals([(s, n) for n, s in allowed.items()]):
                warnings.simplefilter("ignore")  # about how the file was made, which its owner cannot change
                try:
                    return torch.load(path, map_location="cpu", weights_only=True)
                except pickle.UnpicklingError as problem:  # of the older format the names are found one by one
                    name = _name_in(str(problem))
                    if name is None or name in allowed:
                        raise
            _allow([name], allowed, path)
    except BadInput:
        raise
    except pickle.UnpicklingError as problem:
        text = _ESCAPES.sub("", str(problem))
        reason = (text.partition("WeightsUnpickler error: ")[2] or text).strip().splitlines()[0][:200]
        raise BadInput(f"{path} holds more than tensors and was not loaded, so nothing in it ran: {reason}") from None
    except Exception as problem:  # the reader raises RuntimeError, EOFError, KeyError, AttributeError, ...
        reason = _ESCAPES.sub("", str(problem)).replace("\n", " ")[:200]
        raise BadInput(f"{path} is not a whole file of torch: {reason}") from None


def _name_in(message: str) -> str | None:
    found = _GLOBAL.search(_ESCAPES.sub("", message))
    name = next((part for part in found.groups() if part), None) if found else None
    return name if name is None or "." in name else f"builtins.{name}"


def _allow(names: list[str], allowed: dict[str, Any], path: Path) -> None:
    """Adds stand-ins for these names; raises BadInput with those that are not on the list."""
    refused = sorted(name for name in names if not _BESIDE_WEIGHTS.fullmatch(name))
    if refused:
        raise BadInput(
            f"{path} holds more than tensors and was not loaded, so nothing in it ran: {', '.join(refused[:3])}"
            f"{f' and {len(refused) - 3} more' if len(refused) > 3 else ''}; save the state dict alone, "
            "torch.save(model.state_dict(), FILE), where you trust it"
        )
    allowed |= {name: StandInForDict if _DICTS.fullmatch(name) else StandIn for name in names}


def bounded(tensors: dict[str, Tensor], size: int, path: Path) -> dict[str, Tensor]:
    """A tensor may claim any shape over one stored number: refuses those that would grow when they are copied.

    Args:
        size: bytes of the file.
    """
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if claimed > 4 * size:
        raise BadInput(f"{path}: its tensors claim {claimed / 2**30:.1f} GiB, the file holds less")
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise BadInput(f"{path}: {name!r} is not a plain tensor")
    return tensors
