"""Checkpoints as training scripts and other libraries leave them: each is the same model as its plain state dict."""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import vitrail
from tests.weights.test_names_and_numbers import TIMM, random_state
from vitrail.core.errors import BadInput
from vitrail.models.build import build
from vitrail.models.head import AveragePool
from vitrail.models.position import Learned1d
from vitrail.weights.load import read_pretrained

State = dict[str, Tensor]
HEADLESS = {name: tensor for name, tensor in random_state(TIMM).items() if not name.startswith("head.")}


def under(prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in random_state(TIMM).items()}


BESIDE: dict[str, Any] = {
    "args": argparse.Namespace(lr=1e-3, betas=(0.9, 0.95), out=Path("runs")),
    "best": np.float64(0.9),
    "history": np.arange(3),
    "counts": defaultdict(int, {"a": 1}),
    "from": PureWindowsPath("C:/runs"),
    "optimizer": torch.optim.SGD([torch.nn.Parameter(torch.ones(3))], lr=0.1).state_dict(),
}
FILES: dict[str, Any] = {
    **{f"in {w}": {w: under(""), **BESIDE} for w in ("model", "model_state_dict", "state_dict", "net", "ema", "x")},
    **{
        f"under {p}": under(p)
        for p in ("module.", "_orig_mod.", "model.", "backbone.", "visual.trunk.", "timm_model.", "a._orig_mod.module.")
    },
    "averages first": {"state_dict": {n: t + 1 for n, t in under("").items()}, "state_dict_ema": under("")},
    "a list": [under(""), {"epoch": 3}],
    "wrappers of single blocks": {
        n.replace("blocks.0.", "blocks.0._fsdp_wrapped_module."): t for n, t in under("").items()
    },
    "timm's names under vit.": under("module.vit."),
    "the encoder that is trained": {
        **{n: t + 1 for n, t in under("module.momentum_encoder.").items()},
        **under("module.base_encoder."),
    },
    "teacher first": {"student": {n: t + 1 for n, t in under("module.").items()}, "teacher": under("module.")},
    "Lightning's": {"state_dict": {**under("model."), "criterion.weight": torch.ones(3)}, "hyper_parameters": BESIDE},
    "chunks": {n.replace("blocks.", "blocks.0."): t for n, t in under("").items()},
    "a sequence of dropout and classifier": {n.replace("head.", "head.1."): t for n, t in under("").items()},
}


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("name", ["m.pth", "m.ckpt", "model_best.pth.tar", "m"])
def test_a_checkpoint_is_read_under_any_wrapper_prefix_and_suffix(case: str, name: str, tmp_path: Path) -> None:
    torch.save(FILES[case], tmp_path / name)
    state = read_pretrained(tmp_path / name).state
    assert state.keys() == random_state(TIMM).keys()
    assert all(torch.equal(state[n], t) for n, t in random_state(TIMM).items())


@pytest.mark.parametrize(
    "named",
    [
        {"class_names": ["bee", "ant", "cat"]},
        {"class_to_idx": {"ant": 1, "bee": 0, "cat": 2}},
        {"classes": {0: "bee", 2: "cat", 1: "ant"}},
        {"id2label": {"0": "bee", "1": "ant", "2": "cat"}},
    ],
    ids=lambda named: next(iter(named)),
)
def test_names_of_classes_beside_the_weights_are_used_and_it_is_said(named: dict[str, Any], tmp_path: Path) -> None:
    torch.save({"model": under(""), **named}, tmp_path / "m.pth")
    read = read_pretrained(tmp_path / "m.pth")
    assert read.classes == ("bee", "ant", "cat")
    assert read.assumed[0] == "beside its weights 3 classes are named, and used"


