"""The parts of benchmarks/gpu.sh: steps, equal, loader, cifar. Each prints a table last.

    python benchmarks/gpu.py steps --device cuda

`--device cpu` goes the same way with very small models: its figures mean nothing.
"""

import argparse
import gc
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitrail.core.device import Device, Machine, choose_device, peak_flops, peak_memory_gib, reset_peak_memory
from vitrail.core.errors import BadInput
from vitrail.core.text import table
from vitrail.data.loader.batch import Batch, Broken
from vitrail.data.loader.loader import choose_workers, train_loader
from vitrail.data.loader.on_device import OnDeviceDataset
from vitrail.data.sources.base import Example, Source
from vitrail.data.transforms.mixup import Mixing
from vitrail.data.transforms.pipeline import Augment, InceptionCrop, Preprocess, SquareResize
from vitrail.jobs.forecast.noise import Noise
from vitrail.jobs.plan.hardware import HARDWARE
from vitrail.jobs.plan.plan import plan
from vitrail.models.build import ModelConfig, build
from vitrail.models.cost import training_flops
from vitrail.models.variants import variant
from vitrail.models.vit import ViTConfig
from vitrail.recipes import pretraining
from vitrail.train.callbacks import Every
from vitrail.train.config import TrainConfig
from vitrail.train.loop import fit
from vitrail.train.parallel import only_deterministic_kernels, parallelize
from vitrail.train.schedule import Cosine
from vitrail.train.step import TrainState, init_state, train_step

BFLOAT16 = torch.bfloat16
SMALL = ViTConfig(patch=4, width=32, depth=2, heads=2, mlp=64, resolution=(16, 16))
#        model   images, about as many as fit into 80 GB twice over
MODELS = (("S/16", 512), ("B/16", 256), ("L/16", 128))


