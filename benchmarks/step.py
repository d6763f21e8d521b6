"""The training step against timm's with its best flags: same model, batch, precision and optimiser, in turns.

    python benchmarks/step.py [--device cpu] [--rounds 7] [--out benchmarks/results/step-NAME.json] [--models Ti/16 ...]
    python benchmarks/step.py --models B/16 S/14 [--attention fused]

A step takes uint8 images to the updated weights: normalise, forward, softmax loss, backward, clip to norm 1, AdamW.
timm runs eager and compiled, with and without channels-last input, all with its fused attention and a fused AdamW; the
fastest of them is the peer. Of ours the faster of eager and compiled is taken, too; on CUDA both sides are compiled.
Prints, for each model, the median over rounds of (our images/s / timm's), its range, the share of the measured
matrix-product peak, and on CUDA the peak memory of both. On a CPU B/16 at 384 pixels, S/14 and R50x1 (timm's BiT) run
where they are named;
`--attention` takes that kernel in place of the one that vitrail measures to be the fastest. Without a CUDA device,
`--device cuda` says what it would run.

timm imports torchvision; beside a CPU build of torch, whose operators torchvision's wheels lack, an empty module stands
in for the part that fails. Neither is a dependency of vitrail: `make .venv/parity` installs both.
"""

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from stand_in import torchvision_without_operators
from torch import nn
from torch.compiler import assume_constant_result
from torch.nn import functional as F

from vitrail.core.device import Machine, choose_device, choose_precision, describe_device, peak_flops, synchronize
from vitrail.data.loader.batch import Batch, Broken
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models import attention_kernel
from vitrail.models.build import ModelConfig, build
from vitrail.models.cost import training_flops
from vitrail.models.variants import variant
from vitrail.models.vit import ViTConfig
from vitrail.train.config import TrainConfig
from vitrail.train.optim import Adam
from vitrail.train.parallel import parallelize
from vitrail.train.schedule import Cosine
from vitrail.train.step import init_state, train_step


class Case(NamedTuple):
    """A model, its resolution and batch."""

    name: str
    resolution: int
    batch: int


#            model   pixels batch
CPU = (Case("Ti/16", 224, 32), Case("S/16", 224, 16), Case("Ti/4", 32, 128))
# 577 and 257 tokens, fine-tuning as in the paper and DINOv2; and the ResNet that the paper compares with
LONG = (Case("B/16", 384, 4), Case("S/14", 224, 16), Case("R50x1", 224, 16))
CUDA = (Case("S/16", 224, 256), Case("B/16", 224, 128), Case("L/16", 224, 64))
WANTED = {"cpu": (1.15, 1.4), "cuda": (1.15, 1.15)}  # ratio of each model, and of their geometric mean
WANTED_OF_PEAK = {"B/16": 0.45, "L/16": 0.5}  # on CUDA: model FLOPs over the measured peak of bf16 products


def our_step(
    config: ModelConfig, case: Case, device: torch.device, dtype: torch.dtype, compiled: bool
) -> Callable[[], None]:
    """One call is one update of vitrail's own engine."""
    torch.manual_seed(0)
    model = build(config).to(device)
    wrapped = parallelize(model, Machine(str(device), compile=compiled), device, dtype)
    training = TrainConfig("", steps=10**6, batch=case.batch, optimizer=Adam(1e-4, 0.05), schedule=Cosine(10))
    state = init_state(model, training, Broken(1), wrapped)
    preprocess = Preprocess(config.resolution)
    batch = Batch.of(*images_and_labels(case, device))

    def step() -> None:
        train_step(state, batch, config=training, preprocess=preprocess, dtype=dtype)

    return step


def images_and_labels(case: Case, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (case.batch, 3, case.resolution, case.resolution), generator=generator)
    labels = torch.randint(1000, (case.batch,), generator=generator)
    return images.to(torch.uint8).to(device), labels.to(device)


def their_step(
    config: ModelConfig, case: Case, device: torch.device, dtype: torch.dtype, compiled: bool, channels_last: bool
) -> Callable[[], None]:
    """One update of timm's model as its own training script does it."""
    timm = import_timm()
    torch.manual_seed(0)
    built = their_model(timm, config, case).to(device)
    if channels_last:
        built = built.to(memory_format=torch.channels_last)
    groups = timm.optim.param_groups_weight_decay(built, 0.05)
    optimizer = torch.optim.AdamW(groups, lr=1e-4, fused=True)
    model: nn.Module = torch.compile(built) if compiled else built  # type: ignore[assignment]
    images, labels = images_and_labels(case, device)
    mean = torch.tensor([127.5] * 3, device=device).view(1, 3, 1, 1)
    model.train()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        x = images.float().sub_(mean).div_(mean)
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = model(x)
        F.cross_entropy(logits.float(), labels).backward()
        torch.nn.utils.clip_grad_norm_(built.parameters(), 1.0)
        optimizer.step()

    return step


def their_model(timm: Any, config: ModelConfig, case: Case) -> nn.Module:
    if not isinstance(config, ViTConfig):
        return cast(nn.Module, timm.create_model("resnetv2_50x1_bit", num_classes=1000))
    built = timm.create_model(
        "vit_base_patch16_224",
        img_size=case.resolution,
        patch_size=config.patch,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
        num_classes=1000,
    )
    return cast(nn.Module, built)


def import_timm() -> Any:
    torchvision_without_operators()
    import timm
    import timm.optim

    return timm


