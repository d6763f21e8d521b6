"""What a decoder does, in a process of its own: encoded bytes in, the evaluation view out. It may die at any time.

The messages: a `Preprocess` and the bytes of an image; back comes OK and the pixels, or BROKEN and a sentence.
"""

import signal
from contextlib import suppress
from multiprocessing.connection import Connection

import numpy as np

from vitrail.core.memory_limit import limit_memory
from vitrail.data.decode import image
from vitrail.data.decode.image import BrokenImage
from vitrail.data.transforms.pipeline import eval_transform

OK, BROKEN = b"\0", b"\1"


def decode_until_told(connection: Connection, megapixels: float, gib: float) -> None:
    """Answers one image after another until the server closes the connection, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server decides what happens
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    image.MAX_PIXELS = int(megapixels * 1e6)
    limit_memory(gib)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            preprocess = connection.recv()
            data = connection.recv_bytes()
            connection.send_bytes(_answer(data, preprocess, gib))


def _answer(data: bytes, preprocess: object, gib: float) -> bytes:
    try:
        view = eval_transform(image.decode(data), preprocess)  # type: ignore[arg-type]
    except BrokenImage as problem:
        return BROKEN + str(problem).encode()
    except MemoryError:
        return BROKEN + f"decoding needs more than the {gib:g} GiB allowed".encode()
    return OK + np.ascontiguousarray(view).tobytes()
