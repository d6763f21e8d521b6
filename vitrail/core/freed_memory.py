"""Freed memory that stays with the process, for training on a processor.

The C library gives large blocks back to the system as soon as they are free, and the system hands them out again page
by page, each filled with zeros: where every step allocates the same activations, a tenth of it for a small model.
"""

import ctypes
from functools import cache

LARGEST = 2**25  # bytes of a block that is kept; larger ones are few, and would leave holes that little fits into
KEPT = 2**31 - 1  # bytes at the end of the heap that may lie there unused
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)


@cache
def keep_freed_memory() -> bool:
    """From now on freed blocks are used again without the system; whether this C library (glibc) can do that."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST) and mallopt(M_TRIM_THRESHOLD, KEPT))
