"""Images that nobody vouches for are decoded in a process of its own, with limits; where it dies, there is another one.

What comes back is text and pixels, which are checked: nothing that the process says is executed here.
"""

import json
import multiprocessing
import resource
import signal
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from vitrail.core.memory_limit import limit_memory
from vitrail.data.decode import image
from vitrail.data.decode.image import BrokenImage
from vitrail.data.quality.scan import Look, Looked, look

SECONDS = 20.0  # for one image
GIB = 1.0  # of memory above what the process has at its start
START_SECONDS = 120.0  # for a new process, which imports what it needs
CHANNELS = 3


class Guard:
    """Called with encoded bytes it says what `look` says, from a process that may neither grow nor write into a file.

    Raises:
        BrokenImage: as `look`, or the process died of the image, or took longer than SECONDS.
    """

    def __init__(self, seconds: float = SECONDS, gib: float = GIB, looking: Look = look):
        self.seconds, self.gib, self.looking = seconds, gib, looking
        self._process: Any = None
        self._connection: Connection | None = None

    def __call__(self, data: bytes) -> Looked:
        connection = self._connection or self._start()
        try:
            connection.send_bytes(data)
            if not connection.poll(self.seconds):
                self.close()
                raise BrokenImage(f"decoding takes longer than the {self.seconds:g} s allowed")
            answer = connection.recv_bytes()
        except (EOFError, OSError):
            self.close()
            raise BrokenImage("the decoder crashes on it") from None
        return _read(answer)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_process": None, "_connection": None}

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_look_until_told, args=(theirs, self.gib, self.looking), daemon=True)
        self._process.start()
        theirs.close()
        if not self._connection.poll(START_SECONDS):
            self.close()
            raise BrokenImage("the process that decodes does not start")
        self._connection.recv_bytes()
        return self._connection

    def close(self) -> None:
        """Ends the process; the next call starts another one."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = self._connection = None


def _look_until_told(connection: Connection, gib: float, looking: Look) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends
    limit_memory(gib)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send_bytes(b"ready")
        while True:
            connection.send_bytes(_answer(connection.recv_bytes(), gib, looking))


def _answer(data: bytes, gib: float, looking: Look) -> bytes:
    try:
        seen = looking(data)
    except BrokenImage as problem:
        return _packed({"broken": str(problem)})
    except MemoryError:
        return _packed({"broken": f"decoding needs more than the {gib:g} GiB allowed"})
    about = {"kind": seen.kind, "mode": seen.mode, "turn": seen.turn, "size": seen.pixels.shape[:2]}
    return _packed(about, np.ascontiguousarray(seen.pixels).tobytes())


def _packed(about: dict[str, Any], pixels: bytes = b"") -> bytes:
    return json.dumps(about).encode() + b"\n" + pixels


def _read(answer: bytes) -> Looked:
    try:
        said, _, pixels = answer.partition(b"\n")
        about = json.loads(said)
        if "broken" in about:
            raise BrokenImage(str(about["broken"])[:1000])
        height, width = (int(side) for side in about["size"])
        if height < 1 or width < 1 or height * width > image.MAX_PIXELS:
            raise ValueError("too many pixels")
        array = np.frombuffer(pixels, np.uint8).reshape(height, width, CHANNELS)
        turn = int(about["turn"])
        return Looked(str(about["kind"])[:8], str(about["mode"])[:8], turn if 1 <= turn <= 8 else 1, array)
    except (ValueError, TypeError, KeyError):
        raise BrokenImage("the decoder's answer means nothing") from None
