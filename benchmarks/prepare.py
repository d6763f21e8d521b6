"""How fast `vitrail data prepare` is: images a second on one core and on all, against a plain loop of Pillow.

    python benchmarks/prepare.py FOLDER_OF_PHOTOS [--data DATA] [--rounds 5] [--times 8] [--side 256]

Photos lie flat or in class folders. The plain loop opens, converts, resizes and saves each photo as JPEG 90 into
memory, on one core. Rounds are in turns; prints medians with their range. One core is measured in time of the
processor, which holds on a busy machine too; all cores by the clock, with the start of processes, on `--times` copies
of the photos. `--data` names another DATA (cifar10@train, say), prepared once on one core and once on all.
"""

import argparse
import io
import statistics
import tempfile
import time
from pathlib import Path

from PIL import Image

from vitrail.core.pool import usable_cores
from vitrail.data.decode.image import SUFFIXES
from vitrail.jobs.prepare import Prepare, prepare


def with_pillow(files: list[Path], side: int) -> float:
    """Images a second of the processor."""
    start = time.process_time()
    for file in files:
        with Image.open(file) as opened:
            picture = opened.convert("RGB")
        scale = min(1.0, side / min(picture.size))
        size = (round(picture.width * scale), round(picture.height * scale))
        picture.resize(size, Image.Resampling.BILINEAR).save(io.BytesIO(), "JPEG", quality=90)
    return len(files) / (time.process_time() - start)


def with_vitrail(data: str, side: int, workers: int) -> tuple[float, float, int]:
    """Images a second by the clock, and of this process's processor; MiB that were written."""
    with tempfile.TemporaryDirectory() as folder:
        clock, processor = time.perf_counter(), time.process_time()
        (part,) = prepare(Prepare(data, side), Path(folder) / "out", workers)
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
    size = sum(shard.bytes for shard in part.shards)
    return part.count / clock, part.count / processor, size >> 20


def shown(rates: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(rates):8,.0f}  ({min(rates):,.0f} to {max(rates):,.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--data", default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=8)
    parser.add_argument("--side", type=int, default=256)
    options = parser.parse_args()
    cores = usable_cores()
    files = sorted(f.absolute() for f in options.photos.rglob("*") if f.suffix.lower() in SUFFIXES)
    with tempfile.TemporaryDirectory() as folder:
        for half in ("a", "b"):
            (Path(folder) / half).mkdir()
        for i, file in enumerate(files * options.times):
            (Path(folder) / "ab"[i % 2] / f"{i}{file.suffix}").symlink_to(file)
        rates: dict[str, list[float]] = {name: [] for name in ("Pillow", "one core", "all cores")}
        for _ in range(options.rounds):
            rates["Pillow"].append(with_pillow(files * options.times, options.side))
            rates["one core"].append(with_vitrail(folder, options.side, 1)[1])
            rates["all cores"].append(with_vitrail(folder, options.side, cores)[0])
    print(f"{len(files)} photos {options.times} times, shorter side {options.side}, {cores} cores; images a second:")
    for name, found in rates.items():
        print(f"{name:>10} {shown(found)}")
    ratios = [ours / theirs for ours, theirs in zip(rates["one core"], rates["Pillow"], strict=True)]
    print(f"one core / Pillow {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    if options.data:
        for workers in (1, cores):
            rate, _, size = with_vitrail(options.data, options.side, workers)
            print(f"{options.data.rpartition('/')[2]}, {workers} processes: {rate:,.0f} images/s, {size} MiB")


if __name__ == "__main__":
    main()
