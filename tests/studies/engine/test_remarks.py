"""What a page says of its own runs: rates at the edge of those tried, runs that were best at their end."""

import json
from dataclasses import replace
from pathlib import Path

from tests.studies.stand_in import rated
from vitrail.studies.engine.execute import collect, run_study, study_result
from vitrail.studies.engine.remarks import at_the_edge, still_gaining
from vitrail.studies.engine.study import study_runs


def test_a_choice_at_the_edge_of_the_rates_is_said(tmp_path: Path) -> None:
    """Both runs prefer b, the highest; with a c beyond it that is worse, only what is at the edge is counted."""
    some = rated()
    told = study_result(some, run_study(some, tmp_path / "all")).remarks
    assert told == ("Of the rates the validation images chose the highest for 2 of 2 runs; none beyond was tried.",)
    beyond = replace(some.runs[0], name="one, rate c", at={"of": "one", "rate": "c"})
    more = replace(some, runs=(*some.runs, replace(beyond, config=replace(beyond.config, level=0.9))))
    assert "the highest for 1 of 2 runs" in at_the_edge(run_study(more, tmp_path / "all"))
    below = replace(some.runs[2], name="two, rate c", at={"of": "two", "rate": "c"})
    inner = replace(more, runs=(*more.runs, replace(below, config=replace(below.config, level=0.95))))
    assert at_the_edge(run_study(inner, tmp_path / "all")) == ""
    single = replace(some, runs=some.runs[:1])  # a part of the study, in which nothing was chosen
    assert at_the_edge(run_study(single, tmp_path / "all")) == ""
    assert study_result(rated(all_rates=True), run_study(rated(all_rates=True), tmp_path / "all")).remarks == ()


def test_runs_that_were_best_at_their_end_are_counted(tmp_path: Path) -> None:
    """Of two runs one, by the rate that is chosen of each; the other fell from 90 to 88 %."""
    some = rated()
    assert still_gaining(run_study(some, tmp_path)) == ""  # one validation is no curve
    after = {"one, rate b": (0.9, 0.88), "two, rate b": (0.9, 0.95)}
    for plan in study_runs(some, tmp_path):
        if plan.finished and plan.run.name in after:
            rows = [{"kind": "validation", "step": 2 + n, "accuracy": it} for n, it in enumerate(after[plan.run.name])]
            with open(plan.folder / "metrics.jsonl", "a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
    said = still_gaining(collect(some, tmp_path))
    assert said.startswith("Validation accuracy was highest at the end in 1 of 2 runs")
    assert said in study_result(some, collect(some, tmp_path)).remarks
