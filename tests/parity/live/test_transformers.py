"""transformers beside vitrail: the same weights compute the same, whichever of the two wrote them."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import vitrail
from tests.parity.live.foreign import agree, enliven, images, photograph
from vitrail.core.errors import BadInput
from vitrail.data.transforms import crops
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess, SquareResize, eval_transform
from vitrail.models.build import Model, build
from vitrail.models.head import TokenAndAverage
from vitrail.models.position import Learned1d
from vitrail.models.vit import ViTConfig
from vitrail.weights.bundle import save_bundle
from vitrail.weights.convert import convert
from vitrail.weights.huggingface_write import gated_width

pytestmark = pytest.mark.slow

CLASSES = 7

# transformers -> vitrail -> transformers. Measured (x86, float32, torch 2.13, transformers 5.23): at most 8.2e-7.


class Theirs(NamedTuple):
    """A class of transformers, and its config without the part that is always the same."""

    model: str
    sizes: dict[str, Any]


SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 48, "patch_size": 16}
VIT = {**SMALL, "intermediate_size": 112}
DINO = {**SMALL, "mlp_ratio": 3, "image_size": 56, "patch_size": 14}
S32 = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536}
S14 = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "image_size": 56, "patch_size": 14}
TI16 = {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768}

THEIRS = {
    "ViT-S/32": Theirs("ViTForImageClassification", {**S32, "patch_size": 32}),
    "ViT-Ti/16": Theirs("ViTForImageClassification", TI16),
    "pooler": Theirs("ViTModel", VIT),
    "pooler of another width": Theirs("ViTModel", {**VIT, "pooler_output_size": 40}),
    "GELU by tanh": Theirs("ViTForImageClassification", {**VIT, "hidden_act": "gelu_pytorch_tanh"}),
    "another name of it": Theirs("ViTForImageClassification", {**VIT, "hidden_act": "gelu_new"}),
    "another eps": Theirs("ViTForImageClassification", {**VIT, "layer_norm_eps": 1e-3}),
    "not square": Theirs("ViTForImageClassification", {**VIT, "image_size": (48, 80)}),
    "DINOv2-S/14 with registers": Theirs("Dinov2WithRegistersModel", {**S14, "num_register_tokens": 4}),
    "DINOv2": Theirs("Dinov2Model", DINO),
    "DINOv2 classifier": Theirs("Dinov2ForImageClassification", DINO),
    "DINOv2 classifier with registers": Theirs("Dinov2WithRegistersForImageClassification", DINO),
    "DINOv2 gated": Theirs("Dinov2Model", {**DINO, "mlp_ratio": 4, "use_swiglu_ffn": True}),
    "DINOv2 gated classifier with registers": Theirs(
        "Dinov2WithRegistersForImageClassification", {**DINO, "mlp_ratio": 4, "use_swiglu_ffn": True}
    ),
}


def made(transformers: ModuleType, theirs: Theirs) -> nn.Module:
    kind = getattr(transformers, theirs.model)
    return enliven(kind(kind.config_class(num_labels=CLASSES, **theirs.sizes)))


def same(case: str, ours: Model, theirs: nn.Module) -> None:
    """Logits, or all tokens and what their pooling makes of them."""
    x = images(ours.config.resolution)
    with torch.inference_mode():
        output, expected = ours(x), theirs(x)
        if "logits" in expected:
            pairs = {"logits": (output.logits, expected.logits)}
        else:
            pairs = {
                "tokens": (output.tokens, expected.last_hidden_state),
                "pooled": (output.representation, expected.pooler_output),
            }
    agree(case, **pairs)


def loaded(transformers: ModuleType, model: str, folder: Path) -> nn.Module:
    """What transformers reads; it must find every weight, and use every one."""
    found, report = getattr(transformers, model).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    return found.eval()


@pytest.mark.parametrize("case", THEIRS)
def test_what_transformers_saves_computes_the_same_here_and_there_again(
    case: str, transformers: ModuleType, tmp_path: Path
) -> None:
    model = made(transformers, THEIRS[case])
    model.save_pretrained(tmp_path / "theirs")
    same(case, vitrail.load(tmp_path / "theirs"), model)
    done = convert(tmp_path / "theirs", tmp_path / "ours", "huggingface")
    assert not done.changed
    again = loaded(transformers, THEIRS[case].model, tmp_path / "ours")
    state = model.state_dict()
    assert again.state_dict().keys() == state.keys()
    unlike = [name for name, tensor in again.state_dict().items() if not torch.equal(tensor, state[name])]
    assert all(name.endswith("mask_token") for name in unlike)  # of pre-training
    same(f"{case}, again", vitrail.load(tmp_path / "ours"), again)


LACKING = {
    "another activation": Theirs("ViTForImageClassification", {**VIT, "hidden_act": "relu"}),
    "another pooler": Theirs("ViTModel", {**VIT, "pooler_act": "relu"}),
    "no biases of q, k and v": Theirs("ViTForImageClassification", {**VIT, "qkv_bias": False}),
    "DeiT": Theirs("DeiTForImageClassification", VIT),
    "masked images": Theirs("ViTForMaskedImageModeling", {**VIT, "encoder_stride": 16}),
}


@pytest.mark.parametrize("case", LACKING)
def test_what_vitrail_does_not_have_is_refused(case: str, transformers: ModuleType, tmp_path: Path) -> None:
    made(transformers, LACKING[case]).save_pretrained(tmp_path)
    with pytest.raises(BadInput):
        vitrail.load(tmp_path)


def test_a_model_in_several_files_is_read(transformers: ModuleType, tmp_path: Path) -> None:
    model = made(transformers, THEIRS["DINOv2 classifier"])
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    same("in several files", vitrail.load(tmp_path), model)


@pytest.mark.parametrize("width", [24, 48, 96, 120, 192, 384, 768, 1000, 1024, 1536])
def test_the_width_of_gated_mlps_is_that_of_transformers(width: int, transformers: ModuleType) -> None:
    sizes = {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 1, "use_swiglu_ffn": True}
    with torch.device("meta"):
        model = transformers.Dinov2Model(transformers.Dinov2Config(**sizes))
    assert gated_width(width, 4) == model.encoder.layer[0].mlp.down_proj.in_features


# vitrail -> transformers

PLAIN = ViTConfig(patch=16, width=48, depth=2, heads=3, mlp=112, resolution=(48, 80), num_classes=CLASSES)
SCALED = replace(PLAIN, mlp=96, resolution=(64, 64), layer_scale=1e-5, pool=TokenAndAverage())
OURS = {
    "plain": PLAIN,
    "no entry for the class token": replace(PLAIN, position=Learned1d(class_entry=False), gelu="exact"),
    "layer scale": SCALED,
    "layer scale, registers": replace(SCALED, registers=3, position=Learned1d(class_entry=False), gelu="exact"),
    "gated": replace(SCALED, gated=True, mlp=gated_width(48, 4)),
}


@pytest.mark.parametrize("case", OURS)
def test_transformers_computes_the_same_from_our_folders(case: str, transformers: ModuleType, tmp_path: Path) -> None:
    config = OURS[case]
    ours = enliven(build(config))
    names = tuple(f"class {i}" for i in range(CLASSES))
    save_bundle(tmp_path / "bundle", ours, Preprocess(config.resolution), names, {})
    convert(tmp_path / "bundle", tmp_path / "folder", "huggingface")
    kind = "ViT" if config.layer_scale is None else "Dinov2WithRegisters" if config.registers else "Dinov2"
    theirs = loaded(transformers, f"{kind}ForImageClassification", tmp_path / "folder")
    assert theirs.config.id2label == dict(enumerate(names))
    same(case, ours, theirs)


def test_dinov2_on_a_grid_that_is_not_square_is_not_written(tmp_path: Path) -> None:
    config = replace(SCALED, resolution=(48, 80))
    save_bundle(tmp_path / "bundle", build(config), Preprocess(config.resolution), tuple("abcdefg"), {})
    with pytest.raises(BadInput, match="square"):
        convert(tmp_path / "bundle", tmp_path / "folder", "huggingface")


# positions at another grid

GRIDS = [(6, 6), (3, 5), (2, 2), (7, 4)]  # of 4 x 4


@pytest.mark.parametrize("kind", ["ViTModel", "Dinov2Model", "Dinov2WithRegistersModel"])
def test_positions_come_to_another_grid_as_in_transformers(kind: str, transformers: ModuleType, tmp_path: Path) -> None:
    """The bicubic of all kinds, and that only one of them is antialiased. Measured: 0."""
    sizes = {**(VIT if kind == "ViTModel" else DINO), "image_size": 64, "patch_size": 16}
    config = getattr(transformers, kind.replace("Model", "Config"))(**sizes)
    theirs = enliven(getattr(transformers, kind)(config))
    theirs.save_pretrained(tmp_path / "theirs")
    for h, w in GRIDS:
        tokens = torch.zeros(1, 1 + h * w, 48)
        want = theirs.embeddings.interpolate_pos_encoding(tokens, 16 * h, 16 * w)
        got = vitrail.load(tmp_path / "theirs", resolution=(16 * h, 16 * w)).state_dict()["pos_embed"]
        agree(f"{kind}, {h} x {w}", positions=(got, want.detach()))


# The evaluation view

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VIEWS = {
    "square": Preprocess((224, 224), SquareResize(), MEAN, STD, "bilinear"),
    "square, bicubic": Preprocess((224, 224), SquareResize(), MEAN, STD, "bicubic"),
    "not square": Preprocess((48, 80), SquareResize(), MEAN, STD, "bilinear"),
    "crop": Preprocess((224, 224), CentreCrop(0.875), MEAN, STD, "bilinear"),
    "crop, bicubic": Preprocess((64, 64), CentreCrop(0.9), MEAN, STD, "bicubic"),
}
LEVELS = 2.1  # of 255, by which resized pixels may differ: Pillow and torchvision round differently. Measured: 2
SIZES = {"wide": (333, 500), "tall": (640, 427), "small": (40, 50)}


def levels(pixel_values: Tensor) -> Tensor:
    """0 to 255, from what a processor scaled by MEAN and STD."""
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    return ((pixel_values * std + mean) * 255).permute(1, 2, 0)


def view_of_transformers(pixels: np.ndarray, preprocess: Preprocess) -> tuple[np.ndarray, bool]:
    """Our evaluation view but for one thing, and whether that changes nothing here.

    Before the crop transformers has a shorter side of whole pixels, and cuts the fraction off the longer one. Ours is
    rounded to the nearest, as in big_vision: the crop lies up to a pixel further.
    """
    if isinstance(preprocess.resize, SquareResize):
        return eval_transform(pixels, preprocess), True
    height, width = pixels.shape[:2]
    wanted = preprocess.resolution[0] / preprocess.resize.share
    theirs = tuple(int(side * round(wanted) / min(height, width)) for side in (height, width))
    ours = tuple(round(side * wanted / min(height, width)) for side in (height, width))
    resized = crops.resize(pixels, (theirs[0], theirs[1]), interpolation=preprocess.interpolation)
    return crops.centre_crop(resized, preprocess.resolution), theirs == ours


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", VIEWS)
def test_the_image_processor_of_our_folders_makes_our_evaluation_view(
    case: str, size: str, transformers: ModuleType, tmp_path: Path
) -> None:
    preprocess, pixels = VIEWS[case], photograph(*SIZES[size])
    config = replace(PLAIN, resolution=preprocess.resolution)
    save_bundle(tmp_path / "bundle", build(config), preprocess, tuple("abcdefg"), {})
    convert(tmp_path / "bundle", tmp_path / "folder", "huggingface")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "folder")
    theirs = levels(processor(Image.fromarray(pixels), return_tensors="pt").pixel_values[0])
    nearly, equal = view_of_transformers(pixels, preprocess)
    difference = (theirs - torch.tensor(nearly)).abs().max()
    ours = (theirs - torch.tensor(eval_transform(pixels, preprocess))).abs()
    print(f"{case}, {size}: {difference:.2f}; {ours.max():.1f} levels from our own view, {ours.mean():.2f} on average")
    assert difference < LEVELS
    assert not equal or ours.max() < LEVELS


@pytest.mark.parametrize("kind", ["ViTImageProcessor", "BitImageProcessor"])
def test_what_their_image_processors_save_is_our_evaluation_view(
    kind: str, transformers: ModuleType, tmp_path: Path
) -> None:
    size = {"height": 48, "width": 48} if kind == "ViTImageProcessor" else {"shortest_edge": 64}
    crop = {} if kind == "ViTImageProcessor" else {"crop_size": {"height": 48, "width": 48}}
    processor = getattr(transformers, kind)(size=size, image_mean=MEAN, image_std=STD, resample=3, **crop)
    processor.save_pretrained(tmp_path)
    made(transformers, THEIRS["pooler"]).save_pretrained(tmp_path)
    preprocess = vitrail.load(tmp_path).preprocess
    pixels = photograph(300, 400)
    theirs = levels(processor(Image.fromarray(pixels), return_tensors="pt").pixel_values[0])
    difference = (theirs - torch.tensor(eval_transform(pixels, preprocess))).abs().max()
    print(f"{kind}: {difference:.2f} levels")
    assert (preprocess.mean, preprocess.std) == (MEAN, STD)
    assert difference < LEVELS
