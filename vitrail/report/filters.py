"""What a model looks for in a patch (figure 7 left): the principal components of its first layer, as tiles."""

import numpy as np

from vitrail.report import numbers
from vitrail.report.pictures import filter_tiles, picture
from vitrail.report.reading import Json

FILTERS = 28  # as in the paper's figure
COLUMNS = 7


def filters(found: np.ndarray | None, content: Json) -> dict[str, object]:
    """The figure and its sentence, of the `filters` in arrays.npz; empty where there are none."""
    if found is None or found.ndim != 4 or not len(found):
        return {"filters": None, "filters_sentence": ""}
    shown = found[:FILTERS]
    columns = min(COLUMNS, len(shown))
    sheet = filter_tiles(shown, columns=columns)
    scale = max(1, round(64 * columns / sheet.shape[1]))
    variance = content.get("filters_variance")
    share = sum(variance[: len(shown)]) if isinstance(variance, list) and all(map(numbers.known, variance)) else None
    covers = f" Together they make up {numbers.percent(share, 0)} of what the layer responds to." if share else ""
    said = (
        "The first layer compares each patch with small patterns."
        f" These are the {len(shown)} main ones (principal components)."
    )
    alt = f"{len(shown)} principal components of the patch embedding as small colour patterns."
    return {
        "filters": picture(sheet, alt, width=min(720, sheet.shape[1] * scale)),
        "filters_sentence": said + covers,
    }
