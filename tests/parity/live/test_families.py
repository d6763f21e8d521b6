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


SMALL = {"depth": 2, "num_classes": 7}
_NAMES = (
    r"(test_)?(vit|deit3?|beit|eva|flexivit|samvit|naflexvit|mvit|crossvit|levit|cait|xcit|pit|vitamin)"
    "|.*rope.*|.*hybrid.*"
)


def test_every_vit_of_timm_is_right_or_refused_by_name(timm: ModuleType, tmp_path: Path) -> None:
    """All architectures of the registry that are called like a ViT, two blocks deep."""
    import re
    import shutil

    names = [name for name in timm.list_models() if re.match(_NAMES, name)]
    wrong, read, refused = [], 0, 0
    for name in names:
        folder = tmp_path / "m"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            model = enliven(timm.create_model(name, **SMALL))
        except (TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError):
            continue  # another family: its depth is not one number
        if sum(p.numel() for p in model.parameters()) > 150_000_000:
            continue
        timm.models.save_for_hf(model, folder, safe_serialization=True)
        try:
            ours = vitrail.load(folder)
        except BadInput as problem:
            refused += 1
            if len(str(problem)) < 40 or "\n" in str(problem):
                wrong.append(f"{name}: {problem}")
            continue
        x = torch.randn(1, 3, *model.pretrained_cfg["input_size"][1:], generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            got, want = ours(x).logits, model(x)
        read += 1
        if not (got.shape == want.shape and (got - want).abs().max() <= 1e-4 * want.abs().max()):
            wrong.append(f"{name}: read, and its outputs are others")
    print(f"{read} read, {refused} refused, of {len(names)}")
    assert not wrong, wrong
    assert read > 50
    assert refused > 20


def test_every_vit_of_transformers_is_right_or_refused_by_name(transformers: ModuleType, tmp_path: Path) -> None:
    """All model types whose config has patches of images: the config alone must be refused where it is not of ours."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    from vitrail.weights.huggingface import KINDS

    wrong, refused = [], 0
    for kind, name in sorted(CONFIG_MAPPING_NAMES.items()):
        try:
            config = getattr(transformers, name)()
        except Exception:  # some need arguments, or a library
            continue
        if kind in KINDS or not (hasattr(config, "patch_size") or "vi" in kind):
            continue
        folder = tmp_path / kind
        config.save_pretrained(folder)
        torch.save({"x.weight": torch.zeros(1)}, folder / "pytorch_model.bin")
        try:
            vitrail.load(folder)
            wrong.append(f"{kind}: read")
        except BadInput as problem:
            refused += 1
            if kind not in str(problem) and config.model_type not in str(problem):
                wrong.append(f"{kind}: {problem}")
    print(f"{refused} refused")
    assert not wrong, wrong
    assert refused > 40
