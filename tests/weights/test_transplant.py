"""Weights into a model with other classes, resolution, patches or pooling; every tensor is accounted for."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import vitrail
from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.build import ModelConfig, build
from vitrail.models.head import AttentionPool, AveragePool, ClassToken, PoolConfig, TokenAndAverage
from vitrail.models.position import Learned1d, Learned2d, NoPosition, PositionConfig, Relative, SinCos2d, sincos2d
from vitrail.models.resample import resample_line, resample_patches, resample_relative, resample_table
from vitrail.models.resnet import BIT, ResNetConfig, Stages
from vitrail.models.vit import ViTConfig
from vitrail.records.record import as_json
from vitrail.weights.bundle import save_bundle
from vitrail.weights.pretrained import PretrainedModel
from vitrail.weights.transplant import Row, for_transfer, record, summary, transplant

CONFIG = ViTConfig(patch=4, width=16, depth=2, heads=2, mlp=32, resolution=(8, 12), num_classes=7, hidden=8)


def published(config: ModelConfig = CONFIG) -> PretrainedModel:
    torch.manual_seed(0)
    model = build(config)
    state = {name: torch.randn_like(t) for name, t in model.state_dict().items()}
    return PretrainedModel(config, state, Preprocess(config.resolution), tuple("abcdefg"), {})


def named(rows: list[Row], action: str) -> set[str]:
    return {row.name for row in rows if row.action == action}


def taken_as_they_were(rows: list[Row], source: PretrainedModel, state: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(state[name], source.state[name]) for name in named(rows, "taken"))


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
    assert torch.equal(model.pos_embed, resample_table(source.state["pos_embed"], (2, 3), (5, 4), prefix))
    assert torch.equal(model.pos_embed[:, :prefix], source.state["pos_embed"][:, :prefix])
    assert torch.equal(model.state_dict()["head.weight"], source.state["head.weight"])


def test_a_resolution_of_the_same_grid_takes_the_positions_as_they_are() -> None:
    source = published()
    model, rows = transplant(source, replace(CONFIG, resolution=(9, 15)), new_head=False)
    assert {r.action for r in rows} == {"taken"}
    assert torch.equal(model.state_dict()["pos_embed"], source.state["pos_embed"])


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("mlp", 48),
        ("width", 32),
        ("depth", 3),
        ("depth", 1),
        ("heads", 4),
        ("gated", True),
        ("qk_norm", True),
        ("layer_scale", 1e-5),
        ("backbone", Stages(units=(), width=32)),
    ],
)
@pytest.mark.parametrize("new_head", [False, True])
def test_another_encoder_is_refused(part: str, value: object, new_head: bool) -> None:
    """No shape differs with the number of heads, and a deeper encoder would start half at random."""
    with pytest.raises(BadInput, match=f"'{part}' is .* only classes, resolution, patch size and pooling may differ"):
        transplant(published(), replace(CONFIG, **{part: value}), new_head)  # type: ignore[arg-type]


def test_constants_may_differ() -> None:
    source = published()
    other = replace(CONFIG, eps=1e-5, gelu="exact", dropout=0.1, drop_path=0.1)
    model, rows = transplant(source, other, new_head=False)
    assert model.config == other
    assert named(rows, "taken") == set(source.state)


def test_a_kept_classifier_of_other_classes_is_refused() -> None:
    with pytest.raises(BadInput, match=r"'head\.weight' is \(7, 8\) in the source and \(3, 8\)"):
        transplant(published(), replace(CONFIG, num_classes=3), new_head=False)


def test_the_summary_names_all_that_was_not_taken() -> None:
    source = published()
    _, rows = transplant(source, for_transfer(source, 3, (16, 16)), new_head=True)
    line = summary(rows, "x.npz")
    assert line.startswith("from x.npz: 29 tensors taken; resampled: pos_embed; new: head.weight, head.bias; left out:")
    assert "pre_logits.weight" in line
    stored = as_json(record(rows, "x.npz"))
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


# another patch size


@pytest.mark.parametrize(
    ("patch", "resolution", "positions"), [(8, (16, 24), False), (2, (8, 12), True), (3, (9, 12), True)]
)
def test_another_patch_size_resamples_the_patch_embedding_and_the_positions_only_with_the_grid(
    patch: int, resolution: tuple[int, int], positions: bool
) -> None:
    source = published()
    config = replace(CONFIG, patch=patch, resolution=resolution)
    model, rows = transplant(source, config, new_head=False)
    state = model.state_dict()
    expected = {"patch_embed.proj.weight"} | ({"pos_embed"} if positions else set())
    assert named(rows, "resampled") == expected
    assert named(rows, "taken") == set(source.state) - expected
    assert taken_as_they_were(rows, source, state)
    assert torch.equal(
        state["patch_embed.proj.weight"], resample_patches(source.state["patch_embed.proj.weight"], patch)
    )
    assert torch.equal(state["pos_embed"], resample_table(source.state["pos_embed"], (2, 3), config.grid, 1))


def test_a_larger_patch_of_a_larger_image_computes_the_same() -> None:
    """FlexiViT's resize gives a patch of constant colour the token that it had: such images give equal logits."""
    source = published()
    colours = torch.randn(2, 3, 2, 3)
    small, _ = transplant(source, CONFIG, new_head=False)
    large, _ = transplant(source, replace(CONFIG, patch=10, resolution=(20, 30)), new_head=False)
    with torch.no_grad():
        wanted, got = (
            model.eval()(colours.repeat_interleave(side, 2).repeat_interleave(side, 3)).logits
            for model, side in ((small, 4), (large, 10))
        )
    assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-5)  # measured: 7e-7


