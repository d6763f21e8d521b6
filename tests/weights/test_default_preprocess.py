"""What a file does not say: how its images were prepared, how its positions come to another grid, and who is told."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import vitrail
from tests.weights.test_names_and_numbers import (
    BITS,
    DINO,
    GATED,
    HYBRID,
    PLAIN,
    POOLED,
    TIMM,
    arrays_of,
    prefixed,
    random_state,
)
from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess, SquareResize
from vitrail.models.build import build
from vitrail.models.resample import Interpolation, resample_table
from vitrail.models.vit import ViTConfig
from vitrail.weights.bundle import save_bundle
from vitrail.weights.convert import convert
from vitrail.weights.load import read_pretrained

HALF = (0.5, 0.5, 0.5)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
META = Preprocess((16, 16), CentreCrop(0.875), MEAN, STD, "bicubic")
SILENT = "nothing says how its images were prepared; assumed are mean"


def saved(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save(state, path)
    return path


# state dicts

NAMES: dict[str, tuple[ViTConfig, Callable[[str], str], Preprocess, Interpolation]] = {
    "timm's": (TIMM, lambda name: name, Preprocess((16, 16)), "bicubic"),
    "DeiT III": (
        replace(TIMM, layer_scale=1e-5),
        lambda name: name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"),
        META,
        "bicubic plain",
    ),
    "DeiT III by timm's names": (replace(TIMM, layer_scale=1e-5), lambda name: name, META, "bicubic"),
    "DINOv2's giant": (
        replace(GATED, registers=0),
        lambda name: name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"),
        META,
        "bicubic plain",
    ),
    "DINOv2 with registers": (DINO, lambda name: name.replace("reg_token", "register_tokens"), META, "bicubic"),
}


@pytest.mark.parametrize("case", NAMES)
def test_a_bare_state_dict_is_seen_as_its_authors_see_and_it_is_said(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, theirs, preprocess, interpolation = NAMES[case]
    path = saved(tmp_path / "model.pth", {theirs(n): t for n, t in random_state(config).items()})
    model = vitrail.load(path, resolution=24)
    assert model.preprocess == replace(preprocess, resolution=(24, 24))
    assert read_pretrained(path).interpolation == interpolation
    said = capsys.readouterr().err
    assert f"{path}: {SILENT} {preprocess.mean}, deviation {preprocess.std}, {preprocess.interpolation}" in said
    assert "the middle 87.5%" in said


def test_a_mask_token_is_meta_s(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.pth", {**random_state(TIMM), "mask_token": torch.zeros(1, 192)})
    assert read_pretrained(path).preprocess == META


def test_what_says_everything_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    save_bundle(tmp_path / "bundle", build(TIMM), Preprocess((16, 16)), ("a", "b", "c"), {})
    vitrail.load(tmp_path / "bundle")
    convert(tmp_path / "bundle", tmp_path / "copy.npz", "npz")  # what the copy does not say is in `changed`
    assert capsys.readouterr().err == ""


# Google's


@pytest.mark.parametrize(
    ("config", "prefix", "resize"),
    [
        (PLAIN, "", SquareResize()),
        (HYBRID, "", SquareResize()),
        (PLAIN, "params/", CentreCrop(0.875)),
        (PLAIN, "opt/target/", CentreCrop(0.875)),
        (POOLED, "params/", CentreCrop(0.875)),
        (POOLED, "", CentreCrop(0.875)),
        (BITS, "", SquareResize()),
    ],
    ids=["vit_jax", "hybrid", "params", "opt", "big_vision", "big_vision without params", "BiT"],
)
def test_google_s_files_are_seen_as_their_code_sees(
    config: ViTConfig, prefix: str, resize: object, tmp_path: Path
) -> None:
    np.savez(tmp_path / "model.npz", **prefixed(prefix)(arrays_of(config)))
    published = read_pretrained(tmp_path / "model.npz")
    assert published.preprocess.resize == resize
    assert (published.preprocess.mean, published.preprocess.std) == (HALF, HALF)
    assert published.preprocess.interpolation == published.interpolation == "bilinear"


def test_the_resolution_of_bit_is_assumed_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "bit.npz", **arrays_of(BITS))
    assert vitrail.load(tmp_path / "bit.npz").preprocess.resolution == (224, 224)
    assert "224 x 224 pixels are assumed, --resolution gives another" in capsys.readouterr().err
    assert vitrail.load(tmp_path / "bit.npz", resolution=64).preprocess.resolution == (64, 64)
    assert capsys.readouterr().err == ""


# timm's and transformers' folders


def timm_folder(path: Path, **settings: object) -> Path:
    path.mkdir()
    save_file(random_state(TIMM), path / "model.safetensors")
    cfg = {"mean": HALF, "std": HALF, "interpolation": "bicubic", "crop_pct": 0.9, **settings}
    about = {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": cfg}
    (path / "config.json").write_text(json.dumps(about))
    return path


@pytest.mark.parametrize("odd", [{"crop_mode": "border"}, {"interpolation": "random"}, {"new_field": 3}], ids=str)
def test_what_timm_asks_for_and_vitrail_lacks_is_refused(odd: dict[str, object], tmp_path: Path) -> None:
    ((name, value),) = odd.items()
    with pytest.raises(BadInput, match=f"{name} {value!r}"):
        read_pretrained(timm_folder(tmp_path / "odd", **odd))


def test_what_timm_asks_for_is_done(tmp_path: Path) -> None:
    assert not read_pretrained(timm_folder(tmp_path / "usual", crop_mode="center")).assumed
    squashed = read_pretrained(timm_folder(tmp_path / "squash", crop_mode="squash", interpolation="lanczos")).preprocess
    assert (squashed.resize, squashed.interpolation) == (SquareResize(0.9), "lanczos")


def test_a_mean_without_a_deviation_gets_a_sentence(tmp_path: Path) -> None:
    folder = timm_folder(tmp_path / "half")
    about = json.loads((folder / "config.json").read_text())
    del about["pretrained_cfg"]["std"]
    (folder / "config.json").write_text(json.dumps(about))
    with pytest.raises(
        BadInput, match="the preprocessing in config.json cannot be read: .*None are not the numbers of"
    ):
        read_pretrained(folder)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A transformers folder."""
    torch.manual_seed(0)
    save_bundle(tmp_path / "bundle", build(TIMM), Preprocess((16, 16)), ("a", "b", "c"), {})
    convert(tmp_path / "bundle", tmp_path / "theirs", "huggingface")
    return tmp_path / "theirs"


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_preprocessor_that_does_not_normalise(theirs: Path) -> None:
    edit(theirs / "preprocessor_config.json", do_normalize=False)
    preprocess = read_pretrained(theirs).preprocess
    assert (preprocess.mean, preprocess.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("changes", "white"), [({"do_rescale": False}, 255.0), ({"rescale_factor": 1 / 127.5}, 2.0)], ids=str
)
def test_a_preprocessor_that_rescales_otherwise(changes: dict[str, object], white: float, theirs: Path) -> None:
    """(x · factor - mean) / std, as mean and deviation of pixels from 0 to 1."""
    edit(theirs / "preprocessor_config.json", **changes)
    preprocess = read_pretrained(theirs).preprocess
    assert preprocess.mean == pytest.approx((0.5 / white,) * 3)
    assert preprocess.std == pytest.approx((0.5 / white,) * 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"do_flip_channel_order": True},
        {"do_pad": True},
        {"do_resize": False},
        {"resample": 9},
        {"image_processor_type": "SegformerImageProcessor"},
        {"size": {"shortest_edge": 12}, "crop_size": 16, "do_center_crop": True},
        {"size": {"longest_edge": 12}},
        {"invented": 1},
    ],
    ids=str,
)
def test_a_preprocessor_that_does_something_else_is_refused_by_name(changes: dict[str, object], theirs: Path) -> None:
    edit(theirs / "preprocessor_config.json", **changes)
    with pytest.raises(BadInput, match=r"preprocessor_config\.json") as problem:
        read_pretrained(theirs)
    assert any(name in str(problem.value) or str(value) in str(problem.value) for name, value in changes.items()) or (
        "filled with zeros" in str(problem.value)
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"problem_type": "multi_label_classification"}, "problem_type 'multi_label_classification'"),
        ({"num_labels": 7, "id2label": None, "label2id": None}, "num_labels 7, the weights have 3"),
        ({"label2id": {"a": 1, "b": 0, "c": 2}}, "names its classes in two ways"),
    ],
    ids=["several labels", "another number", "two orders of names"],
)
def test_a_config_that_means_other_classes_is_refused(changes: dict[str, object], sentence: str, theirs: Path) -> None:
    edit(theirs / "config.json", **changes)
    with pytest.raises(BadInput, match=sentence):
        read_pretrained(theirs)


