"""Several classes an image, judged: average precision as scikit-learn's, thresholds by class, intervals that hold."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve

from vitrail.core.errors import BadInput
from vitrail.data.loader.batch import Batch, Broken
from vitrail.data.sources.base import ArraySource
from vitrail.evals.average_precision import Ranked, average_precision, best_threshold
from vitrail.evals.intervals import bootstrap
from vitrail.evals.multi_label import MultiLabelEvaluation, judge_multi_label

K = 4


def drawn(count: int, seed: int = 0, coarse: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Labels uint8 [N, K] and logits float32 [N, K]; `coarse` ones have many ties."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((count, K)) < [0.5, 0.3, 0.1, 0.02]).astype(np.uint8)
    logits = rng.normal(size=(count, K)) + 1.5 * labels - 1
    return labels, (np.round(2 * logits) / 2 if coarse else logits).astype(np.float32)


def judged(labels: np.ndarray, logits: np.ndarray, parts: int = 3) -> MultiLabelEvaluation:
    count = len(labels)
    pixels = np.zeros((count, 4, 4, 3), np.uint8)
    source = ArraySource(
        pixels, labels, tuple(f"c{k}" for k in range(labels.shape[1])), [f"{i:05}" for i in range(count)]
    )
    batches = []
    for rows in np.array_split(np.arange(count), parts):
        keys = [source.keys[i] for i in rows]
        images = torch.zeros(len(rows), 3, 4, 4, dtype=torch.uint8)
        batch = Batch.of(images, torch.from_numpy(source.labels[rows]))._replace(
            indices=torch.from_numpy(rows), keys=keys
        )
        batches.append((batch, torch.from_numpy(logits[rows])))
    return judge_multi_label(iter(batches), source, Broken(count), (4, 4))


@pytest.mark.parametrize("coarse", [True, False])
def test_average_precision_is_that_of_scikit_learn(coarse: bool) -> None:
    labels, logits = drawn(500, coarse=coarse)
    found = judged(labels, logits)
    expected = [average_precision_score(labels[:, k], logits[:, k]) for k in range(K)]
    assert found.average_precisions == pytest.approx(expected, abs=1e-12)
    assert found.mean_average_precision == pytest.approx(average_precision_score(labels, logits, average="macro"))


def test_weights_count_images_as_scikit_learn_does() -> None:
    labels, logits = drawn(200)
    weights = np.random.default_rng(1).integers(0, 4, (5, 200)).astype(np.float64)
    found = average_precision(Ranked.of(labels[:, 0] == 1, logits[:, 0]), weights)
    expected = [average_precision_score(labels[:, 0], logits[:, 0], sample_weight=row) for row in weights]
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_class_without_an_image_is_left_out_of_the_mean() -> None:
    labels, logits = drawn(300)
    labels[:, 3] = 0
    found = judged(labels, logits)
    assert np.isnan(found.average_precisions[3])
    assert found.mean_average_precision == pytest.approx(found.average_precisions[:3].mean())
    row = found.summary("data", "model", None).per_class[3]
    assert row.average_precision is None
    with pytest.raises(BadInput, match="not one of the images has a class"):
        judged(np.zeros_like(labels), logits)


def test_the_threshold_has_the_highest_f1_of_all() -> None:
    labels, logits = drawn(400, coarse=False)
    truth, shares = labels[:, 1] == 1, 1 / (1 + np.exp(-logits[:, 1].astype(np.float64)))
    value = best_threshold(Ranked.of(truth, shares))[0]
    precision, recall, _ = precision_recall_curve(truth, shares)
    highest = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-30))
    assert f1_score(truth, shares >= value) == pytest.approx(highest)


def test_thresholds_say_where_a_class_is_too_rare_for_one_of_its_own() -> None:
    labels, logits = drawn(150)
    labels[:, 3] = 0
    labels[:3, 3] = 1
    chosen = judged(labels, logits).choose_thresholds("held out")
    assert list(chosen.own) == [True, True, True, False]
    assert chosen.intervals[3] is None
    for value, interval in list(zip(chosen.values, chosen.intervals, strict=True))[:3]:
        assert interval is not None
        assert interval[0] <= value <= interval[1]


def test_figures_at_the_thresholds_are_those_of_scikit_learn() -> None:
    found = judged(*drawn(500))
    chosen = judged(*drawn(500, seed=1)).choose_thresholds("others")
    result = found.summary("data", "model", chosen)
    said = found.shares >= np.float32(chosen.values)
    assert result.f1 == pytest.approx(f1_score(found.truth, said, average="micro"))
    assert result.mean_f1 == pytest.approx(f1_score(found.truth, said, average="macro"))
    assert [row.f1 for row in result.per_class] == pytest.approx(f1_score(found.truth, said, average=None).tolist())
    assert result.exact == pytest.approx((said == found.truth).all(axis=1).mean())
    assert result.f1_interval[0] < result.f1 < result.f1_interval[1]
    low, high = result.mean_average_precision_interval
    assert low < result.mean_average_precision < high
    assert result.accuracy == pytest.approx(found.truth[np.arange(500), found.shares.argmax(axis=1)].mean())


def test_the_loss_is_the_sigmoid_loss_of_training() -> None:
    labels, logits = drawn(100)
    target = torch.from_numpy(labels).float()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(torch.from_numpy(logits), target, reduction="sum")
    assert judged(labels, logits).loss == pytest.approx(float(expected) / 100, rel=1e-6)


def test_how_often_the_interval_holds_the_true_mean() -> None:
    """Of 60 sets of 300 images: 95 % intervals of a class's average precision hold that of 200,000 images."""
    whole = drawn(200_000, seed=99, coarse=False)
    true = average_precision(Ranked.of(whole[0][:, 0] == 1, whole[1][:, 0]))[0]
    held = 0
    for seed in range(60):
        labels, logits = drawn(300, seed, coarse=False)
        ranked = Ranked.of(labels[:, 0] == 1, logits[:, 0])
        low, high = bootstrap({"ap": lambda w, r=ranked: average_precision(r, w)}, 300, draws=200)["ap"]
        held += low <= true <= high
    assert held >= 53, "57 of 60 are expected; 53 or fewer happen in 3 % of such runs"


def test_mistakes_are_the_answers_that_are_furthest_off() -> None:
    labels, logits = drawn(40)
    labels[:] = logits > 0
    logits[7] = [-9, *logits[7][1:]]
    labels[7, 0] = 1
    found = judged(labels, logits)
    assert found.mistakes[0].key == "00007"
    assert found.mistakes[0].name == "c0"
    assert "c0" in found.mistakes[0].labels
    assert found.images.shape[1:] == (4, 4, 3)
