"""A classifier on labelled images against scikit-learn's metrics; features in the order of the source."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics

from tests.data.pictures import BytesSource, encoded
from vitrail.core.errors import BadInput
from vitrail.data.loader.normalise import normalise, stack
from vitrail.data.open.names import open_data
from vitrail.data.sources.subset import Subset
from vitrail.data.transforms.pipeline import Preprocess, SquareResize, eval_transform
from vitrail.evals.classify import MISTAKES, Evaluation, evaluate
from vitrail.evals.features import features, pixel_features
from vitrail.models.build import build
from vitrail.models.vit import ViT, ViTConfig
from vitrail.records.evaluation import EvaluationSummary
from vitrail.records.record import as_json, load_record

PREPROCESS = Preprocess((8, 8), SquareResize())
SOURCE = open_data("digits@test")


def confused_model(classes: int = 10) -> ViT:
    torch.manual_seed(2)
    model = build(ViTConfig(patch=4, width=16, depth=1, heads=2, mlp=32, resolution=(8, 8), num_classes=classes))
    assert model.head is not None
    torch.nn.init.normal_(model.head.weight, std=0.5)
    return model.train()


def slow_logits(model: ViT) -> np.ndarray:
    """One image at a time."""
    model.eval()
    rows = []
    for i in range(len(SOURCE)):
        view = eval_transform(np.asarray(SOURCE[i].image), PREPROCESS)
        with torch.no_grad():
            rows.append(model(normalise(stack([view]), PREPROCESS, torch.device("cpu"))).logits[0].numpy())
    return np.array(rows)


@pytest.fixture(scope="module")
def judged() -> tuple[Evaluation, np.ndarray]:
    model = confused_model()
    evaluation = evaluate(model, SOURCE, PREPROCESS, dtype=torch.float32)
    assert model.training  # left as it was
    return evaluation, slow_logits(model)


def test_counts_agree_with_scikit_learn(judged: tuple[Evaluation, np.ndarray]) -> None:
    evaluation, logits = judged
    truth, predicted = SOURCE.labels, logits.argmax(axis=1)
    summary = evaluation.summary("digits@test", "model")
    assert np.array_equal(evaluation.confusion, metrics.confusion_matrix(truth, predicted, labels=range(10)))
    assert summary.accuracy == metrics.accuracy_score(truth, predicted)
    assert summary.top5 == metrics.top_k_accuracy_score(truth, logits, k=5)
    assert summary.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(truth, predicted))
    recalls = metrics.recall_score(truth, predicted, average=None, labels=range(10))
    assert [row.accuracy for row in summary.per_class] == pytest.approx(recalls.tolist())
    assert [row.count for row in summary.per_class] == np.bincount(truth).tolist()
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert summary.loss == pytest.approx(metrics.log_loss(truth, probabilities), rel=1e-5)
    assert summary.interval[0] < summary.accuracy < summary.interval[1]
    assert 0.02 < summary.accuracy < 0.5  # a model that errs in many ways, or this test says little


def test_the_surest_mistakes_are_kept_with_their_images(judged: tuple[Evaluation, np.ndarray]) -> None:
    evaluation, logits = judged
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    sure, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != SOURCE.labels)
    expected = wrong[np.argsort(-sure[wrong])][:MISTAKES]
    assert [m.confidence for m in evaluation.mistakes] == pytest.approx(sure[expected].tolist(), rel=1e-4)
    keys = [SOURCE[i].key for i in range(len(SOURCE))]
    for mistake, picture in zip(evaluation.mistakes, evaluation.images, strict=True):
        place = keys.index(mistake.key)
        assert mistake.label == str(SOURCE.labels[place])
        assert mistake.predicted == str(predicted[place])
        assert np.array_equal(picture, np.asarray(SOURCE[place].image))


def test_what_is_written_can_be_read_back(judged: tuple[Evaluation, np.ndarray], tmp_path: Path) -> None:
    judged[0].write(tmp_path / "evaluation", "digits@test", "model")
    stored = load_record(EvaluationSummary, tmp_path / "evaluation" / "evaluation.json")
    assert as_json(stored) == as_json(judged[0].summary("digits@test", "model"))
    with np.load(tmp_path / "evaluation" / "mistakes.npz") as arrays:
        assert arrays["images"].shape == (MISTAKES, 8, 8, 3)


def test_few_classes_have_no_top_five_and_absent_ones_no_accuracy() -> None:
    three = Subset(SOURCE, np.flatnonzero(SOURCE.labels < 3), ("0", "1", "2"))
    only = Subset(three, np.flatnonzero(three.labels != 1))
    evaluation = evaluate(confused_model(3), only, PREPROCESS)
    summary = evaluation.summary("data", "model")
    assert summary.top5 is None
    absent = summary.per_class[1]
    assert (absent.count, absent.accuracy) == (0, None)
    present = [summary.per_class[i].accuracy for i in (0, 2)]
    assert summary.balanced_accuracy == pytest.approx(np.mean(present))


def test_broken_images_are_left_out_and_named() -> None:
    images = [encoded(np.asarray(SOURCE[i].image)) for i in range(120)]
    images[7] = b"broken"
    source = BytesSource(images, SOURCE.labels[:120].tolist(), SOURCE.classes)
    evaluation = evaluate(confused_model(), source, PREPROCESS)
    assert evaluation.count == 119
    assert [row.key for row in evaluation.broken.rows()] == ["image-7"]
    images[8] = images[9] = b"broken"
    with pytest.raises(BadInput, match="3 of 120 images are broken"):
        evaluate(confused_model(), source, PREPROCESS)


def test_a_source_of_one_broken_image_gets_a_sentence() -> None:
    with pytest.raises(BadInput, match="not one image can be read: image-0: not an image"):
        evaluate(confused_model(), BytesSource([b"broken"], [0], SOURCE.classes), PREPROCESS)


def test_other_classes_than_the_models_are_refused() -> None:
    with pytest.raises(BadInput, match="the model has 3 classes, the data have 10"):
        evaluate(confused_model(3), SOURCE, PREPROCESS)


def test_features_come_in_the_order_of_the_source() -> None:
    model = confused_model()
    got = features(model, SOURCE, PREPROCESS, dtype=torch.float32)
    assert got.values.dtype == np.float32
    assert np.array_equal(got.labels, SOURCE.labels)
    for i in (0, 255, 256, 444):
        view = stack([np.asarray(SOURCE[i].image)])
        with torch.no_grad():
            alone = model.eval()(normalise(view, PREPROCESS, torch.device("cpu"))).representation[0].numpy()
        assert np.abs(got.values[i] - alone).max() < 1e-5  # measured 0; other batch sizes may sum in another order


def test_pixel_features_are_the_pixels() -> None:
    got = pixel_features(SOURCE, PREPROCESS)
    expected = np.asarray(SOURCE[300].image).transpose(2, 0, 1).reshape(-1) / 255
    assert got.values[300] == pytest.approx(expected, abs=1e-7)
    assert np.array_equal(got.labels, SOURCE.labels)