# another pooling


AVERAGE = replace(CONFIG, pool=AveragePool(), hidden=None)
TOKEN = replace(CONFIG, hidden=None)
POOL_PARTS = {f"attn_pool.{name}" for name in (
    "latent", "q.weight", "q.bias", "kv.weight", "kv.bias", "proj.weight", "proj.bias", "norm.weight", "norm.bias",
    "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias",
)}  # fmt: skip
NORM, FC_NORM = {"norm.weight", "norm.bias"}, {"fc_norm.weight", "fc_norm.bias"}
HEAD = {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("old", "pool", "resampled", "new", "left"),
    [
        (TOKEN, AveragePool(), {"pos_embed"}, set(), {"cls_token"}),
        (AVERAGE, ClassToken(), {"pos_embed"}, {"cls_token"}, set()),
        (TOKEN, AveragePool(class_token=True), set(), set(), set()),
        (TOKEN, AveragePool(class_token=True, norm_after=True), set(), FC_NORM, NORM),
        (TOKEN, AttentionPool(), {"pos_embed"}, POOL_PARTS, {"cls_token"}),
        (TOKEN, TokenAndAverage(), set(), set(), set()),
        (replace(TOKEN, pool=AttentionPool()), AveragePool(), set(), set(), POOL_PARTS),
    ],
    ids=["token-average", "average-token", "token kept", "norm after", "attention", "token and average", "back"],
)
def test_another_pooling(old: ViTConfig, pool: PoolConfig, resampled: set[str], new: set[str], left: set[str]) -> None:
    source = published(old)
    config = for_transfer(source, 3, None, pool=pool)
    model, rows = transplant(source, config, new_head=True)
    state = model.state_dict()
    assert named(rows, "resampled") == resampled
    assert named(rows, "new") == new | HEAD
    assert named(rows, "left out") == left | HEAD
    assert named(rows, "taken") == set(source.state) - resampled - left - HEAD
    assert taken_as_they_were(rows, source, state)
    patches = source.state["pos_embed"][:, int(old.class_token) :]
    assert torch.equal(state["pos_embed"][:, int(config.class_token) :], patches)
    if config.class_token and not old.class_token:
        assert not state["pos_embed"][:, 0].any()  # the token had no place before


def test_a_token_without_an_entry_in_the_table_is_given_one_of_zeros() -> None:
    source = published(replace(CONFIG, position=Learned1d(class_entry=False)))
    model, rows = transplant(source, CONFIG, new_head=False)
    assert named(rows, "resampled") == {"pos_embed"}
    assert torch.equal(model.state_dict()["pos_embed"][:, 1:], source.state["pos_embed"])
    images = torch.randn(1, 3, 8, 12)
    plain, _ = transplant(source, source.config, new_head=False)
    with torch.no_grad():
        assert torch.equal(model.eval()(images).logits, plain.eval()(images).logits)


