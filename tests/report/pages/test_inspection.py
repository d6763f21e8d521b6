"""The page of an inspection: what is said of the numbers, what is drawn, and what is left out where files lack it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report import folders
from vitrail.findings import inspection
from vitrail.report.blocks import Chart, Part, Text
from vitrail.report.charts.images import head_tiles, map_colours, photograph, sheet_chart
from vitrail.report.index import make
from vitrail.report.sections import attention_maps
from vitrail.report.sections.position_embeddings import positions_part

MEASURED: dict[str, Any] = {
    "distance": {
        "even": 116.492,
        "layers": [],
        "first": {"layers": [1, 4], "mean": 34.12, "interval": [33.4, 34.84]},
        "last": {"layers": [9, 12], "mean": 111.96, "interval": [110.9, 113.0]},
    },
    "rollout": {
        "half": {"mean": 0.31, "interval": [0.301, 0.318]},
        "alike": {"mean": 0.12, "interval": [-0.04, 0.28]},
    },
}


def whole(folder: Path, *, images: int = 3, layers: int = 6, heads: int = 4, of: int = 2) -> dict[str, Any]:
    """An inspection with everything, on disk; returns inspection.json."""
    folders.inspection(folder, folders.pictures(images, 32))
    rng = np.random.default_rng(0)
    content = json.loads((folder / "inspection.json").read_text()) | MEASURED
    content["head_maps"] = {"layers": list(range(1, layers + 1)), "heads": list(range(1, heads + 1)), "query": None}
    row = {"key": "a", "label": "cat", "picture": 0}
    content["neighbours"] = {
        "data": "cifar10@train",
        "count": 5000,
        "queries": 128,
        "same": 0.71,
        "interval": [0.627, 0.782],
        "chance": 0.1,
        "rows": [row | {"nearest": [row | {"similarity": 0.9}, row | {"label": "<b>dog", "similarity": 0.8}]}],
    }
    (folder / "inspection.json").write_text(json.dumps(content))
    with np.load(folder / "arrays.npz") as held:
        arrays = dict(held)
    arrays["head_maps"] = rng.uniform(size=(of, layers, heads, 8, 8)).astype(np.float16)
    np.savez(folder / "arrays.npz", **arrays)
    np.savez(folder / "pictures.npz", **{"0": folders.pictures(1, 32)[0]})
    return content


def test_the_page_begins_with_how_far_the_heads_look_and_how_sure_that_is(tmp_path: Path) -> None:
    whole(tmp_path)
    page = make(tmp_path).read_text()
    lead = page.split('<p class="lead">')[1].split("</p>")[0]
    assert lead == (
        "Heads in the first third of the layers look 34.1\u00a0px (33.4–34.8) far on average, those in the last third"
        " 112.0\u00a0px (110.9–113.0); attending evenly to all patches would be 116.5."
    )


def test_the_page_says_what_is_seen_of_each_figure(tmp_path: Path) -> None:
    whole(tmp_path)
    page = make(tmp_path).read_text()
    assert "Half of what reaches the answer comes from 31\u00a0% of the patches (30.1–31.8\u00a0%;" in page
    assert (
        "The maps of two images correlate 0.12 on average (−0.04 to 0.28): about 12\u00a0% of what is seen in a map"
        in page
    )
    assert "For 71\u00a0% of 128 images (62.7–78.2\u00a0%; by chance 10\u00a0%) the nearest of 5,000 images" in page
    assert "What single heads look at" in page
    assert "Attention of each of 4 heads in each of 6 layers for image 2." in page
    assert "&lt;b&gt;dog 0.80" in page
    assert page.count('class="same"') == page.count('class="other"') == 1


def test_more_images_than_rows_make_a_page_like_figure_14(tmp_path: Path) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    for folder, images in ((few, 8), (many, 20)):
        folder.mkdir()
        whole(folder, images=images)
        arrays = dict(np.load(folder / "arrays.npz"))
        arrays["images"] = folders.pictures(images, 32)
        arrays["rollout"] = np.random.default_rng(0).uniform(size=(images, 8, 8)).astype(np.float32)
        np.savez(folder / "arrays.npz", **arrays)
    assert "images that were drawn by lot" not in make(few).read_text()
    page = make(many).read_text()
    assert "All 20 images that were drawn by lot" in page
    assert "Image 20, lit where it looks" in page


def test_few_heads_are_drawn_for_each_image(tmp_path: Path) -> None:
    whole(tmp_path, layers=1, heads=2, of=3)
    page = make(tmp_path).read_text()
    assert "layer 1 head 2" in page
    assert "Attention of the chosen heads for each image." in page


@pytest.mark.parametrize("spoilt", ["distance", "rollout", "head_maps", "neighbours"])
@pytest.mark.parametrize("value", [None, 3, {}, {"first": {}}, {"rows": [{}], "half": {"mean": None}}])
def test_what_is_missing_or_odd_in_the_json_is_left_out(spoilt: str, value: object, tmp_path: Path) -> None:
    content = whole(tmp_path)
    (tmp_path / "inspection.json").write_text(json.dumps(content | {spoilt: value}))
    assert "What it looks for in a patch" in make(tmp_path).read_text()


@pytest.mark.parametrize("name", ["head_maps", "rollout", "images", "attention_distance", "position_similarity"])
def test_arrays_of_an_odd_shape_are_left_out(name: str, tmp_path: Path) -> None:
    whole(tmp_path)
    arrays = dict(np.load(tmp_path / "arrays.npz"))
    np.savez(tmp_path / "arrays.npz", **(arrays | {name: np.zeros((2, 2, 2, 2, 2, 2))}))
    assert "What it takes to be alike" in make(tmp_path).read_text()


def test_an_inspection_of_before_has_no_finding(tmp_path: Path) -> None:
    folders.inspection(tmp_path)
    assert '<p class="lead">What the model has learned, seen from inside.</p>' in make(tmp_path).read_text()


def test_one_layer_is_no_third_of_them() -> None:
    only = {"layers": [1, 1], "mean": 5.0, "interval": None}
    said = inspection.distance({"distance": {"first": only, "last": only}})
    assert said == "Heads in the first layer look 5.0\u00a0px far on average, those in the last layer 5.0\u00a0px."


@pytest.mark.parametrize(
    ("correlation", "said"),
    [(-0.01, "depends on its image"), (0.34, "about 34\u00a0% of what is seen in a map is there whatever the image")],
)
def test_what_maps_share_is_not_about_the_image(correlation: float, said: str) -> None:
    assert said in inspection.rollout({"rollout": {"alike": {"mean": correlation, "interval": None}}})


def test_neighbours_among_other_classes_are_not_judged() -> None:
    found = {"data": "pets", "count": 3, "same": None, "rows": []}
    assert inspection.neighbours({"neighbours": found}) == "The nearest of 3 images of pets, which has other classes."


def sentence(part: Part | None) -> str:
    assert part is not None
    first = part.blocks[0]
    assert isinstance(first, Text)
    return first.text


def test_who_looks_is_said() -> None:
    maps, images = np.ones((1, 1, 2, 4, 4)), np.zeros((1, 8, 8, 3), np.uint8)
    asked: dict[str, Any] = {"layers": [1], "heads": [1, 2], "query": None}
    for content, said in (
        ({"class_token": True, "head_maps": asked}, "how much the class token attends to each patch"),
        ({"class_token": False, "head_maps": asked}, "how much all patches together attend to each"),
        ({"head_maps": asked | {"query": [2, 3]}}, "how much the patch in row 2 and column 3 attends to each patch"),
    ):
        assert said in sentence(attention_maps.heads_part(maps, images, content))


def test_the_sharpest_head_is_named() -> None:
    maps = np.ones((2, 2, 3, 4, 4))
    maps[:, 1, 2] = 0
    maps[:, 1, 2, 3, 3] = 1
    content = {"head_maps": {"layers": [4, 9], "heads": [1, 2, 7], "query": None}}
    said = sentence(attention_maps.heads_part(maps, np.zeros((2, 8, 8, 3), np.uint8), content))
    assert "6\u00a0% of the patches in layer 9, head 7, and on 50\u00a0% in layer 4, head 1" in said


def test_positions_that_are_all_alike_use_the_whole_scale_of_colours() -> None:
    similarity = np.full((16, 16), 0.83) + 0.17 * np.eye(16)
    for shift, low in ((0.0, "0.8"), (0.9, "−1")):
        part = positions_part(similarity - shift, (4, 4), "learned from noise")
        assert part is not None
        assert [block.scale for block in part.blocks if isinstance(block, Chart)] == [(low, "1", "cosine similarity")]


def test_a_sheet_has_a_label_for_each_row_and_column_that_has_room() -> None:
    sheet = head_tiles(np.random.default_rng(0).uniform(size=(24, 16, 14, 14)))
    assert sheet.shape == (24 * 16 - 2, 16 * 16 - 2, 4)
    rows, columns = [f"r{i}" for i in range(24)], [f"c{i}" for i in range(16)]
    drawn = sheet_chart(sheet, rows, columns, row_name="layer", column_name="head", title="t")
    assert all(f">{label}<" in drawn for label in rows + columns)
    narrow = sheet_chart(sheet, rows, columns, row_name="layer", column_name="head", title="t", widest=200)
    assert ">r0<" in narrow
    assert ">r1<" not in narrow


def test_a_map_is_coloured_up_to_its_own_maximum() -> None:
    colours = map_colours(np.array([[[0.0, 0.5], [1.0, 0.0]], [[0.0, 0.05], [0.1, 0.0]]]))
    assert np.array_equal(colours[0], colours[1])
    assert map_colours(np.zeros((1, 2, 2))).shape == (1, 2, 2, 3)


def test_photographs_are_kept_as_small_as_they_are_seen() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8)
    drawn = photograph(pixels, "noise", width=90)
    assert (drawn.width, drawn.height, drawn.pixelated) == (90, 60, False)
    assert drawn.uri.startswith("data:image/jpeg;base64,")
    assert len(drawn.uri) < 60_000
    assert photograph(pixels[:32, :32], "noise", width=90).pixelated
