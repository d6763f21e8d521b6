"""What published files do differently: prefixes, stacked blocks, other number types, wrappers of training scripts."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import vitrail
from vitrail.core.errors import BadInput
from vitrail.models.build import ModelConfig, build
from vitrail.models.head import AttentionPool
from vitrail.models.position import Learned1d
from vitrail.models.resnet import BIT, ResNetConfig, Stages
from vitrail.models.vit import ViTConfig
from vitrail.weights.bit import write_bit
from vitrail.weights.google import BEFORE_LINEN, LINEN, layout, write_google
from vitrail.weights.key_map import write
from vitrail.weights.load import read_pretrained

PLAIN = ViTConfig(patch=4, width=16, depth=3, heads=2, mlp=32, resolution=(16, 16), num_classes=3, hidden=8)
POOLED = replace(PLAIN, pool=AttentionPool(), hidden=None)
TOWER = replace(POOLED, num_classes=0)
HYBRID = replace(PLAIN, patch=1, backbone=Stages(units=(1, 2), width=32), resolution=(32, 32))
BITS = ResNetConfig(replace(BIT, units=(1, 11), width=32), (224, 224), num_classes=3)  # more units than one digit

Arrays = dict[str, np.ndarray]


def random_state(config: ModelConfig) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn_like(tensor) for name, tensor in build(config).state_dict().items()}


def arrays_of(config: ModelConfig) -> Arrays:
    state = random_state(config)
    tensors = write_bit(config, state) if isinstance(config, ResNetConfig) else write_google(config, state)
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def same_state(path: Path, config: ModelConfig, **how: Any) -> bool:
    published = read_pretrained(path, **how)
    wanted = random_state(config)
    assert published.config == config
    assert published.state.keys() == wanted.keys()
    return all(torch.equal(tensor, wanted[name]) for name, tensor in published.state.items())


# Google's and big_vision's


def prefixed(prefix: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {prefix + name.removeprefix("params/"): array for name, array in arrays.items()}


def scanned(arrays: Arrays) -> Arrays:
    """All blocks in one array each, as flax's scan leaves them."""
    block = "Transformer/encoderblock_"
    apart = {name: array for name, array in arrays.items() if block not in name}
    for name in arrays:
        if f"{block}0/" in name:
            parts = [arrays[name.replace(f"{block}0/", f"{block}{i}/")] for i in range(3)]
            apart[name.replace(f"{block}0/", "Transformer/encoderblock/")] = np.stack(parts)
    return apart


def scales_of_four(arrays: Arrays) -> Arrays:
    """Old files keep the scales and biases of group norms as [1, 1, 1, C]."""
    return {n: a.reshape(1, 1, 1, -1) if "/gn" in n or n.startswith("gn_root") else a for n, a in arrays.items()}


def inlined(arrays: Arrays) -> Arrays:
    """Early files with attention pooling have the parts of that head among the model's own."""
    return {name.replace("MAPHead_0/", ""): array for name, array in arrays.items()}


def beside(arrays: Arrays) -> Arrays:
    return {**prefixed("opt/target/")(arrays), "opt/state/step": np.array(3), "extra/rng": np.zeros(2, np.uint32)}


FILES: dict[str, tuple[ModelConfig, Callable[[Arrays], Arrays]]] = {
    "as released": (PLAIN, lambda arrays: arrays),
    "params/": (PLAIN, prefixed("params/")),
    "opt/target/, and the optimizer's": (PLAIN, beside),
    "one of two towers": (TOWER, prefixed("params/img/")),
    "img/": (TOWER, prefixed("img/")),
    "scanned": (POOLED, scanned),
    "scanned, without params/": (POOLED, lambda arrays: scanned(prefixed("")(arrays))),
    "parts of attention pooling inlined": (POOLED, inlined),
    "scales of four dimensions": (HYBRID, scales_of_four),
    "float64": (PLAIN, lambda arrays: {name: array.astype(np.float64) for name, array in arrays.items()}),
    "big-endian": (PLAIN, lambda arrays: {name: array.astype(">f4") for name, array in arrays.items()}),
    "Fortran's order": (PLAIN, lambda arrays: {name: np.asfortranarray(array) for name, array in arrays.items()}),
    "BiT with units of two digits": (BITS, lambda arrays: arrays),
    "BiT with units of one digit": (BITS, lambda arrays: {n.replace("/unit0", "/unit"): a for n, a in arrays.items()}),
}


@pytest.mark.parametrize("case", FILES)
def test_the_same_weights_under_other_names(case: str, tmp_path: Path) -> None:
    config, change = FILES[case]
    arrays = change(arrays_of(config))
    np.savez(tmp_path / "model.npz", **arrays)
    assert same_state(tmp_path / "model.npz", config)


