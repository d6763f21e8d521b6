"""What a training run does around its steps."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.train.small import MODEL
from vitrail.core import device as devices
from vitrail.core.device import Machine
from vitrail.jobs import training
from vitrail.jobs.pretrain import pretrain
from vitrail.models.build import build
from vitrail.recipes import pretraining
from vitrail.train.parallel import parallelize
from vitrail.train.schedule import Cosine


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # torch.compile's own
def test_memory_counts_from_the_first_step_and_the_model_of_the_run_before_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from what was tried to find the micro-batch, which fills a GPU; compiled models are cycles."""
    order: list[str] = []

    def noting(module: object, name: str) -> None:
        plain = getattr(module, name)

        def noted(*args: object, **options: object) -> object:
            order.append(name)
            return plain(*args, **options)

        monkeypatch.setattr(module, name, noted)

    noting(devices, "reset_peak_memory")
    noting(devices, "peak_flops")
    noting(training, "choose_micro_batch")
    noting(training, "fit")
    gc.collect()
    gc.disable()
    try:
        model = build(MODEL)
        parallelize(model, Machine(compile=True), torch.device("cpu"), torch.float32)
        before = weakref.ref(model.blocks[0])
        del model
        assert before() is not None
        recipe = pretraining("digits")
        small = replace(MODEL, num_classes=0)
        short = replace(recipe, model=small, steps=1, batch=4, schedule=Cosine(), validation=None)
        pretrain(short, tmp_path / "run", Machine(device="cpu", workers=0))
    finally:
        gc.enable()
    assert before() is None
    reset = order.index("reset_peak_memory")
    assert order.index("choose_micro_batch") < reset < order.index("fit")
    assert "peak_flops" in order[:reset]
