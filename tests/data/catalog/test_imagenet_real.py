"""ImageNet-ReaL: images with several right labels, judged by any of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.pictures import encoded, noise
from vitrail.core.errors import BadInput
from vitrail.data.loader.batch import Batch
from vitrail.data.open.names import open_data
from vitrail.data.sources.subset import Subset
from vitrail.evals.classify import as_judged

ANSWERS = [[2], [], [0, 1], [1], [2, 0]]  # by number, from 1
OWN = ["n01", "n01", "n02", "n02", "n03"]


@pytest.fixture
def imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITRAIL_DATA", str(tmp_path))
    monkeypatch.setenv("VITRAIL_OFFLINE", "1")
    for number, name in enumerate(OWN, 1):
        folder = tmp_path / "imagenet/val" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(encoded(noise(8, 8, number), "JPEG"))
    (tmp_path / "imagenet/real.json").write_text(json.dumps(ANSWERS))
    return tmp_path / "imagenet"


def test_images_without_a_right_label_are_left_out(imagenet: Path) -> None:
    source = open_data("imagenet-real", "test")
    assert source.classes == ("n01", "n02", "n03")
    assert source.several
    # 1: its own label is wrong; 3 and 4: right; 5: right, though not the first
    assert source.labels.tolist() == [2, 1, 1, 2]
    assert [source[i].label for i in range(4)] == source.labels.tolist()
    assert [source.valid_labels(source[i].key) for i in range(4)] == [(2,), (0, 1), (1,), (2, 0)]


def test_the_likeliest_of_the_right_labels_is_the_one_judged(imagenet: Path) -> None:
    source = open_data("imagenet-real@validation")
    keys = [source[i].key for i in range(4)]
    logits = torch.tensor([[0.0, 5, 1], [9, 1, 0], [3, 2, 1], [1, 7, 0]])
    batch = Batch.of(torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.from_numpy(source.labels))._replace(keys=keys)
    judged = as_judged(batch, logits, source)
    assert judged.labels.tolist() == [2, 0, 1, 0]
    assert (logits.argmax(1) == judged.labels).tolist() == [False, True, False, False]
    part = Subset(source, np.array([1, 3]), ("n03", "n02", "n01"))  # other places for the same classes
    assert part.several
    assert [part.valid_labels(key) for key in (keys[1], keys[3])] == [(2, 1), (0, 2)]


def test_an_evaluation_counts_any_right_label(imagenet: Path) -> None:
    from vitrail.data.transforms.pipeline import Preprocess
    from vitrail.evals.classify import evaluate
    from vitrail.models.build import build
    from vitrail.models.vit import ViTConfig

    torch.manual_seed(0)
    config = ViTConfig(resolution=(8, 8), patch=4, width=16, depth=1, mlp=16, heads=2, num_classes=3)
    model = build(config)
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([9.0, 1.0, 0.0]))  # always n01
    result = evaluate(model, open_data("imagenet-real@validation"), Preprocess((8, 8)), workers=0)
    assert (result.correct, result.count) == (2, 4)  # images 3 and 5
    assert evaluate(model, open_data("imagenet@validation"), Preprocess((8, 8)), workers=0).correct == 2  # 1 and 2


def test_what_is_missing_or_wrong_gets_a_sentence(imagenet: Path) -> None:
    (imagenet / "real.json").write_text("[[3]]")
    with pytest.raises(BadInput, match="expected a list of lists of labels from 0 to 2"):
        open_data("imagenet-real@validation")
    (imagenet / "real.json").write_text("[[1]]")
    with pytest.raises(BadInput, match="holds validation image 5, but real.json has 1 images"):
        open_data("imagenet-real@validation")
    (imagenet / "real.json").unlink()
    with pytest.raises(BadInput, match=r"imagenet-real needs .*imagenet/real.json; it is at https://github.com"):
        open_data("imagenet-real@validation")
    (imagenet / "real.json").write_text(json.dumps(ANSWERS))
    (imagenet / "val/n01/cat.jpg").write_bytes(b"")
    with pytest.raises(BadInput, match="holds n01/cat.jpg; expected the names of ImageNet"):
        open_data("imagenet-real@validation")
