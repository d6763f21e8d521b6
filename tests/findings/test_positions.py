"""The page credits the model with finding out what lies beside what only where it was not told."""

import pytest

from vitrail.findings.inspection import positions


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("learned from noise", "found out by itself"),
        ("learned from sines and cosines", "was told"),
        ("fixed sines and cosines", "not learned"),
    ],
)
def test_positions_that_say_what_is_near(kind: str, said: str) -> None:
    assert said in positions(0.9, 0.2, kind)


def test_positions_that_say_nothing() -> None:
    assert "hardly" in positions(0.21, 0.2, "learned from noise")
