"""`--cluster ray`: preparation, copies and features are the same bytes as without a cluster."""

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.pictures import encoded
from tests.data.scenes import scene
from tests.fake_ray import FakeRay
from vitrail.core.cluster import cluster_mapping
from vitrail.core.errors import BadInput
from vitrail.data.open.names import open_data
from vitrail.data.shards.write import ShardCount
from vitrail.data.transforms.pipeline import Preprocess, SquareResize
from vitrail.evals.feature_cache import stored_features
from vitrail.evals.features import EveryLayer, features
from vitrail.jobs.duplicates import Duplicates, duplicates
from vitrail.jobs.prepare import Prepare, prepare
from vitrail.models.build import build
from vitrail.models.vit import ViTConfig
from vitrail.weights.bundle import save_bundle
from vitrail.weights.load import load

CONFIG = ViTConfig(patch=8, width=16, depth=2, heads=2, mlp=32, resolution=(32, 32), num_classes=2)
TIMES = {"seconds", "comparing_seconds", "copied_seconds"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Sixty training and twenty test images of two classes; one of each is broken, four are copies."""
    for split, start, each in (("train", 0, 30), ("test", 100, 10)):
        for c, name in enumerate(("cat", "dog")):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(each):
                (folder / f"{i:02d}.jpg").write_bytes(encoded(scene(start + 50 * c + i), "JPEG", quality=70))
    for i in range(4):
        pixels = np.ascontiguousarray(scene(3 * i)[:, ::-1])
        (tmp_path / "photos/test/cat" / f"copy{i}.png").write_bytes(encoded(pixels))
    (tmp_path / "photos/train/dog/07.jpg").write_bytes(b"<html>404</html>")
    return tmp_path / "photos"


@pytest.fixture
def model(tmp_path: Path) -> str:
    torch.manual_seed(0)
    save_bundle(tmp_path / "model", build(CONFIG), Preprocess((32, 32), SquareResize()), ("cat", "dog"), {})
    return str(tmp_path / "model")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    made = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", made)
    return made


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(one) for key, one in value.items() if key not in TIMES}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def files_of(folder: Path) -> dict[str, Any]:
    """The bytes of all files; JSON without what differs between two runs."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    return {
        str(path.relative_to(folder)): without_times(json.loads(path.read_text()))
        if path.suffix == ".json"
        else path.read_bytes()
        for path in paths
    }


def test_copies_are_the_same(photos: Path, model: str, tmp_path: Path, fake: FakeRay) -> None:
    config = Duplicates(f"{photos}@train", (f"{photos}@test",), model)
    duplicates(config, tmp_path / "ray", cluster="ray")
    assert fake.tasks == 4  # two sets looked at, and two that features are computed of
    duplicates(config, tmp_path / "here", workers=1, device="cpu", runtime="torch")
    found = files_of(tmp_path / "ray")
    assert found == files_of(tmp_path / "here")
    assert found["duplicates.json"]["found"] >= 4
    assert not fake.started


