"""Tables and lists of plain text."""

import pytest

from vitrail.core.text import listed, table


def test_columns_are_aligned_and_short_rows_end_early() -> None:
    assert table([["name", "n"], ["a", "1,000"], [""], ["long name", "2", "said"]], "<><") == [
        "name           n",
        "a          1,000",
        "",
        "long name      2  said",
    ]
    assert table([]) == []


@pytest.mark.parametrize("said", ["", "a", "a and b", "a, b and c"])
def test_names_within_a_sentence(said: str) -> None:
    assert listed([letter for letter in said.replace("and", "") if letter.isalpha()]) == said
