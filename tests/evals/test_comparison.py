"""Two models on the same images: McNemar against scipy, intervals that cover, and the sentence that can be quoted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from vitrail.core.errors import BadInput
from vitrail.evals.comparison import compare, difference_interval, mcnemar, short
from vitrail.evals.predictions import Predictions, StoredPredictions, read_predictions, write_predictions

CLASSES = ("cat", "dog", "owl")


def outcomes(right: np.ndarray, seed: int = 0, classes: int = 3) -> Predictions:
    """Of images in the order of their names; where not right, the next class is answered."""
    rng = np.random.default_rng(seed)
    labels = np.arange(len(right)) % classes
    confidence = rng.uniform(0.4, 1, len(right)).astype(np.float32)
    loss = np.where(right, -np.log(confidence), 1.5).astype(np.float32)
    predicted = np.where(right, labels, (labels + 1) % classes)
    return Predictions([f"{i:06d}.jpg" for i in range(len(right))], labels, predicted, confidence, loss)


def stored(right: np.ndarray, name: str, seed: int = 0) -> StoredPredictions:
    return StoredPredictions(outcomes(right, seed), CLASSES, f"runs/{name}", "pets@test", False)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (3, 12), (12, 3), (25, 25), (120, 90), (600, 700)])
def test_mcnemar_is_scipys_binomial_test_and_chi_square(first: int, second: int) -> None:
    found, total = mcnemar(first, second), first + second
    exact = stats.binomtest(first, total).pvalue if total else 1.0
    assert found.exact == pytest.approx(exact, rel=1e-12)
    if total:
        chances = stats.binom.pmf(np.arange(total + 1), total, 0.5)
        seen = chances[first]
        as_likely = np.isclose(chances, seen, rtol=1e-9)  # Fagerland 2013: half of what is as likely as was seen
        middle = chances[(chances < seen) & ~as_likely].sum() + chances[as_likely].sum() / 2
        assert found.mid_p == pytest.approx(middle, rel=1e-9)
        statistic = max(0, abs(first - second) - 1) ** 2 / total
        assert found.chi2 == pytest.approx(1 - stats.chi2.cdf(statistic, 1), abs=1e-12)
    assert found.mid_p <= found.exact


def test_the_interval_of_the_difference_covers_it_in_a_thousand_comparisons() -> None:
    """Measured: 95.3, 95.7 and 95.3 % of 4,000; the asked-for bounds are 93 to 97 %."""
    rng = np.random.default_rng(0)
    for count, shares in ((200, (0.7, 0.1, 0.05, 0.15)), (1000, (0.9, 0.02, 0.03, 0.05)), (5000, (0.5, 0.2, 0.1, 0.2))):
        truth = shares[1] - shares[2]
        draws = rng.multinomial(count, shares, 4000)
        ends = np.array([difference_interval(int(row[1]), int(row[2]), count) for row in draws])
        covered = float(np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])))
        print(f"{count} images: {covered:.2%} of 4,000 intervals hold the difference")
        assert 0.93 <= covered <= 0.97


def test_better_is_said_with_its_interval_and_p() -> None:
    rng = np.random.default_rng(1)
    good, poor = rng.random(3000) < 0.9, rng.random(3000) < 0.8
    result = compare(stored(poor, "poor"), stored(good, "good", 1))
    accuracy = result.rows[0]
    assert result.better == accuracy.better == "second"
    assert accuracy.difference == pytest.approx(poor.mean() - good.mean())
    assert result.both + result.only_first + result.only_second + result.neither == 3000
    said = f"good is better than poor by {100 * (good.mean() - poor.mean()):.1f} points (95 % interval "
    assert result.sentence.startswith(said)
    assert result.sentence.endswith("McNemar p < 0.001) on the same 3,000 images")
    by_name = {row.figure: row for row in result.rows}
    assert by_name["loss"].better == "second"  # the smaller one
    expected = metrics.balanced_accuracy_score(*_labels(poor)) - metrics.balanced_accuracy_score(*_labels(good))
    assert by_name["balanced_accuracy"].difference == pytest.approx(expected)


def _labels(right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = outcomes(right)
    return rows.labels, rows.predicted


def test_equal_models_cannot_be_told_apart() -> None:
    """Two models with the same errors but for three images each way."""
    one = np.random.default_rng(2).random(900) < 0.8
    other = one.copy()
    other[np.flatnonzero(one)[:3]], other[np.flatnonzero(~one)[:3]] = False, True
    result = compare(stored(one, "a"), stored(other, "b"))
    assert (result.only_first, result.only_second, result.better) == (3, 3, None)
    assert result.sentence.startswith("a and b cannot be told apart on the same 900 images: 0.0 points between them")


def test_a_paired_difference_is_surer_than_two_figures_apart() -> None:
    """The same images are hard for both: the interval of the difference is narrower than those of each suggest."""
    rng = np.random.default_rng(3)
    one = rng.random(2000) < 0.7
    other = one & (rng.random(2000) < 0.97)
    result = compare(stored(one, "a"), stored(other, "b"))
    for row in result.rows:
        low, high = row.interval
        assert low <= row.difference <= high
    balanced = next(row for row in result.rows if row.figure == "balanced_accuracy")
    apart = 2 * 1.96 * np.sqrt(one.var() / 2000 + other.var() / 2000)
    assert balanced.interval[1] - balanced.interval[0] < 0.5 * apart
    assert balanced.better == "first"


def test_images_are_paired_by_name_and_classes_too() -> None:
    """The second lists its classes in another order and lacks ten images."""
    right = np.random.default_rng(4).random(120) < 0.6
    first = stored(right, "a")
    rows, order = first.outcomes, [2, 0, 1]
    place = np.argsort(order)
    some = slice(10, None)
    second = Predictions(
        rows.keys[some], place[rows.labels[some]], place[rows.predicted[some]], rows.confidence[some], rows.loss[some]
    )
    result = compare(first, StoredPredictions(second, tuple(CLASSES[i] for i in order), "runs/b", "pets@test", False))
    assert (result.count, result.left_out) == (110, 10)
    assert result.only_first == result.only_second == 0
    assert result.same_answer == 110


def test_what_cannot_be_compared_gets_a_sentence() -> None:
    right = np.ones(9, bool)
    first, second = stored(right, "a"), stored(right, "b")
    with pytest.raises(BadInput, match="cannot be compared: only one of them judged the class 'elk'"):
        compare(first, second._replace(classes=("cat", "dog", "elk")))
    elsewhere = replace(second.outcomes, keys=[f"other/{key}" for key in second.outcomes.keys])
    with pytest.raises(BadInput, match="have no image in common: the first judged '000000.jpg' of pets@test"):
        compare(first, second._replace(outcomes=elsewhere))
    relabelled = replace(second.outcomes, labels=(second.outcomes.labels + 1) % 3)
    with pytest.raises(BadInput, match="000000.jpg is labelled 'cat' for one model and 'dog' for the other"):
        compare(first, second._replace(outcomes=relabelled))


def test_outcomes_are_written_and_read_back(tmp_path: Path) -> None:
    right = np.random.default_rng(5).random(50) < 0.5
    rows = replace(outcomes(right), keys=["same.jpg"] * 2 + [f"ü{i}" for i in range(48)], top5=right)
    write_predictions(tmp_path, StoredPredictions(rows, CLASSES, "m", "d", True))
    back = read_predictions(tmp_path)
    assert back[1:] == (CLASSES, "m", "d", True)
    assert back.outcomes.keys == rows.keys
    for name in ("labels", "predicted", "confidence", "loss", "top5"):
        assert np.array_equal(getattr(back.outcomes, name), getattr(rows, name)), name
    assert back.outcomes.calibrated is None
    (tmp_path / "predictions.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(BadInput, match="predictions.parquet cannot be read"):
        read_predictions(tmp_path)


def test_names_are_shortened_to_where_they_differ() -> None:
    assert short("runs/a/bundle", "runs/b/bundle") == ("a/bundle", "b/bundle")
    assert short("x/a", "y/b") == ("a", "b")
    assert short("same", "same") == ("same (first)", "same (second)")
