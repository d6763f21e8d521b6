"""A bundle comes back bit for bit, and whatever was done to it is noticed before it is used."""

import errno
import hashlib
import json
import os
import pickle
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vitrail
from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess
from vitrail.models.build import build
from vitrail.models.vit import ViT, ViTConfig
from vitrail.weights.bundle import read_bundle, save_bundle
from vitrail.weights.tensors import read_npz, read_safetensors

CONFIG = ViTConfig(patch=4, width=16, depth=2, heads=2, mlp=32, resolution=(8, 12), num_classes=3, hidden=8)
PREPROCESS = Preprocess((8, 12), CentreCrop(0.9), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
CLASSES = ("cat", "dog", "Æsop's fox")


def small_model() -> ViT:
    torch.manual_seed(0)
    model = build(CONFIG)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p))
    return model.eval()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    save_bundle(tmp_path / "bundle", small_model(), PREPROCESS, CLASSES, {"trained_on": "nothing", "steps": 0})
    return tmp_path / "bundle"


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((bundle / "config.json").read_text())
    change(config)
    (bundle / "config.json").write_text(json.dumps(config))


def replace_weights(bundle: Path, content: bytes) -> None:
    """Other weights whose hash config.json vouches for: an attacker can write that too."""
    (bundle / "model.safetensors").write_bytes(content)
    edit(bundle, lambda config: config.update(weights_sha256=hashlib.sha256(content).hexdigest()))


class Payload:
    """A pickle that leaves a mark when it is loaded."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_a_bundle_comes_back_bit_for_bit(bundle: Path) -> None:
    published = read_bundle(bundle)
    assert published.config == CONFIG
    assert published.preprocess == PREPROCESS
    assert published.classes == CLASSES
    assert published.provenance["trained_on"] == "nothing"
    state = small_model().state_dict()
    assert published.state.keys() == state.keys()
    assert all(torch.equal(published.state[name], tensor) for name, tensor in state.items())


def test_a_loaded_bundle_computes_the_same_and_carries_what_belongs_to_it(bundle: Path) -> None:
    model, images = vitrail.load(bundle), torch.randn(2, 3, 8, 12)
    with torch.no_grad():
        assert torch.equal(model(images).logits, small_model()(images).logits)
    assert not model.training
    assert (model.preprocess, model.classes) == (PREPROCESS, CLASSES)


def test_what_is_written_twice_is_the_same_file(bundle: Path, tmp_path: Path) -> None:
    digest = save_bundle(tmp_path / "again", small_model(), PREPROCESS, CLASSES, {})
    assert digest == json.loads((bundle / "config.json").read_text())["weights_sha256"]
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (bundle / "model.safetensors").read_bytes()


def test_a_disk_that_fails_is_an_error_of_the_system_with_the_name_of_the_file(tmp_path: Path) -> None:
    """safetensors has an exception of its own, which nobody would take for one."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large.*model\.safetensors") as raised:
            save_bundle(tmp_path / "bundle", small_model(), PREPROCESS, CLASSES, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())


def test_the_card_names_the_classes(bundle: Path) -> None:
    assert "Æsop's fox" in (bundle / "README.md").read_text(encoding="utf-8")


def test_class_names_must_be_as_many_as_classes(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="2 class names for a model of 3 classes"):
        save_bundle(tmp_path / "bundle", small_model(), PREPROCESS, ("cat", "dog"), {})
    assert not (tmp_path / "bundle").exists()


def test_one_altered_byte_of_the_weights_is_noticed(bundle: Path) -> None:
    path = bundle / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"model\.safetensors is not the file this bundle was written with"):
        read_bundle(bundle)


def test_missing_weights_are_named(bundle: Path) -> None:
    (bundle / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"model\.safetensors is missing"):
        read_bundle(bundle)