def test_names_of_another_number_of_classes_are_not_used_and_it_is_said(tmp_path: Path) -> None:
    torch.save({"model": under(""), "classes": ["a", "b"]}, tmp_path / "m.pth")
    read = read_pretrained(tmp_path / "m.pth")
    assert read.classes is None
    assert read.assumed[0] == "beside its weights 2 classes are named, not 3: not used"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page"),
    ],
    ids=["nothing", "git LFS", "a page"],
)
@pytest.mark.parametrize("name", ["m.pth", "m.safetensors", "f/model.safetensors"])
def test_what_came_instead_of_a_file_is_called_so(content: bytes, sentence: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224"}))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=sentence):
        vitrail.load((tmp_path / name).parent if "/" in name else tmp_path / name)


def test_a_folder_of_checkpoints_says_how_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-500").mkdir()
    (tmp_path / "checkpoint-500" / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(BadInput, match="name a folder in it, as .*checkpoint-500"):
        vitrail.load(tmp_path)


def test_positions_that_may_be_two_grids_are_asked_for(tmp_path: Path) -> None:
    """25 are 5 x 5 patches, or 4 x 4 with entries for the class token and 8 registers."""
    config = replace(TIMM, registers=8, resolution=(20, 20), position=Learned1d(class_entry=False))
    torch.save({**random_state(config), "pos_embed": torch.zeros(1, 25, 192)}, tmp_path / "m.pth")
    with pytest.raises(BadInput, match="25 positions may be 5 x 5 and 0 before them or 4 x 4 and 9 before them"):
        read_pretrained(tmp_path / "m.pth")
    assert read_pretrained(tmp_path / "m.pth", resolution=16).config.resolution == (16, 16)


class Unknown:
    """A class that is not on the list."""


@pytest.mark.parametrize(
    ("saved", "sentence"),
    [
        ({"model": under(""), "x": Unknown()}, r"test_checkpoint_layouts\.Unknown"),
        ({"a": under(""), "b": under("")}, "several models, 'a', 'b'"),
        ({**under("backbone."), "classifier.weight": torch.ones(3, 192)}, "'classifier.weight' beside the model"),
        ({"model": {"epoch": torch.ones(1)}}, "neither a ViT nor"),
    ],
    ids=["object", "two models", "a classifier outside", "no ViT"],
)
def test_what_cannot_be_told_is_refused_by_name(saved: Any, sentence: str, tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "m.pth")
    with pytest.raises(BadInput, match=sentence) as problem:
        vitrail.load(tmp_path / "m.pth")
    assert "\x1b" not in str(problem.value)
    assert "\n" not in str(problem.value)


def test_decoders_and_heads_of_pre_training_are_left_out(tmp_path: Path) -> None:
    beside = {"decoder_embed.weight": torch.ones(2), "mask_token": torch.ones(1), "head.mlp.0.weight": torch.ones(2)}
    torch.save({"model": {**HEADLESS, **beside}}, tmp_path / "m.pth")
    read = read_pretrained(tmp_path / "m.pth")
    assert set(read.left_over) == set(beside)
    assert read.config.num_classes == 0


def test_positions_of_registers_are_added_to_the_registers(tmp_path: Path) -> None:
    config = replace(TIMM, registers=2, position=Learned1d(class_entry=True))
    state = random_state(config)
    extra = torch.randn(1, 2, 192)
    table = torch.cat([state["pos_embed"][:, :1], extra, state["pos_embed"][:, 1:]], dim=1)
    torch.save({**state, "pos_embed": table}, tmp_path / "m.pth")
    read = read_pretrained(tmp_path / "m.pth")
    assert torch.equal(read.state["reg_token"], state["reg_token"] + extra)
    assert torch.equal(read.state["pos_embed"], state["pos_embed"])


def test_two_files_of_weights_in_a_folder_must_agree(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224"}))
    torch.save(random_state(TIMM), tmp_path / "pytorch_model.bin")
    torch.save({n: t + 1 for n, t in random_state(TIMM).items()}, tmp_path / "model.pth")
    with pytest.raises(BadInput, match=r"pytorch_model\.bin and model\.pth hold different weights"):
        vitrail.load(tmp_path)


ARGUMENTS: list[dict[str, Any]] = [{"use_rot_pos_emb": True}, {"pre_norm": True}, {"in_chans": 1}, {"reg_tokens": 4}]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_an_argument_that_is_not_understood_or_not_true_is_refused(arguments: dict[str, Any], tmp_path: Path) -> None:
    about = {"architecture": "vit_tiny_patch16_224", "model_args": arguments}
    (tmp_path / "config.json").write_text(json.dumps(about))
    torch.save(random_state(TIMM), tmp_path / "model.pth")
    ((name, value),) = arguments.items()
    with pytest.raises(BadInput, match=f"{name} {value!r}"):
        vitrail.load(tmp_path)


def test_a_model_of_grey_images_reads_photographs_as_grey(tmp_path: Path) -> None:
    grey = replace(TIMM, channels=1, pool=AveragePool(class_token=True))
    torch.save(dict(random_state(replace(TIMM, channels=1)).items()), tmp_path / "m.pth")
    assert read_pretrained(tmp_path / "m.pth").config.channels == grey.channels == 1
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "colour.png")
    Image.fromarray(colours).convert("L").save(tmp_path / "grey.png")
    one, two = vitrail.Predictor(tmp_path / "m.pth").predict([str(tmp_path / f"{n}.png") for n in ("colour", "grey")])
    assert [x.probability for x in one] == pytest.approx([x.probability for x in two], abs=1e-6)


def test_a_model_of_four_channels_computes_and_refuses_photographs(tmp_path: Path) -> None:
    torch.save(random_state(replace(TIMM, channels=4)), tmp_path / "m.pth")
    model = vitrail.load(tmp_path / "m.pth")
    assert model(torch.zeros(1, 4, 16, 16)).logits.shape == (1, 3)
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    with pytest.raises(BadInput, match="reads 4 channels"):
        vitrail.Predictor(tmp_path / "m.pth").predict([str(tmp_path / "a.png")])


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitrail.weights import bundle, convert

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle, "write_safetensors", full)
    torch.save(random_state(TIMM), tmp_path / "m.pth")
    with pytest.raises(BadInput, match="could not be written.*No space left"):
        convert.convert(tmp_path / "m.pth", tmp_path / "out", "bundle")
    assert not (tmp_path / "out").exists()


# torchvision's names

TORCHVISION: list[Callable[[str], str]] = [
    lambda n: f"heads.head.{n}",
    lambda n: f"heads.{n}",
    lambda n: f"heads.1.{n}",
]


@pytest.mark.parametrize("head", TORCHVISION)
def test_torchvisions_names(head: Callable[[str], str], tmp_path: Path) -> None:
    parts = {
        "cls_token": "class_token",
        "pos_embed": "encoder.pos_embedding",
        "patch_embed.proj": "conv_proj",
        "blocks.": "encoder.layers.encoder_layer_",
        "norm1": "ln_1",
        "norm2": "ln_2",
        "mlp.fc1": "mlp.0",
        "mlp.fc2": "mlp.3",
        "attn.qkv.": "self_attention.in_proj_",
        "attn.proj": "self_attention.out_proj",
    }
    named = {}
    for name, tensor in build(TIMM).state_dict().items():
        ours = name
        for part, theirs in parts.items():
            name = name.replace(part, theirs)
        name = name.replace("norm.", "encoder.ln.") if ours.startswith("norm.") else name
        named[head(name.removeprefix("head.")) if ours.startswith("head.") else name] = tensor
    torch.save(named, tmp_path / "m.pth")
    read = read_pretrained(tmp_path / "m.pth")
    assert read.config == TIMM
    assert read.preprocess.mean == (0.485, 0.456, 0.406)
    torch.save({**named, "heads.7.weight": torch.ones(3, 3)}, tmp_path / "m.pth")
    with pytest.raises(BadInput, match="several layers under 'heads'"):
        read_pretrained(tmp_path / "m.pth")
