"""The page credits the model with finding out what lies beside what only where it was not told."""

import pytest

from vitrail.report.sections.position_embeddings import what_positions_say


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("learned from noise", "found out by itself"),
        ("learned from sines and cosines", "was told"),
        ("fixed sines and cosines", "not learned"),
    ],
)
def test_positions_that_say_what_is_near(kind: str, said: str) -> None:
    assert said in what_positions_say(0.9, 0.2, kind)


def test_positions_that_say_nothing() -> None:
    assert "hardly" in what_positions_say(0.21, 0.2, "learned from noise")
