"""What the page of a study says of its own runs: what was not tried, and is not ruled out."""

from typing import Any

from vitrail.studies.engine.rates import chosen
from vitrail.studies.engine.results import Results
from vitrail.studies.engine.study import Study


def remarks(study: Study, results: Results) -> tuple[str, ...]:
    """What is unlike the paper; and of rates and steps what was tried, and what is not ruled out."""
    if not results.complete:
        return study.remarks
    rates = () if study.all_rates else (spared(study, results), at_the_edge(results))
    return (*study.remarks, *filter(None, (*rates, still_gaining(results))))


def at_the_edge(results: Results) -> str:
    """How often the chosen rate is the highest or the lowest that was tried, in a sentence; "" where it never is.

    What is beyond it is not ruled out: a difference of two runs may be one of their rates.
    """
    tried: dict[str, list[Any]] = {}
    for row in results.rows:
        if "of" in row.run.at:
            tried.setdefault(str(row.run.at["of"]), []).append(row.run.at["rate"])
    picked = {row.run.name: row.run.at["rate"] for row in chosen(results).rows if len(tried.get(row.run.name, ())) > 1}
    ends = {
        "highest": sum(rate == max(tried[name]) for name, rate in picked.items()),
        "lowest": sum(rate == min(tried[name]) for name, rate in picked.items()),
    }
    if not any(ends.values()):
        return ""
    said = " and ".join(f"the {end} for {times}" for end, times in ends.items() if times)
    return f"Of the rates the validation images chose {said} of {len(picked)} runs; none beyond was tried."


def still_gaining(results: Results) -> str:
    """How many runs, at the rate that was chosen, were best at their last step, in a sentence; "" where none was.

    What more steps would bring is not ruled out for these, and they had not begun to overfit.
    """
    curves = [[accuracy for _, accuracy in results.curve(row)] for row in chosen(results).rows]
    curves = [curve for curve in curves if len(curve) > 1]
    gaining = sum(curve[-1] == max(curve) for curve in curves)
    if not gaining:
        return ""
    return f"Validation accuracy was highest at the end in {gaining} of {len(curves)} runs: these did not overfit yet."


def spared(study: Study, results: Results) -> str:
    """How many runs the choice of rates spared (`needed`), in a sentence; "" where it spared none."""
    left = len(study.runs) - len(results.rows)
    if not left:
        return ""
    kinds = {"smaller": "the next smaller model", "shorter": "the shorter run"}
    named = " or ".join(kind for key, kind in kinds.items() if any(key in run.at for run in study.runs))
    return f"{left} of {len(study.runs)} runs were not made: their rates are far from that of {named}."
