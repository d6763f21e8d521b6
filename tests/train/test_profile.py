"""Passes are timed from small to large, until one is too slow or memory ends; a training pass is an update."""

import time
from collections.abc import Callable

import pytest
import torch

from vitrail.data.loader.batch import Broken
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.build import build
from vitrail.models.vit import ViTConfig
from vitrail.train.profile import time_passes, training_pass
from vitrail.train.step import TrainConfig, init_state

CPU = torch.device("cpu")


def sleeping(images: int) -> Callable[[], None]:
    return lambda: time.sleep(0.01 * images)


def test_the_fastest_pass_of_each_size() -> None:
    times = time_passes(sleeping, (1, 2, 4), CPU, seconds=0.05)
    assert list(times) == [1, 2, 4]
    assert 0.01 <= times[1] < times[2] < times[4]


def test_after_one_that_is_too_slow_none_is_tried() -> None:
    assert list(time_passes(sleeping, (1, 3, 9), CPU, longest=0.02)) == [1, 3]


@pytest.mark.parametrize("longest", [60.0, float("inf")])
def test_where_memory_ends_the_sizes_end(longest: float) -> None:
    made: list[int] = []

    def make(images: int) -> Callable[[], None]:
        made.append(images)
        if images > 2:
            raise torch.OutOfMemoryError
        return lambda: None

    assert list(time_passes(make, (1, 2, 4, 8), CPU, longest=longest)) == [1, 2]
    assert made == [1, 2, 4]


def test_other_errors_are_errors() -> None:
    def broken() -> None:
        raise RuntimeError("shape")

    with pytest.raises(RuntimeError, match="shape"):
        time_passes(lambda _: broken, (1,), CPU)


def test_a_training_pass_updates_the_weights() -> None:
    torch.manual_seed(0)
    model = build(ViTConfig(patch=4, width=16, depth=1, heads=2, mlp=32, resolution=(8, 8), num_classes=2))
    config = TrainConfig("", steps=10, batch=64)
    state = init_state(model, config, Broken(1))
    before = model.head.weight.clone()
    work = training_pass(state, config, Preprocess((8, 8)), torch.float32, 3)
    work()
    work()
    assert state.step == 2
    assert not torch.equal(model.head.weight, before)
