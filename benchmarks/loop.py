"""What logging, timing and averaging cost: vitrail's loop against a bare one, in turns, on the same model and batches.

    python benchmarks/loop.py [--rounds 9] [--steps 40] [--out benchmarks/results/loop-NAME.json]

The bare loop takes the same batches to the same updates: forward, backward, clip, AdamW; nothing else. Ours is
`fit` with everything that training has on: the metrics of each step looked at for NaN and jumps, shares of waiting and
copying, a log row every 10 steps, Polyak averaging, the signals and the progress bar. Prints the median over rounds of
(our steps/s / the bare loop's), and its range.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F

from vitrail.core.device import choose_device, choose_precision, describe_device, synchronize
from vitrail.core.run import RunFolder
from vitrail.data.loader.batch import Broken
from vitrail.data.loader.loader import train_loader
from vitrail.data.loader.normalise import normalise
from vitrail.data.open.names import open_data
from vitrail.data.transforms.pipeline import Augment, Preprocess, SquareResize, WholeImage
from vitrail.models.build import build
from vitrail.models.vit import ViTConfig
from vitrail.train.callbacks import Log
from vitrail.train.config import TrainConfig
from vitrail.train.loop import fit
from vitrail.train.optim import Adam, build_optimizer
from vitrail.train.schedule import Cosine
from vitrail.train.step import init_state, train_step

MODEL = ViTConfig(patch=4, width=192, depth=6, heads=3, mlp=768, resolution=(32, 32), num_classes=10)
PREPROCESS = Preprocess((32, 32), SquareResize())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=40, help="a round")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = choose_device(options.device)
    dtype = choose_precision("auto", device)
    config = TrainConfig(
        "digits@train",
        steps=10**6,
        batch=options.batch,
        optimizer=Adam(1e-4, 0.05),
        schedule=Cosine(10),
        average=0.999,
        augment=Augment(WholeImage(), flip=False),
    )
    source = open_data(config.train)

    def batches(begin: int) -> object:
        return train_loader(
            source,
            config.augment,
            PREPROCESS,
            batch=config.batch,
            seed=0,
            start=begin,
            stop=begin + options.steps,
            workers=0,
            device=device,
        )

    torch.manual_seed(0)
    state = init_state(build(MODEL).to(device), config, Broken(len(source)))
    bare = build(MODEL).to(device)
    optimizer = build_optimizer(config.optimizer, bare)
    update = partial(train_step, config=config, preprocess=PREPROCESS, dtype=dtype)

    def ours(folder: RunFolder) -> float:
        begun = time.perf_counter()
        end = state.step + options.steps
        steps = batches(state.step)
        log = Log(10, folder, config.batch / len(source), lambda state, rate: {})
        fit(state, steps, update, steps=end, callbacks=[log], save=lambda _: None)  # type: ignore[arg-type]
        synchronize(device)
        return options.steps / (time.perf_counter() - begun)

    def theirs(begin: int) -> float:
        begun = time.perf_counter()
        for batch in batches(begin):  # type: ignore[attr-defined]
            optimizer.zero_grad(set_to_none=True)
            images = normalise(batch.images, PREPROCESS, device)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                logits = bare(images).logits
            F.cross_entropy(logits.float(), batch.labels.to(device)).backward()
            torch.nn.utils.clip_grad_norm_(bare.parameters(), 1.0)
            optimizer.step()
        synchronize(device)
        return options.steps / (time.perf_counter() - begun)

    with tempfile.TemporaryDirectory() as temporary:
        folder = RunFolder(Path(temporary) / "run", "benchmark", replace(config))
        ours(folder), theirs(0)
        pairs = []
        for i in range(options.rounds):
            begin = state.step
            first = ours(folder) if i % 2 else theirs(begin)
            second = theirs(begin) if i % 2 else ours(folder)
            pairs.append((first, second) if i % 2 else (second, first))
        folder.close()
    ratios = [mine / other for mine, other in pairs]
    machine = f"{describe_device(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}, {dtype}"
    print(machine)
    print(
        f"ours / bare: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f} over {len(ratios)} "
        f"rounds of {options.steps} steps); ours {statistics.median(a for a, _ in pairs):.2f} steps/s"
    )
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"machine": machine, "ratios": ratios, "steps_per_second": pairs}) + "\n")


if __name__ == "__main__":
    main()
