"""Gradients of equal parts of a batch, added in order: what they are, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.train.config import TrainConfig
from vitrail.train.fixed_order import PartsInOrder, prepare_fixed_order

CONFIG = TrainConfig("digits", batch=24, precision="float32", fixed_parts=4)


@pytest.mark.parametrize(
    ("changed", "machine", "match"),
    [
        ({"fixed_parts": 0}, {}, "fixed_parts is 0, expected at least 1"),
        ({"batch": 26}, {}, "a batch of 26 images has no 4 equal parts"),
        ({"micro_batch": 6}, {}, "micro_batch is 6"),
        ({"resident": True}, {}, "resident"),
        ({"precision": "bfloat16"}, {}, "take precision as float32"),
        ({}, {"sharding": "sharded"}, "sharding as sharded"),
        ({}, {"compile": True}, "compile"),
        ({}, {"graphs": True}, "graphs"),
    ],
)
def test_what_cannot_be_the_same_bits_is_refused(changed: Any, machine: Any, match: str) -> None:
    with pytest.raises(BadInput, match=match):
        prepare_fixed_order(replace(CONFIG, **changed), Machine(device="cpu", **machine))


def test_processes_that_cannot_share_the_parts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(BadInput, match="4 fixed parts cannot be shared evenly by 3 processes"):
        prepare_fixed_order(CONFIG, Machine(device="cpu"))


def test_one_thread_where_parts_are_fixed_and_only_there() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        prepare_fixed_order(replace(CONFIG, fixed_parts=None), Machine(device="cpu"))
        assert torch.get_num_threads() == 2
        prepare_fixed_order(CONFIG, Machine(device="cpu"))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_gradients_and_sums_are_added_the_first_part_first() -> None:
    """In numbers of which a sum in another order is another."""
    weight, frozen = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1), requires_grad=False)
    parts = PartsInOrder([weight, frozen])
    for number in (1e8, 1.0, -1e8):
        (weight * number).sum().backward()
        parts.add(torch.tensor(number), {"right": torch.tensor([2, 3])})
        assert weight.grad is None
    loss, sums = parts.finish()
    assert weight.grad is not None
    assert weight.grad.tolist() == [(torch.tensor(1e8) + 1.0 - 1e8).item()] * 2 == [0.0, 0.0]
    assert loss == 1.0, "in double precision"
    assert sums["right"].tolist() == [6, 9]
    assert frozen.grad is None
