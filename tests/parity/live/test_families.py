"""ViT-like families of timm and transformers through `load`: the library's outputs, or a refusal that names why."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import vitrail
from tests.parity.live.foreign import agree, enliven, images
from vitrail.core.errors import BadInput

pytestmark = pytest.mark.slow

SIZES = {
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 112, "image_size": 48,
    "patch_size": 16, "num_labels": 7,
}  # fmt: skip
READ: dict[str, dict[str, Any]] = {
    "ViTForImageClassification": {},
    "DeiTForImageClassification": {},
    "DeiTForImageClassificationWithTeacher": {},
    "DeiTModel": {},
    "ViTMAEModel": {"mask_ratio": 0.0},
    "ViTMSNForImageClassification": {},
    "ViTMSNModel": {},
    "Dinov2ForImageClassification": {},
    "Dinov2WithRegistersForImageClassification": {},
}
REFUSED = {
    "IJepaForImageClassification": "ijepa",
    "DINOv3ViTModel": "rotary",
    "BeitForImageClassification": "beit",
    "VivitModel": "vivit",
    "SiglipVisionModel": "siglip",
    "CLIPVisionModel": "clip",
    "YolosModel": "yolos",
    "Data2VecVisionModel": "data2vec",
}


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("raw", [False, True], ids=["saved", "state_dict()"])
@pytest.mark.parametrize("channels", [3, 1])
def test_what_is_read_computes_the_same(
    name: str, raw: bool, channels: int, transformers: ModuleType, tmp_path: Path
) -> None:
    kind = getattr(transformers, name)
    model = enliven(kind(kind.config_class(**SIZES, **READ[name], num_channels=channels)))
    model.save_pretrained(tmp_path)
    if raw:
        (tmp_path / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    ours, x = vitrail.load(tmp_path), images((48, 48))[:, :channels]
    with torch.inference_mode():
        output, want = ours(x), model(x)
    if "logits" in want:
        agree(name, logits=(output.logits, want.logits))
    elif "Model" in name and "pooler_output" in want:
        agree(name, pooled=(output.representation, want.pooler_output))
    else:
        agree(name, token=(output.representation, want.last_hidden_state[:, 0]))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_by_name(name: str, transformers: ModuleType, tmp_path: Path) -> None:
    kind = getattr(transformers, name)
    with torch.device("meta"):
        config = kind.config_class()
    config.save_pretrained(tmp_path)
    torch.save({"x.weight": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(BadInput, match=REFUSED[name]):
        vitrail.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("deit_tiny_distilled_patch16_224", {"img_size": 64}),
        ("vit_tiny_patch16_224", {"img_size": 64, "in_chans": 1}),
        ("vit_tiny_patch16_224", {"img_size": 64, "reg_tokens": 4, "no_embed_class": False}),
        ("vit_so150m_patch16_reg4_gap_256", {"img_size": 64}),
    ],
    ids=str,
)
def test_timms_tokens_and_channels(name: str, arguments: dict[str, Any], timm: ModuleType, tmp_path: Path) -> None:
    model = enliven(timm.create_model(name, num_classes=7, depth=2, **arguments))
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    ours, x = vitrail.load(tmp_path), images((64, 64))[:, : arguments.get("in_chans", 3)]
    with torch.inference_mode():
        agree(name, logits=(ours(x).logits, model(x)))
