"""Which options make a run another experiment."""

from typing import Any

import pytest

from vitrail.core.config import departures, to_json
from vitrail.data.transforms.mixup import Mixing
from vitrail.jobs.pretrain import Pretrain
from vitrail.train.optim import Adam

PLAIN = Pretrain(train="cifar10@train", test="cifar10@test")


def changed(**fields: Any) -> dict[str, Any]:
    from dataclasses import replace

    return to_json(replace(PLAIN, **fields))


def test_the_same_is_the_same() -> None:
    assert departures(to_json(PLAIN), to_json(PLAIN)) == []


def test_what_draws_or_looks_otherwise_does_not_count() -> None:
    other = changed(seed=3, log_every=7, evaluate_every=9, save_every=11, micro_batch=16, resident=True)
    assert departures(to_json(PLAIN), other) == []


def test_what_changes_the_run_is_named_with_both_values() -> None:
    other = changed(steps=10, optimizer=Adam(lr=0.5), clip=None)
    assert departures(to_json(PLAIN), other) == ["steps: 1000 → 10", "optimizer.lr: 0.001 → 0.5", "clip: 1.0 → None"]


@pytest.mark.parametrize("path", ["/data/cifar10@train", "./cifar10@train", "my/copy@train", "~@train"])
def test_where_data_lie_does_not_count(path: str) -> None:
    assert departures(to_json(PLAIN), changed(train=path)) == []


@pytest.mark.parametrize("data", ["digits@train", "cifar10@train[:50%]", "cifar10@test", "/data/cifar10@test"])
def test_which_data_they_are_does_count(data: str) -> None:
    assert departures(to_json(PLAIN), changed(train=data)) == [f"train: cifar10@train → {data}"]


def test_no_validation_is_another_thing_than_some() -> None:
    assert departures(to_json(PLAIN), changed(validation="a/b@test")) == ["validation: None → a/b@test"]


def test_an_option_that_one_version_lacks_counts_where_it_is_on() -> None:
    old = to_json(PLAIN)
    for key in ("mixing", "average"):
        del old[key]
    assert departures(old, changed(average=0.9))[0] == "average: absent → 0.9"
    assert not any(line.startswith("average") for line in departures(old, to_json(PLAIN)))
    assert departures(changed(average=0.9), old)[0].startswith("average: 0.9 → absent")


def test_objects_of_another_type_are_told_apart() -> None:
    first, second = to_json(PLAIN), changed(mixing=Mixing(mixup=0.2))
    assert departures(first, second) == ["mixing.mixup: 0.0 → 0.2"]
