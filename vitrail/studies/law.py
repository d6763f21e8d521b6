"""The runs that `pretrain auto` plans by, from the study `compute` and from its own runs on other data:

python -m vitrail.studies.law STUDY.json RUN ... > vitrail/jobs/pretrain_auto/runs.json
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from vitrail.core.errors import BadInput
from vitrail.jobs.pretrain_auto.config import BATCH
from vitrail.jobs.pretrain_auto.law import Carried, Law, LawRun, LawRuns, fit_law, log_odds
from vitrail.jobs.pretrain_auto.plan import FEWEST, share_of_half
from vitrail.records.auto import Foretold, PretrainPlan
from vitrail.records.record import as_json, load_record
from vitrail.records.run import RunData
from vitrail.records.study import StudyResult
from vitrail.studies.compute import TINY

DATA = "tiny-imagenet"


def law_runs(study: Path, others: Sequence[Path]) -> LawRuns:
    """What the law is fitted to, and how far its gains were off in the runs of these folders.

    Runs of fewer steps than a pilot of `pretrain auto` are left out.

    Raises:
        BadInput: a study that is not finished, runs that have no law, or a folder of no run of `pretrain auto`.
    """
    found = load_record(StudyResult, study)
    if found.study != "compute" or not found.complete:
        raise BadInput(f"{study} is no finished study compute")
    measure = found.measures[0].name
    runs = tuple(
        LawRun(depth=int(row.at["depth"]), flops=float(row.total_flops or 0), accuracy=row.values[measure].mean)
        for row in found.rows
        if float(row.total_flops or 0) >= FEWEST / 2 * BATCH * float(row.flops_per_image or 0)
    )
    law = fit_law(runs, TINY.classes)
    return LawRuns(
        study=found.study,
        data=DATA,
        classes=TINY.classes,
        command=found.command or (),
        machines=tuple(found.cost.machines),
        runs=runs,
        carried=tuple(carried_of(law, folder) for folder in others),
    )


def carried_of(law: Law, folder: Path) -> Carried:
    """The law's gain from the pilot to the run, and what it was, in a finished folder of `pretrain auto`.

    Raises:
        BadInput: another folder, or one without a pilot.
    """
    plan = load_record(PretrainPlan, folder / "plan.json")
    told = load_record(Foretold, folder / "foretold.json")
    classes = len(load_record(RunData, folder / "data.json").parts["train"].classes)
    if plan.pilot is None:
        raise BadInput(f"{folder} had no pilot")
    gain, _ = law.gain(plan.depth, plan.flops, (plan.pilot.depth, plan.pilot.flops))
    reached = log_odds(told.reached, classes) - log_odds(plan.pilot.accuracy, classes)
    return Carried(data=plan.config["train"], gain=gain, reached=reached, half=share_of_half(law, plan.pilot, classes))


if __name__ == "__main__":
    print(json.dumps(as_json(law_runs(Path(sys.argv[1]), [Path(word) for word in sys.argv[2:]])), indent=1))
