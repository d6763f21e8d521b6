"""Features on disk: the same numbers, computed once, whatever interrupts it and however many fill the store."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.scenarios.test_bad_input import image_folder
from vitrail.core.errors import BadInput
from vitrail.data.open.names import open_data
from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import Subset
from vitrail.data.transforms.pipeline import Preprocess, SquareResize
from vitrail.evals import feature_cache
from vitrail.evals.feature_cache import stored_features
from vitrail.evals.features import EveryLayer, features, layers_of
from vitrail.models.build import build
from vitrail.models.head import AveragePool
from vitrail.models.resnet import BIT, ResNetConfig
from vitrail.models.vit import ViT, ViTConfig

CONFIG = ViTConfig(patch=4, width=16, depth=2, heads=2, mlp=32, resolution=(8, 8))
VIEW = Preprocess((8, 8), SquareResize())


@pytest.fixture
def model() -> ViT:
    torch.manual_seed(0)
    made = build(CONFIG)
    assert isinstance(made, ViT)
    return made.eval()


@pytest.fixture
def images() -> Source:
    return Subset(open_data("digits@test"), np.arange(90))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The places of all images that a model is run on from here on."""
    seen: list[int] = []
    real = feature_cache.feature_parts

    def counted(model: Any, source: Any, *args: Any, **options: Any) -> Any:
        for part in real(model, source, *args, **options):
            seen.extend(source.indices[part.places].tolist())
            yield part

    monkeypatch.setattr(feature_cache, "feature_parts", counted)
    return seen


def test_stored_features_are_the_features_and_lie_in_a_file(
    model: ViT, images: Source, tmp_path: Path, computed: list[int]
) -> None:
    want = features(model, images, VIEW, dtype=torch.float32)
    for _ in range(2):
        got = stored_features(model, images, VIEW, tmp_path, dtype=torch.float32, shard=32)
        assert isinstance(got.values, np.memmap)
        # batches are of other sizes, so products add up in another order: measured 2.4e-7
        assert np.abs(got.values - want.values).max() < 1e-5
        assert (got.labels == want.labels).all()
    assert computed == list(range(90)), "the second time nothing is computed"
    (folder,) = tmp_path.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [".join.lock", "features.json", "read.json", "values.npy"]


def test_another_model_view_precision_or_set_is_another_store(model: ViT, images: Source, tmp_path: Path) -> None:
    def keep(model: ViT = model, images: Source = images, view: Preprocess = VIEW, **options: Any) -> None:
        stored_features(model, images, view, tmp_path, **options)

    keep(dtype=torch.float32)
    keep(dtype=torch.bfloat16)
    keep(dtype=torch.float32, number="float16")
    keep(dtype=torch.float32, reading=EveryLayer())
    keep(images=Subset(images, np.arange(90)[::-1]), dtype=torch.float32)
    keep(view=replace(VIEW, std=(0.4, 0.5, 0.5)), dtype=torch.float32)
    assert len(list(tmp_path.iterdir())) == 6
    with torch.no_grad():
        model.blocks[1].mlp.fc2.bias[3] += 1e-3  # type: ignore[union-attr, operator]
    keep(dtype=torch.float32)
    assert len(list(tmp_path.iterdir())) == 7


