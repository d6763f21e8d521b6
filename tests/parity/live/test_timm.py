"""timm beside vitrail: the same weights compute the same, whichever of the two wrote them."""

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import vitrail
from tests.parity.live.foreign import agree, apart, enliven, images
from vitrail.core.errors import BadInput
from vitrail.data.views import Preprocess
from vitrail.models.build import Model, ModelConfig, build
from vitrail.models.head import AttentionPool, AveragePool
from vitrail.models.position import Learned1d, NoPosition, SinCos2d
from vitrail.models.resnet import BIT, ResNetConfig, Stages
from vitrail.models.vit import ViTConfig
from vitrail.weights.bundle import save_bundle
from vitrail.weights.convert import Layout, convert
from vitrail.weights.load import read_published
from vitrail.weights.timm import read_timm

pytestmark = pytest.mark.slow

CLASSES = 7


# timm -> vitrail. Measured (x86, float32, torch 2.13, timm 1.0.31): at most TODO.


class Theirs(NamedTuple):
    """A model of timm's; sizes are cut where only time depends on them."""

    name: str
    arguments: dict[str, Any] = {}
    named: str | None = None  # a variant with as many heads, where a bare state dict of this width says nothing
    bare: bool = True  # whether shapes and `named` say all


THEIRS = {
    "Ti/16": Theirs("vit_tiny_patch16_224"),
    "S/32": Theirs("vit_small_patch32_224"),
    "R26+S/32": Theirs("vit_small_r26_s32_224"),
    "R+Ti/16": Theirs("vit_tiny_r_s16_p8_224"),
    "R50+B/16": Theirs("vit_base_r50_s16_224", {"embed_dim": 192, "num_heads": 3, "depth": 2}),
    "R50x1": Theirs("resnetv2_50x1_bit"),
    "DeiT": Theirs("deit_small_patch16_224"),
    "DeiT III": Theirs("deit3_small_patch16_224"),
    "DINOv2 with registers": Theirs("vit_small_patch14_reg4_dinov2", {"img_size": 56}),
    "DINOv2 gated": Theirs(
        "vit_giant_patch14_dinov2", {"img_size": 56, "embed_dim": 96, "num_heads": 6, "depth": 2}, named="S/16"
    ),
    "average, norm after": Theirs("vit_tiny_patch16_224", {"global_pool": "avg", "depth": 3}),
    "average, class token": Theirs("vit_tiny_patch16_224", {"global_pool": "avg", "fc_norm": False}, bare=False),
    "average, no class token": Theirs("vit_base_patch16_siglip_gap_224", {"depth": 2}),
    "attention": Theirs("vit_base_patch16_siglip_224", {"depth": 2}),
    "So400m": Theirs("vit_so400m_patch14_siglip_224", {"depth": 1, "img_size": 56}),
    "So400m, GELU by tanh": Theirs("vit_so400m_patch16_siglip_256", {"depth": 1, "img_size": 64}, bare=False),
    "norms of q and k": Theirs("vit_tiny_patch16_224", {"qk_norm": True, "depth": 3}),
    "not square": Theirs("vit_tiny_patch16_224", {"img_size": (48, 80), "depth": 2}, bare=False),
    "no positions": Theirs("vit_tiny_patch16_224", {"pos_embed": "none", "depth": 2}, bare=False),
}


def made(timm: ModuleType, theirs: Theirs) -> nn.Module:
    torch.manual_seed(0)
    return enliven(timm.create_model(theirs.name, num_classes=CLASSES, **theirs.arguments))


def same_as_timm(case: str, ours: Model, theirs: nn.Module) -> None:
    x = images(ours.config.resolution)
    with torch.inference_mode():
        features, output = theirs.forward_features(x), ours(x)
        if features.ndim == 4:
            features = features.flatten(2).transpose(1, 2)
        agree(case, logits=(output.logits, theirs(x)), tokens=(output.tokens, features))


@pytest.mark.parametrize("case", THEIRS)
def test_what_timm_saves_computes_the_same_here(case: str, timm: ModuleType, tmp_path: Path) -> None:
    theirs = THEIRS[case]
    model = made(timm, theirs)
    timm.models.save_for_hf(model, tmp_path / "folder", safe_serialization=True)
    same_as_timm(case, vitrail.load(tmp_path / "folder"), model)
    if theirs.bare:
        torch.save(model.state_dict(), tmp_path / "model.pth")
        same_as_timm(f"{case}, .pth", vitrail.load(tmp_path / "model.pth", model=theirs.named), model)


@pytest.mark.parametrize("case", ["Ti/16", "DeiT III", "So400m", "So400m, GELU by tanh", "R26+S/32", "R50x1"])
@pytest.mark.parametrize("nested", [True, False], ids=["pretrained_cfg", "one level"])
def test_a_config_from_the_hub_says_its_arguments_by_the_architecture_alone(
    case: str, nested: bool, timm: ModuleType, tmp_path: Path
) -> None:
    model = made(timm, THEIRS[case])
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    saved = json.loads((tmp_path / "config.json").read_text())
    inner = saved.pop("pretrained_cfg")
    del saved["model_args"]
    size = THEIRS[case].arguments.get("img_size", 224)
    inner["input_size"] = [3, size, size]
    about = {**saved, "pretrained_cfg": inner} if nested else {**inner, **saved}
    (tmp_path / "config.json").write_text(json.dumps(about))
    same_as_timm(case, vitrail.load(tmp_path), model)


def test_every_architecture_that_is_read_has_the_heads_gelu_pooling_and_grid_of_timm(timm: ModuleType) -> None:
    different, read = [], 0
    for module in ("vision_transformer", "vision_transformer_hybrid", "deit"):
        for name in timm.list_models(module=module):
            with torch.device("meta"):
                model = timm.create_model(name, depth=1)
            state = {n: torch.zeros(t.shape) for n, t in model.state_dict().items()}
            settings = {"input_size": model.pretrained_cfg["input_size"]}
            try:
                config = read_timm(state, Path(name), {"architecture": name, "pretrained_cfg": settings}, None, None).config
            except BadInput:
                continue
            read += 1
            assert isinstance(config, ViTConfig)
            if ours(config) != theirs(model):
                different.append((name, ours(config), theirs(model)))
    print(f"{read} architectures")
    assert not different
    assert read >= 90  # measured: TODO