@pytest.mark.parametrize("key", ["format", "model", "preprocess", "classes", "weights_sha256"])
def test_a_missing_key_of_the_config_is_refused(bundle: Path, key: str) -> None:
    edit(bundle, lambda config: config.pop(key))
    with pytest.raises(BadInput):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("key", "value"),
    [("classes", 3), ("classes", ["cat"]), ("preprocess", []), ("model", {"widht": 3}), ("format", 2), ("model", None)],
)
def test_a_wrong_value_of_the_config_is_refused(bundle: Path, key: str, value: object) -> None:
    edit(bundle, lambda config: config.update({key: value}))
    with pytest.raises(BadInput):
        read_bundle(bundle)


def test_a_mistyped_key_of_the_config_names_the_nearest(bundle: Path) -> None:
    edit(bundle, lambda config: config["model"].update(widht=config["model"].pop("width")))
    with pytest.raises(BadInput, match="'widht'; did you mean 'width'"):
        read_bundle(bundle)


def test_an_architecture_that_the_weights_do_not_fit_is_refused(bundle: Path) -> None:
    edit(bundle, lambda config: config["model"].update(mlp=48))
    with pytest.raises(BadInput, match=r"'blocks\.0\.mlp\.fc1\.bias' has the shape \(32,\), expected \(48,\)|shape"):
        read_bundle(bundle)
    edit(bundle, lambda config: config["model"].update(mlp=32, depth=3))
    with pytest.raises(BadInput, match=r"lacks 'blocks\.2\.attn"):
        read_bundle(bundle)
    edit(bundle, lambda config: config["model"].update(depth=1))
    with pytest.raises(BadInput, match=r"unknown 'blocks\.1\.attn"):
        read_bundle(bundle)


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    model = small_model()
    with torch.no_grad():
        model.norm.bias[3] = float("nan")
    save_bundle(tmp_path / "bundle", model, PREPROCESS, CLASSES, {})
    with pytest.raises(BadInput, match=r"'norm\.bias' hold NaN"):
        read_bundle(tmp_path / "bundle")


def test_a_pickle_posing_as_safetensors_is_not_run(bundle: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    replace_weights(bundle, pickle.dumps({"head.weight": Payload(mark)}))
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        read_bundle(bundle)
    torch.save({"head.weight": Payload(mark)}, tmp_path / "torch.pt")
    replace_weights(bundle, (tmp_path / "torch.pt").read_bytes())
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        read_bundle(bundle)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Payload(mark)))  # it would have left its mark
    assert mark.exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_truncated_safetensors_are_refused(bundle: Path, share: float) -> None:
    content = (bundle / "model.safetensors").read_bytes()
    replace_weights(bundle, content[: int(share * len(content))])
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        read_bundle(bundle)


@pytest.mark.parametrize("length", [1 << 62, 1 << 40, 100_000_001])
def test_a_safetensors_header_that_lies_is_refused(tmp_path: Path, length: int) -> None:
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", length) + b'{"a": 1}')
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        read_safetensors(tmp_path / "x.safetensors")


# the same for .npz


def test_a_pickle_posing_as_npz_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "x.npz").write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(BadInput, match=r"not a whole \.npz file"):
        vitrail.load(tmp_path / "x.npz")
    assert not mark.exists()


def test_an_array_of_objects_is_not_unpacked(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    objects = np.empty(1, dtype=object)
    objects[0] = Payload(mark)
    np.savez(tmp_path / "x.npz", **{"embedding/kernel": objects})
    with pytest.raises(BadInput, match="holds Python objects"):
        vitrail.load(tmp_path / "x.npz")
    assert not mark.exists()


def write_npz(path: Path, member: bytes, name: str = "a.npy", method: int = 0) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, member)


