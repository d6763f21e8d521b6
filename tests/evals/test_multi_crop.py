"""Several views of each image: where they lie, and that probabilities are averaged over them, in any batches."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.pictures import BytesSource, encoded
from tests.evals.test_classify import confused_model
from vitrail.core.errors import BadInput
from vitrail.data.loader.batch import Broken
from vitrail.data.loader.normalise import normalise, stack
from vitrail.data.open.names import open_data
from vitrail.data.sources.subset import Subset
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess, SquareResize, eval_transform
from vitrail.evals import multi_crop
from vitrail.evals.multi_crop import crops_of, multi_crop_logits
from vitrail.models.vit import ViT
from vitrail.weights.load import attach

RAMP = np.stack([*np.mgrid[0:40, 0:60].astype(np.uint8), np.zeros((40, 60), np.uint8)], axis=-1)


def test_five_crops_are_the_middle_and_the_corners_of_the_covering_image() -> None:
    """Of 40 x 60 pixels that are already of the covering size, so that each pixel says where it was."""
    views = crops_of(RAMP, Preprocess((35, 35), CentreCrop(0.875)), 5)
    corners = [tuple(view[0, 0, :2]) for view in views]
    assert corners == [(2, 12), (0, 0), (0, 25), (5, 0), (5, 25)]
    assert all(view.shape == (35, 35, 3) for view in views)
    ten = crops_of(RAMP, Preprocess((35, 35), CentreCrop(0.875)), 10)
    assert all(np.array_equal(one, other) for one, other in zip(ten[:5], views, strict=True))
    assert all(np.array_equal(one[:, ::-1], other) for one, other in zip(ten[5:], views, strict=True))


def test_the_middle_crop_is_the_models_own_view() -> None:
    rng = np.random.default_rng(0)
    pixels = np.asarray(Image.fromarray(rng.integers(0, 255, (50, 90, 3), np.uint8)).resize((90, 50)))
    preprocess = Preprocess((16, 16), CentreCrop(0.875))
    assert np.array_equal(crops_of(pixels, preprocess, 5)[0], eval_transform(pixels, preprocess))
    whole = Preprocess((14, 14), SquareResize())
    assert np.array_equal(crops_of(pixels, whole, 1)[0], eval_transform(pixels, whole))
    assert crops_of(pixels, whole, 10)[9].shape == (14, 14, 3)


def ready(resolution: int = 8) -> ViT:
    model = confused_model().eval()
    if resolution != 8:
        from vitrail.data.transforms.pipeline import Preprocess as View
        from vitrail.weights.load import model_of
        from vitrail.weights.pretrained import PretrainedModel

        view = View((8, 8), SquareResize())
        published = PretrainedModel(model.config, model.state_dict(), view, tuple("0123456789"))
        return model_of(published, resolution).eval()  # type: ignore[return-value]
    attach(model, Preprocess((8, 8), SquareResize()), tuple("0123456789"))
    return model


def slow(model: ViT, pixels: np.ndarray, views: multi_crop.Crops) -> np.ndarray:
    seen = stack([np.ascontiguousarray(view) for view in crops_of(pixels, model.preprocess, views)])
    with torch.no_grad():
        logits = model(normalise(seen, model.preprocess, torch.device("cpu"))).logits
    return logits.softmax(dim=1).mean(dim=0).numpy()


@pytest.mark.parametrize(("views", "sizes"), [(5, (8,)), (10, (8, 12)), (1, (8, 12))])
def test_probabilities_are_those_of_one_image_at_a_time(views: multi_crop.Crops, sizes: tuple[int, ...]) -> None:
    """Batches of 256 views hold no whole number of images of five or ten."""
    models = [ready(size) for size in sizes]
    source = Subset(open_data("digits@test"), np.arange(70))
    found, pictures, keys, indices = [], [], [], []
    for batch, logits in multi_crop_logits(models, source, views, broken=Broken(len(source)), dtype=torch.float32):
        found.append(logits.exp().numpy())
        pictures.append(batch.images.numpy().copy())
        keys += batch.keys
        indices += batch.indices.tolist()
    assert indices == list(range(70))
    probabilities = np.concatenate(found)
    expected = [np.mean([slow(m, np.asarray(source[i].image), views) for m in models], axis=0) for i in range(70)]
    assert np.abs(probabilities - np.array(expected)).max() < 1e-5  # measured 1.2e-7
    assert keys == [source[i].key for i in range(70)]
    first = crops_of(np.asarray(source[69].image), models[-1].preprocess, views)[0]
    assert np.array_equal(np.concatenate(pictures)[69].transpose(1, 2, 0), first)


def test_a_broken_image_lacks_all_its_views_and_is_counted_once() -> None:
    digits = open_data("digits@test")
    images = [encoded(np.asarray(digits[i].image)) for i in range(120)]
    images[53] = b"broken"
    source = BytesSource(images, digits.labels[:120].tolist(), digits.classes)
    broken, keys = Broken(120), []
    for batch, _ in multi_crop_logits([ready(), ready(12)], source, 5, broken=broken, dtype=torch.float32):
        keys += batch.keys
    assert len(keys) == 119
    assert [row.key for row in broken.rows()] == ["image-53"]


def test_probabilities_that_do_not_fit_get_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi_crop, "available_memory", lambda device: 1000)
    source = open_data("digits@test")
    with pytest.raises(BadInput, match="averaging over resolutions holds 445 x 10 probabilities"):
        list(multi_crop_logits([ready(), ready(12)], source, 1, broken=Broken(445)))
