"""Mutated image files, decoded one after the other in a process of their own: a crash or a hang ends it and is seen.

    python -m tests.data.hostile COUNT SEED

Prints {"decoded", "broken", "slowest" (seconds), "memory" (MiB at most)}. A file that takes longer than LIMIT ends the
process with a stack; any other exception than BrokenImage ends it with a trace.
"""

import faulthandler
import json
import sys
import time
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.data.pictures import encoded, photograph
from tests.memory import resident
from vitrail.data.decode.image import BrokenImage, Jpeg, decode, look

LIMIT = 20.0  # seconds a file


def originals() -> list[bytes]:
    """Every format that is read, in the colour modes that it has."""
    pixels = photograph(60, 80)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(pixels)
    alpha = picture.convert("RGBA")
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) << 8)
    frames = [picture.quantize(16), picture.rotate(90).resize(picture.size).quantize(16)]
    files = [
        encoded(pixels, "JPEG", exif=exif),
        encoded(pixels, "JPEG", progressive=True, icc_profile=b"x" * 3000),
        encoded(picture.convert("L"), "JPEG", restart_marker_rows=1),
        encoded(picture.convert("CMYK"), "JPEG"),
        encoded(pixels, "PNG", exif=exif),
        encoded(alpha, "PNG"),
        encoded(picture.quantize(16), "PNG", transparency=1),
        encoded(deep, "PNG"),
        encoded(picture.convert("1"), "PNG"),
        encoded(pixels, "WEBP", exif=exif),
        encoded(alpha, "WEBP", lossless=True),
        encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        encoded(pixels, "BMP"),
        encoded(picture.quantize(16), "BMP"),
        encoded(pixels, "TIFF", compression="tiff_lzw"),
        encoded(deep, "TIFF"),
        encoded(picture.convert("CMYK"), "TIFF", compression="jpeg"),
        encoded(picture.convert("1"), "TIFF", compression="group4"),
        encoded(pixels, "PPM"),
        encoded(alpha, "AVIF", speed=10),
    ]
    return files


def mutated(files: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Cut, changed in a few bytes or in numbers of a header, with parts doubled, moved or of another file."""
    rng = np.random.default_rng(seed)
    numbers = [
        b"\x00" * 4,
        b"\xff" * 4,
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\x7f",
        b"\x00\x00\xff\xff",
        b"\x80\x00",
        b"\xff",
    ]
    for i in range(count):
        data = bytearray(files[i % len(files)])
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.integers(len(data)))
            if rng.random() < 0.5:
                place = min(place, int(rng.integers(200)))  # in the header
            other = int(rng.integers(len(data)))
            start, end = min(place, other), max(place, other)
            match int(rng.integers(7)):
                case 0:
                    del data[max(1, other) :]
                case 1:
                    for at in rng.integers(0, len(data), 5):
                        data[at] = rng.integers(256)
                case 2 | 3:
                    number = numbers[int(rng.integers(len(numbers)))]
                    data[place : place + len(number)] = number
                case 4:
                    data[end:end] = data[start:end]
                case 5:
                    del data[start : min(end, start + 64)]
                case _:
                    another = files[int(rng.integers(len(files)))]
                    data[start:end] = another[start:end]
        yield bytes(data)


def main(count: int, seed: int) -> None:
    decoded, broken, slowest = 0, 0, 0.0
    for data in mutated(originals(), count, seed):
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        begun = time.perf_counter()
        try:
            picture = look(data)
            if isinstance(picture, Jpeg):
                picture.part((0, 0, max(1, picture.width // 2), max(1, picture.height // 2)), (16, 16))
            pixels = decode(data)
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 3
            assert pixels.shape[2] == 3
            assert pixels.size
            decoded += 1
        except BrokenImage as problem:
            broken += bool(str(problem))  # with a reason
        slowest = max(slowest, time.perf_counter() - begun)
    faulthandler.cancel_dump_traceback_later()
    memory = resident() / 2**20
    print(json.dumps({"decoded": decoded, "broken": broken, "slowest": slowest, "memory": memory}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