def npy_header(shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 20, 1 << 20), (3,)])
def test_a_member_that_lies_about_its_size_is_refused_before_it_is_unpacked(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    write_npz(tmp_path / "x.npz", npy_header(shape) + b"\x00" * 400)
    with pytest.raises(BadInput, match=r"a\.npy is .* bytes, its header says"):
        read_npz(tmp_path / "x.npz")


def test_an_honest_npz_is_read(tmp_path: Path) -> None:
    write_npz(tmp_path / "x.npz", npy_header((100,)) + np.arange(100, dtype=np.float32).tobytes())
    assert np.array_equal(read_npz(tmp_path / "x.npz")["a"], np.arange(100))


def test_more_than_the_allowed_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitrail.weights.tensors.MAX_BYTES", 1000)
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(1000))
    with pytest.raises(BadInput, match="would unpack to"):
        read_npz(tmp_path / "x.npz")


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_npz_files_are_refused_with_a_sentence(tmp_path: Path, compressed: bool) -> None:
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "x.npz", a=np.arange(60.0).reshape(6, 10), b=np.ones(3))
    original = (tmp_path / "x.npz").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for i in range(300):
        data = bytearray(original)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(256)
        path = tmp_path / "damaged.npz"
        path.write_bytes(data if i % 3 else data[: rng.integers(len(data))])
        try:
            read_npz(path)
        except BadInput:
            refused += 1
    assert refused > 150


def test_an_npz_of_something_else_says_what_is_missing(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", weights=np.zeros(3))
    with pytest.raises(BadInput, match="not a ViT in Google's layout: missing or misshapen 'embedding/kernel'"):
        vitrail.load(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("embedding/kernel", np.zeros((4, 5, 3, 32), np.float32)),
        ("embedding/bias", np.full(32, np.inf, np.float32)),
        ("Transformer/posembed_input/pos_embedding", np.zeros((1, 36, 32), np.float32)),
        ("Transformer/encoderblock_1/MlpBlock_0/Dense_0/kernel", np.zeros((32, 65), np.float32)),
        ("Transformer/encoderblock_0/MultiHeadDotProductAttention_0/query/kernel", np.zeros(3, np.float32)),
        ("head/kernel", np.zeros((3, 3), np.float32)),
        ("head/kernel", np.zeros(3, np.float32)),
        ("Transformer/encoderblock_0/MultiHeadDotProductAttention_0/query/kernel", np.zeros((32, 0, 8), np.float32)),
        ("head/bias", np.array(["a", "b"])),
        ("Transformer/encoder_norm/scale", None),
        ("Transformer/encoderblock_1/LayerNorm_0/bias", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "none" if value is None else str(value.shape),
)
def test_an_official_file_with_something_wrong_is_refused(
    goldens: Path, tmp_path: Path, key: str, value: np.ndarray | None
) -> None:
    arrays = dict(np.load(goldens / "vit_token.ckpt.npz"))
    assert key in arrays
    del arrays[key]
    np.savez(tmp_path / "x.npz", **arrays, **({} if value is None else {key: value}))
    with pytest.raises(BadInput):
        vitrail.load(tmp_path / "x.npz")


# what a MODEL may be


def test_a_run_folder_stands_for_its_bundle(digits_run: Path) -> None:
    run, bundle = vitrail.load(digits_run), vitrail.load(digits_run / "bundle")
    assert run.config == bundle.config
    assert run.preprocess == bundle.preprocess
    assert run.classes == bundle.classes == tuple("0123456789")
    for name, tensor in run.state_dict().items():
        assert torch.equal(tensor, bundle.state_dict()[name])


def test_what_is_no_model_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such model: 'no/model'; expected a bundle"):
        vitrail.load("no/model")
    with pytest.raises(BadInput, match=r"is no model: it has no config\.json. Expected a bundle"):
        vitrail.load(tmp_path)
    (tmp_path / "weights.pt").write_bytes(b"")
    with pytest.raises(BadInput, match=r"weights\.pt is empty"):
        vitrail.load(tmp_path / "weights.pt")
    (tmp_path / "weights.onnx").write_bytes(b"x")
    with pytest.raises(BadInput, match=r"is a \.onnx; expected a bundle"):
        vitrail.load(tmp_path / "weights.onnx")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(BadInput, match="has not written its bundle yet"):
        vitrail.load(tmp_path)
