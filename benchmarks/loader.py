"""Loading: vitrail's against torchvision's transforms on PIL images in a DataLoader, in turns, a core and all cores.

    python benchmarks/loader.py --photos FOLDER [--cifar10 FOLDER] [--tiny FOLDER] [--rounds 7] [--memory] [--out FILE]

FOLDER holds JPEG files (photos), or parquet files in Hugging Face's image layout. Both sides read the same files and
make uint8 batches of random crops, half of them flipped; torch's threads are one in every process. What is compared:

    photos              decode, inception crop to 224, flip, from the files as they are
    prepared            the same from what `vitrail data prepare` makes of them; theirs from the originals
    cifar10             32 pixels from parquet, shifted by up to 4 pixels, flipped
    tiny-imagenet       64 pixels from parquet, inception crop, flipped

Prints images a second (on one core: of processor time, which nobody else on the machine can take) and the median over
the rounds of (ours / theirs), with its range. With --memory also what the loader holds in the course of an
epoch of 100,000 images (of --tiny): the main process and its workers, shared pages counted once.
"""

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from stand_in import torchvision_without_operators
from torch.utils.data import DataLoader, Dataset

from vitrail.core.device import processor_name
from vitrail.core.pool import usable_cores
from vitrail.data.decode.image import read
from vitrail.data.loader.loader import train_loader
from vitrail.data.open.names import open_data
from vitrail.data.sources.base import Example, Source
from vitrail.data.transforms.pipeline import Augment, InceptionCrop, PadCrop, Preprocess, SquareResize
from vitrail.jobs.prepare import Prepare, prepare

BATCH = 32  # photos; of small images four times as many
SKIPPED = 10  # batches: workers have started


class Files(Source):
    """JPEG files of a folder, all of one class."""

    def __init__(self, folder: Path):
        self.paths = sorted(folder.glob("*.jp*g"))
        self.labels, self.classes = np.zeros(len(self.paths), np.int64), ("photo",)

    def __getitem__(self, index: int) -> Example:
        return Example(read(self.paths[index]), 0, self.paths[index].name)


class Peer(Dataset[Any]):
    """What people write: a file opened by PIL, and transforms."""

    def __init__(self, source: Source, transform: Callable[[Image.Image], Any]):
        if isinstance(source, Files):
            self.files: list[Any] = list(source.paths)
        else:
            self.files = [source[i].image for i in range(len(source))]
        self.labels, self.transform = source.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        file = self.files[index]
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            return self.transform(image.convert("RGB")), self.labels[index]


def torchvision() -> ModuleType:
    """torchvision's transforms; stand_in.py says with what."""
    torchvision_without_operators()
    from torchvision import transforms

    return transforms


def rate(batches: Iterator[Any], count: int, workers: int) -> float:
    """Images a second over so many of them, after the first few: of processor time where this process makes them."""
    for _ in range(SKIPPED):
        next(batches)
    clock = time.perf_counter if workers else time.process_time
    start, seen = clock(), 0
    while seen < count:
        seen += len(next(batches)[1])
    return seen / (clock() - start)


def ours(source: Source, view: tuple[Augment, Preprocess], batch: int, workers: int) -> Iterator[Any]:
    return iter(train_loader(source, *view, batch=batch, seed=0, start=0, stop=10**9, workers=workers))


def theirs(peer: Peer, batch: int, workers: int) -> Iterator[Any]:
    drawn = torch.utils.data.RandomSampler(peer, replacement=True, num_samples=10**9)
    options: dict[str, Any] = {"prefetch_factor": 4} if workers else {}
    return iter(DataLoader(peer, batch, sampler=drawn, num_workers=workers, **options))


def prepared(photos: Path, folder: Path) -> Source:
    """What `vitrail data prepare` makes of them."""
    (folder / "data" / "photo").mkdir(parents=True)
    for file in Files(photos).paths:
        (folder / "data" / "photo" / file.name).symlink_to(file.resolve())
    prepare(Prepare(str(folder / "data")), folder / "prepared")
    return open_data(str(folder / "prepared"))


