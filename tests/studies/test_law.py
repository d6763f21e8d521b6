"""The runs that `pretrain auto` plans by, from its study and from its own runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmark import benchmark
from vitrail.core.errors import BadInput
from vitrail.core.files import write_json
from vitrail.jobs.pretrain_auto.config import BATCH
from vitrail.jobs.pretrain_auto.law import LawRun, accuracy_at, fit_law, log_odds, shipped_law
from vitrail.records.record import load_record, write_record
from vitrail.records.study import StudyResult
from vitrail.studies.law import law_runs

SHOWN = Path(__file__).parents[2] / "docs/studies/compute.json"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The study that is shown, finished, with one run of 40 steps."""
    found = load_record(StudyResult, SHOWN)
    short = replace(found.rows[0], total_flops=40.0 * BATCH * float(found.rows[0].flops_per_image or 0))
    write_record(tmp_path / "study.json", replace(found, complete=True, rows=(short, *found.rows[1:])))
    return tmp_path / "study.json"


def planned(folder: Path, law_gain_over: float, runs: Sequence[LawRun], data: str = "cifar10@train") -> Path:
    """A run whose log-odds rose by so much more than the law says."""
    folder.mkdir(parents=True)
    law = fit_law(runs, 200)
    gain, _ = law.gain(4, 4e13, (4, 5e12))
    reached = accuracy_at(log_odds(0.3, 10) + gain + law_gain_over, 10)
    pilot = {"depth": 4, "steps": 99, "flops": 5e12, "seconds": 1.0, "slower": 1.0, "accuracy": 0.3, "mirrored": 0.3}
    plan = {"depth": 4, "width": 128, "steps": 9, "batch": 9, "epochs": 1.0, "flops": 4e13, "seconds": None}
    plan |= {"budget_seconds": None, "best_depth": 4.0, "pilot": {**pilot, "count": 500}, "expected": None}
    plan |= {"interval": None, "why": [], "asked": {}, "config": {"train": data}}
    write_json(folder / "plan.json", plan)
    told = {
        "expected": None,
        "interval": None,
        "reached": reached,
        "count": 9000,
        "seconds": 1.0,
        "budget_seconds": None,
    }
    write_json(folder / "foretold.json", told)
    part = {"count": 10, "classes": dict.fromkeys("abcdefghij", 1), "digest": ""}
    write_json(folder / "data.json", {"parts": {"train": part}})
    return folder


def test_short_runs_are_left_out_and_other_data_say_how_far_off_the_law_was(study: Path, tmp_path: Path) -> None:
    alone = law_runs(study, [])
    rows = load_record(StudyResult, study).rows
    assert 8 <= len(alone.runs) < len(rows)
    assert all(run.flops != 40.0 * BATCH * float(rows[0].flops_per_image or 0) for run in alone.runs)
    (carried,) = law_runs(study, [planned(tmp_path / "a", 0.25, alone.runs)]).carried
    assert carried.data == "cifar10@train"
    assert carried.reached - carried.gain == pytest.approx(0.25)


def test_another_study_and_an_unfinished_one_are_refused(study: Path) -> None:
    found = load_record(StudyResult, study)
    for other in (replace(found, study="position"), replace(found, complete=False)):
        write_record(study, other)
        with pytest.raises(BadInput, match="no finished study compute"):
            law_runs(study, [])


def test_the_benchmark_foretells_a_run_from_runs_of_other_data_alone(tmp_path: Path) -> None:
    """Parts of one data set are no other data."""
    foretellings = benchmark("budget").foretellings
    law, shipped = shipped_law()
    gain, _ = law.gain(4, 4e13, (4, 5e12))
    names = ("a@train", "a@train[:20%]", "b@train", "c@train")
    over = (0.0, 0.0, 0.5 * gain, 1.0 * gain)  # shares of 1, 1, 1.5, 2
    folders = [planned(tmp_path / f"{i}", over[i], shipped.runs, names[i]) for i in range(4)]
    told = foretellings(folders)
    before = log_odds(0.3, 10)
    shares = [(log_odds(one.expected, 10) - before) / gain for one in told]
    assert shares == pytest.approx([3**0.5, 3**0.5, 2 ** (1 / 3), 1.5 ** (1 / 3)])
    assert [one.reached for one in told] == [accuracy_at(before + gain + one, 10) for one in over]
    assert all(one.inside for one in told[:3])
    assert not foretellings([*folders[:3], planned(tmp_path / "d", -0.9 * gain, shipped.runs, "d@train")])[3].inside
