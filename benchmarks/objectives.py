"""A step of learning without labels against a supervised step of the same encoder, in turns.

    python benchmarks/objectives.py [--model S/16] [--batch 16] [--rounds 7] [--device cpu]

Prints the median over rounds of (supervised seconds / seconds) with its range: MAE with the published decoder and with
lighter ones, and masked patch prediction; above 1 is faster than with labels. Beside it the ratio by multiply-adds.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from vitrail.core.device import choose_device, choose_precision, describe_device, synchronize
from vitrail.data.loader.batch import Batch, Broken
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.build import build
from vitrail.models.cost import training_flops
from vitrail.models.mae import MAE
from vitrail.models.masked_patches import MaskedPatches
from vitrail.models.objective import Labels, Objective, learner
from vitrail.models.objective_cost import training_flops_of
from vitrail.models.variants import variant
from vitrail.models.vit import ViT, ViTConfig
from vitrail.train.config import TrainConfig
from vitrail.train.optim import Adam
from vitrail.train.schedule import Cosine
from vitrail.train.step import init_state, train_step

OBJECTIVES: dict[str, Objective] = {
    "labels": Labels(),
    "mae, published decoder (8 layers of 512)": MAE(),
    "mae, 2 layers of 256": MAE(decoder_width=256, decoder_depth=2, decoder_heads=8, decoder_mlp=1024),
    "mae, 1 layer of 128": MAE(decoder_width=128, decoder_depth=1, decoder_heads=4, decoder_mlp=512),
    "masked patches": MaskedPatches(),
}


def step_of(config: ViTConfig, objective: Objective, batch: int, device: torch.device) -> Callable[[], None]:
    """One call is one update."""
    torch.manual_seed(0)
    labelled = isinstance(objective, Labels)
    model = build(replace(config, num_classes=1000 if labelled else 0))
    assert isinstance(model, ViT)
    trained = (model if isinstance(objective, Labels) else learner(model, objective)).to(device)
    training = TrainConfig("", steps=10**6, batch=batch, optimizer=Adam(1e-4, 0.05), schedule=Cosine(10))
    state = init_state(trained, training, Broken(1))
    dtype = choose_precision("auto", device)
    images = torch.randint(256, (batch, 3, *config.resolution), dtype=torch.uint8)
    given = Batch.of(images.to(device), torch.zeros(batch, dtype=torch.int64, device=device))

    def step() -> None:
        train_step(state, given, config=training, preprocess=Preprocess(config.resolution), dtype=dtype)
        synchronize(device)

    return step


def main() -> int:
    """Measures and prints; 1 where MAE with the lightest decoder is not 2.5 times as fast as with labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="S/16")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device, config = choose_device(options.device), variant(options.model)
    assert isinstance(config, ViTConfig)
    steps = {name: step_of(config, objective, options.batch, device) for name, objective in OBJECTIVES.items()}
    for step in steps.values():
        step()
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    print(f"{options.model}, batch {options.batch}, {describe_device(device)}, {torch.get_num_threads()} threads")
    with_labels = training_flops(replace(config, num_classes=1000))
    last = 0.0
    for name, objective in OBJECTIVES.items():
        ratios = [a / b for a, b in zip(seconds["labels"], seconds[name], strict=True)]
        flops = with_labels if isinstance(objective, Labels) else training_flops_of(config, objective)
        last = statistics.median(ratios) if name.startswith("mae") else last
        print(
            f"{name:<42} {statistics.median(seconds[name]):6.2f} s  {statistics.median(ratios):5.2f} times as fast "
            f"({min(ratios):.2f} to {max(ratios):.2f}), by arithmetic {with_labels / flops:.2f}"
        )
    return 0 if last >= 2.5 else 1


if __name__ == "__main__":
    sys.exit(main())
