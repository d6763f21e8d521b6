"""Models that are near a ViT and are none: refused by what they are, seen in the config and in the keys."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import vitrail
from tests.weights.test_names_and_numbers import TIMM, random_state
from vitrail.core.errors import BadInput


def without_positions() -> dict[str, Tensor]:
    return {name: tensor for name, tensor in random_state(TIMM).items() if name != "pos_embed"}


@pytest.mark.parametrize(
    ("architecture", "what"),
    [
        ("vit_small_patch16_rope_224", "rotary"),
        ("vit_small_patch16_rope_mixed_ape_224.naver_in1k", "rotary"),
        ("vit_base_patch16_dinov3", "rotary"),
        ("eva02_tiny_patch14_224", "rotary"),
        ("vit_relpos_base_patch16_224", "relative position"),
        ("vit_base_patch16_clip_quickgelu_224", "norm before the encoder"),
        ("vit_base_patch16_xp_224", "side by side"),
        ("swin_tiny_patch4_window7_224", "'swin' in its name"),
        ("vit_base_patch16_new_idea_224", "'new' in its name"),
    ],
)
@pytest.mark.parametrize("positions", [True, False], ids=["table", "no table"])
def test_an_architecture_is_refused_by_its_name(architecture: str, what: str, positions: bool, tmp_path: Path) -> None:
    save_file(random_state(TIMM) if positions else without_positions(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": architecture, "num_classes": 3}))
    with pytest.raises(BadInput, match=what) as problem:
        vitrail.load(tmp_path, model="Ti/16")
    assert architecture in str(problem.value)


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("rope.freqs", "rotary"),
        ("blocks.0.attn.rope.inv_freq", "rotary"),
        ("rel_pos_bias.relative_position_bias_table", "relative position"),
        ("norm_pre.weight", "norm before the encoder"),
        ("blocks.0.attn.q_bias", "EVA or BEiT"),
        ("blocks.0.attn.something", "unknown"),
    ],
)
def test_a_key_of_another_model_is_refused(key: str, what: str, tmp_path: Path) -> None:
    torch.save({**random_state(TIMM), key: torch.zeros(3)}, tmp_path / "model.pth")
    with pytest.raises(BadInput, match=f"{what}.*|.*{what}") as problem:
        vitrail.load(tmp_path / "model.pth")
    assert key in str(problem.value)


def test_no_table_of_positions_is_rotary_unless_a_config_says_none(tmp_path: Path) -> None:
    torch.save(without_positions(), tmp_path / "model.pth")
    with pytest.raises(BadInput, match="no table of positions.*rotary"):
        vitrail.load(tmp_path / "model.pth", resolution=16)
    about = {"architecture": "vit_tiny_patch16_224", "model_args": {"img_size": 16, "pos_embed": "none"}}
    (tmp_path / "config.json").write_text(json.dumps(about))
    assert vitrail.load(tmp_path / "model.pth").config.num_classes == 3


def test_what_may_be_deit_iii_or_rotary_is_asked_for(tmp_path: Path) -> None:
    """timm's rope_ape ViTs and Meta's DeiT III have the same names and shapes."""
    state = {**random_state(TIMM), "pos_embed": torch.zeros(1, 16, 192)}
    scales = {f"blocks.{i}.gamma_{j}": torch.ones(192) for i in range(2) for j in (1, 2)}
    torch.save(state | scales, tmp_path / "model.pth")
    with pytest.raises(BadInput, match="DeiT III or of a ViT with rotary positions"):
        vitrail.load(tmp_path / "model.pth")
    assert vitrail.load(tmp_path / "model.pth", model="Ti/16").config.layer_scale is not None


@pytest.mark.parametrize(("kind", "rotary"), [("dinov3_vit", True), ("eomt_dinov3", True), ("swin", False)])
def test_a_model_type_of_transformers_is_refused_by_its_name(kind: str, rotary: bool, tmp_path: Path) -> None:
    save_file(random_state(TIMM), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(BadInput, match=f"'{kind}'") as problem:
        vitrail.load(tmp_path)
    assert ("rotary" in str(problem.value)) == rotary
