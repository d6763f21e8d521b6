"""One answer for an image, in whatever form it comes; broken images are named and harm no other."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from tests.data.pictures import encoded, noise
from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.build import build
from vitrail.models.vit import ViTConfig
from vitrail.runtimes.by_torch import TorchRuntime
from vitrail.serve.predictor import Predictor
from vitrail.weights.bundle import save_bundle

CLASSES = ("cat", "dog", "eel", "fox")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    torch.manual_seed(0)
    model = build(ViTConfig(patch=4, width=16, depth=1, heads=2, mlp=32, resolution=(12, 16), num_classes=4))
    assert model.head is not None
    torch.nn.init.normal_(model.head.weight)
    folder = tmp_path_factory.mktemp("models") / "bundle"
    save_bundle(folder, model, Preprocess((12, 16)), CLASSES, {})
    return Predictor(folder, device="cpu")


def test_every_form_of_an_image_gets_the_same_answer(predictor: Predictor, tmp_path: Path) -> None:
    pixels = noise(30, 40)
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(pixels))
    forms = [path, str(path), path.read_bytes(), pixels, Image.fromarray(pixels)]
    answers = predictor.predict(forms, top=4)
    for answer in answers:  # the fused kernel rounds by place in the batch: measured 6e-8
        assert [label.name for label in answer] == [label.name for label in answers[0]]
        expected = [label.probability for label in answers[0]]
        assert [label.probability for label in answer] == pytest.approx(expected, abs=1e-6)
    assert {label.name for label in answers[0]} == set(CLASSES)
    shares = [label.probability for label in answers[0]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=1e-5)


def test_the_answer_is_that_of_the_model(predictor: Predictor) -> None:
    pictures = [noise(12, 16, seed) for seed in range(5)]
    images = torch.from_numpy(np.stack([p.transpose(2, 0, 1) for p in pictures])).float() / 127.5 - 1
    answers = predictor.predict(pictures, top=1)
    predictor.runtime, kept = TorchRuntime(predictor.model, "float32"), predictor.runtime
    try:
        exact = predictor.predict(pictures, top=1)
    finally:
        predictor.runtime = kept
    # the evaluation view enlarges before it cuts out the middle, so resize by hand the same way
    views = torch.stack([torch.from_numpy(_view(p).transpose(2, 0, 1).copy()) for p in pictures]).float() / 127.5 - 1
    assert views.shape == images.shape
    with torch.no_grad():
        probabilities = predictor.model(views).logits.softmax(dim=-1)
    for i, ((answer,), (same,)) in enumerate(zip(exact, answers, strict=True)):
        best = int(probabilities[i].argmax())
        assert answer.name == CLASSES[best]
        assert answer.probability == pytest.approx(float(probabilities[i, best]), abs=1e-5)
        assert same.probability == pytest.approx(answer.probability, abs=0.03)  # bfloat16 where it is native


def _view(pixels: np.ndarray) -> np.ndarray:
    larger = Image.fromarray(pixels).resize((18, 14), Image.Resampling.BILINEAR)  # 16 x 12 / 0.875
    return np.asarray(larger)[1:13, 1:17]


def test_an_upright_and_a_turned_file_get_the_same_answer(predictor: Predictor) -> None:
    pixels, exif = noise(30, 40), Image.Exif()
    exif[0x0112] = 6
    turned = encoded(np.ascontiguousarray(np.rot90(pixels, 1)), exif=exif)
    assert predictor.predict([turned]) == predictor.predict([pixels])
    held = Image.fromarray(np.ascontiguousarray(np.rot90(pixels, 1)))
    held.getexif()[0x0112] = 6
    assert predictor.predict([held]) == predictor.predict([pixels])


def test_a_pillow_image_of_any_mode_is_read_as_its_file(predictor: Predictor) -> None:
    rng = np.random.default_rng(0)
    alpha = Image.fromarray(rng.integers(0, 256, (30, 40, 4), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 65_536, (30, 40)).astype(np.uint16))
    for image in (alpha, deep, alpha.convert("L"), alpha.convert("RGB").convert("P")):
        assert predictor.predict([image]) == predictor.predict([encoded(image)]), image.mode


def test_a_broken_image_is_named(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not a JPEG")
    with pytest.raises(BadInput, match=r"broken\.jpg: not an image of a known format"):
        predictor.predict([noise(5, 5), tmp_path / "broken.jpg"])
    with pytest.raises(BadInput, match=r"gone\.jpg: No such file"):
        predictor.predict([tmp_path / "gone.jpg"])


@pytest.mark.parametrize(
    "item",
    [np.full((4, 4, 3), 2.5), np.zeros((5, 5, 2), np.uint8), np.zeros((0, 4, 3), np.uint8), 7, None, b"", b"garbage"],
    ids=str,
)
def test_what_is_no_image_is_refused_with_a_sentence(predictor: Predictor, item: object) -> None:
    with pytest.raises(BadInput, match=": "):
        predictor.predict([item])


def test_in_a_stream_a_broken_image_is_a_row_and_the_others_still_come(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"")
    items = [noise(9, 9, 1), tmp_path / "broken.jpg", noise(9, 9, 2), b"garbage", noise(9, 9, 3)]
    for batch in (1, 2, 64):
        rows = list(predictor.stream(iter(items), top=1, batch=batch))
        assert [row.error is None for row in rows] == [True, False, True, False, True]
        assert rows[1].key == str(tmp_path / "broken.jpg")
        assert rows[1].error == "empty file"
        assert rows[1].labels == []
        alone = predictor.predict([items[0], items[2], items[4]], top=1)
        for row, (label,) in zip([rows[0], rows[2], rows[4]], alone, strict=True):
            assert row.labels[0].name == label.name
            assert row.labels[0].probability == pytest.approx(label.probability, abs=0.03)


def test_a_stream_is_lazy(predictor: Predictor) -> None:
    taken = []

    def endless() -> object:
        while True:
            taken.append(1)
            yield noise(9, 9)

    stream = predictor.stream(endless(), batch=4)  # type: ignore[arg-type]
    next(stream)
    assert len(taken) == 4


def test_more_labels_than_classes_are_all_of_them(predictor: Predictor) -> None:
    (answer,) = predictor.predict([noise(9, 9)], top=50)
    assert len(answer) == 4
    assert predictor.predict([], top=50) == []


def test_a_model_without_a_classifier_is_refused(tmp_path: Path) -> None:
    model = build(ViTConfig(patch=4, width=16, depth=1, heads=2, mlp=32, resolution=(8, 8)))
    save_bundle(tmp_path / "b", model, Preprocess((8, 8)), (), {})
    with pytest.raises(BadInput, match="has no classifier: it gives features, not labels"):
        Predictor(tmp_path / "b")


def test_a_trained_model_is_right_about_most_digits(digits_run: Path) -> None:
    from vitrail.data.open.names import open_data

    source = open_data("digits@test[:100]")
    predictor = vitrail.Predictor(digits_run)
    answers = predictor.predict([np.asarray(source[i].image) for i in range(100)], top=1)
    right = sum(answer[0].name == source.classes[source[i].label] for i, answer in enumerate(answers))
    assert right > 65  # measured 77 after 120 steps