@pytest.mark.parametrize("kept", [False, True])
def test_features_are_the_same(
    photos: Path, model: str, tmp_path: Path, fake: FakeRay, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """Stored or not, from chunks of eight images, with layers, and one image that cannot be read."""
    monkeypatch.setattr("vitrail.evals.features.CLUSTER_IMAGES", 8)
    monkeypatch.setattr("vitrail.evals.inference.inference_batch_size", lambda *_, **__: 8)
    loaded, source = load(model), open_data(f"{photos}@train")
    more: dict[str, Any] = {"reading": EveryLayer(), "dtype": torch.float32}
    if kept:
        found, want = (
            stored_features(loaded, source, loaded.preprocess, tmp_path / name, shard=8, cluster=cluster, **more)
            for name, cluster in (("ray", "ray"), ("here", None))
        )
        assert files_of(tmp_path / "ray") == files_of(tmp_path / "here")
    else:
        found, want = (
            features(loaded, source, loaded.preprocess, cluster=cluster, **more) for cluster in ("ray", None)
        )
    assert found.values.tobytes() == want.values.tobytes()
    assert found.places.tolist() == want.places.tolist()
    assert len(found.places) == 59
    assert found.broken == want.broken
    assert fake.tasks == 8


def test_a_thousand_shards(tmp_path: Path, fake: FakeRay) -> None:
    """Of one image each: as many files, whole, and never more than two tasks at once."""
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    for i in range(1000):
        pixels = np.full((4, 4, 3), (i % 256, i // 256, 0), np.uint8)
        (tmp_path / "photos" / "cat" / f"{i:04d}.png").write_bytes(encoded(pixels))
    (part,) = prepare(Prepare(str(tmp_path / "photos"), 4, shards=ShardCount(1)), tmp_path / "out", cluster="ray")
    assert len(part.shards) == len(list((tmp_path / "out").glob("shard-*-of-01000.arrow"))) == part.count == 1000
    assert fake.most == 2
    assert len(open_data(str(tmp_path / "out"))) == 1000


def test_errors_of_a_node_are_those_of_the_command(photos: Path, model: str, fake: FakeRay) -> None:
    for path in (photos / "train").rglob("*.jpg"):
        path.write_bytes(b"nothing")
    loaded, source = load(model), open_data(f"{photos}@train")
    with pytest.raises(BadInput, match="60 of 60 images are broken"):
        features(loaded, source, loaded.preprocess, cluster="ray")


def test_a_node_without_the_working_folder_is_named(
    tmp_path: Path, fake: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the task is not done in another folder, where relative names are other files."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with cluster_mapping(touched, "made") as mapped:
        assert list(mapped([1])) == [1]
    assert (tmp_path / "here" / "made").exists()
    with cluster_mapping(touched, "again") as mapped:  # as a node sees it
        os.chdir(tmp_path)
        (tmp_path / "here" / "made").unlink()
        (tmp_path / "here").rmdir()
        said = rf"node {re.escape(platform.node())} cannot enter {tmp_path / 'here'}, .*may be /"
        with pytest.raises(BadInput, match=said):
            list(mapped([1]))
    assert not (tmp_path / "again").exists()


def touched(name: str, item: int) -> int:
    Path(name).touch()
    return item


@pytest.mark.parametrize("options", [{"device": "cuda"}, {"runtime": "onnx"}])
def test_what_a_cluster_does_not_have_is_refused(photos: Path, model: str, fake: FakeRay, options: Any) -> None:
    config = Duplicates(f"{photos}@train", (f"{photos}@test",), model)
    with pytest.raises(BadInput, match="on processors, by PyTorch"):
        duplicates(config, cluster="ray", **options)


@pytest.mark.slow  # 25 s; the stand-in of Ray is tried above
def test_on_several_processes_of_real_ray(photos: Path, model: str, tmp_path: Path) -> None:
    """All three, by the command line, on two processes of a cluster of this machine."""
    script = (
        "import os, sys, ray; from vitrail.cli import main\n"
        "os.makedirs(sys.argv[3])\n"
        "ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)\n"
        "photos, model, out = sys.argv[1:4]\n"
        "def call(*args):\n"
        "    try: main(list(args))\n"
        "    except SystemExit as end: assert end.code in (0, 1), end.code\n"
        "more = sys.argv[4:]\n"
        "os.chdir(out)  # after Ray was started: its processes lie elsewhere\n"
        "call('data', 'prepare', photos, 'prepared', '--side', '32', '--shard-images', '3', *more)\n"
        "call('data', 'duplicates', photos + '@train', '--against', photos + '@test', '--model', model,\n"
        "     '--out', 'copies', *(more or ['--runtime', 'torch']))\n"
        "call('linear', '--model', model, '--train', 'prepared@train', '--test', 'prepared@test',\n"
        "     '--shots', '1', 'all', '--features', 'features', '--out', 'linear',\n"
        "     *(more or ['--runtime', 'torch']))\n"
    )
    for name, more in (("ray", ["--cluster", "ray"]), ("here", [])):
        asked = [sys.executable, "-c", script, str(photos), model, str(tmp_path / name), *more]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    found, want = (files_of(tmp_path / name) for name in ("ray", "here"))
    kept = [sorted(files[path] for path in files if path.endswith("values.npy")) for files in (found, want)]
    assert kept[0] == kept[1]  # their folders are named by where the images lie
    assert len(kept[0]) == 2
    compared = [{path for path in files if not path.startswith("features/")} for files in (found, want)]
    assert compared[0] == compared[1]
    assert [path for path in compared[0] if found[path] != want[path] and not path.endswith(".html")] == []
    assert len([path for path in compared[0] if path.endswith(".arrow")]) == 28
