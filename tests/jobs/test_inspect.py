"""`vitrail inspect`: single heads, neighbours, hybrids, ResNets, grids that are not square, what cannot be asked."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.scenarios.test_bad_input import image_folder, refused, run
from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.jobs import inspect as inspect_job
from vitrail.jobs.inspect import Inspect, inspect
from vitrail.models.build import ModelConfig, build
from vitrail.models.head import ClassToken
from vitrail.models.resnet import BIT, ResNetConfig, Stages
from vitrail.models.vit import ViTConfig
from vitrail.records.inspection import HeadMaps, Inspection
from vitrail.records.record import as_json, load_record
from vitrail.report.index import make
from vitrail.weights.bundle import save_bundle

CONFIG = ViTConfig(
    patch=4, width=16, depth=3, heads=2, mlp=32, resolution=(8, 12), num_classes=2, registers=1, pool=ClassToken()
)
HYBRID = replace(CONFIG, patch=1, backbone=Stages(units=(1,), width=32), resolution=(16, 24))  # stride 4
RESNET = ResNetConfig(replace(BIT, units=(1,), width=32), (32, 32), num_classes=2)


def bundle(path: Path, config: ModelConfig = CONFIG) -> str:
    torch.manual_seed(0)
    save_bundle(path, build(config), Preprocess(config.resolution), ("class-0", "class-1"), {})
    return str(path)


def test_an_inspection_holds_every_kind_of_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = image_folder(tmp_path / "data", each=8)
    options = ("--model", bundle(tmp_path / "model"), "--images", data, "--count", 10, "--shown", 4)
    more = ("--neighbours", data, "--nearest", 3, "--json", "--out", tmp_path / "inside")
    code, out, _ = run(capsys, "inspect", *options, *more)
    assert code == 0
    summary = load_record(Inspection, tmp_path / "inside" / "inspection.json")
    assert json.loads(out) == as_json(summary)
    arrays = np.load(tmp_path / "inside" / "arrays.npz")
    assert {name: arrays[name].shape for name in arrays.files} == {
        "filters": (16, 4, 4, 3),
        "position_similarity": (6, 6),
        "attention_distance": (3, 2),
        "rollout": (4, 2, 3),
        "images": (4, 8, 12, 3),
        "head_maps": (4, 3, 2, 2, 3),  # no more than eight maps: all images have them
    }
    assert summary.grid == (2, 3)
    assert summary.distance_images == 10
    assert len(summary.distance.layers) == 3
    for part in (*summary.distance.layers, summary.distance.last, summary.rollout.half, summary.rollout.alike):
        assert part.interval[0] <= part.mean <= part.interval[1]
    first = arrays["attention_distance"][0].mean()
    assert summary.distance.first.mean == pytest.approx(float(first), rel=1e-5)
    assert (tmp_path / "inside" / "report.html").stat().st_size > 10_000


def test_neighbours_are_of_the_class_that_looks_like_it_and_never_the_image_itself(tmp_path: Path) -> None:
    """Two classes of different brightness, sought among themselves."""
    data = str(image_folder(tmp_path / "data", each=8))
    found = inspect(Inspect(bundle(tmp_path / "model"), data, neighbours=data, nearest=4), tmp_path / "inside")
    neighbours = found.neighbours
    assert (neighbours.data, neighbours.count, neighbours.queries) == (data, 16, 16)
    assert neighbours.same == 1
    assert neighbours.chance == 0.5
    assert neighbours.interval[0] > 0.7
    pictures = np.load(tmp_path / "inside" / "pictures.npz")
    for row in neighbours.rows:
        assert len(row.nearest) == 4
        assert row.key not in [other.key for other in row.nearest]
        similar = [other.similarity for other in row.nearest]
        assert similar == sorted(similar, reverse=True)
        assert {pictures[str(other.picture)].shape for other in [row, *row.nearest]} == {(20, 20, 3)}


def test_a_broken_image_does_not_shift_the_neighbours(tmp_path: Path) -> None:
    data = image_folder(tmp_path / "data", each=60)
    (data / "class-0" / "0.jpg").write_bytes(b"no picture")
    model = bundle(tmp_path / "model")
    found = inspect(Inspect(model, str(data), count=120, shown=120, neighbours=str(data)), tmp_path / "inside")
    assert found.distance_images == found.neighbours.count == 119
    assert len(found.neighbours.rows) == 16
    for row in found.neighbours.rows:
        for item in (row, *row.nearest):
            assert Path(item.key).parent.name == item.label


def test_a_flat_folder_is_looked_at_without_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, model = image_folder(tmp_path / "data", each=4) / "class-0", bundle(tmp_path / "model")
    found = inspect(Inspect(model, str(data)), tmp_path / "inside")
    assert found.distance_images == 4
    assert {row.label for row in found.images} == {None}
    assert "without classes, as" in capsys.readouterr().err
    found = inspect(Inspect(model, str(data), neighbours=str(data), nearest=2), tmp_path / "among").neighbours
    assert (found.count, found.queries, found.same, found.chance) == (4, 4, None, None)
    for row in found.rows:
        assert (row.label, len(row.nearest)) == (None, 2)
        assert row.key not in [other.key for other in row.nearest]
    page = make(tmp_path / "among").read_text()
    assert "without comparing classes" in page
    assert "A solid line" not in page
    found = inspect(Inspect(model, str(data), neighbours=str(data.parent)), tmp_path / "labelled").neighbours
    assert (found.count, found.same) == (8, None)
    assert {other.label for row in found.rows for other in row.nearest} <= {"class-0", "class-1"}
    with pytest.raises(BadInput, match="nowhere"):
        inspect(Inspect(model, str(tmp_path / "nowhere")), tmp_path / "other")


def test_neighbours_among_other_classes_say_nothing_of_classes(tmp_path: Path) -> None:
    data, other = image_folder(tmp_path / "data"), image_folder(tmp_path / "other")
    for folder in list(other.iterdir()):
        folder.rename(other / f"other-{folder.name}")
    config = Inspect(bundle(tmp_path / "model"), str(data), neighbours=str(other))
    found = inspect(config, tmp_path / "inside").neighbours
    assert (found.same, found.interval, found.chance) == (None, None, None)


def test_chosen_heads_alone_are_mapped(tmp_path: Path) -> None:
    data, model = str(image_folder(tmp_path / "data")), bundle(tmp_path / "model")
    inspect(Inspect(model, data, shown=3), tmp_path / "all")
    every = np.load(tmp_path / "all" / "arrays.npz")["head_maps"]
    chosen = Inspect(model, data, shown=3, layers=(3, 1), heads=(2,))
    assert inspect(chosen, tmp_path / "some").head_maps == HeadMaps(layers=(1, 3), heads=(2,), query=None)
    some = np.load(tmp_path / "some" / "arrays.npz")["head_maps"]
    assert some.shape == (3, 2, 1, 2, 3)
    np.testing.assert_array_equal(some, every[:, [0, 2], 1:])
    one = inspect(replace(chosen, query=(2, 3)), tmp_path / "one")
    assert one.head_maps.query == (2, 3)
    assert np.abs(np.load(tmp_path / "one" / "arrays.npz")["head_maps"] - some).max() > 0.001


def test_many_heads_are_mapped_for_two_images_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_job, "SEVERAL", 5)
    data, model = str(image_folder(tmp_path / "data")), bundle(tmp_path / "model")
    inspect(Inspect(model, data, shown=5), tmp_path / "inside")
    assert np.load(tmp_path / "inside" / "arrays.npz")["head_maps"].shape[0] == 2


def test_a_batch_of_one_image_sees_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, model = str(image_folder(tmp_path / "data")), bundle(tmp_path / "model")
    whole = inspect(Inspect(model, data), tmp_path / "whole")
    monkeypatch.setattr(inspect_job, "LOOKING_BYTES", 1)
    single = inspect(Inspect(model, data), tmp_path / "single")
    assert [row.key for row in single.images] == [row.key for row in whole.images]
    a, b = (np.load(tmp_path / name / "arrays.npz") for name in ("whole", "single"))
    for name in a.files:
        np.testing.assert_allclose(a[name], b[name], atol=2e-4)  # half precision of the maps of heads


def test_at_another_resolution_that_is_not_square(tmp_path: Path) -> None:
    data, model = str(image_folder(tmp_path / "data")), bundle(tmp_path / "model")
    summary = inspect(Inspect(model, data, resolution=(16, 8)), tmp_path / "inside")
    assert summary.grid == (4, 2)
    arrays = np.load(tmp_path / "inside" / "arrays.npz")
    assert arrays["rollout"].shape[1:] == (4, 2)
    assert arrays["position_similarity"].shape == (8, 8)


def test_distances_in_a_hybrid_count_the_stride_of_its_backbone(tmp_path: Path) -> None:
    data = str(image_folder(tmp_path / "data"))
    summary = inspect(Inspect(bundle(tmp_path / "hybrid", HYBRID), data), tmp_path / "inside")
    assert (summary.patch, summary.grid) == (4, (4, 6))
    apart = [np.hypot(a // 6 - b // 6, a % 6 - b % 6) for a in range(24) for b in range(24)]
    assert summary.distance.even == pytest.approx(4 * float(np.mean(apart)))
    arrays = np.load(tmp_path / "inside" / "arrays.npz")
    assert 0 < arrays["attention_distance"].max() < 4 * np.hypot(3, 5)
    assert arrays["filters"].shape == (28, 7, 7, 3)


def test_a_resnet_shows_filters_and_neighbours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(image_folder(tmp_path / "data"))
    summary = inspect(Inspect(bundle(tmp_path / "resnet", RESNET), data, neighbours=data), tmp_path / "inside")
    assert "is a ResNet and has no attention: its filters and neighbours are drawn" in capsys.readouterr().err
    assert summary.neighbours.same == 1
    assert list(np.load(tmp_path / "inside" / "arrays.npz").files) == ["filters"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--layers", 4), "there is no layer 4: this model has the layers 1 to 3"),
        (("--layers", 0), "there is no layer 0: this model has the layers 1 to 3"),
        (("--heads", 1, 3), "there is no head 3: this model has the heads 1 to 2"),
        (("--query", 3, 1), "there is no patch in row 3, column 1: this model has 2 rows and 3 columns"),
        (("--nearest", 0), "nearest is 0: at least 1 neighbour is drawn"),
    ],
)
def test_what_the_model_does_not_have_gets_a_sentence(
    options: tuple[object, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = image_folder(tmp_path / "data")
    common = ("--model", bundle(tmp_path / "model"), "--images", data, "--out", tmp_path / "out")
    assert said in refused(capsys, "inspect", *common, *options)
    assert not (tmp_path / "out").exists()


def test_neighbours_of_no_images_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--neighbours needs --images DATA"):
        inspect(Inspect("nowhere", neighbours="digits"), tmp_path / "out")


def test_attention_that_does_not_fit_gets_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, model = str(image_folder(tmp_path / "data")), bundle(tmp_path / "model")
    monkeypatch.setattr(inspect_job, "available_memory", lambda device: 1000)
    with pytest.raises(BadInput, match=r"one image of 8 x 12 pixels, 8 tokens, takes .* choose a smaller --resolution"):
        inspect(Inspect(model, data), tmp_path / "inside")
