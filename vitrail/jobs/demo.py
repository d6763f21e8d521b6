"""The whole story of a transfer: pre-train, few shots, fine-tune, the same from scratch, look inside."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_path
from vitrail.core.progress import say
from vitrail.data.decode.image import decode
from vitrail.data.open.names import open_data
from vitrail.data.transforms.pipeline import eval_transform
from vitrail.jobs.finetune.finetune import Finetune, finetune
from vitrail.jobs.linear_probe import Linear, linear
from vitrail.jobs.pretrain import Pretrain, pretrain
from vitrail.records.demo import DemoResult
from vitrail.records.finetune import FinetuneResult
from vitrail.records.record import load_record, write_record
from vitrail.records.run import RunResult
from vitrail.weights.load import read_pretrained

EXAMPLES = 24


@dataclass(frozen=True)
class Demo:
    """The parts of the story. The models of `linear` and `finetune` come from `pretrain`."""

    pretrain: Pretrain
    linear: Linear
    finetune: Finetune
    scratch: Pretrain  # as many steps on the same images as `finetune`, from a new model
    chapters: tuple[str, str, str, str]  # what is said as each of them begins


def demo(config: Demo, folder: Path, machine: Machine | None = None) -> DemoResult:
    """Runs what is missing of the story in `folder`."""
    started = time.perf_counter()
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "pretrain").is_dir():
        raise BadInput(f"--out {folder} holds other files and no demo; give a new or an empty folder")
    story = folder / "demo.json"
    spent = load_record(DemoResult, story).seconds if story.exists() else 0.0
    say(f"1/4  {config.chapters[0]}")
    trained: list[RunResult | FinetuneResult] = [pretrain(config.pretrain, folder / "pretrain", machine)]
    bundle = str(folder / "pretrain" / "bundle")
    say(f"2/4  {config.chapters[1]}")
    if not (folder / "linear" / "linear.json").exists():
        linear(replace(config.linear, model=bundle), folder / "linear", machine)
    say(f"3/4  {config.chapters[2]}")
    trained.append(finetune(replace(config.finetune, init=bundle), folder / "finetune", machine))
    say(f"4/4  {config.chapters[3]}")
    trained.append(pretrain(config.scratch, folder / "scratch", machine))
    _write_examples(config, bundle, folder / "examples.npz")
    seen, shown = open_data(config.pretrain.train).classes, open_data(config.linear.train).classes
    result = DemoResult(
        title="What pre-training buys",
        seconds=spent or max(time.perf_counter() - started, sum(run.seconds for run in trained)),  # continued
        seen=seen,
        unseen=[name for name in shown if name not in seen],
        runs={"pretrain": "pretrain", "finetune": "finetune", "scratch": "scratch"},
        linear="linear",
        inspection="pretrain/inspection",
        examples="examples.npz",
    )
    write_record(story, result)
    return result


def _write_examples(config: Demo, bundle: str, path: Path) -> None:
    source, preprocess = open_data(config.pretrain.train), read_pretrained(bundle).preprocess
    assert preprocess is not None  # a bundle has one
    chosen = [source[int(i)] for i in np.linspace(0, len(source) - 1, EXAMPLES)]
    images = [eval_transform(decode(e.image) if isinstance(e.image, bytes) else e.image, preprocess) for e in chosen]
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary, images=np.stack(images), labels=np.array([source.classes[e.label] for e in chosen])
        )
