"""A model and data of a few milliseconds a step, for the tests of training."""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from vitrail.data.loader.batch import Batch, Broken
from vitrail.data.loader.loader import Loader, train_loader
from vitrail.data.open.names import open_data
from vitrail.data.transforms.pipeline import Augment, Preprocess, SquareResize, WholeImage
from vitrail.models.build import build
from vitrail.models.vit import ViTConfig
from vitrail.train.checkpoint import Saver
from vitrail.train.config import TrainConfig
from vitrail.train.schedule import Cosine
from vitrail.train.step import Metrics, TrainState, init_state, train_step

MODEL = ViTConfig(patch=4, width=16, depth=1, heads=2, mlp=32, resolution=(8, 8), num_classes=10)
PREPROCESS = Preprocess((8, 8), SquareResize())


def training(**changes: Any) -> TrainConfig:
    settings: dict[str, Any] = {"steps": 20, "batch": 12, "schedule": Cosine(3)}
    return TrainConfig("digits@train", augment=Augment(WholeImage()), **(settings | changes))


def fresh(config: TrainConfig, model: ViTConfig = MODEL) -> TrainState:
    """The state before the first step; every weight differs from zero, so that every gradient does."""
    torch.manual_seed(0)
    built = build(model)
    with torch.no_grad():
        for p in built.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    return init_state(built, config, Broken(1352))


def batches(config: TrainConfig, start: int = 0, stop: int | None = None) -> Loader:
    stop = config.steps if stop is None else stop
    return train_loader(
        open_data(config.train),
        config.augment,
        PREPROCESS,
        batch=config.batch,
        seed=config.seed,
        start=start,
        stop=stop,
        workers=0,
    )


def update(state: TrainState, batch: Batch, config: TrainConfig) -> Metrics:
    return train_step(state, batch, config=config, preprocess=PREPROCESS, dtype=torch.float32)


def updater(config: TrainConfig) -> Any:
    return partial(train_step, config=config, preprocess=PREPROCESS, dtype=torch.float32)


def advance(state: TrainState, config: TrainConfig, steps: int) -> None:
    """So many steps, from where the state is."""
    for batch in batches(config, state.step, state.step + steps):
        update(state, batch, config)


def save_checkpoint(folder: Path, state: TrainState) -> None:
    Saver(folder).save_now(state)


def everything(state: TrainState) -> dict[str, torch.Tensor]:
    """All numbers that the next step depends on."""
    numbers = {f"model.{k}": v.clone() for k, v in state.model.state_dict().items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        numbers |= {f"optimizer.{index}.{k}": torch.as_tensor(v).clone() for k, v in values.items() if v is not None}
    return numbers | {f"average.{k}": v.clone() for k, v in (state.average or {}).items()}


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different
