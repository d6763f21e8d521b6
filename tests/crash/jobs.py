"""Small runs of every job that writes: a world of a few images and a tiny model, and a command in it."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image


@dataclass(frozen=True)
class Job:
    """A command, in a world that `make` puts into an empty folder; it is the working directory."""

    command: str
    make: Callable[[Path], None]
    slow: bool = True
    before: Callable[[], None] | None = None  # in the process of the command: a function of this file

    @property
    def arguments(self) -> list[str]:
        """The words of the command."""
        return shlex.split(self.command)


def images(world: Path, each: int = 6, side: int = 8) -> None:
    """`photos/{train,test}` of two classes, dark and light: PNG, so that their bytes are the same everywhere."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in range(2):
            folder = world / "photos" / split / f"class-{label}"
            folder.mkdir(parents=True)
            for i in range(each):
                pixels = rng.integers(0, 100, (side, side, 3)) + 150 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")


def model(world: Path) -> None:
    """`model`: a bundle of a tiny model of two classes."""
    from vitrail.data.transforms.pipeline import Preprocess
    from vitrail.models.vit import ViT, ViTConfig
    from vitrail.weights.bundle import save_bundle

    torch.manual_seed(0)
    config = ViTConfig(patch=4, width=8, depth=1, heads=2, mlp=8, resolution=(8, 8), num_classes=2)
    made = ViT(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.3)
    save_bundle(world / "model", made, Preprocess(resolution=(8, 8)), ("class-0", "class-1"), {})


def painter(world: Path) -> None:
    """`painter`: a bundle of a tiny model that MAE has trained, with its decoder."""
    from vitrail.data.transforms.pipeline import Preprocess
    from vitrail.models.mae import MAE
    from vitrail.models.objective import learner, own_parts
    from vitrail.models.position import SinCos2d
    from vitrail.models.vit import ViT, ViTConfig
    from vitrail.weights.bundle import save_bundle
    from vitrail.weights.pretrained import TrainedWith

    torch.manual_seed(0)
    config = ViTConfig(patch=4, width=8, depth=1, heads=2, mlp=8, resolution=(8, 8), position=SinCos2d())
    objective = MAE(decoder_width=8, decoder_depth=1, decoder_heads=2, decoder_mlp=8)
    made = learner(ViT(config), objective)
    beside = TrainedWith(objective, own_parts(made))
    save_bundle(world / "painter", made.encoder, Preprocess(resolution=(8, 8)), (), {}, trained_with=beside)


def many(world: Path) -> None:
    """Images of which some can be held out."""
    images(world, each=20)


def both(world: Path) -> None:
    """Images and a model."""
    images(world)
    model(world)


def tiny_demo() -> None:
    """`vitrail demo` from now on: the same four chapters, of two steps of a tiny model each."""
    from vitrail.data.transforms.pipeline import Augment
    from vitrail.jobs.demo import Demo
    from vitrail.models.vit import ViTConfig
    from vitrail.recipes import small
    from vitrail.train.schedule import Cosine

    story = small.DEMOS["digits"]()
    model = ViTConfig(patch=4, width=8, depth=1, heads=2, mlp=8, resolution=(8, 8), num_classes=2)
    # the whole story with these numbers for its own; how images are varied is not what is tried here
    images = {"train": "photos@train", "validation": "photos@test", "test": "photos@test"}
    few: dict[str, Any] = {
        "steps": 2, "batch": 4, "schedule": Cosine(warmup=0), "augment": Augment(), "resident": False,
        "log_every": 1, "save_every": 1, "evaluate_every": 2, "precision": "float32",
    }  # fmt: skip
    made = Demo(
        pretrain=replace(story.pretrain, **images, **few, model=model),
        linear=replace(story.linear, train="photos@train", test="photos@test", shots=(2,), seeds=1, baselines=False),
        finetune=replace(story.finetune, **images, **few, resolution=8),
        scratch=replace(story.scratch, **images, **few, model=model),
        chapters=story.chapters,
    )
    small.DEMOS["digits"] = lambda: made


def few_steps() -> None:
    """`vitrail pretrain auto` from now on: runs of a few steps are worth a plan, and half pilots of one."""
    from vitrail.jobs.pretrain_auto import auto, pilot, plan

    plan.FEWEST = auto.FEWEST = 4
    pilot.LEAST = 1


TINY = (
    "--train photos@train --validation photos@test --device cpu --workers 0 --precision float32 "
    "--batch 4 --log-every 1 --schedule.warmup 0 "
)
MODEL = "--model.width 8 --model.depth 1 --model.heads 2 --model.mlp 8 --model.patch 4 --model.resolution 8 8 "
FOUR = "--steps 4 --save-every 2 --evaluate-every 2"
PAINTING = (
    "--objective mae --objective.decoder-width 8 --objective.decoder-depth 1 --objective.decoder-heads 2 "
    "--objective.decoder-mlp 8 "
)

JOBS = {  # small ones first: what these leave of a time goes to the others
    "convert-bundle": Job("convert model out --to bundle", model),
    "predict-csv": Job("predict --model model photos --out out.csv --device cpu --workers 0", both, slow=False),
    "convert-npz": Job("convert model out.npz --to npz", model),
    "predict-jsonl": Job("predict --model model photos --out out.jsonl --features --device cpu --workers 0", both),
    "predict-parquet": Job("predict --model model photos --out out.parquet --device cpu --workers 0", both),
    "prepare-arrow": Job("data prepare photos out --side 4 --shard-images 5 --workers 0", images),
    "prepare-tar": Job("data prepare photos out --side 4 --shard-images 5 --workers 0 --container tar", images),
    "linear": Job(
        "linear --model model --train photos@train --test photos@test --shots 2 --seeds 1 --features store "
        "--device cpu --workers 0 --out out",
        both,
    ),
    "export-onnx": Job("export model out --to onnx", model),
    "study": Job(
        "study head --scale smoke --seeds 1 --out out --target-train photos@train --target-test photos@test "
        f"{TINY}{MODEL}--steps 2 --runs 'class token, rate 0.01'",
        images,
    ),
    "pretrain": Job(f"pretrain digits --out out {TINY}{MODEL}{FOUR} --keep best", images),
    "pretrain-masked-patches": Job(
        f"pretrain digits --out out --objective masked-patches {TINY}{MODEL}{FOUR}",
        images,
    ),
    "pretrain-mae": Job(
        f"pretrain digits --out out {PAINTING}{TINY}{MODEL}{FOUR}",
        images,
    ),
    "pretrain-auto": Job(
        "pretrain auto photos@train --test photos@test --flops 6e10 --device cpu --workers 0 --out out",
        many,
        before=few_steps,
    ),
    "finetune-auto": Job(
        "finetune auto --init model --train photos@train --test photos@test --steps 3 --batch 4 --device cpu "
        "--workers 0 --out out",
        both,
    ),
    "demo": Job("demo --out out --device cpu --workers 0", images, before=tiny_demo),
}