@pytest.mark.parametrize("vintage", [BEFORE_LINEN, LINEN], ids=["before linen", "linen"])
@pytest.mark.parametrize("positions", ["Transformer/posembed_input/pos_embedding", "pos_embedding"])
def test_both_vintages_of_block_names(vintage: Any, positions: str, tmp_path: Path) -> None:
    tensors = write(layout(PLAIN, vintage, positions), random_state(PLAIN))
    assert any(vintage.attention in name for name in tensors)
    np.savez(tmp_path / "model.npz", **{name: tensor.numpy() for name, tensor in tensors.items()})
    assert same_state(tmp_path / "model.npz", PLAIN)


def test_names_that_are_no_part_of_the_model_are_left_over(tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", **beside(arrays_of(PLAIN)))
    assert read_pretrained(tmp_path / "model.npz").left_over == ("extra/rng", "opt/state/step")


@pytest.mark.parametrize("config", [PLAIN, POOLED, BITS], ids=["vit_jax", "big_vision", "BiT"])
def test_bfloat16_that_numpy_calls_two_bytes_without_a_type(config: ModelConfig, tmp_path: Path) -> None:
    halved = {n: torch.from_numpy(array).bfloat16() for n, array in arrays_of(config).items()}
    np.savez(tmp_path / "model.npz", **{n: t.view(torch.int16).numpy().view("V2") for n, t in halved.items()})
    assert {array.dtype.str for array in np.load(tmp_path / "model.npz").values()} == {"|V2"}
    state = read_pretrained(tmp_path / "model.npz").state
    wanted = random_state(config)
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert all(torch.equal(state[name], tensor.bfloat16().float()) for name, tensor in wanted.items())


@pytest.mark.parametrize("kind", ["complex64", "U3", "longdouble"])
def test_arrays_that_torch_has_no_numbers_for_are_refused(kind: str, tmp_path: Path) -> None:
    arrays = {**arrays_of(PLAIN), "head/bias": np.ones(3).astype(kind)}
    np.savez(tmp_path / "model.npz", **arrays)
    with pytest.raises(BadInput, match=r"model\.npz: 'head/bias' holds .* no numbers"):
        vitrail.load(tmp_path / "model.npz")


# .pth

DINO = ViTConfig(
    patch=4, width=192, depth=2, heads=3, mlp=32, resolution=(16, 16), num_classes=3, gelu="exact", registers=2,
    layer_scale=1e-5, position=Learned1d(),
)  # fmt: skip
GATED = replace(DINO, gated=True)
TIMM = ViTConfig(patch=4, width=192, depth=2, heads=3, mlp=32, resolution=(16, 16), num_classes=3, gelu="exact")
NUMBER = torch.tensor(3)

WRAPPERS: dict[str, Callable[[dict[str, Tensor]], Mapping[str, Any]]] = {
    "bare": lambda state: state,
    "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}, "epoch": 3},
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "arch": "vit"},
    "teacher": lambda state: {"teacher": state, "student": {}},
    "average before the last": lambda state: {"model": {n: t + 1 for n, t in state.items()}, "model_ema": state},
    "timm's average": lambda state: {"state_dict": {n: t + 1 for n, t in state.items()}, "state_dict_ema": state},
    "a teacher's backbone, without the heads beside it": lambda state: {
        "teacher": {**{f"backbone.{n}": t for n, t in state.items()}, "head.mlp.0.weight": torch.ones(3, 3)},
        "student": {f"module.backbone.{n}": t + 1 for n, t in state.items()},
    },
    "two wrappers": lambda state: {"model": {"state_dict": state}},
    "of many processes": lambda state: {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
}


@pytest.mark.parametrize("case", WRAPPERS)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
def test_a_state_dict_is_found_where_a_training_script_put_it(case: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    torch.save(WRAPPERS[case](random_state(TIMM)), path)
    assert same_state(path, TIMM)


def test_the_older_format_of_torch(tmp_path: Path) -> None:
    torch.save(random_state(TIMM), tmp_path / "model.pth", _use_new_zipfile_serialization=False)
    assert same_state(tmp_path / "model.pth", TIMM)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_meta_s_names_of_dinov2(suffix: str, tmp_path: Path) -> None:
    """`register_tokens`, `mlp.w12`, and a mask token that is no part of the classifier."""
    theirs = {"reg_token": "register_tokens"}
    state = {theirs.get(n, n).replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): t
             for n, t in random_state(GATED).items()}  # fmt: skip
    state["mask_token"] = torch.zeros(1, 192)
    path = tmp_path / f"model{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    published = read_pretrained(path)
    wanted = random_state(GATED)
    assert published.left_over == ("mask_token",)
    assert published.state.keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in published.state.items())
    assert isinstance(published.config, ViTConfig)
    assert (published.config.registers, published.config.gated, published.config.mlp) == (2, True, 32)


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    for kind in (torch.bfloat16, torch.float16):
        torch.save({name: tensor.to(kind) for name, tensor in random_state(TIMM).items()}, tmp_path / "model.pth")
        state = read_pretrained(tmp_path / "model.pth").state
        assert {tensor.dtype for tensor in state.values()} == {torch.float32}
        assert all(torch.equal(state[n], t.to(kind).float()) for n, t in random_state(TIMM).items())


