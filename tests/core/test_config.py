"""Configs to JSON and back, strictly; what differs between two of them."""

import json
from dataclasses import replace
from typing import Any

import pytest

from vitrail.core.config import difference, from_json, to_json
from vitrail.core.errors import BadInput
from vitrail.jobs.pretrain import Pretrain
from vitrail.models.vit import ViTConfig
from vitrail.recipes import FINETUNING, PRETRAINING, pretraining
from vitrail.train.config import TrainConfig
from vitrail.train.optim import Adam, Momentum

RECIPES = {f"pretrain {n}": f for n, f in PRETRAINING.items()} | {f"finetune {n}": f for n, f in FINETUNING.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_a_round_trip_through_json(name: str) -> None:
    config: Any = RECIPES[name]()
    again = from_json(type(config), json.loads(json.dumps(to_json(config))))
    assert again == config
    assert type(again) is type(config)
    assert difference(config, again) == []


def test_an_unknown_key_names_the_nearest_and_says_where() -> None:
    stored = to_json(pretraining("digits"))
    stored["model"]["widht"] = stored["model"].pop("width")
    with pytest.raises(BadInput, match=r"config\.model has an unknown key 'widht'; did you mean 'width'\?"):
        from_json(Pretrain, stored)


def test_an_unknown_type_in_a_union_names_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"optimizer\.type is 'momentun'; did you mean 'Momentum'\?"):
        from_json(TrainConfig, {"train": "digits", "optimizer": {"type": "momentun"}})


def test_a_missing_key_is_named() -> None:
    with pytest.raises(BadInput, match="lacks the key 'train'"):
        from_json(TrainConfig, {"steps": 3})


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": "10"},
        {"steps": 1.5},
        {"steps": True},
        {"optimizer": {"type": "Adam", "lr": "0.1"}},
        {"optimizer": {"type": "Adam", "lr": True}},
        {"optimizer": {"type": "Adam", "betas": [0.9]}},
        {"optimizer": {"type": "Adam", "betas": 0.9}},
        {"optimizer": 3},
        {"augment": {"flip": 1}},
        {"precision": "float16"},
        {"validation": 3},
        {"train": None},
    ],
    ids=str,
)
def test_a_value_of_the_wrong_type_is_refused_with_its_place(wrong: dict[str, Any]) -> None:
    (key,) = wrong
    with pytest.raises(BadInput, match=rf"config\.{key}"):
        from_json(TrainConfig, {"train": "digits", **wrong})


def test_whole_numbers_are_read_where_a_fraction_is_expected() -> None:
    read = from_json(Adam, {"lr": 1})
    assert read == Adam(lr=1.0)
    assert isinstance(read.lr, float)


def test_the_difference_lists_dotted_paths() -> None:
    old = TrainConfig("digits")
    new = replace(old, steps=7, optimizer=Adam(lr=0.003), augment=replace(old.augment, flip=False))
    assert difference(old, new) == [
        "steps: 1000 → 7",
        "optimizer.lr: 0.001 → 0.003",
        "augment.flip: True → False",
    ]


def test_the_difference_names_another_type() -> None:
    lines = difference(TrainConfig("digits"), TrainConfig("digits", optimizer=Momentum(lr=1e-3)))
    assert "optimizer.type: 'Adam' → 'Momentum'" in lines
    assert not any(line.startswith("optimizer.lr") for line in lines)


def test_tuples_come_back_as_tuples() -> None:
    assert from_json(ViTConfig, {"resolution": [32, 48]}).resolution == (32, 48)
