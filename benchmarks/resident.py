"""Resident data against worker processes, in turns: images a second that come out, without any training.

    python benchmarks/resident.py [--images 10000] [--batch 128] [--workers 1] [--rounds 7] [--device cpu]

The set is like CIFAR-10: PNG of 32 x 32 noise. Prints milliseconds a batch of resident data, the time of decoding the
set once, and the median over the rounds of (resident / workers) in images a second, with its range. Workers have a core
of their own where there is one; resident data take theirs from the step.
"""

import argparse
import io
import statistics
import time
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image

from vitrail.core.device import choose_device, describe_device, synchronize
from vitrail.data.loader.batch import Batch
from vitrail.data.loader.loader import train_loader
from vitrail.data.loader.on_device import OnDeviceDataset
from vitrail.data.sources.base import Example, Source
from vitrail.data.transforms.pipeline import Augment, InceptionCrop, PadCrop, Preprocess, SquareResize, WholeImage
from vitrail.data.transforms.random_erasing import RandomErasing

AUGMENTS = {
    "flip": Augment(crop=WholeImage()),
    "flip, pad-crop": Augment(crop=PadCrop()),
    "flip, inception crop": Augment(crop=InceptionCrop()),
    "flip, pad-crop, erasing": Augment(crop=PadCrop(), erasing=RandomErasing()),
}
PREPROCESS = Preprocess((32, 32), SquareResize())


class Pictures(Source):
    """Encoded noise."""

    def __init__(self, count: int):
        rng = np.random.default_rng(0)
        self.files, self.classes = [], tuple("0123456789")
        for _ in range(count):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file, "PNG", compress_level=1)
            self.files.append(file.getvalue())
        self.labels = np.arange(count) % 10

    def __getitem__(self, index: int) -> Example:
        return Example(self.files[index], int(self.labels[index]), str(index))


def seconds(batches: Iterator[Batch], steps: int, device: torch.device) -> float:
    """For so many batches, on the device."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(steps):
        next(batches).images.to(device, non_blocking=True)
    synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("images", 10_000), ("batch", 128), ("workers", 1), ("rounds", 7), ("steps", 40)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device, source = choose_device(options.device), Pictures(options.images)
    print(f"{describe_device(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'':>24} {'decode s':>8} {'ms a batch':>10} {'resident / workers':>19}  range")
    for name, augment in AUGMENTS.items():
        start = time.perf_counter()
        held = OnDeviceDataset(source, augment, PREPROCESS, device)
        decoding = time.perf_counter() - start
        ratios, ours = [], []
        for _ in range(options.rounds):
            common = {"batch": options.batch, "seed": 0, "start": 0, "stop": 10**9}
            resident = iter(held.batches(**common))
            loader = train_loader(source, augment, PREPROCESS, workers=options.workers, device=device, **common)
            workers = iter(loader)
            for batches in (resident, workers):
                seconds(batches, 10, device)  # workers have started, and used up what they had prepared
            theirs = seconds(workers, options.steps, device)
            del workers, loader  # the processes end, and leave the cores to the others
            ours.append(seconds(resident, options.steps, device))
            ratios.append(theirs / ours[-1])
        middle, each = statistics.median(ratios), 1e3 * statistics.median(ours) / options.steps
        print(f"{name:>24} {decoding:>8.1f} {each:>10.2f} {middle:>19.1f}  {min(ratios):.1f} to {max(ratios):.1f}")


if __name__ == "__main__":
    main()
