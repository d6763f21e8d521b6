"""Files that pose as weights: each is refused with a sentence that names it, nothing runs, little is allocated."""

import copy
import hashlib
import json
import os
import pickle
import struct
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import vitrail
from tests.memory import forget_peak, resident
from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.build import build
from vitrail.models.resnet import BIT, ResNetConfig
from vitrail.models.vit import ViTConfig
from vitrail.weights.bit import write_bit
from vitrail.weights.bundle import save_bundle
from vitrail.weights.convert import Layout, convert
from vitrail.weights.google import write_google

LIMIT = 300 << 20  # bytes that a refusal may take. Measured: at most 2 MiB
CONFIG = ViTConfig(patch=4, width=16, depth=2, heads=2, mlp=32, resolution=(16, 16), num_classes=3)
HUGE = 10**6


class Payload:
    """A pickle that leaves a mark when it is loaded."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@contextmanager
def bounded(most: float = 20) -> Iterator[None]:
    """At most LIMIT more memory (where Linux lets a process reset its own peak), and `most` seconds."""
    if not forget_peak():
        yield
        return
    before, start = resident("VmRSS"), time.perf_counter()
    yield
    grown, seconds = resident() - before, time.perf_counter() - start
    print(f"{grown / 2**20:.0f} MiB, {seconds:.2f} s")
    assert grown < LIMIT
    assert seconds < most


def refused(path: Path, sentence: str | None = None) -> None:
    with bounded(), pytest.raises(BadInput, match=sentence) as problem:
        vitrail.load(path)
    assert str(path) in str(problem.value)
    assert "\n" not in str(problem.value)


def test_the_measure_of_memory_measures() -> None:
    if not resident():
        pytest.skip("no /proc")
    held = [np.ones(100_000, np.uint8) for _ in range(8000)]  # as much free memory as an earlier test may leave
    del held[:-1]
    with pytest.raises(AssertionError), bounded():
        np.ones(LIMIT + (32 << 20), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[Layout], Path]:
    """A good folder in a layout."""

    def write(layout: Layout) -> Path:
        torch.manual_seed(0)
        save_bundle(tmp_path / "bundle", build(CONFIG), Preprocess((16, 16)), ("a", "b", "c"), {})
        if layout != "bundle":
            convert(tmp_path / "bundle", tmp_path / layout, layout)
        return tmp_path / layout

    return write


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


# nothing runs


def evil_folder(path: Path, weights: str, evil: Payload, about: dict[str, Any]) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(about))
    torch.save({"head.weight": evil}, path / weights)
    return path


def evil_bundle(path: Path, evil: Payload) -> Path:
    save_bundle(path, build(CONFIG), Preprocess((16, 16)), ("a", "b", "c"), {})
    content = pickle.dumps(evil)
    (path / "model.safetensors").write_bytes(content)
    edit(path / "config.json", lambda about: about.update(weights_sha256=hashlib.sha256(content).hexdigest()))
    return path


def saved(path: Path, evil: object, **how: Any) -> Path:
    torch.save(evil, path, **how)
    return path


def dumped(path: Path, evil: object) -> Path:
    path.write_bytes(pickle.dumps(evil))
    return path


def objects(path: Path, evil: Payload) -> Path:
    array = np.empty(1, dtype=object)
    array[0] = evil
    np.savez(path, **{"embedding/kernel": array})
    return path


TIMM = {"architecture": "vit_tiny_patch16_224", "num_classes": 3}
PICKLES: dict[str, Callable[[Path, Payload], Path]] = {
    "pickle.pth": lambda at, evil: dumped(at / "model.pth", evil),
    "pickle.bin": lambda at, evil: dumped(at / "model.bin", {"head.weight": evil}),
    "pickle.safetensors": lambda at, evil: dumped(at / "model.safetensors", evil),
    "pickle.npz": lambda at, evil: dumped(at / "model.npz", evil),
    "torch.pth": lambda at, evil: saved(at / "model.pth", {"model": evil}),
    "torch.pth, among tensors": lambda at, evil: saved(at / "m.pth", {"head.bias": torch.zeros(3), "x": evil}),
    "torch.pth, legacy": lambda at, evil: saved(at / "m.pth", {"x": evil}, _use_new_zipfile_serialization=False),
    "torch.pt, a module": lambda at, evil: saved(at / "model.pt", torch.nn.Linear(2, 2)),
    "torch.safetensors": lambda at, evil: saved(at / "model.safetensors", {"head.weight": evil}),
    "torch.npz": lambda at, evil: saved(at / "model.npz", {"head.weight": evil}),
    "objects.npz": lambda at, evil: objects(at / "model.npz", evil),
    "timm's folder": lambda at, evil: evil_folder(at / "f", "model.safetensors", evil, TIMM),
    "timm's older folder": lambda at, evil: evil_folder(at / "f", "pytorch_model.bin", evil, TIMM),
    "transformers' folder": lambda at, evil: evil_folder(at / "f", "model.safetensors", evil, {"model_type": "vit"}),
    "transformers' older": lambda at, evil: evil_folder(at / "f", "pytorch_model.bin", evil, {"model_type": "vit"}),
    "a bundle": lambda at, evil: evil_bundle(at / "f", evil),
}


@pytest.mark.parametrize("case", PICKLES)
def test_nothing_in_a_file_runs(case: str, tmp_path: Path) -> None:
    evil = Payload(tmp_path / "mark")
    refused(PICKLES[case](tmp_path, evil))
    assert not evil.mark.exists()


def test_the_payload_would_have_left_its_mark(tmp_path: Path) -> None:
    path = PICKLES["torch.pth"](tmp_path, Payload(tmp_path / "mark"))
    torch.load(path, weights_only=False)
    assert (tmp_path / "mark").exists()


# files that are not whole


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".npz"])
def test_truncated_files(suffix: str, share: float, tmp_path: Path) -> None:
    state = build(CONFIG).state_dict()
    whole = tmp_path / f"whole{suffix}"
    match suffix:
        case ".safetensors":
            save_file(state, whole)
        case ".pth":
            torch.save(state, whole)
        case _:
            np.savez(whole, **{name: tensor.numpy() for name, tensor in state.items()})
    content = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(content[: int(share * len(content))])
    refused(cut, "is not a whole|is empty")


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}, 16),
        ({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 16]}}, 16),
        ({"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 32]}}, 16),
        ({"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}, 16),
        ({"a": {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 0]}}, 0),
        ({"a": {"dtype": "O", "shape": [4], "data_offsets": [0, 16]}}, 16),
        ({"a": {}}, 16),
        ([], 16),
    ],
    ids=str,
)
def test_headers_of_safetensors_that_lie(header: object, data: int, tmp_path: Path) -> None:
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(data))
    refused(path, "is not a whole safetensors file")


# .npz that grow


def npy(shape: tuple[int, ...], version: int = 1, length: int | None = None) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + text


def deflated(path: Path, start: bytes, zeros: int, *, says: int | None = None, members: int = 1) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(members):
            with archive.open(f"{i}.npy", "w", force_zip64=True) as member:
                member.write(start)
                for _ in range(zeros >> 20):
                    member.write(bytes(1 << 20))
        if says is not None:
            archive.infolist()[0].file_size = says
    return path


BOMB = 400 << 20
BOMBS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "an honest array of zeros": (lambda p: deflated(p, npy((BOMB >> 2,)), BOMB), "would unpack to 0.4 GiB, more than"),
    "many small ones": (lambda p: deflated(p, npy((1 << 22,)), 16 << 20, members=25), "would unpack to 0.4 GiB"),
    "an array that claims more than it holds": (lambda p: deflated(p, npy((10**12,)), 1 << 20), "its header says 4000"),
    "a header as long as the file": (
        lambda p: deflated(p, npy((3,), version=2, length=(200 << 20)), 200 << 20),
        "has a header of 209,715,200 bytes",
    ),
    "a header that is longer": (
        lambda p: deflated(p, npy((3,), version=2, length=2**32 - 1), 1 << 20),
        "has a header of",
    ),
    "a member that is longer than it says": (
        lambda p: deflated(p, npy((BOMB >> 2,)), BOMB, says=1000),
        "not a whole .npz file: Bad CRC",
    ),
    "a negative shape": (lambda p: deflated(p, npy((-1, -(1 << 18))), 1 << 20), "not a whole .npz"),
    "no numbers at all": (lambda p: deflated(p, b"", 1 << 20), "not a whole .npz"),
}


@pytest.mark.parametrize("case", BOMBS)
def test_npz_that_would_fill_the_memory(case: str, tmp_path: Path) -> None:
    write, sentence = BOMBS[case]
    refused(write(tmp_path / "model.npz"), sentence)


# .pth that grow


def rewritten(path: Path, state: object, old: bytes, new: bytes) -> Path:
    """A file of torch whose pickle says something else."""
    torch.save(state, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    assert members[name].count(old) == 1
    members[name] = members[name].replace(old, new)
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return path


def squeezed(path: Path, size: int) -> Path:
    """torch never compresses its files; this one is."""
    torch.save({"head.weight": torch.zeros(4)}, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/data/1", "w") as member:
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))
    return path


ONE = torch.zeros(1)
PTH: dict[str, tuple[Callable[[Path], Path], str]] = {
    "one number as 4 TB": (lambda p: saved(p, {"head.weight": ONE.expand(HUGE, HUGE)}), "claim 3725.3 GiB"),
    "in a wrapper": (lambda p: saved(p, {"state_dict": {"x": ONE.expand(HUGE, HUGE)}}), "claim 3725.3 GiB"),
    "thousands of views": (lambda p: saved(p, {str(i): ONE.expand(10**6) for i in range(3000)}), "claim 11.2 GiB"),
    "a shape beyond its storage": (
        lambda p: rewritten(p, {"w": torch.zeros(5, 7)}, b"K\x05K\x07\x86", b"J\x00\x00\x00\x40J\x00\x00\x00\x40\x86"),
        "not a whole file of torch",
    ),
    "compressed": (lambda p: squeezed(p, BOMB), "would unpack to 0.4 GiB"),
    "sparse": (
        lambda p: saved(p, {"head.weight": ONE.to_sparse()}),
        "is not a plain tensor|not a whole|more than tensors",
    ),
    "no tensors": (lambda p: saved(p, {"epoch": 3}), "holds no tensors by name"),
    "no state dict": (lambda p: saved(p, "a text"), "holds a str, expected a state dict"),
}


@pytest.mark.parametrize("case", PTH)
def test_pth_that_would_fill_the_memory(case: str, tmp_path: Path) -> None:
    write, sentence = PTH[case]
    refused(write(tmp_path / "model.pth"), sentence)


# configs that ask for too much, or for something else

ASKING: list[tuple[Layout, str, Any, str]] = [
    ("bundle", "model.width", HUGE * 2, "asks for [0-9,]{13,} parameters, the file holds"),
    ("bundle", "model.mlp", 10**12, "asks for [0-9,]{15,} parameters"),
    ("bundle", "model.num_classes", 10**12, "names 3 classes"),
    ("bundle", "model.depth", 10**12, "asks for 1,000,000,000,000 layers"),
    ("bundle", "model.resolution", [10**6, 10**6], "resolution of"),
    ("bundle", "model.resolution", [16_000, 16_000], "asks for [0-9,]{9,} parameters"),
    ("bundle", "model.registers", 10**11, "asks for [0-9,]{13,} parameters"),
    ("bundle", "model.heads", 0, "at least 1"),
    ("bundle", "model.width", -16, "at least 1"),
    ("bundle", "model.width", "16", "expected int"),
    ("bundle", "preprocess.resize", 3, "preprocess.resize is 3"),
    ("timm", "model_args.embed_dim", HUGE, "says embed_dim 1000000, the weights have 16"),
    ("timm", "model_args.depth", HUGE, "says depth 1000000, the weights have 2"),
    ("timm", "model_args.num_heads", 10**12, "is not divisible by"),
    ("timm", "model_args.num_heads", 0, "at least 1"),
    ("timm", "model_args.img_size", -5, "not one or two positive numbers"),
    ("huggingface", "hidden_size", HUGE, "says hidden_size 1000000, the weights have 16"),
    ("huggingface", "num_hidden_layers", HUGE, "says num_hidden_layers 1000000, the weights have 2"),
    ("huggingface", "intermediate_size", HUGE, "says intermediate_size 1000000, the weights have 32"),
    ("huggingface", "num_attention_heads", 10**12, "is not divisible by"),
    ("huggingface", "image_size", 10**6, "resolution of"),
    ("huggingface", "image_size", 16_000, "asks for [0-9,]{9,} parameters"),
    ("huggingface", "patch_size", 1, "says patch_size 1, the weights have 4"),
]


@pytest.mark.parametrize(("layout", "key", "value", "sentence"), ASKING, ids=lambda value: str(value)[:30])
def test_configs_that_ask_for_too_much(
    layout: Layout, key: str, value: Any, sentence: str, folder: Callable[[Layout], Path]
) -> None:
    path = folder(layout)
    edit(path / "config.json", lambda about: put(about, key, value))
    refused(path, sentence)


def put(tree: Any, key: str, value: Any) -> None:
    *above, last = key.split(".")
    for part in above:
        tree = tree[part]
    assert last in tree
    tree[last] = value


def leaves(tree: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in tree.items():
        yield (*where, key)
        if isinstance(value, dict):
            yield from leaves(value, (*where, key))


ODD = [None, True, -1, 0, 0.5, 10**12, "x", [], [1], ["a", "b"], {"a": 1}]
FILES: list[tuple[Layout, str]] = [
    ("bundle", "config.json"),
    ("timm", "config.json"),
    ("huggingface", "config.json"),
    ("huggingface", "preprocessor_config.json"),
]


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])  # of the odd values, of each key others
@pytest.mark.parametrize(("layout", "file"), FILES)
def test_whatever_stands_in_a_config_it_is_read_or_refused_with_a_sentence(
    layout: Layout, file: str, every: int, folder: Callable[[Layout], Path]
) -> None:
    path = folder(layout)
    good = json.loads((path / file).read_text())
    refusals = 0
    with bounded(most=120):  # of hundreds of folders
        for number, keys in enumerate(leaves(good)):
            for value in ODD[number % every :: every]:
                about = copy.deepcopy(good)
                put(about, ".".join(keys), value)
                (path / file).write_text(json.dumps(about))
                try:
                    vitrail.load(path)
                except BadInput:
                    refusals += 1
                except Exception as problem:
                    raise AssertionError(f"{keys} = {value!r}: {problem!r}") from problem
    print(f"{layout}/{file}: {refusals} refused")
    assert refusals > 20


JSON = {
    "not JSON": ("{", "is not valid JSON"),
    "no object": ("[1, 2]", "holds no object"),
    "neither": ("{}", "has neither 'model'"),
    "brackets": ("[" * 200_000, "is not valid JSON"),
    "a long number": ('{"model": ' + "9" * 5000 + "}", "is not valid JSON"),
    "another kind": ('{"model_type": "gpt2"}', "a transformers model of type 'gpt2'; read are vit"),
}


@pytest.mark.parametrize("case", JSON)
def test_configs_that_are_none(case: str, folder: Callable[[Layout], Path]) -> None:
    path, (text, sentence) = folder("timm"), JSON[case]
    (path / "config.json").write_text(text)
    refused(path, sentence)


# weights that do not fit, or are no numbers


def change_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = path / "model.safetensors"
    tensors = load_file(weights)
    change(tensors)
    save_file(tensors, weights)
    if "weights_sha256" in json.loads((path / "config.json").read_text()):
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        edit(path / "config.json", lambda about: about.update(weights_sha256=digest))


NORM = {"bundle": "norm.bias", "timm": "norm.bias", "huggingface": "vit.layernorm.bias"}
POSITIONS = {"bundle": "pos_embed", "timm": "pos_embed", "huggingface": "vit.embeddings.position_embeddings"}


@pytest.mark.parametrize("layout", ["bundle", "timm", "huggingface"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(layout: Layout, number: float, folder: Callable[[Layout], Path]) -> None:
    path = folder(layout)
    change_weights(path, lambda tensors: tensors[NORM[layout]].fill_(number))
    refused(path, r"'norm\.bias' hold NaN or infinity")


@pytest.mark.parametrize("layout", ["bundle", "timm", "huggingface"])
def test_weights_of_another_shape(layout: Layout, folder: Callable[[Layout], Path]) -> None:
    path = folder(layout)
    change_weights(path, lambda tensors: tensors.update({NORM[layout]: torch.zeros(17)}))
    refused(path, r"'norm\.bias' has the shape \(17,\), expected \(16,\)")


@pytest.mark.parametrize("layout", ["bundle", "timm", "huggingface"])
def test_weights_that_are_missing_or_unknown(layout: Layout, folder: Callable[[Layout], Path]) -> None:
    path = folder(layout)
    change_weights(path, lambda tensors: tensors.update({"surprise": torch.zeros(3)}))
    refused(path, "'surprise'")
    change_weights(path, lambda tensors: (tensors.pop("surprise"), tensors.pop(NORM[layout])))
    refused(path, r"norm\.bias")


@pytest.mark.parametrize("layout", ["bundle", "timm", "huggingface"])
def test_every_tensor_of_another_kind_is_read_or_refused(layout: Layout, folder: Callable[[Layout], Path]) -> None:
    path = folder(layout)
    good = load_file(path / "model.safetensors")
    shapes = [(), (0,), (1,), (3, 3), (1, 1, 1, 1, 1)]
    for name in good:
        for shape in shapes:
            change_weights(path, lambda tensors, name=name, shape=shape: tensors.update({name: torch.zeros(shape)}))
            with pytest.raises(BadInput):
                vitrail.load(path)
        change_weights(path, lambda tensors, name=name: tensors.update({name: good[name]}))
    vitrail.load(path)


# several files


@pytest.mark.parametrize("name", ["../model.safetensors", "{outside}", "sub/model.safetensors", "..", ""])
def test_an_index_names_only_files_beside_it(name: str, folder: Callable[[Layout], Path], tmp_path: Path) -> None:
    path = folder("timm")
    outside = tmp_path / "model.safetensors"
    (path / "model.safetensors").rename(outside)
    (path / "sub").mkdir()
    (path / "sub" / "model.safetensors").write_bytes(outside.read_bytes())
    named = name.format(outside=outside)
    weight_map = dict.fromkeys(load_file(outside), named)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    refused(path, "does not lie beside it|is missing")
    (path / "model-1.safetensors").write_bytes(outside.read_bytes())
    edit(path / "model.safetensors.index.json", lambda index: index.update(weight_map={"a": "model-1.safetensors"}))
    vitrail.load(path)


@pytest.mark.parametrize("index", [[], {}, {"weight_map": []}, {"weight_map": {"a": 3}}, {"weight_map": {}}], ids=str)
def test_an_index_that_is_none(index: object, folder: Callable[[Layout], Path]) -> None:
    path = folder("timm")
    (path / "model.safetensors").unlink()
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(path)


# .npz whose names or shapes ask for too much


def google(change: Callable[[dict[str, np.ndarray]], object], config: ViTConfig = CONFIG) -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    arrays = {n: t.numpy() for n, t in write_google(config, build(config).state_dict()).items()}
    change(arrays)
    return arrays


def bit(change: Callable[[dict[str, np.ndarray]], object]) -> dict[str, np.ndarray]:
    config = ResNetConfig(replace(BIT, units=(1, 1), width=32), (32, 32), num_classes=3)
    torch.manual_seed(0)
    arrays = {n: t.numpy() for n, t in write_bit(config, build(config).state_dict()).items()}
    change(arrays)
    return arrays


NUMBER = np.zeros(1, np.float32)
SCANNED = "Transformer/encoderblock/LayerNorm_0/bias"
ROOT = {"conv_root/kernel": np.zeros((7, 7, 3, 32), np.float32)}
NPZ: dict[str, tuple[Callable[[], dict[str, np.ndarray]], str]] = {
    "200 million layers of nothing": (
        lambda: google(lambda a: a.update({SCANNED: np.zeros((200_000_000, 0), np.int8)})),
        r"has the shape \(200000000, 0\), expected up to 1000 blocks first",
    ),
    "millions of layers of one byte": (
        lambda: google(lambda a: a.update({SCANNED: np.zeros((20_000_000, 1), np.int8)})),
        r"has the shape \(20000000, 1\), expected up to 1000 blocks first",
    ),
    "a hybrid's block of a large number": (
        lambda: google(lambda a: a.update({**ROOT, "block99999999999/unit1/conv1/kernel": NUMBER})),
        "its names count a block 99999999999; a ResNet's are 1 to 4",
    ),
    "a hybrid's block 0": (
        lambda: google(lambda a: a.update({**ROOT, "block0/unit1/conv1/kernel": NUMBER})),
        "its names count a block 0; a ResNet's are 1 to 4",
    ),
    "BiT's block of a large number": (
        lambda: bit(lambda a: a.update({"resnet/block99999999999/unit01/a/group_norm/gamma": NUMBER})),
        "its names count a block 99999999999; a ResNet's are 1 to 4",
    ),
    "patches of no pixels": (
        lambda: google(lambda a: a.update({"embedding/kernel": np.zeros((0, 0, 3, 16), np.float32)})),
        r"the patch embedding has the shape \(0, 0, 3, 16\)",
    ),
    "a width that sines and cosines cannot share": (
        lambda: google(
            lambda a: a.pop("Transformer/posembed_input/pos_embedding"), replace(CONFIG, width=18, heads=2, mlp=32)
        ),
        "sin-cos positions need a width that is a multiple of 4",
    ),
}


@pytest.mark.parametrize("case", NPZ)
def test_npz_whose_names_and_shapes_ask_for_too_much(case: str, tmp_path: Path) -> None:
    arrays, sentence = NPZ[case]
    np.savez_compressed(tmp_path / "model.npz", **arrays())
    with bounded(), pytest.raises(BadInput, match=rf"model\.npz: .*{sentence}"):
        vitrail.load(tmp_path / "model.npz", resolution=16)


# state dicts with which one cannot count


def without_pixels(state: dict[str, torch.Tensor]) -> object:
    return state.update({"patch_embed.proj.weight": torch.zeros(16, 3, 0, 0)})


def quantised(state: dict[str, torch.Tensor]) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return state.update({"head.bias": torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)})


ODD_STATES: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str]] = {
    "patches of no pixels": (without_pixels, "patches of 0 x 0 pixels"),
    "norms of nothing": (lambda s: s.update({"blocks.0.attn.q_norm.weight": torch.zeros(0)}), "missing or misshapen"),
    "quantised": (quantised, "'head.bias' is not a plain tensor|more than tensors"),
}


@pytest.mark.parametrize("case", ODD_STATES)
def test_state_dicts_with_which_one_cannot_count(case: str, tmp_path: Path) -> None:
    change, sentence = ODD_STATES[case]
    torch.manual_seed(0)
    state = dict(build(CONFIG).state_dict())
    change(state)
    torch.save(state, tmp_path / "model.pth")
    refused(tmp_path / "model.pth", sentence)
