"""Training on a processor uses freed memory again; without that, the same blocks are faulted in at every step."""

import ctypes
import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource
from vitrail.core.freed_memory import keep_freed_memory

library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p

def faults():  # of blocks that are filled and freed: 160 MiB alive at once, as activations are
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        blocks = [ctypes.c_void_p(library.malloc(2**22)) for _ in range(40)]
        for block in blocks:
            library.memset(block, 1, ctypes.c_size_t(2**22))
        for block in reversed(blocks):
            library.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
given_back = faults()
assert keep_freed_memory()
faults()
print(given_back, faults())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt")
def test_freed_blocks_are_used_again_without_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, timeout=120)
    given_back, kept = map(int, done.stdout.split())
    assert given_back > 1000  # else nothing is shown here
    assert kept < given_back / 20