def test_an_interrupted_store_goes_on_where_it_was(
    model: ViT, images: Source, tmp_path: Path, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = feature_cache._write_shard, []

    def write(store: Any, shard: int, *rest: Any) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(shard)
        real(store, shard, *rest)

    monkeypatch.setattr(feature_cache, "_write_shard", write)
    with pytest.raises(KeyboardInterrupt):
        stored_features(model, images, VIEW, tmp_path, shard=8)
    monkeypatch.setattr(feature_cache, "_write_shard", real)
    computed.clear()
    got = stored_features(model, images, VIEW, tmp_path, shard=8)
    done = {place for shard in written for place in range(8 * shard, 8 * shard + 8)}
    assert sorted(computed) == [i for i in range(90) if i not in done]
    assert len(got.values) == 90


def test_shards_that_a_kill_left_after_they_were_joined_are_removed_by_the_next(
    model: ViT, images: Source, tmp_path: Path, computed: list[int]
) -> None:
    stored_features(model, images, VIEW, tmp_path, dtype=torch.float32, shard=32)
    (folder,) = tmp_path.iterdir()
    for name in ("00001.npy", "00002.json", ".00002.lock"):
        (folder / name).write_bytes(b"")
    computed.clear()
    stored_features(model, images, VIEW, tmp_path, dtype=torch.float32, shard=32)
    assert not computed
    assert sorted(path.name for path in folder.iterdir()) == [".join.lock", "features.json", "read.json", "values.npy"]


def test_several_at_once_compute_each_image_once(
    model: ViT, images: Source, tmp_path: Path, computed: list[int]
) -> None:
    with ThreadPoolExecutor(3) as pool:
        parts = [pool.submit(stored_features, model, images, VIEW, tmp_path, shard=4) for _ in range(3)]
        values = [np.array(part.result().values) for part in parts]
    assert sorted(computed) == list(range(90))
    assert (values[0] == values[1]).all()
    assert (values[0] == values[2]).all()


SLOW = """
import sys, time
import numpy as np, torch
from pathlib import Path
from tests.evals.test_feature_cache import CONFIG, VIEW
from vitrail.data.open.names import open_data
from vitrail.data.sources.subset import Subset
from vitrail.evals import feature_cache
from vitrail.models.build import build
real = feature_cache._write_shard
def write(*args):
    real(*args)
    print("wrote", args[1], flush=True)
    time.sleep(60 if args[1] == 4 else 0)
feature_cache._write_shard = write
torch.manual_seed(0)
images = Subset(open_data("digits@test"), np.arange(90))
feature_cache.stored_features(build(CONFIG).eval(), images, VIEW, Path(sys.argv[1]), shard=8)
"""


def test_a_killed_process_loses_its_locks_and_no_whole_shard(
    model: ViT, images: Source, tmp_path: Path, computed: list[int]
) -> None:
    with subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        for line in other.stdout:
            if line.strip() == "wrote 4":
                break
        else:
            pytest.fail("it ended before it was killed")
        os.kill(other.pid, signal.SIGKILL)  # it holds the lock of shard 5 and more
    start = time.monotonic()
    stored_features(model, images, VIEW, tmp_path, shard=8)
    assert sorted(computed) == list(range(40, 90)), "the shards 0 to 4 were whole"
    assert time.monotonic() - start < 20


def test_broken_images_have_no_row_and_keep_their_names(model: ViT, tmp_path: Path) -> None:
    root = image_folder(tmp_path / "photos", each=100)
    lost = [root / "class-0" / "17.jpg", root / "class-1" / "2.jpg"]
    for file in lost:
        file.write_bytes(b"no picture")
    source = open_data(str(root))
    got = stored_features(model, source, VIEW, tmp_path / "store", dtype=torch.float32, shard=16)
    want = features(model, source, VIEW, dtype=torch.float32)
    assert len(got.values) == len(got.labels) == 198
    assert np.abs(got.values - want.values).max() < 1e-5
    assert (got.labels == want.labels).all()
    assert sorted(key for key, _ in got.broken) == sorted(str(file) for file in lost)
    assert set(got.broken) == set(want.broken)
    lost[0].with_name("18.jpg").write_bytes(b"")
    with pytest.raises(BadInput, match="3 of 200 images are broken, more than the 1% allowed"):
        stored_features(model, open_data(str(root)), VIEW, tmp_path / "store", shard=16)


def test_half_precision_holds_what_it_can_and_refuses_what_it_cannot(
    model: ViT, images: Source, tmp_path: Path
) -> None:
    want = features(model, images, VIEW, dtype=torch.float32).values
    got = stored_features(model, images, VIEW, tmp_path, dtype=torch.float32, number="float16").values
    assert got.dtype == np.float16
    assert np.abs(got - want).max() <= 2**-11 * np.abs(want).max()
    with torch.no_grad():
        model.norm.weight.fill_(1e5)  # type: ignore[union-attr, operator]
    with pytest.raises(BadInput, match=r"a feature is .* float16 ends at 65,504: store them as float32"):
        stored_features(model, images, VIEW, tmp_path, dtype=torch.float32, number="float16")
    stored_features(model, images, VIEW, tmp_path, dtype=torch.float32)
    with torch.no_grad():
        model.norm.weight.fill_(3e38)  # type: ignore[union-attr, operator]
    with pytest.raises(BadInput, match="the features are no numbers"):
        stored_features(model, images, VIEW, tmp_path, dtype=torch.float32)


@pytest.mark.parametrize("token", [True, False], ids=["class token", "average"])
def test_every_layer_is_what_a_forward_pass_holds(token: bool, images: Source, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build(CONFIG if token else replace(CONFIG, pool=AveragePool())).eval()
    assert isinstance(model, ViT)
    got = stored_features(model, images, VIEW, tmp_path, dtype=torch.float32, reading=EveryLayer(), shard=32)
    kinds = ["class token", "mean of patches"] if token else ["mean of patches"]
    layers = {(layer.depth, layer.tokens): layer.values for layer in layers_of(got.values, model.config)}
    assert list(layers) == [(None, None), *((depth, kind) for depth in range(3) for kind in kinds)]
    plain = features(model, images, VIEW, dtype=torch.float32).values
    assert np.abs(layers[None, None] - plain).max() < 1e-5
    tokens: list[torch.Tensor] = []

    def keep(_: Any, inputs: Any, output: Any) -> None:
        tokens.extend([inputs[0], output[0]])

    for block in model.blocks:
        block.register_forward_hook(keep)
    features(model, images, VIEW, dtype=torch.float32)
    for layer, which in ((0, 0), (1, 1), (1, 2), (2, 3)):
        mean = tokens[which][:, model.config.num_prefix_tokens :].mean(dim=1).numpy()
        assert np.abs(layers[layer, "mean of patches"] - mean).max() < 1e-5
        if token:
            assert np.abs(layers[layer, "class token"] - tokens[which][:, 0].numpy()).max() < 1e-5


def test_layers_of_a_resnet_are_refused(images: Source, tmp_path: Path) -> None:
    model = build(ResNetConfig(replace(BIT, units=(1,), width=32), (8, 8)))
    with pytest.raises(BadInput, match="the model is a ResNet: its layers differ in width"):
        stored_features(model, images, VIEW, tmp_path, reading=EveryLayer())


def test_a_damaged_store_says_so(model: ViT, images: Source, tmp_path: Path) -> None:
    stored_features(model, images, VIEW, tmp_path)
    (file,) = tmp_path.glob("*/values.npy")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BadInput, match="is damaged"):
        stored_features(model, images, VIEW, tmp_path)


def test_a_shard_of_broken_images_alone_does_not_end_a_set_that_is_whole(model: ViT, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "a").mkdir(parents=True)
    (folder / "b").mkdir()
    for i in range(12):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(folder / "ab"[i // 6] / f"{i:02}.png")
    (folder / "b" / "99.png").write_bytes(b"nothing")
    source = open_data(str(folder))
    stored = stored_features(model, source, VIEW, folder=tmp_path / "store", shard=4)
    assert len(stored.values) == 12
    assert [Path(key).name for key, _ in stored.broken] == ["99.png"]