# other positions


@pytest.mark.parametrize("where", ["stem", "layers", "shared"])
@pytest.mark.parametrize(
    ("resolution", "resampled"), [((20, 16), {"x", "y"}), ((8, 20), {"x"}), ((20, 12), {"y"}), ((8, 12), set())]
)
def test_columns_and_rows(where: str, resolution: tuple[int, int], resampled: set[str]) -> None:
    config = replace(CONFIG, position=Learned2d(where))  # type: ignore[arg-type]
    source = published(config)
    model, rows = transplant(source, replace(config, resolution=resolution), new_head=False)
    state = model.state_dict()
    assert named(rows, "resampled") == {f"pos_embed.{axis}" for axis in resampled}
    assert named(rows, "taken") == set(source.state) - named(rows, "resampled")
    assert taken_as_they_were(rows, source, state)
    for axis, side in (("x", resolution[1] // 4), ("y", resolution[0] // 4)):
        assert torch.equal(state[f"pos_embed.{axis}"], resample_line(source.state[f"pos_embed.{axis}"], side))
    assert state["pos_embed.x"].shape[0] == (2 if where == "layers" else 1)


def test_columns_and_rows_without_an_entry_for_the_token_and_with_one() -> None:
    without, with_entry = (replace(CONFIG, position=Learned2d(class_entry=entry)) for entry in (False, True))
    model, rows = transplant(published(without), with_entry, new_head=False)
    assert named(rows, "new") == {"pos_embed.token"}
    assert not named(rows, "resampled")
    assert not model.state_dict()["pos_embed.token"].any()
    _, rows = transplant(published(with_entry), without, new_head=False)
    assert named(rows, "left out") == {"pos_embed.token"}


@pytest.mark.parametrize("shared", [False, True])
def test_relative_positions(shared: bool) -> None:
    config = replace(CONFIG, position=Relative(shared))
    source = published(config)
    model, rows = transplant(source, replace(config, resolution=(20, 16)), new_head=False)
    assert named(rows, "resampled") == {"pos_embed"}
    assert named(rows, "taken") == set(source.state) - {"pos_embed"}
    expected = resample_relative(source.state["pos_embed"], (2, 3), (5, 4))
    assert torch.equal(model.state_dict()["pos_embed"], expected)
    assert expected.shape[0] == (1 if shared else 2)


@pytest.mark.parametrize("resolution", [(8, 12), (20, 16)])
def test_relative_positions_count_the_tokens_before_the_patches(resolution: tuple[int, int]) -> None:
    source = published(replace(CONFIG, position=Relative()))
    config = replace(CONFIG, position=Relative(), pool=AveragePool(), resolution=resolution)
    with pytest.raises(BadInput, match="relative positions count the class token and registers"):
        transplant(source, config, new_head=False)


def test_fixed_sines_and_cosines_are_computed_for_the_new_grid() -> None:
    config = replace(CONFIG, position=SinCos2d())
    source = PretrainedModel(config, build(config).state_dict(), Preprocess(config.resolution), tuple("abcdefg"), {})
    model, rows = transplant(source, replace(config, resolution=(20, 16)), new_head=False)
    assert named(rows, "new") == named(rows, "left out") == {"pos_embed"}
    table = model.state_dict()["pos_embed"]
    assert torch.equal(table[0, 1:], sincos2d((5, 4), 16))
    assert not table[0, 0].any()
    assert not dict(model.named_parameters())["pos_embed"].requires_grad
    same, rows = transplant(source, config, new_head=False)
    assert named(rows, "taken") == set(source.state)
    assert not dict(same.named_parameters())["pos_embed"].requires_grad


def test_learned_sines_and_cosines_are_resampled_as_any_learned_table() -> None:
    config = replace(CONFIG, position=SinCos2d(learned=True))
    source = published(config)
    model, rows = transplant(source, replace(config, resolution=(20, 16)), new_head=False)
    assert named(rows, "resampled") == {"pos_embed"}
    position = dict(model.named_parameters())["pos_embed"]
    assert torch.equal(position, resample_table(source.state["pos_embed"], (2, 3), (5, 4), 1))
    assert position.requires_grad


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        (Learned1d(), NoPosition(), set()),
        (NoPosition(), Learned1d(), {"pos_embed"}),
        (Learned1d(), Learned2d(), {"pos_embed.x", "pos_embed.y", "pos_embed.token"}),
        (Learned1d(), Relative(), {"pos_embed"}),
        (Learned1d("layers"), Learned1d("shared"), {"pos_embed"}),
        (Relative(), Relative(shared=True), {"pos_embed"}),
        (Learned1d(), SinCos2d(), {"pos_embed"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_positions_of_another_kind_start_anew(old: PositionConfig, new: PositionConfig, names: set[str]) -> None:
    source = published(replace(CONFIG, position=old))
    model, rows = transplant(source, replace(CONFIG, position=new), new_head=False)
    assert named(rows, "new") == names
    assert named(rows, "left out") == {name for name in source.state if name.startswith("pos_embed")}
    assert {r.name for r in rows if r.target is not None} == set(model.state_dict())


def test_registers_that_the_source_lacks_are_new() -> None:
    source = published()
    model, rows = transplant(source, replace(CONFIG, registers=2), new_head=False)
    assert named(rows, "new") == {"reg_token"}
    assert named(rows, "taken") == set(source.state)
    with torch.no_grad():
        model.eval()(torch.randn(1, 3, 8, 12))


# with convolutions

HYBRID = replace(
    CONFIG, patch=1, backbone=Stages(units=(1, 1), width=32), resolution=(32, 48), hidden=None
)  # a grid of (4, 6)


def test_a_hybrid_at_another_resolution() -> None:
    source = published(HYBRID)
    model, rows = transplant(source, for_transfer(source, 3, (40, 33)), new_head=True)
    assert named(rows, "resampled") == {"pos_embed"}
    assert named(rows, "new") == named(rows, "left out") == HEAD
    assert named(rows, "taken") == set(source.state) - {"pos_embed"} - HEAD
    state = model.state_dict()
    assert taken_as_they_were(rows, source, state)
    assert torch.equal(state["pos_embed"], resample_table(source.state["pos_embed"], (4, 6), (5, 5), 1))


def test_a_hybrid_with_larger_patches_of_its_feature_map() -> None:
    source = published(HYBRID)
    model, rows = transplant(source, for_transfer(source, 3, None, patch=2), new_head=True)
    assert named(rows, "resampled") == {"patch_embed.proj.weight", "pos_embed"}
    weight = source.state["patch_embed.proj.weight"]
    assert torch.equal(model.state_dict()["patch_embed.proj.weight"], resample_patches(weight, 2))


RESNET = ResNetConfig(replace(BIT, units=(1, 2), width=32), (64, 64), num_classes=7)


def test_a_resnet_reads_any_resolution_with_its_own_weights() -> None:
    source = published(RESNET)
    model, rows = transplant(source, for_transfer(source, 3, (40, 56)), new_head=True)
    head = {"head.fc.weight", "head.fc.bias"}
    assert named(rows, "new") == named(rows, "left out") == head
    assert named(rows, "taken") == set(source.state) - head
    assert not named(rows, "resampled")
    assert taken_as_they_were(rows, source, model.state_dict())
    with torch.no_grad():
        assert not model.eval()(torch.randn(1, 3, 40, 56)).logits.any()


def test_a_resnet_has_no_patches_and_no_choice_of_pooling() -> None:
    for choice in ({"patch": 8}, {"pool": AveragePool()}):
        with pytest.raises(BadInput, match="a ResNet has neither patches nor a choice of pooling"):
            for_transfer(published(RESNET), 3, None, **choice)  # type: ignore[arg-type]


@pytest.mark.parametrize("old", [CONFIG, HYBRID, RESNET], ids=["plain", "hybrid", "ResNet"])
def test_another_kind_of_model_is_refused(old: ModelConfig) -> None:
    other = RESNET if old is not RESNET else CONFIG
    model, rows = transplant(published(old), old, new_head=False)
    assert named(rows, "taken") == set(model.state_dict())
    with pytest.raises(BadInput, match="is .* in the source and .* in the new model"):
        transplant(published(old), other, new_head=False)