def compare(name: str, a: Source, view: tuple[Augment, Preprocess], b: Peer, options: Any) -> list[str]:
    lines, small = [], len(a) > 1000
    batch = 4 * BATCH if small else BATCH
    for workers in (0, usable_cores()):
        ratios, rates = [], []
        for turn in range(options.rounds):
            seen: dict[str, float] = {}
            for who in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
                batches = ours(a, view, batch, workers) if who == "ours" else theirs(b, batch, workers)
                count = options.images * (4 if who == "ours" else 1) * max(1, workers) * (10 if small else 1)
                seen[who] = rate(batches, count, workers)
                del batches  # the processes end, and leave the cores to the others
            ratios.append(seen["ours"] / seen["theirs"])
            rates.append((seen["ours"], seen["theirs"]))
        mine, other = (statistics.median(pair[i] for pair in rates) for i in range(2))
        where = "one core" if not workers else f"{workers} workers"
        middle = statistics.median(ratios)
        lines.append(
            f"{name:>15} {where:>10} {mine:>9.0f} {other:>9.0f} {middle:>7.2f}  {min(ratios):.2f} to {max(ratios):.2f}"
        )
        print(lines[-1], flush=True)
    return lines


def held() -> float:
    """MiB of this process and its children, pages that they share counted once."""
    me = os.getpid()
    children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
    total = 0
    for process in (me, *children):
        rows = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        total += next(int(row.split()[1]) for row in rows if row.startswith("Pss:"))
    return total / 1024


def memory(source: Source, view: tuple[Augment, Preprocess], images: int = 100_000) -> list[str]:
    batch, lines = 128, []
    steps = images // batch
    loader = train_loader(source, *view, batch=batch, seed=0, start=0, stop=steps, workers=usable_cores())
    start = time.perf_counter()
    for step, _ in enumerate(loader, 1):
        if step % (steps // 10) == 0:
            lines.append(f"memory after {step * batch:>7,} images: {held():,.0f} MiB")
            print(lines[-1], flush=True)
    lines.append(f"{steps * batch / (time.perf_counter() - start):,.0f} images/s with {usable_cores()} workers")
    print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("photos", "cifar10", "tiny", "out"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=200, help="photos of theirs, a round and core")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transforms = torchvision()
    machine = f"{processor_name()}, {usable_cores()} cores, torch {torch.__version__}"
    lines = [machine, f"{'':>15} {'':>10} {'ours/s':>9} {'theirs/s':>9} {'ratio':>7}  range"]
    print("\n".join(lines))
    flipped = [transforms.RandomHorizontalFlip(), transforms.PILToTensor()]

    def cropped(side: int) -> Callable[[Image.Image], Any]:
        return transforms.Compose([transforms.RandomResizedCrop(side, scale=(0.05, 1.0)), *flipped])

    with tempfile.TemporaryDirectory() as temporary:
        if options.tiny:
            tiny = open_data(f"{options.tiny}@train")
            view = Augment(InceptionCrop()), Preprocess((64, 64), SquareResize())
            if options.memory:  # first: theirs holds all files in a list
                lines += memory(tiny, view)
            lines += compare("tiny-imagenet", tiny, view, Peer(tiny, cropped(64)), options)
        if options.photos:
            photos, view = Files(options.photos), (Augment(InceptionCrop()), Preprocess((224, 224)))
            peer = Peer(photos, cropped(224))
            lines += compare("photos", photos, view, peer, options)
            lines += compare("prepared", prepared(options.photos, Path(temporary)), view, peer, options)
        if options.cifar10:
            cifar = open_data(f"{options.cifar10}@train")
            view = Augment(PadCrop(4)), Preprocess((32, 32), SquareResize())
            shifted = transforms.RandomCrop(32, padding=4, padding_mode="reflect")
            peer = Peer(cifar, transforms.Compose([shifted, *flipped]))
            lines += compare("cifar10", cifar, view, peer, options)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
