"""The device: its choice, precision, memory, and measured peak speed."""

import gc
import os
import platform
import resource
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import torch

from vitrail.core.dist import launched
from vitrail.core.errors import BadInput

Sharding = Literal["replicated", "sharded", "hybrid"]
Precision = Literal["auto", "float32", "bfloat16"]
RuntimeChoice = Literal["auto", "torch", "onnx", "openvino"]  # what computes a model that is only used
TrainingPrecision = Precision | Literal["float8"]  # float8: of linear layers' products; bfloat16 for all else


@dataclass(frozen=True)
class Machine:
    """How a job runs on a machine; no part of its config: results do not depend on the number of workers."""

    device: str = "auto"  # auto, cpu, cuda, cuda:N
    workers: int | None = None  # processes that decode and augment; None: by measurement, fewer than there are cores
    runtime: RuntimeChoice = "auto"  # of models that are used, not trained; auto: the fastest that agrees with PyTorch
    # Of training. Rounding apart, these do not change results either.
    sharding: Sharding = "replicated"  # under torchrun: a whole model in each process, or a part (FSDP2)
    compile: bool | None = None  # torch.compile of the layers; None: on CUDA
    deterministic: bool = False  # on CUDA: only kernels that add in the same order every time; slower, bit for bit
    graphs: bool = False  # CUDA graphs of the whole model: for small ones, whose kernels are shorter than their launch
    recompute: bool = False  # activations of a layer in the backward pass again: less memory, a third more time
    stall: float = 600.0  # seconds without a step after which a run under torchrun prints all stacks and stops
    accept_changed_data: bool = False  # a run goes on although images were added to its data, or removed
    track: tuple[str, ...] = ()  # where its numbers go besides metrics.jsonl and TensorBoard: trackio, wandb


@dataclass(frozen=True)
class Device:
    """What a run needs to know of its device, found once."""

    device: torch.device
    dtype: torch.dtype  # of activations and matrix products
    name: str  # of the hardware
    memory_gib: float | None

    @staticmethod
    def find(name: str = "auto", precision: TrainingPrecision = "auto") -> "Device":
        """The device of this name; raises BadInput where it is not there."""
        device = choose_device(name)
        return Device(device, choose_precision(precision, device), describe_device(device), memory_gib(device))

    @cached_property
    def peak_flops(self) -> float:
        """The measured peak in FLOP/s; measuring takes a third of a second, once."""
        return peak_flops(self.device, self.dtype)

    def facts(self) -> dict[str, Any]:
        """What environment.json says of it."""
        return {
            "processor": self.name,
            "threads": torch.get_num_threads(),
            "device": str(self.device),
            "precision": str(self.dtype).removeprefix("torch."),
            "memory_gib": self.memory_gib,
        }


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is CUDA where there is one. A CUDA device is from now on the current one: events and libraries go by it.

    Raises:
        BadInput: a device that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BadInput(f"device {name}: this PyTorch ({torch.__version__}) sees no CUDA device; use cpu or auto")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise BadInput(f"device {name}: expected auto, cpu, cuda, or cuda:N")
    if device.type != "cuda":
        return device
    processes, devices = launched(), torch.cuda.device_count()
    if device.index is not None and processes.size > 1:
        raise BadInput(f"device {name}: {processes.size} processes cannot share one device; say cuda, each has its own")
    index = processes.local_rank if device.index is None else device.index
    if index >= devices:
        raise BadInput(f"device {name}: there are {devices} CUDA devices, none is number {index} (they count from 0)")
    chosen = torch.device("cuda", index)
    torch.cuda.set_device(chosen)
    return chosen


@lru_cache
def multiplies_bfloat16(device: torch.device) -> bool:
    """True where the hardware multiplies bfloat16 natively; elsewhere it is emulated and slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, check, lambda: False)() for check in checks)
    return False


def choose_precision(name: TrainingPrecision, device: torch.device) -> torch.dtype:
    """The dtype of activations and matrix products; weights and optimiser state are always float32."""
    if name == "auto":
        return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32
    if name == "float32" and device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # convolutions too: its default rounds them to 10 bits
    return torch.float32 if name == "float32" else torch.bfloat16


@lru_cache
def peak_flops(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """The best rate in FLOP/s of a square matrix product on this device now: a measured peak, not a data sheet's."""
    side = 8192 if device.type == "cuda" else 1024
    a = torch.randn(side, side, device=device).to(dtype)
    b = torch.randn(side, side, device=device).to(dtype)
    best = float("inf")
    with torch.no_grad():
        a @ b
        end = time.perf_counter() + seconds
        while best == float("inf") or time.perf_counter() < end:
            synchronize(device)
            start = time.perf_counter()
            a @ b
            synchronize(device)
            best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def synchronize(device: torch.device) -> None:
    """Waits for the device to finish what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe_device(device: torch.device) -> str:
    """The name of the hardware, for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()


def processor_name() -> str:
    """The processor's marketing name where the system tells it."""
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def memory_gib(device: torch.device) -> float | None:
    """The device's memory in GiB, or None where it is not known."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 2**30
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError):
        return None


def number_bytes(dtype: torch.dtype) -> int:
    """Bytes of an activation, on the mean: of what autocast makes, a half stays in float32."""
    return 4 if dtype == torch.float32 else 3


def available_memory(device: torch.device) -> int | None:
    """Bytes that could be allocated now, without swapping; None where it is not known (no Linux)."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    free = [room for room in (_meminfo(), _control_group()) if room is not None]
    return min(free) if free else None


def _meminfo() -> int | None:
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _control_group(group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The bytes that a container may still take; files that were read and can be dropped do not count as taken."""
    try:
        limit, taken = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return limit - taken + sum(int(fields[name]) for name in ("inactive_file", "active_file"))
    except (OSError, ValueError, KeyError):  # no such group, or "max"
        return None


def out_of_memory(problem: RuntimeError) -> bool:
    """Whether this error means that memory ran out: PyTorch's own, or that of cuBLAS, cuDNN, NCCL, or the CPU."""
    if isinstance(problem, torch.OutOfMemoryError):
        return True
    return any(text in str(problem) for text in ("out of memory", "ALLOC_FAILED", "can't allocate memory"))


def release() -> None:
    """Frees memory that is no longer used, cached memory of CUDA included."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def reset_peak_memory(device: torch.device) -> None:
    """From now on `peak_memory_gib` is of what comes; where the system cannot forget (no Linux), nothing happens."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): sets the high-water mark to what is held now


def peak_memory_gib(device: torch.device) -> float:
    """The most that this process has held so far: on CUDA of the device's memory, otherwise of the machine's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    try:  # getrusage's figure includes what a parent held when it started this process
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**20
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
