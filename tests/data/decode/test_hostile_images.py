"""Files made to do harm: none crashes, hangs, or takes memory without bound, and each is named."""

import json
import os
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.hostile import LIMIT, mutated, originals
from tests.data.pictures import BytesSource, encoded, noise
from vitrail.data.decode.image import BrokenImage, decode
from vitrail.data.loader.loader import eval_loader, train_loader
from vitrail.data.transforms.pipeline import Augment, Preprocess

MEMORY = 3000  # MiB that a file may take; measured 143 for 10,000


def fuzzed(count: int, seed: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.data.hostile", str(count), str(seed)]
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_mutated_files_are_decoded_or_broken() -> None:
    found = fuzzed(2000, seed=0)
    assert found["decoded"] + found["broken"] == 2000
    assert min(found["decoded"], found["broken"]) > 200  # both are tried
    assert found["slowest"] < LIMIT
    assert found["memory"] < MEMORY


@pytest.mark.slow
def test_ten_thousand_mutated_files_are_decoded_or_broken() -> None:
    found = fuzzed(10_000, seed=1)
    assert found["decoded"] + found["broken"] == 10_000
    assert found["slowest"] < LIMIT
    assert found["memory"] < MEMORY


@pytest.mark.parametrize("workers", [0, 2])
def test_every_broken_file_is_named_and_every_other_is_seen(workers: int) -> None:
    files = [*originals(), *mutated(originals(), 100, seed=2)]
    source = BytesSource(files, [0] * len(files), ("a",))
    preprocess = Preprocess((16, 16))
    seen, broken = [], []
    for batch in eval_loader(source, preprocess, batch=32, workers=workers):
        seen += batch.keys
        broken += [one.key for one in batch.broken if one.reason]
    assert sorted(seen + broken) == sorted(f"image-{i}" for i in range(len(files)))
    assert len(broken) > 20
    trained = train_loader(source, Augment(), preprocess, batch=24, seed=0, start=0, stop=5, workers=workers)
    assert {one.key for batch in trained for one in batch.broken} <= set(broken)


@pytest.mark.parametrize("which", range(len(originals())))
def test_a_file_cut_anywhere_is_decoded_or_broken(which: int) -> None:
    data = originals()[which]
    for length in np.linspace(0, len(data) - 1, 40).astype(int):
        assert outcome(data[:length])


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def zeros(count: int) -> bytes:
    """So many zeros, compressed a thousandfold."""
    packer = zlib.compressobj(9)
    part = bytes(1 << 20)
    return b"".join(packer.compress(part) for _ in range(count >> 20)) + packer.flush()


def png(size: tuple[int, int] = (8, 8), before: bytes = b"", after: bytes = b"", rows: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", rows or zlib.compress(bytes(size[1] * (size[0] + 1))))
    return b"\x89PNG\r\n\x1a\n" + header + before + data + after + chunk(b"IEND", b"")


BOMB = zeros(256 << 20)
MANY = b"".join(chunk(b"zTXt", b"k%d\x00\x00" % i + zlib.compress(bytes(1 << 20))) for i in range(200))


@pytest.mark.parametrize(
    "data",
    [
        png(before=chunk(b"iCCP", b"name\x00\x00" + BOMB)),
        png(before=chunk(b"zTXt", b"key\x00\x00" + BOMB)),
        png(before=chunk(b"iTXt", b"key\x00\x01\x00\x00\x00" + BOMB)),
        png(after=chunk(b"zTXt", b"key\x00\x00" + BOMB)),
        png(before=MANY),
        png(rows=BOMB),  # far more rows than the header says
        png((60_000, 60_000), rows=BOMB),
        png((13_000, 13_000), rows=zlib.compress(b"\x00")),  # as large as may be, and nothing in it
    ],
    ids=["iCCP", "zTXt", "iTXt", "zTXt at the end", "many zTXt", "IDAT", "60,000 x 60,000", "empty"],
)
def test_a_bomb_is_not_unpacked(data: bytes) -> None:
    assert bounded(lambda: outcome(data), megabytes=1200) is not None


def outcome(data: bytes) -> str:
    try:
        return str(decode(data).shape)
    except BrokenImage as problem:
        return str(problem)


def bounded(work: Callable[[], str], megabytes: int) -> str:
    """What `work` returns in a process of its own that may take so much more memory, and five seconds."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            limit = held + megabytes * 2**20
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            os.write(writing, work().encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    begun = time.perf_counter()
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"it ended with {status}"
    assert time.perf_counter() - begun < 5
    return said


def test_a_picture_of_60_000_pixels_a_side_is_refused_by_its_header() -> None:
    said = bounded(lambda: outcome(png((60_000, 60_000), rows=BOMB)), megabytes=100)
    assert "60000" in said or "3600000000" in said


def test_a_gif_gives_its_first_frame() -> None:
    frames = [Image.fromarray(noise(8, 9, i)).quantize(16) for i in range(3)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(data), np.asarray(frames[0].convert("RGB")))


def test_formats_that_start_programs_are_no_images() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(BrokenImage, match="not an image of a known format"):
        decode(postscript)
