"""What an inspection says, of the values of inspection.json; whatever is missing or odd there is not spoken of."""

from typing import Any

from vitrail.core import numbers

Json = dict[str, Any]


def findings(content: Json) -> list[str]:
    """The sentences of whatever was measured."""
    return [said for said in (distance(content), rollout(content), neighbours(content)) if said]


def distance(content: Json) -> str:
    """ "Heads in the first third of the layers look 34.1 px far on average (33.5–34.7), those in the last …"."""
    measured = content.get("distance")
    if not isinstance(measured, dict):
        return ""
    parts = [part for part in (measured.get("first"), measured.get("last")) if isinstance(part, dict)]
    if len(parts) < 2 or not all(numbers.known(part.get("mean")) for part in parts):
        return ""
    ends = [part.get("layers") for part in parts]
    several = isinstance(ends[0], list) and ends[0][:1] != ends[0][-1:]
    where = "first third of the layers" if several else "first layer"
    there = "third" if several else "layer"
    near, far = (_pixels(part) for part in parts)
    even = measured.get("even")
    evenly = f"; attending evenly to all patches would be {even:.1f}" if numbers.known(even) else ""
    return f"Heads in the {where} look {near} far on average, those in the last {there} {far}{evenly}."


def _pixels(part: Json) -> str:
    bounds = numbers.ends(part.get("interval"))
    return f"{part['mean']:.1f}\u00a0px" + (f" ({bounds[0]:.1f}–{bounds[1]:.1f})" if bounds else "")


def rollout(content: Json) -> str:
    """ "Half of what reaches the answer comes from 31 % of the patches (30–32 %; evenly it would be 50 %) ..."."""
    measured = content.get("rollout")
    half, alike = (measured.get("half"), measured.get("alike")) if isinstance(measured, dict) else (None, None)
    said = []
    if isinstance(half, dict) and numbers.known(half.get("mean")):
        within = f"{numbers.interval(half['interval'])}; " if half.get("interval") else ""
        said.append(
            f"Half of what reaches the answer comes from {numbers.percent(half['mean'], 0)} of the patches"
            f" ({within}evenly it would be 50\u00a0%)."
        )
    if isinstance(alike, dict) and numbers.known(alike.get("mean")):
        bounds = numbers.ends(alike.get("interval"))
        within = f" ({bounds[0]:.2f} to {bounds[1]:.2f})".replace("-", "−") if bounds else ""
        said.append(
            f"The maps of two images correlate {alike['mean']:.2f} on average{within}:"
            f" {_what_is_shared(alike['mean'])}."
        )
    return " ".join(said)


def _what_is_shared(correlation: float) -> str:
    """What two maps of different images have in common cannot come from what is in the images.

    Where each map is a common one and a part of its own, the correlation is the common one's share of the variance.
    """
    if correlation < 0.05:
        return "what is seen in a map depends on its image"
    return f"about {numbers.percent(correlation, 0)} of what is seen in a map is there whatever the image"


def neighbours(content: Json) -> str:
    """ "For 71 % of 128 images (63–78 %; by chance 10 %) the nearest of 5,000 images has the same class."."""
    found = content.get("neighbours")
    if not isinstance(found, dict):
        return ""
    among = f"of {numbers.count(found.get('count'))} images of {found.get('data')}"
    if not numbers.known(found.get("same")):
        rows = found.get("rows")
        rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        unlabelled = bool(rows) and not any(row.get("label") for row in rows)
        return f"The nearest {among}, {'without comparing classes' if unlabelled else 'which has other classes'}."
    within = f"{numbers.interval(found.get('interval'))}; by chance {numbers.percent(found.get('chance'), 0)}"
    return (
        f"For {numbers.percent(found['same'], 0)} of {numbers.count(found.get('queries'))} images ({within})"
        f" the nearest {among} is of the same class."
    )


def positions(near: float, far: float, kind: str) -> str:
    """Only positions that were learned from noise are the model's own finding."""
    if kind == "fixed sines and cosines":
        return "the positions are sines and cosines of the place, given and not learned."
    if near <= far + 0.1:
        return "the positions hardly say which patches lie next to each other."
    if kind == "learned from sines and cosines":
        return "the positions started as sines and cosines of the place, so the model was told what lies beside what."
    return "the model has found out by itself which patches lie next to each other."
