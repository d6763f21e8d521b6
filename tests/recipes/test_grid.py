"""AugReg's grid: 28 settings for each model, found by name, like any other recipe."""

import pytest

from vitrail.core.errors import BadInput
from vitrail.models.vit import ViTConfig
from vitrail.recipes import PRETRAINING, pretraining
from vitrail.recipes.augreg import RECOMMENDED, cell, cells
from vitrail.recipes.docstring import about
from vitrail.recipes.table import chosen
from vitrail.train.optim import Adam


def test_each_model_has_28_cells_on_each_data_set() -> None:
    for row in RECOMMENDED:
        for data in ("imagenet", "imagenet21k"):
            assert sum(c[0] == row.model and c[1] == data for c in cells().values()) == 28


def test_a_cell_is_its_settings() -> None:
    config = pretraining("augreg-imagenet-s16-medium2-0.03-regularised")
    assert isinstance(config.model, ViTConfig)
    assert (config.model.width, config.model.dropout, config.model.drop_path) == (384, 0.1, 0.1)
    assert isinstance(config.optimizer, Adam)
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (1e-3, 0.03)
    assert config.augment.randaugment is not None
    assert (config.augment.randaugment.layers, config.augment.randaugment.magnitude) == (2, 15.0)
    assert (config.mixing.mixup, config.steps) == (0.5, 93_835)
    assert pretraining("augreg-imagenet-s16-none-0.1").augment.randaugment is None


def test_the_recommended_ones_are_cells() -> None:
    for row in RECOMMENDED:
        model = row.model.lower().replace("/", "").replace("+", "-")
        named = f"augreg-imagenet21k-{model}"
        same = f"{named}-{row.augmentation}-{row.decay:g}" + ("-regularised" if row.regularised else "")
        assert pretraining(named) == pretraining(same)


def test_cells_are_recipes_that_no_list_names() -> None:
    name = "augreg-imagenet-b16-medium1-0.1"
    assert name in PRETRAINING
    assert name not in list(PRETRAINING)
    assert chosen((name,)) == [("pretrain", name)]
    found = cell(name)
    assert found is not None
    assert about(found).command.startswith(f"vitrail pretrain {name} --train imagenet@train --out ")
    assert "79.84 %" in about(found).expected


@pytest.mark.parametrize("name", ["augreg-imagenet-b16-medium3-0.1", "augreg-imagenet-b16-medium1-0.2", "augreg-x"])
def test_what_is_no_cell_is_unknown(name: str) -> None:
    assert cell(name) is None
    with pytest.raises(BadInput, match="unknown recipe"):
        pretraining(name)