class Here:
    """The device, and how long and how large: on a CPU as little as possible."""

    def __init__(self, device: torch.device):
        self.device, self.cuda = device, device.type == "cuda"
        self.seconds = 5.0 if self.cuda else 0.05

    def synchronize(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def config(self, batch: int, **changes: Any) -> TrainConfig:
        return TrainConfig("", steps=10**6, batch=batch, schedule=Cosine(10), **changes)

    def state(
        self, model: ModelConfig, config: TrainConfig, machine: Machine, dtype: torch.dtype = BFLOAT16
    ) -> TrainState:
        torch.compiler.reset()
        torch.manual_seed(0)
        built = build(model).to(self.device)
        float8 = config.precision == "float8"
        wrapped = parallelize(built, machine, self.device, dtype, float8)
        return init_state(built, config, Broken(1), wrapped)

    def batch(self, model: ModelConfig, images: int) -> Batch:
        rng = torch.Generator().manual_seed(0)
        pixels = torch.randint(256, (images, 3, *model.resolution), dtype=torch.uint8, generator=rng)
        labels = torch.randint(10, (images,), generator=rng)
        return Batch.of(pixels.to(self.device), labels.to(self.device))


def machine_line(here: Here) -> str:
    """What this is measured on."""
    found = Device.find(str(here.device))
    return f"{found.name}, {found.memory_gib or 0:.0f} GiB, torch {torch.__version__}, CUDA {torch.version.cuda}"


def show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The table at the end of a part."""
    print()
    print("\n".join(table([head, *rows], "<>")))


# Steps: how long one takes, without a wait between two, beside what `vitrail plan` foretells, and beside timm.


def steps(here: Here) -> None:
    """Milliseconds, the share of the peak, memory, the first step."""
    peak = peak_flops(here.device, BFLOAT16)
    kind = next((k for k in ("h100", "h200", "b200", "a100") if k in machine_line(here).lower()), "h100")
    print(f"best product {peak / 1e12:.1f} TFLOP/s; foretold for {HARDWARE[kind].name}")
    rows = []
    for name, images in MODELS if here.cuda else (("small", 8),):
        model = replace(variant(name), num_classes=1000) if here.cuda else replace(SMALL, num_classes=1000)
        for machine in (Machine(), Machine(recompute=True)) if here.cuda else (Machine(compile=False),):
            seconds, first, memory = timed_step(here, model, images, machine)
            rate = training_flops(model) * images / seconds
            said = plan(
                here.config(images, micro_batch=images),
                model,
                devices=1,
                hardware=HARDWARE[kind],
                recompute=machine.recompute,
            )
            rows.append(
                [
                    f"{name}, {images} images{', recompute' if machine.recompute else ''}",
                    f"{1e3 * seconds:.2f}",
                    f"{1e3 * said.step.seconds:.2f}",
                    f"{images / seconds:,.0f}",
                    f"{rate / peak:.1%}",
                    f"{rate / HARDWARE[kind].peak:.1%}",
                    f"{memory:.1f}",
                    f"{said.memory.total / 2**30:.1f}",
                    f"{first:.0f}",
                ]
            )
            print(rows[-1], flush=True)
    compare_with_timm(here)
    head = ["step", "ms", "foretold", "images/s", "of measured", "of sheet", "GiB", "foretold", "first s"]
    show(head, rows)


def timed_step(here: Here, model: ModelConfig, images: int, machine: Machine) -> tuple[float, float, float]:
    """Seconds of a step, of the first, and GiB at the peak."""
    gc.collect()
    reset_peak_memory(here.device)
    config = here.config(images)
    state, batch, preprocess = (
        here.state(model, config, machine),
        here.batch(model, images),
        Preprocess(model.resolution),
    )
    step = partial(train_step, state, batch, config=config, preprocess=preprocess, dtype=BFLOAT16)
    begun = time.perf_counter()
    step()
    here.synchronize()
    first = time.perf_counter() - begun
    for _ in range(3):
        step()
    spent = []
    while sum(spent) < here.seconds or len(spent) < 3:
        here.synchronize()
        begun = time.perf_counter()
        for _ in range(5):
            step()
        here.synchronize()
        spent.append(time.perf_counter() - begun)
    return statistics.median(spent) / 5, first, peak_memory_gib(here.device) or 0.0


def compare_with_timm(here: Here) -> None:
    """By benchmarks/step.py, in turns, where timm is there."""
    if importlib.util.find_spec("timm") is None or not here.cuda:
        print("timm is not compared with: " + ("it is not installed" if here.cuda else "a dry run"))
        return
    script, out = Path(__file__).with_name("step.py"), Path(os.environ.get("OUT", "."), "steps-timm.json")
    asked = [sys.executable, str(script), "--device", "cuda", "--rounds", "3", "--out", str(out)]
    try:
        subprocess.run([*asked, "--models", "B/16"], check=False, timeout=240)
    except subprocess.TimeoutExpired:
        print("timm: longer than four minutes")


# Equal: the same three updates in every way in which they can be computed.


def equal(here: Here) -> None:
    """How far weights and loss are from those of float32, eager, after three updates; and which are the same bits."""
    model, images = replace(SMALL, num_classes=10), 24
    reference = updated(here, model, images, Machine(compile=False), torch.float32)
    ways: list[tuple[str, dict[str, Any]]] = [
        ("float32 again", {"dtype": torch.float32}),
        ("float32 in parts of 7", {"dtype": torch.float32, "micro_batch": 7}),
        ("float32 recomputed", {"dtype": torch.float32, "machine": Machine(compile=False, recompute=True)}),
        ("bfloat16", {}),
        ("bfloat16 recomputed", {"machine": Machine(compile=False, recompute=True)}),
    ]
    if here.cuda:
        ways += [
            ("float32 compiled", {"dtype": torch.float32, "machine": Machine(compile=True)}),
            ("bfloat16 compiled", {"machine": Machine(compile=True)}),
            ("bfloat16 compiled, recomputed", {"machine": Machine(compile=True, recompute=True)}),
            ("bfloat16 graphs", {"machine": Machine(graphs=True)}),
            ("float8 compiled", {"machine": Machine(compile=True), "precision": "float8"}),
        ]
    rows = [compared(here, name, model, images, reference, how) for name, how in ways]
    if here.cuda:
        only_deterministic_kernels(build(model))
        for name, machine in (("eager", Machine(compile=False)), ("compiled", Machine(compile=True))):
            one, two = (updated(here, model, images, machine, BFLOAT16) for _ in range(2))
            same = all(torch.equal(one[0][key], two[0][key]) for key in one[0])
            rows.append([f"deterministic, twice, {name}", "the same bits" if same else "OTHER BITS", ""])
    show(["three updates", "weights", "loss"], rows)


Updated = tuple[dict[str, torch.Tensor], float]


def updated(
    here: Here,
    model: ModelConfig,
    images: int,
    machine: Machine,
    dtype: torch.dtype,
    micro_batch: int | None = None,
    precision: Any = "auto",
) -> Updated:
    """The weights after three updates, and the last loss."""
    config = here.config(images, micro_batch=micro_batch, precision=precision, mixing=Mixing())
    state, batch = here.state(model, config, machine, dtype), here.batch(model, images)
    preprocess = Preprocess(model.resolution)
    for _ in range(3):
        metrics = train_step(state, batch, config=config, preprocess=preprocess, dtype=dtype)
    return {name: p.detach().float().cpu().clone() for name, p in state.model.named_parameters()}, float(metrics.loss)


def compared(
    here: Here, name: str, model: ModelConfig, images: int, reference: Updated, how: dict[str, Any]
) -> list[str]:
    """A row: the way, and what differs."""
    try:
        found = updated(here, model, images, **{"machine": Machine(compile=False), "dtype": BFLOAT16, **how})
    except (BadInput, RuntimeError) as problem:
        return [name, "FAILED", str(problem).splitlines()[0][:60]]
    square = sum(float((found[0][key] - value).square().sum()) for key, value in reference[0].items())
    whole = sum(float(value.square().sum()) for value in reference[0].values())
    return [name, f"{(square / whole) ** 0.5:.1e}", f"{abs(found[1] - reference[1]):.1e}"]


# Loader: photographs to the device, alone and under a training.


def loader(here: Here) -> None:
    """Images a second that arrive, alone and while B/16 trains, and the share of the time that is waited for them."""
    model = replace(variant("B/16"), num_classes=10) if here.cuda else replace(SMALL, num_classes=10)
    images, source = (256, Noise(1_000_000, (256, 256), 10)) if here.cuda else (8, Noise(100, (32, 32), 10))
    augment, preprocess = Augment(crop=InceptionCrop(), flip=True), Preprocess(model.resolution)
    wanted = 0.7 * peak_flops(here.device, BFLOAT16) / training_flops(model)
    workers = choose_workers(source, augment, preprocess, wanted) if here.cuda else 1
    made = partial(train_loader, source, augment, preprocess, batch=images, seed=0, workers=workers, device=here.device)
    count = 60 if here.cuda else 3
    begun, seen = 0.0, 0
    for place, batch in enumerate(made(start=0, stop=count)):
        if place == count // 4:  # workers have started
            here.synchronize()
            begun, seen = time.perf_counter(), 0
        seen += len(batch.labels)
    here.synchronize()
    alone = seen / (time.perf_counter() - begun)
    config = here.config(images)
    state = here.state(model, config, Machine(compile=here.cuda))
    update = partial(train_step, config=config, preprocess=preprocess, dtype=BFLOAT16)
    warm, last = max(1, count // 4), count
    marks: list[tuple[float, float, float]] = []

    def mark(state: TrainState) -> None:
        if state.step in (warm, last):
            here.synchronize()
            marks.append((time.perf_counter(), state.data_wait_seconds, state.seconds))

    fit(state, made(start=0, stop=last), update, steps=last, callbacks=[Every(1, mark, False)], save=lambda _: None)
    (one, waited, _), (two, waited_then, _) = marks[0], marks[-1]
    rows = [
        ["alone", str(workers), f"{alone:,.0f}", ""],
        [
            "in training",
            str(workers),
            f"{(last - warm) * images / (two - one):,.0f}",
            f"{(waited_then - waited) / (two - one):.1%}",
        ],
    ]
    show(["loader to the device", "workers", "images/s", "waiting"], rows)


# CIFAR-10: the recipe, whole where the data are here, or its steps on noise of the same size.


class Pixels(Source):
    """Noise in the place of CIFAR-10."""

    def __init__(self, count: int):
        self.classes = tuple("0123456789")
        self.labels = np.arange(count, dtype=np.int64) % 10
        self._pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)

    def __getitem__(self, index: int) -> Example:
        return Example(self._pixels[index], int(self.labels[index]), str(index))


def cifar(here: Here) -> None:
    """Seconds a step with and without graphs, and where CIFAR-10 is here the recipe to its end."""
    recipe = pretraining("cifar10-gpu")
    model = replace(recipe.model, num_classes=10)
    preprocess = Preprocess(model.resolution, SquareResize())
    held = OnDeviceDataset(Pixels(50_000 if here.cuda else 64), recipe.augment, preprocess, here.device)
    batch, count = (recipe.batch, 300) if here.cuda else (8, 2)
    rows = []
    for name, machine in (
        (("compiled", Machine()), ("graphs", Machine(graphs=True)))
        if here.cuda
        else (("eager", Machine(compile=False)),)
    ):
        config = replace(recipe, batch=batch)
        state = here.state(model, config, machine)
        update = partial(train_step, config=config, preprocess=preprocess, dtype=BFLOAT16)

        def run(stop: int, state: TrainState = state, update: Any = update) -> None:
            given = held.batches(batch=batch, seed=0, start=state.step, stop=stop, predecessor=True)
            fit(state, given, update, steps=stop, save=lambda _: None)
            here.synchronize()

        run(count // 10 or 1)
        begun, first = time.perf_counter(), state.step
        run(first + count)
        each = (time.perf_counter() - begun) / count
        rows.append([f"a step, {name}", f"{1e3 * each:.2f} ms", f"{batch / each:,.0f} images/s"])
        rows.append([f"the recipe's {recipe.steps:,}", f"{each * recipe.steps / 60:.1f} min", "by these steps"])
    rows += whole_recipe(here)
    show(["cifar10-gpu", "", ""], rows)


def whole_recipe(here: Here) -> list[list[str]]:
    """The recipe to its end, where its data are here."""
    from vitrail.data.open.names import open_data
    from vitrail.jobs.pretrain import pretrain

    try:
        open_data("cifar10@train", "train")
    except BadInput as problem:
        return [["to the end", "not run", str(problem).splitlines()[0][:60]]]
    if not here.cuda:
        return [["to the end", "not run", "a dry run"]]
    with tempfile.TemporaryDirectory() as folder:
        result = pretrain(pretraining("cifar10-gpu"), Path(folder) / "run", Machine(), "cifar10-gpu")
    return [["to the end", f"{result.seconds / 60:.1f} min", f"accuracy {result.accuracy:.2%}"]]


PARTS: dict[str, Callable[[Here], None]] = {"steps": steps, "equal": equal, "loader": loader, "cifar": cifar}


def main() -> None:
    """Some parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", choices=PARTS, nargs="+")
    parser.add_argument("--device", default="cuda")
    asked = parser.parse_args()
    here = Here(choose_device(asked.device))
    print(machine_line(here))
    for part in asked.parts:
        begun = time.perf_counter()
        PARTS[part](here)
        print(f"{part}: {time.perf_counter() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
