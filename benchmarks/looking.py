"""The memory and the time of `vitrail inspect`: the most that the process holds, of a large model and many images.

    python benchmarks/looking.py [--variant L/16] [--resolution 224] [--count 128] [--shown 8]

Random weights and random photographs in a temporary folder: neither memory nor time depends on what they are. The
command runs as a process of its own, whose greatest resident size is printed.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import vitrail
from vitrail.core.device import processor_name
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.weights.bundle import save_bundle

# The process says it of itself: what is counted of a child begins with the memory of its parent.
MEASURED = """
import atexit, sys
from vitrail.cli import main
atexit.register(lambda: print(*[line for line in open("/proc/self/status") if line.startswith("VmHWM")]))
main(sys.argv[1:])
"""


def make(folder: Path, variant: str, resolution: int, count: int) -> None:
    """A model and images."""
    torch.manual_seed(0)
    model = vitrail.create_model(variant, num_classes=2, resolution=resolution)
    save_bundle(folder / "model", model, Preprocess((resolution, resolution)), ("first", "second"), {})
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / "images" / ("first", "second")[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (240, 240, 3), np.uint8)).save(path, quality=50)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--variant", default="L/16")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--count", type=int, default=128)
    parser.add_argument("--shown", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, options.variant, options.resolution, options.count)
        command = [sys.executable, "-c", MEASURED, "inspect", "--model", str(folder / "model")]
        command += ["--images", str(folder / "images"), "--count", str(options.count), "--shown", str(options.shown)]
        start = time.perf_counter()
        command += ["--device", "cpu", "--json", "--out", str(folder / "inside")]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{processor_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{options.variant}, {options.count} images of {options.resolution} pixels, {options.shown} drawn")
    peak = int(said.split("VmHWM:")[1].split()[0]) / 2**20
    print(f"at most {peak:.2f} GiB resident; {seconds:.0f} s, {used.ru_utime:.0f} s of the processor")


if __name__ == "__main__":
    main()
