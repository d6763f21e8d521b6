"""What Linux says of the memory of this process. getrusage's peak would include what a parent held when it began."""

import ctypes
from pathlib import Path


def resident(field: str = "VmHWM") -> int:
    """Bytes: the most that was held ("VmHWM"), or what is held now ("VmRSS"); 0 where there is no /proc."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))


def forget_peak() -> bool:
    """From now on the most is of what comes (proc(5)); False where a process may not, or is not on Linux.

    What glibc holds of freed memory is given back first: an array that is put there would not be seen.
    """
    try:
        with open("/proc/self/clear_refs", "w") as file:
            if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
                trim(0)
            file.write("5")
    except OSError:
        return False
    return True
