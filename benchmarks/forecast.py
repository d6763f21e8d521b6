"""How well vitrail.jobs.forecast predicts time and memory: each config is forecast, then really run.

    python benchmarks/forecast.py [--only NAME ...] [--seconds 30] [--bracket] [--data-root FOLDER] [--out FILE.json]

Prints predicted / measured for the whole wall-clock time of the process, and for its peak of memory (maximum resident
set). The aim is 0.75 to 1.25 in time and 0.85 to 1.15 in memory. Each run is made about `--seconds` long. The forecast
and the run come one after the other, so that they see the machine in the same state. On a busy machine that changes
between them; `--bracket` forecasts again after the run, and compares with the mean of both.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from vitrail.core.config import from_json, to_json
from vitrail.core.device import Machine
from vitrail.data.transforms.pipeline import Augment, InceptionCrop, PadCrop, SquareResize, WholeImage
from vitrail.jobs.forecast import measure
from vitrail.jobs.forecast.forecast import forecast
from vitrail.jobs.pretrain import Pretrain, pretrain
from vitrail.jobs.training_data import open_training_data, with_classes
from vitrail.models.head import AveragePool
from vitrail.models.resnet import BIT, ResNetConfig, Stages
from vitrail.models.variants import variant
from vitrail.models.vit import ViTConfig
from vitrail.recipes import small

_DIGITS = replace(small.digits(), evaluate_every=1_000_000)
_RESIDENT = replace(
    small.cifar10(), train="cifar10@train[:20000]", validation="cifar10@train[-1000:]", test=None, evaluate_every=200
)
_PIXELS64 = replace(small.tiny_imagenet(), train="tiny-imagenet@train[:20000]", test="tiny-imagenet@validation[:2000]")
_SMALL_RESNET = ResNetConfig(replace(BIT, units=(1, 1, 1), width=32), resolution=(32, 32))
_SMALL_HYBRID = ViTConfig(
    patch=1,
    width=128,
    depth=4,
    heads=4,
    mlp=256,
    resolution=(64, 64),
    pool=AveragePool(),
    backbone=Stages(units=(1, 1), width=32),
)

CONFIGS = {
    "ViT, 8 pixels, workers": _DIGITS,
    "ViT, 32 pixels, resident": _RESIDENT,
    "ViT, 64 pixels, resident": _PIXELS64,
    "ResNet, 32 pixels, resident": replace(_RESIDENT, model=_SMALL_RESNET, batch=64),
    "hybrid, 64 pixels, resident": replace(_PIXELS64, model=_SMALL_HYBRID, batch=64),
    "Ti/16, 96 pixels, workers": replace(
        _PIXELS64,
        model=replace(variant("Ti/16"), resolution=(96, 96)),
        augment=Augment(crop=InceptionCrop()),
        resident=False,
        batch=64,
    ),
    "S/16, 224 pixels, workers": replace(
        _DIGITS,
        model=replace(variant("S/16"), resolution=(224, 224)),
        augment=Augment(crop=WholeImage()),
        batch=32,
        validation=None,
        test="digits@test[:64]",
    ),
    "R26x1, 128 pixels, resident": replace(
        _DIGITS,
        model=replace(variant("R26x1"), resolution=(128, 128)),
        augment=Augment(crop=PadCrop(8)),
        resident=True,
        batch=16,
        test="digits@test[:64]",
        resize=SquareResize(),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--seconds", type=float, default=30.0, help="a run")
    parser.add_argument("--bracket", action="store_true", help="forecast again after the run; the mean counts")
    parser.add_argument("--data-root", help="of CIFAR-10 and Tiny-ImageNet; otherwise VITRAIL_DATA")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--run", nargs=2, type=Path, metavar=("CONFIG", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        pretrain(from_json(Pretrain, json.loads(options.run[0].read_text())), options.run[1], Machine())
        return
    if options.data_root:
        os.environ["VITRAIL_DATA"] = options.data_root
    print(f"{'':30} {'seconds':>8} {'forecast':>9} {'ratio':>6}   {'GiB':>6} {'forecast':>9} {'ratio':>6}")
    rows = [compare(name, CONFIGS[name], options.seconds, options.bracket) for name in options.only]
    for what, margin in (("time", 0.25), ("memory", 0.15)):
        worst = max(abs(row[what]["ratio"] - 1) for row in rows)
        print(f"{what}: the worst of {len(rows)} is off by {worst:.0%}, the aim is {margin:.0%}")
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


def compare(name: str, config: Pretrain, seconds: float, bracket: bool) -> dict:
    """A row: the forecast of a run of about so many seconds, and what it took."""
    train, validation, test = open_training_data(config)
    model = with_classes(config.model, len(train.classes))
    told = {
        "train_images": len(train),
        "validation_images": len(validation) if validation else 0,
        "test_images": len(test) if test else 0,
        "resize": config.resize,
    }
    first = forecast(config, model, **told)
    steps = max(8, round((seconds - first.start_seconds - first.finish_seconds) / first.seconds_per_step))
    schedule = replace(config.schedule, warmup=min(config.schedule.warmup, steps))
    config = replace(config, steps=steps, schedule=schedule, save_every=max(4, steps // 3))
    predicted = forecast(config, model, **told)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(to_json(config)))
        command = [sys.executable, __file__, "--run", f"{folder}/config.json", f"{folder}/run"]
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        result = json.loads((Path(folder) / "run/result.json").read_text())
    expected = [predicted.seconds]
    if bracket:
        measure._calibrated.cache_clear()
        expected.append(forecast(config, model, **told).seconds)
    mean = sum(expected) / len(expected)
    row = {
        "name": name,
        "steps": steps,
        "time": {"measured": took, "forecast": mean, "ratio": mean / took, "forecasts": expected},
        "step": {"measured": result["seconds"] / steps, "forecast": predicted.seconds_per_step},
        "memory": {"measured": used.ru_maxrss / 2**20, "forecast": predicted.memory_gib},
        "forecast": to_json(predicted),
    }
    row["memory"]["ratio"] = row["memory"]["forecast"] / row["memory"]["measured"]
    t, m = row["time"], row["memory"]
    print(
        f"{name:30} {t['measured']:8.1f} {t['forecast']:9.1f} {t['ratio']:6.2f}   "
        f"{m['measured']:6.2f} {m['forecast']:9.2f} {m['ratio']:6.2f}",
        flush=True,
    )
    return row


if __name__ == "__main__":
    main()