def test_names_are_taken_from_label2id_where_id2label_is_missing(theirs: Path) -> None:
    edit(theirs / "config.json", id2label=None, label2id={"x": 1, "y": 0, "z": 2})
    assert read_pretrained(theirs).classes == ("y", "x", "z")


def test_the_size_of_the_preprocessor_wins_and_is_said(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not read_pretrained(theirs).assumed
    said = {"size": {"shortest_edge": 16}, "crop_size": {"height": 12, "width": 12}, "do_center_crop": True}
    edit(theirs / "preprocessor_config.json", image_processor_type="BitImageProcessor", **said)
    assert vitrail.load(theirs).config.resolution == (12, 12)
    assert "images of 12 x 12 pixels, its positions are of 16 x 16: they are resampled" in capsys.readouterr().err
    whole = vitrail.load(theirs, resolution=16).state_dict()["pos_embed"]
    assert torch.equal(whole, read_pretrained(theirs).state["pos_embed"])  # nothing of them is lost


def test_a_folder_without_a_preprocessor_is_seen_as_transformers_sees(
    theirs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (theirs / "preprocessor_config.json").unlink()
    assert read_pretrained(theirs).preprocess == Preprocess((16, 16), SquareResize())
    assert SILENT in capsys.readouterr().err


@pytest.mark.parametrize("number", [True, 1.5, "3", [3]], ids=str)
def test_heads_that_are_no_whole_number(number: object, theirs: Path, tmp_path: Path) -> None:
    """True counts as 1 in Python: a model of one head would be read, and nothing would look wrong."""
    edit(theirs / "config.json", num_attention_heads=number)
    with pytest.raises(BadInput, match="says num_attention_heads .*, expected a whole number"):
        read_pretrained(theirs)
    folder = timm_folder(tmp_path / "timm")
    edit(folder / "config.json", model_args={"num_heads": number})
    with pytest.raises(BadInput, match="says num_heads .*, expected a whole number"):
        read_pretrained(folder)


# positions at another grid


@pytest.mark.parametrize(
    ("kind", "interpolation"), [("bundle", "bilinear"), ("timm", "bicubic"), ("huggingface", "bicubic plain")]
)
def test_positions_are_resampled_as_their_authors_do_also_after_conversion(
    kind: str, interpolation: Interpolation, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = build(TIMM)
    save_bundle(tmp_path / "bundle", model, Preprocess((16, 16)), ("a", "b", "c"), {})
    if kind != "bundle":
        convert(tmp_path / "bundle", tmp_path / kind, kind)  # type: ignore[arg-type]
    convert(tmp_path / kind, tmp_path / "again", "bundle")
    wanted = resample_table(model.state_dict()["pos_embed"], (4, 4), (7, 5), 1, interpolation)
    for path in (tmp_path / kind, tmp_path / "again"):
        assert torch.equal(vitrail.load(path, resolution=(28, 20)).state_dict()["pos_embed"], wanted), path


def test_a_bundle_with_an_unknown_way_of_resampling_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_bundle(tmp_path / "b", build(TIMM), Preprocess((16, 16)), ("a", "b", "c"), {"positions_resampled": "spline"})
    with pytest.raises(BadInput, match="positions_resampled is 'spline', expected one of bilinear, bicubic"):
        read_pretrained(tmp_path / "b")


# classifiers that were never meant to be used


def test_the_classifier_of_an_original_imagenet_21k_file_is_not_used_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = replace(PLAIN, num_classes=21_843)
    np.savez(tmp_path / "imagenet21k.npz", **arrays_of(original))
    vitrail.Predictor(tmp_path / "imagenet21k.npz")
    assert "of the original ImageNet-21k files are not valid: use this model for transfer" in capsys.readouterr().err
    np.savez(tmp_path / "augreg.npz", **arrays_of(replace(original, hidden=None)))
    vitrail.Predictor(tmp_path / "augreg.npz")
    assert capsys.readouterr().err == ""


def test_a_classifier_of_zeros_is_not_used_in_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, config in (("vit", PLAIN), ("bit", BITS)):
        arrays = arrays_of(config)
        arrays = {n: a * 0 if n.endswith(("head/kernel", "head/conv2d/kernel")) else a for n, a in arrays.items()}
        np.savez(tmp_path / f"{name}.npz", **arrays)
        vitrail.Predictor(tmp_path / f"{name}.npz")
        assert "its classifier is zero, so all classes are equally likely" in capsys.readouterr().err