def test_heads_that_nothing_says_are_taken_from_a_named_model(tmp_path: Path) -> None:
    """No published shape is 96 wide; with so many heads as S/16 has, each is 16 wide."""
    config = replace(TIMM, width=96, heads=6)
    torch.save(random_state(config), tmp_path / "model.pth")
    advice = r"how many heads a model of width 96 has: .* `vitrail convert FILE FOLDER --model S/16 --resolution 224`"
    with pytest.raises(BadInput, match=advice):
        read_pretrained(tmp_path / "model.pth")
    assert same_state(tmp_path / "model.pth", config, model="S/16")


def test_weights_of_transformers_without_their_config_ask_for_the_folder(tmp_path: Path) -> None:
    save_file({"vit.embeddings.patch_embeddings.projection.weight": torch.ones(3)}, tmp_path / "x.safetensors")
    with pytest.raises(BadInput, match=r"weights of transformers without their config\.json: give the folder"):
        vitrail.load(tmp_path / "x.safetensors")


def test_meta_s_names_of_deit_iii(tmp_path: Path) -> None:
    """`gamma_1` and `gamma_2` are what we call layer scale."""
    scaled = replace(TIMM, layer_scale=1e-5)
    theirs = {n.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): t
              for n, t in random_state(scaled).items()}  # fmt: skip
    assert "blocks.1.gamma_2" in theirs
    torch.save({"model": theirs}, tmp_path / "deit_3.pth")
    assert same_state(tmp_path / "deit_3.pth", scaled)


def test_the_head_of_a_tower_of_two_is_left_over(tmp_path: Path) -> None:
    """It projects to what image and text share; its outputs are no classes."""
    np.savez(tmp_path / "two.npz", **prefixed("params/img/")(arrays_of(POOLED)))
    published = read_pretrained(tmp_path / "two.npz")
    assert published.config == TOWER
    assert published.left_over == ("head/bias", "head/kernel")
    with pytest.raises(BadInput, match=r"two\.npz has no classifier"):
        vitrail.Predictor(tmp_path / "two.npz")


UNKNOWN = {
    "Google's": (PLAIN, "Transformer/encoderblock_1/LayerScale_0/scale"),
    "a hybrid's": (HYBRID, "block1/unit1/conv4/kernel"),
    "big_vision's": (POOLED, "params/MAPHead_0/LayerNorm_1/scale"),
    "BiT's": (BITS, "resnet/block1/unit01/d/standardized_conv2d/kernel"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_an_unknown_weight_of_the_model_itself_is_refused_and_one_beside_it_left_over(
    case: str, tmp_path: Path
) -> None:
    config, name = UNKNOWN[case]
    np.savez(tmp_path / "beside.npz", **arrays_of(config), **{"opt/step": np.ones(1, np.float32)})
    assert read_pretrained(tmp_path / "beside.npz").left_over == ("opt/step",)
    np.savez(tmp_path / "inside.npz", **arrays_of(config), **{name: np.ones(3, np.float32)})
    with pytest.raises(BadInput, match=rf"inside\.npz has the weights '{name}', which no .* of its shape has"):
        read_pretrained(tmp_path / "inside.npz")


# a file beside its config.json


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin", "model.pth", "model.safetensors.index.json"]
)
def test_weights_beside_their_config_are_read_with_it(name: str, tmp_path: Path) -> None:
    """No shape says that this width has four heads and the other GELU."""
    config = replace(TIMM, heads=4, gelu="tanh")
    about = {"architecture": "vit_tiny_patch16_224", "model_args": {"num_heads": 4, "act_layer": "gelu_tanh"}}
    (tmp_path / "config.json").write_text(json.dumps(about))
    state = random_state(config)
    if name.endswith(".json"):
        save_file(state, tmp_path / "part.safetensors")
        (tmp_path / name).write_text(json.dumps({"weight_map": dict.fromkeys(state, "part.safetensors")}))
    else:
        save_file(state, tmp_path / name) if name.endswith(".safetensors") else torch.save(state, tmp_path / name)
    assert same_state(tmp_path / name, config)


def test_a_config_of_something_else_says_nothing_of_a_state_dict(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"job": "pretrain"}')
    torch.save(random_state(TIMM), tmp_path / "model.pth")
    assert same_state(tmp_path / "model.pth", TIMM)
