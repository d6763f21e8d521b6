"""How well `vitrail plan` foretells a training step on 1, 2 and 4 processes of this machine's processor.

    python benchmarks/plan.py

Nothing else may run. With so many processes at once, a thread each: what a linear layer, attention, the rest of a
layer and a sum over processes reach by themselves, in a second or two each; from that, by the arithmetic of
`vitrail plan`, the seconds of a step of whole models that were not measured; then the steps themselves. Processors have
no network here: sums go through memory, by gloo, and nothing hides them.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from statistics import median
from typing import Any

import torch
import torch.distributed as distributed
from torch import nn
from torch.nn import functional as F

from vitrail.core import dist
from vitrail.core.device import Machine, processor_name
from vitrail.core.dist import joined
from vitrail.data.loader.batch import Batch, Broken
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.jobs.plan.hardware import Hardware
from vitrail.jobs.plan.plan import plan
from vitrail.jobs.plan.work import STREAMED
from vitrail.models.build import build
from vitrail.models.variants import variant
from vitrail.train.config import TrainConfig
from vitrail.train.parallel import parallelize
from vitrail.train.step import init_state, train_step

WIDTH, TOKENS, IMAGES = 256, 65, 8  # of what is measured by itself: no model below has this width
CASES = [
    ("Ti/16", 8, "replicated"),
    ("S/16", 4, "replicated"),
    ("S/16", 4, "sharded"),
    ("S/32", 8, "replicated"),
]  # model at 128 pixels, images a process, sharding
CPU = torch.device("cpu")


def clocked(work: Callable[[], Any], seconds: float) -> float:
    """Median seconds of a call, all processes at once and as often."""
    work()
    dist.barrier()
    begun = time.perf_counter()
    work()
    once = float(dist.summed(torch.tensor(time.perf_counter() - begun))) / dist.world().size
    spent: list[float] = []
    for _ in range(max(5, int(seconds / once))):
        begun = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begun)
    dist.barrier()
    return median(spent)


def rates(size: int) -> tuple[Hardware, Hardware]:
    """What this machine reaches with `size` processes at once, each with a thread; for replicas, and for shards.

    By gloo to gather and to sum and scatter takes longer than the half of a sum, and FSDP2 gathers twice a step.
    """
    rows = IMAGES * TOKENS
    x = torch.randn(rows, WIDTH, requires_grad=True)
    wide, narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
    up, down = torch.randn(rows, 4 * WIDTH), torch.randn(rows, WIDTH)
    hidden = torch.randn(rows, 4 * WIDTH, requires_grad=True)

    def products() -> None:
        wide(x).backward(up)
        narrow(hidden).backward(down)

    peak = 2 * 6 * rows * 4 * WIDTH**2 / clocked(products, 1.0)
    q, k, v = (torch.randn(IMAGES, 4, TOKENS, WIDTH // 4, requires_grad=True) for _ in range(3))
    out = torch.randn_like(q)
    attention = clocked(lambda: F.scaled_dot_product_attention(q, k, v).backward(out), 1.0)
    reached = 6 * 2 * IMAGES * TOKENS**2 * WIDTH / attention
    norms = [nn.LayerNorm(WIDTH) for _ in range(2)]

    def rest() -> None:  # of a layer: two norms, two residuals, a GELU, q, k, v set apart and put together
        one = x + norms[0](x)
        two = one + norms[1](one)
        heads = torch.cat([two, two, two], dim=1).view(rows, 3, WIDTH).transpose(0, 1).contiguous()
        (F.gelu(hidden, approximate="tanh").sum() + heads.sum() + two.sum()).backward()

    streaming = STREAMED * 64 * WIDTH * rows / clocked(rest, 1.0)
    weights = [nn.Parameter(torch.randn(WIDTH, 4 * WIDTH)) for _ in range(16)]
    adam = torch.optim.AdamW(weights)
    for p in weights:
        p.grad = torch.randn_like(p)

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        adam.step()

    updated = (28 + 12) * 16 * 4 * WIDTH**2 / clocked(update, 1.0)
    link, parts, latency = 1e12, 1e12, 0.0
    if size > 1:
        large, small = torch.zeros(size * (25 * 2**18 // size)), torch.zeros(1)
        mine = torch.zeros(len(large) // size)
        latency = clocked(lambda: distributed.all_reduce(small), 0.5) / 2
        both = clocked(lambda: distributed.all_reduce(large), 1.0)
        # into memory that is new every time, as FSDP2's is
        gather = clocked(lambda: distributed.all_gather_into_tensor(torch.empty_like(large), mine), 1.0)
        scatter = clocked(lambda: distributed.reduce_scatter_tensor(torch.empty_like(mine), large), 1.0)
        share = (size - 1) / size * large.nbytes
        link, parts = 2 * share / (both - 2 * latency), 3 * share / (2 * gather + scatter - 3 * latency)
    alone = Hardware(
        name="this machine",
        peak=peak,
        peak32=peak,
        memory=1e12,
        bandwidth=streaming,
        link=link,
        network=link,
        node=size,
        products=1.0,
        half=0.0,
        rows=0.0,
        attention=reached / peak,
        streamed=1.0,
        updated=updated / streaming,
        joined=1.0,
        overlap=0.0,
        link_latency=latency,
        host_step=0.0,
        host_layer=0.0,
    )
    return alone, replace(alone, link=parts, network=parts)


def step_seconds(name: str, images: int, sharding: Any) -> float:
    """Median of some steps, all processes at once."""
    world = dist.world()
    model = replace(variant(name), resolution=(128, 128), num_classes=1000)
    config = TrainConfig(train="", steps=1000, batch=images * world.size, precision="float32")
    torch.manual_seed(0)
    built = build(model)
    wrapped = parallelize(built, Machine("cpu", sharding=sharding, compile=False), CPU, torch.float32)
    state = init_state(built, config, Broken(1), wrapped)
    batch = Batch.of(torch.zeros(images, 3, 128, 128, dtype=torch.uint8), torch.zeros(images, dtype=torch.int64))
    preprocess = Preprocess((128, 128))
    spent = []
    for _ in range(6):
        dist.barrier()
        begun = time.perf_counter()
        train_step(state, batch, config=config, preprocess=preprocess, dtype=torch.float32)
        spent.append(time.perf_counter() - begun)
    return median(spent[2:])


def worker() -> None:
    """One of the processes: prints what it found, the first of them."""
    with joined(CPU) as world:
        hardware, sharded = rates(world.size)
        rows = []
        for name, images, sharding in CASES:
            if world.size == 1 and sharding == "sharded":
                continue
            took = step_seconds(name, images, sharding)
            model = replace(variant(name), resolution=(128, 128), num_classes=1000)
            config = TrainConfig(train="", steps=1000, batch=images * world.size, micro_batch=images)
            said = plan(
                replace(config, precision="float32"),
                model,
                devices=world.size,
                hardware=sharded if sharding == "sharded" else hardware,
                sharding=sharding,
                recompute=False,
            )
            rows.append(
                {"model": name, "images": images, "sharding": sharding, "took": took, "step": asdict(said.step)}
            )
            rows[-1]["said"] = said.step.seconds
        if world.first:
            print(json.dumps({"hardware": asdict(hardware), "parts": sharded.link, "rows": rows}))


def main() -> None:
    """Starts so many processes for each number of them, and prints a table."""
    print(f"{processor_name()}, {os.cpu_count()} hardware threads, torch {torch.__version__}, float32, a thread each")
    print("processes  model  images  sharding    said ms  took ms  said / took")
    ratios = []
    for size in (1, 2, 4):
        variables = {**os.environ, "OMP_NUM_THREADS": "1"}
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)] if size > 1 else []
        done = subprocess.run(
            [sys.executable, *launch, __file__, "worker"], env=variables, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
        for row in found["rows"]:
            ratios.append(row["said"] / row["took"])
            print(
                f"{size:9}  {row['model']:5}  {row['images']:6}  {row['sharding']:10} {1e3 * row['said']:8.0f} "
                f"{1e3 * row['took']:8.0f} {ratios[-1]:12.2f}",
                flush=True,
            )
            if "-v" in sys.argv:
                print({k: round(1e3 * v) for k, v in row["step"].items()})
        h = found["hardware"]
        reached = (
            f"{h['peak'] / 1e9:.0f} GFLOP/s in linear layers, {h['attention'] * h['peak'] / 1e9:.0f} in attention, "
        )
        reached += (
            f"{h['bandwidth'] / 1e9:.1f} GB/s beside them, {h['bandwidth'] * h['updated'] / 1e9:.1f} in the update"
        )
        if size > 1:
            reached += f"; sums at {h['link'] / 1e9:.2f} GB/s, parts at {found['parts'] / 1e9:.2f}, "
            reached += f"after {1e3 * h['link_latency']:.2f} ms"
        print(f"           {reached}")
    print(f"said / took from {min(ratios):.2f} to {max(ratios):.2f}, median {median(ratios):.2f}")


if __name__ == "__main__":
    worker() if "worker" in sys.argv else main()
