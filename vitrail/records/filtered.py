"""A filtered view (`kept.json`). It is DATA: the images of `data` but for those left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vitrail.records.record import Files, Record


@dataclass(frozen=True, kw_only=True)
class FilteredView(Record):
    """Which images of which data are left out. Refused when the data have changed."""

    format: int
    kind: Literal["view"] = "view"
    data: str  # DATA
    count: int  # images of the data
    labels: int  # CRC-32 of class names and labels
    left_out: Sequence[int]  # places in the data


FILES: Files = {"kept.json": FilteredView}
