"""Tables of plain text."""

from vitrail.core.text import table


def test_columns_are_aligned_and_short_rows_end_early() -> None:
    assert table([["name", "n"], ["a", "1,000"], [""], ["long name", "2", "said"]], "<><") == [
        "name           n",
        "a          1,000",
        "",
        "long name      2  said",
    ]
    assert table([]) == []
