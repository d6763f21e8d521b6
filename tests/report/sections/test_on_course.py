"""Whether a run follows its recipe's proof: the rule on logs whose answer is known."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from vitrail.core import numbers
from vitrail.report.sections import on_course
from vitrail.report.sections.on_course import Piece, pieces, points


def log(
    every: int = 2, until: int = 400, noise: float = 0.02, seed: int = 0, curve: Callable[[float], float] | None = None
) -> list[Piece]:
    """A loss that falls from 2.3 to 0.1 in 400 steps: rows of `every` steps, each the mean of its steps."""
    rng = np.random.default_rng(seed)
    curve = curve or (lambda share: 0.1 + 2.2 * math.exp(-6 * share))
    losses = np.array([curve(step / 400) for step in range(1, until + 1)]) + rng.normal(0, noise, until)
    ends = [*range(every, until + 1, every)]
    return pieces([(end, float(losses[end - every : end].mean())) for end in ends], 400)


def where(run: list[Piece], proof: list[Piece]) -> list[str]:
    return [point.where for point in points(run, proof)]


@pytest.mark.parametrize("every", [1, 2, 5, 10, 40, 50])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_another_seed_is_on_course_whatever_the_interval_of_its_log(every: int, seed: int) -> None:
    assert set(where(log(every, seed=seed), log())) == {"on course"}


def test_a_loss_that_stays_up_is_above() -> None:
    assert where(log(curve=lambda _: 2.3), log())[1:] == ["above", "above", "above"]


def test_a_loss_that_falls_too_far_is_below() -> None:
    assert where(log(curve=lambda share: 0.02 + 1.0 * math.exp(-20 * share)), log())[:3] == ["below"] * 3


def test_just_inside_and_just_outside_what_is_allowed() -> None:
    proof = log(noise=0)
    at = points(proof, proof)[2]
    assert at.at == (0.2,)
    shift = 0.99 * at.tolerance
    assert points(log(noise=0, curve=lambda s: 0.1 + 2.2 * math.exp(-6 * s) + shift), proof)[2].where == "on course"
    shift = 1.01 * at.tolerance
    assert points(log(noise=0, curve=lambda s: 0.1 + 2.2 * math.exp(-6 * s) + shift), proof)[2].where == "above"


def test_while_nothing_has_moved_little_is_allowed() -> None:
    """15 % of a loss of 2.3 would be 0.35, three times what is to be learned by then."""

    def slow(share: float) -> float:
        return 2.3 - 2 * max(0.0, share - 0.1)

    first, second, *_ = points(log(curve=lambda share: slow(share) + 0.15), log(curve=slow))
    assert (first.where, second.where) == ("above", "above")


def test_a_noisier_proof_allows_more() -> None:
    calm, noisy = points(log(), log(noise=0.01))[2], points(log(), log(noise=0.2))[2]
    assert noisy.tolerance > calm.tolerance + 0.1


def test_what_is_not_reached_is_not_judged() -> None:
    assert where(log(until=100), log()) == ["on course", "on course", "on course", "not reached"]
    assert where(log(until=82), log()) == ["on course", "on course", "not reached", "not reached"]  # half a window
    assert set(where([], log())) == {"not reached"}
    assert points(log(), []) == []


def test_points_whose_windows_are_the_same_row_are_one() -> None:
    first, *others = points(log(every=50), log())
    assert first.at == (0.01, 0.05)
    assert (first.start, first.stop) == (0.0, pytest.approx(50 / 400))
    assert [point.at for point in others] == [(0.2,), (1.0,)]


def test_windows_reach_to_the_ends_of_their_rows() -> None:
    at = points(log(every=10), log(every=2))[2]
    assert (at.start * 400, at.stop * 400) == (pytest.approx(70), pytest.approx(90))


def test_a_loss_that_is_no_number_is_off_course() -> None:
    run = pieces([(step, math.nan if step > 60 else 1.0) for step in range(2, 401, 2)], 400)
    assert where(run, log())[2:] == ["no number", "no number"]


def test_a_run_of_another_length_is_laid_over_by_shares() -> None:
    run = pieces([(2 * piece.stop * 400, piece.loss) for piece in log(seed=3)], 800)
    assert set(where(run, log())) == {"on course"}


def test_means_weigh_rows_by_their_steps() -> None:
    uneven = pieces([(10, 1.0), (40, 3.0)], 40)
    assert on_course.mean(uneven, 0.0, 1.0) == pytest.approx(2.5)
    assert on_course.mean(uneven, 0.0, 0.5) == pytest.approx(2.0)
    assert math.isnan(on_course.mean(uneven, 2.0, 3.0))


def test_intervals_overlap_when_they_touch() -> None:
    assert numbers.overlap([0.9, 0.95], [0.95, 0.97]) is True
    assert numbers.overlap([0.9, 0.94], [0.95, 0.97]) is False
    assert numbers.overlap(None, [0.95, 0.97]) is None
