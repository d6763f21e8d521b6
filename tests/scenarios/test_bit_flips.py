"""One bit of what was written is another: noticed by a digest, refused by name, made again, or of no effect."""

import json
import random
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.crash.jobs import images, model, painter
from tests.data.pictures import folder_of_images
from tests.train.small import advance, everything, fresh, save_checkpoint, training
from vitrail.core.errors import BadInput
from vitrail.data.open.names import open_data
from vitrail.data.sources.webdataset import TarSource
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.evals.feature_cache import stored_features
from vitrail.jobs.data_check import Check, check
from vitrail.jobs.prepare import prepare, prepare_config
from vitrail.train.checkpoint import restore_checkpoint
from vitrail.weights.load import load, read_pretrained

FLIPS = 40  # of each file


def flipped(file: Path, seed: int) -> bytes:
    """Changes one bit; returns what was there."""
    before = file.read_bytes()
    data, rng = bytearray(before), random.Random(seed)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)
    return before


def outcomes(file: Path, read: Callable[[], bytes]) -> dict[str, int]:
    """What reading makes of a bit that is another: the same, refused; never anything else."""
    wanted, found = read(), {"same": 0, "refused": 0}
    for seed in range(FLIPS):
        before = flipped(file, seed)
        try:
            assert read() == wanted, f"{file.name}, seed {seed}: read as if nothing were"
            found["same"] += 1
        except BadInput:
            found["refused"] += 1
        file.write_bytes(before)
    return found


def digest(*tensors: torch.Tensor | np.ndarray) -> bytes:
    found = sha256()
    for tensor in tensors:
        found.update(np.ascontiguousarray(tensor).tobytes())
    return found.digest()


@pytest.mark.parametrize("file", ["part-0-of-1.safetensors", "state.json"])
def test_a_checkpoint(file: str, tmp_path: Path) -> None:
    config = training()
    state = fresh(config)
    advance(state, config, 2)
    save_checkpoint(tmp_path, state)

    def read() -> bytes:
        again = fresh(config)
        assert restore_checkpoint(tmp_path, again)
        whole = everything(again)
        numbers = [again.step, again.micro_batch, again.skipped, list(again.losses), again.seconds]
        return digest(*(whole[name] for name in sorted(whole) if torch.is_tensor(whole[name]))) + repr(numbers).encode()

    assert (
        outcomes(tmp_path / "step-00000002" / file, read)["refused"] > FLIPS * 0.7
    )  # others are white space, or the name of the digest


def test_the_weights_of_a_bundle(tmp_path: Path) -> None:
    model(tmp_path)

    def read() -> bytes:
        return digest(*load(tmp_path / "model").state_dict().values())

    assert outcomes(tmp_path / "model" / "model.safetensors", read)["refused"] == FLIPS


def test_the_decoder_of_a_bundle(tmp_path: Path) -> None:
    painter(tmp_path)

    def read() -> bytes:
        beside = read_pretrained(tmp_path / "painter").trained_with
        assert beside is not None
        return digest(*beside.state.values())

    assert outcomes(tmp_path / "painter" / "trained_with.safetensors", read)["refused"] == FLIPS


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("decoder_depth", 10**9, "a decoder of 1,000,000,000 layers"),
        ("decoder_mlp", 10**12, "a decoder of 1.* parameters"),
        ("decoder_width", 10**10, "a decoder of 4.* parameters"),
        ("masked", float("nan"), "expected a share of the patches"),
        ("decoder_heads", 0, "nothing below 1"),
    ],
)
def test_a_config_that_asks_for_another_decoder_is_refused_before_it_is_built(
    key: str, value: float, said: str, tmp_path: Path
) -> None:
    painter(tmp_path)
    file = tmp_path / "painter" / "config.json"
    config = json.loads(file.read_text())
    config["trained_with"]["objective"][key] = value
    file.write_text(json.dumps(config))
    with pytest.raises(BadInput, match=said):
        read_pretrained(tmp_path / "painter")


@pytest.mark.parametrize("file", ["values.npy", "read.json"])
def test_a_feature_store(file: str, tmp_path: Path) -> None:
    images(tmp_path)
    model(tmp_path)
    classifier, source = load(tmp_path / "model"), open_data(str(tmp_path / "photos@train"))

    def read() -> bytes:
        found = stored_features(
            classifier, source, Preprocess((8, 8)), tmp_path / "store", dtype=torch.float32, workers=0
        )
        return digest(found.values, found.labels, found.places)

    read()
    assert (
        outcomes(next((tmp_path / "store").glob(f"*/{file}")), read)["refused"] > FLIPS * 0.7
    )  # others are white space, or the name of the digest


def test_the_index_of_a_tar_is_made_again(tmp_path: Path) -> None:
    folder_of_images(tmp_path / "photos", {"ant": 3, "bee": 3})
    prepare(prepare_config(str(tmp_path / "photos"), 8, "tar"), tmp_path / "tars", workers=0)
    (tar,) = (tmp_path / "tars").glob("*.tar")

    def read() -> bytes:
        source = TarSource([str(tar)])
        return repr([source[i] for i in range(len(source))]).encode()

    read()
    assert outcomes(tar.with_name(f"{tar.name}.index"), read) == {"same": FLIPS, "refused": 0}


@pytest.mark.parametrize("container", ["arrow", "tar"])
def test_the_doctor_notices_it_in_a_prepared_shard(container: str, tmp_path: Path) -> None:
    """Whoever trains reads single images, and decoders notice what they can; the digest is of the whole file."""
    folder_of_images(tmp_path / "photos", {"ant": 3, "bee": 3})
    prepare(prepare_config(str(tmp_path / "photos"), 8, container), tmp_path / "made", workers=0)  # type: ignore[arg-type]
    (shard,) = (tmp_path / "made").glob(f"*.{container}")
    check(Check(str(tmp_path / "made")), workers=0)
    for seed in range(3):
        before = flipped(shard, seed)
        with pytest.raises(BadInput, match=shard.name):
            check(Check(str(tmp_path / "made")), workers=0)
        shard.write_bytes(before)


def test_a_shard_of_features_that_is_damaged_before_it_is_joined_is_computed_again(tmp_path: Path) -> None:
    images(tmp_path)
    model(tmp_path)
    classifier, source = load(tmp_path / "model"), open_data(str(tmp_path / "photos@train"))

    def stored(shard: int = 8) -> np.ndarray:
        view = Preprocess((8, 8))
        store = tmp_path / "store"
        return np.array(
            stored_features(classifier, source, view, store, dtype=torch.float32, workers=0, shard=shard).values
        )

    from vitrail.evals import feature_cache

    wanted, join = stored(), feature_cache._join
    shutil.rmtree(tmp_path / "store")
    feature_cache._join = lambda store: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[assignment]
    try:
        with pytest.raises(KeyboardInterrupt):
            stored()
    finally:
        feature_cache._join = join
    flipped(next((tmp_path / "store").glob("*/00000.npy")), 1)
    with pytest.raises(BadInput, match=r"00000\.npy is damaged.*run the same command again"):
        stored()
    assert (stored() == wanted).all()
