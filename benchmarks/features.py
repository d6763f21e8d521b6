"""Features of a whole data set on the CPU: vitrail's against transformers' image-feature-extraction pipeline, in turns.

    python benchmarks/features.py --data DATA [--model S/16] [--images 256] [--batch 32] [--rounds 5] [--out FILE]

DATA is any source of vitrail's, such as a folder of parquet files with images of a data set (`tiny-imagenet@validation`
where VITRAIL_DATA says where it lies). The model has random weights in transformers' layout, written to a folder that
both sides read. Both start from the encoded images and end with the representation of each in memory: the class token
after the last norm. The pipeline gets PIL images in a list and the same batch; its fast image processor is asked for.
What is compared:

    default     as both do when nobody says otherwise: ours in the precision that `auto` chooses (bfloat16 where the
                processor multiplies it), theirs in float32
    bfloat16    theirs in bfloat16 too
    float32     ours in float32 against theirs

Prints images a second (of processor time with OMP_NUM_THREADS=1, which others on the machine do not take), the median
over the rounds of (ours / theirs) with its range, and how far the features are apart. Exits with 1 where the default is
less than twice as fast.
"""

import argparse
import io
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from stand_in import torchvision_without_operators

from vitrail.core.device import choose_precision, processor_name
from vitrail.core.pool import usable_cores
from vitrail.data.loader.batch import Broken
from vitrail.data.open.names import open_data
from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import sample
from vitrail.evals.features import Representation, feature_parts
from vitrail.models.variants import variant
from vitrail.models.vit import ViTConfig
from vitrail.weights.load import load

WANTED = 2.0


def write_model(name: str, folder: Path) -> None:
    """Random weights as transformers saves them."""
    from transformers import ViTConfig as TheirConfig
    from transformers import ViTImageProcessor, ViTModel

    ours = variant(name)
    assert isinstance(ours, ViTConfig)
    torch.manual_seed(0)
    config = TheirConfig(
        hidden_size=ours.width,
        num_hidden_layers=ours.depth,
        num_attention_heads=ours.heads,
        intermediate_size=ours.mlp,
        patch_size=ours.patch,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor().save_pretrained(folder)


def our_features(folder: Path, source: Source, batch: int, dtype: torch.dtype) -> Callable[[], np.ndarray]:
    model = load(folder)

    def run() -> np.ndarray:
        parts = feature_parts(
            model, source, model.preprocess, Representation(), Broken(len(source)), dtype=dtype, batch=batch
        )
        return np.concatenate([part.values for part in parts])

    return run


def their_features(folder: Path, source: Source, batch: int, dtype: torch.dtype) -> Callable[[], np.ndarray]:
    from transformers import pipeline

    extract: Any = pipeline(
        "image-feature-extraction", model=str(folder), use_fast=True, device="cpu", dtype=dtype, batch_size=batch
    )
    files = [source[i].image for i in range(len(source))]

    def run() -> np.ndarray:
        images = [Image.open(io.BytesIO(file)).convert("RGB") for file in files]
        found = extract(images, batch_size=batch, return_tensors=True)
        return np.concatenate([one[:, 0].float().numpy() for one in found])

    return run


def seconds(run: Callable[[], np.ndarray]) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    run()
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="tiny-imagenet@validation")
    parser.add_argument("--model", default="S/16")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torchvision_without_operators()
    auto = choose_precision("auto", torch.device("cpu"))
    comparisons = {"default": (auto, torch.float32), "bfloat16": (auto, auto), "float32": (torch.float32,) * 2}
    if auto == torch.float32:
        del comparisons["bfloat16"]
    source = sample(open_data(options.data, "test"), options.images, seed=0)
    lines = [
        f"{processor_name()}, {usable_cores()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}",
        f"{options.model} at 224 pixels, {options.images} images of {options.data}, batch {options.batch}",
        f"{'':>9} {'ours/s':>8} {'theirs/s':>8} {'ratio':>6}  range; difference of features over their deviation",
    ]
    print("\n".join(lines), flush=True)
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        write_model(options.model, Path(temporary))
        for name, (mine, other) in comparisons.items():
            sides = {
                "ours": our_features(Path(temporary), source, options.batch, mine),
                "theirs": their_features(Path(temporary), source, options.batch, other),
            }
            a, b = sides["ours"](), sides["theirs"]()
            apart = float(np.sqrt(((a - b) ** 2).mean()) / b.std())
            times: dict[str, list[float]] = {"ours": [], "theirs": []}
            for turn in range(options.rounds):
                for side in sorted(sides, reverse=bool(turn % 2)):
                    times[side].append(seconds(sides[side]))
            ratios = [t / o for o, t in zip(times["ours"], times["theirs"], strict=True)]
            ours, theirs = (options.images / statistics.median(times[side]) for side in ("ours", "theirs"))
            middle = statistics.median(ratios)
            failed |= name == "default" and middle < WANTED
            lines.append(
                f"{name:>9} {ours:>8.1f} {theirs:>8.1f} {middle:>6.2f}  {min(ratios):.2f} to {max(ratios):.2f}; "
                f"{apart:.1e}"
            )
            print(lines[-1], flush=True)
    lines.append(f"wanted: default at least {WANTED:g}")
    print(lines[-1])
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