def seconds(step: Callable[[], None], device: torch.device, least: float) -> float:
    """Of one step: the mean over at least `least` seconds."""
    synchronize(device)
    begin, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - begin < least:
        step()
        count += 1
        synchronize(device)
    return (time.perf_counter() - begin) / count


def peak_memory(step: Callable[[], None], device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    step()
    synchronize(device)
    return torch.cuda.max_memory_allocated(device)


def fastest(steps: dict[Any, Callable[[], None]], device: torch.device, least: float) -> Any:
    """The key of the step that takes the least time, of three measurements of each in turns."""
    if len(steps) == 1:
        return next(iter(steps))
    times: dict[Any, float] = dict.fromkeys(steps, float("inf"))
    for _ in range(3):
        for key, step in steps.items():
            times[key] = min(times[key], seconds(step, device, least))
    return min(times, key=lambda key: times[key])


def plan(cases: tuple[Case, ...]) -> None:
    """What would be run on a CUDA device, and what is wanted of it."""
    print("no CUDA device here; on one this would print a line for each of:")
    for case in cases:
        config = replace(variant(case.name), resolution=(case.resolution, case.resolution), num_classes=1000)
        flops = training_flops(config) * case.batch
        peak = f", at least {WANTED_OF_PEAK[case.name]:.0%} of the peak" if case.name in WANTED_OF_PEAK else ""
        print(
            f"{case.name:>6} at {case.resolution} pixels, batch {case.batch}, bfloat16, both sides compiled: "
            f"{flops / 1e12:.1f} TFLOP a step; wanted: {WANTED['cuda'][0]}x timm{peak}, peak memory not above timm's"
        )


def peak_alone(make: Callable[[], Callable[[], None]], device: torch.device) -> int | None:
    """Peak memory of a few steps of one side, with nothing else on the device."""
    if device.type != "cuda":
        return None
    step = make()
    for _ in range(3):
        step()
    peak = peak_memory(step, device)
    del step
    gc.collect()
    torch.cuda.empty_cache()
    return peak


def compare(case: Case, device: torch.device, dtype: torch.dtype, rounds: int, least: float) -> dict[str, Any]:
    """One row of the table."""
    config = replace(variant(case.name), resolution=(case.resolution, case.resolution), num_classes=1000)
    config = replace(config, gelu="exact") if isinstance(config, ViTConfig) else config
    memory = peak_alone(lambda: our_step(config, case, device, dtype, True), device)
    peer_memory = peak_alone(lambda: their_step(config, case, device, dtype, True, False), device)
    kinds = (True,) if device.type == "cuda" else (False, True)
    mine = {compiled: our_step(config, case, device, dtype, compiled) for compiled in kinds}
    flags = [(True, False)] if device.type == "cuda" else [(c, last) for c in (False, True) for last in (False, True)]
    peers = {f: their_step(config, case, device, dtype, *f) for f in flags}
    for step in (*mine.values(), *peers.values()):
        for _ in range(3):
            step()
    best = fastest(peers, device, least)
    compiled = fastest(mine, device, least)
    ours, theirs = mine[compiled], peers[best]
    ratios, rates = [], []
    for _ in range(rounds):
        our, their = seconds(ours, device, least), seconds(theirs, device, least)
        ratios.append(their / our)
        rates.append(case.batch / our)
    rate = statistics.median(rates)
    return {
        "model": case.name,
        "resolution": case.resolution,
        "batch": case.batch,
        "ratio": statistics.median(ratios),
        "range": [min(ratios), max(ratios)],
        "images_per_second": rate,
        "flops_share": rate * training_flops(config) / peak_flops(device, dtype),
        "compiled": compiled,
        "peer": {"compiled": best[0], "channels_last": best[1]},
        "memory": memory,
        "peer_memory": peer_memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--least", type=float, default=1.0, help="seconds a measurement")
    parser.add_argument("--models", nargs="*", help="of the table, such as Ti/16")
    parser.add_argument(
        "--attention", choices=attention_kernel.KERNELS, help="the kernel of all lengths in bf16 on a CPU"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        plan(CUDA)
        raise SystemExit(2)
    device = choose_device(options.device)
    dtype = choose_precision("auto", device)
    if options.attention:
        attention_kernel.fastest_kernel = assume_constant_result(lambda *_: options.attention)
    table = CUDA if device.type == "cuda" else CPU + LONG if options.models else CPU
    cases = [c for c in table if not options.models or c.name in options.models]
    machine = f"{describe_device(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}, {dtype}"
    print(machine)
    print(f"{'model':>6} {'pixels':>6} {'batch':>5} {'images/s':>9} {'of peak':>8} {'ratio':>12}  range (ours; timm)")
    rows = []
    for case in cases:
        row = compare(case, device, dtype, options.rounds, options.least)
        rows.append(row)
        low, high = row["range"]
        peer = " ".join(name for name, on in row["peer"].items() if on) or "eager"
        peer = f"{'compiled' if row['compiled'] else 'eager'}; {peer}"
        memory = ""
        if row["memory"]:
            memory = f"  memory {row['memory'] / 2**30:.2f} against {row['peer_memory'] / 2**30:.2f} GiB"
        print(
            f"{case.name:>6} {case.resolution:>6} {case.batch:>5} {row['images_per_second']:>9.1f} "
            f"{row['flops_share']:>8.1%} {row['ratio']:>12.2f}  {low:.2f} to {high:.2f}  ({peer}){memory}",
            flush=True,
        )
    each, mean = WANTED[device.type]
    reached = statistics.geometric_mean([row["ratio"] for row in rows])
    print(f"geometric mean {reached:.2f} (wanted: {mean}, none below {each})")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
