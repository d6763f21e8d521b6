"""Weights into a model with other classes or another resolution; every tensor is accounted for."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import vitrail
from vitrail.core.errors import BadInput
from vitrail.data.views import Preprocess
from vitrail.models.build import build
from vitrail.models.head import AveragePool
from vitrail.models.position import resample
from vitrail.models.vit import ViTConfig
from vitrail.weights.bundle import save_bundle
from vitrail.weights.published import Published
from vitrail.weights.transplant import as_json, for_transfer, summary, transplant

CONFIG = ViTConfig(patch=4, width=16, depth=2, heads=2, mlp=32, resolution=(8, 12), num_classes=7, hidden=8)


def published(config: ViTConfig = CONFIG) -> Published:
    torch.manual_seed(0)
    model = build(config)
    state = {name: torch.randn_like(t) for name, t in model.state_dict().items()}
    return Published(config, state, Preprocess(config.resolution), tuple("abcdefg"), {})


def test_a_new_head_starts_at_zero_and_the_hidden_layer_is_dropped() -> None:
    source = published()
    config = for_transfer(source, 3, None)
    model, rows = transplant(source, config, new_head=True)
    assert config == replace(CONFIG, num_classes=3, hidden=None)
    assert model.head is not None
    assert model.head.weight.shape == (3, 16)
    assert not model.head.weight.any()
    assert not model.head.bias.any()
    assert model.pre_logits is None
    assert {r.name for r in rows if r.action == "new"} == {"head.weight", "head.bias"}
    assert {r.name for r in rows if r.action == "left out"} == {
        "head.weight",
        "head.bias",
        "pre_logits.weight",
        "pre_logits.bias",
    }
    for row in rows:
        if row.action == "taken":
            assert torch.equal(model.state_dict()[row.name], source.state[row.name])


def test_every_tensor_of_both_sides_has_a_row() -> None:
    source = published()
    model, rows = transplant(source, for_transfer(source, 3, (16, 8)), new_head=True)
    assert {r.name for r in rows if r.target is not None} == set(model.state_dict())
    assert {r.name for r in rows if r.source is not None} == set(source.state)
    assert all(r.target == tuple(model.state_dict()[r.name].shape) for r in rows if r.target)
    assert all(r.source == tuple(source.state[r.name].shape) for r in rows if r.source)


@pytest.mark.parametrize("pool", [CONFIG.pool, AveragePool()], ids=["token", "average"])
def test_another_resolution_resamples_the_positions_and_keeps_the_rest(pool: object) -> None:
    config = replace(CONFIG, pool=pool)  # type: ignore[arg-type]
    source = published(config)
    model, rows = transplant(source, replace(config, resolution=(20, 16)), new_head=False)
    assert [r.name for r in rows if r.action == "resampled"] == ["pos_embed"]
    assert {r.action for r in rows} == {"taken", "resampled"}
    prefix = 1 if pool == CONFIG.pool else 0
    assert model.pos_embed is not None
    assert torch.equal(model.pos_embed, resample(source.state["pos_embed"], (2, 3), (5, 4), prefix))
    assert torch.equal(model.pos_embed[:, :prefix], source.state["pos_embed"][:, :prefix])
    assert torch.equal(model.state_dict()["head.weight"], source.state["head.weight"])


def test_a_resolution_of_the_same_grid_takes_the_positions_as_they_are() -> None:
    source = published()
    model, rows = transplant(source, replace(CONFIG, resolution=(9, 15)), new_head=False)
    assert {r.action for r in rows} == {"taken"}
    assert torch.equal(model.state_dict()["pos_embed"], source.state["pos_embed"])


def test_an_encoder_of_another_size_is_refused() -> None:
    source = published()
    with pytest.raises(BadInput, match="only classes and resolution may differ"):
        transplant(source, replace(CONFIG, mlp=48), new_head=False)


def test_a_kept_classifier_of_other_classes_is_refused() -> None:
    with pytest.raises(BadInput, match=r"'head\.weight' is \(7, 8\) in the source and \(3, 8\)"):
        transplant(published(), replace(CONFIG, num_classes=3), new_head=False)


def test_the_summary_names_all_that_was_not_taken() -> None:
    source = published()
    _, rows = transplant(source, for_transfer(source, 3, (16, 16)), new_head=True)
    line = summary(rows, "x.npz")
    assert line.startswith("from x.npz: 29 tensors taken; resampled: pos_embed; new: head.weight, head.bias; left out:")
    assert "pre_logits.weight" in line
    stored = as_json(rows, "x.npz")
    assert stored["rows"][0].keys() == {"from", "to", "name", "action"}


def test_loading_with_other_classes_gives_a_zero_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_bundle(tmp_path / "b", build(CONFIG), Preprocess((8, 12)), tuple("abcdefg"), {})
    model = vitrail.load(tmp_path / "b", num_classes=2, resolution=(16, 12))
    assert model.config == replace(CONFIG, num_classes=2, hidden=None, resolution=(16, 12))
    assert model.classes == ("0", "1")
    assert model.preprocess.resolution == (16, 12)
    with torch.no_grad():
        assert not model(torch.randn(1, 3, 16, 12)).logits.any()
