"""The study of learning without labels: each fine-tuning is compared with its own training from scratch."""

from dataclasses import replace
from pathlib import Path

from vitrail.core.files import write_json
from vitrail.records.record import as_json
from vitrail.records.study import Measured
from vitrail.studies.engine.execute import collect
from vitrail.studies.engine.results import measured_file
from vitrail.studies.engine.study import study_runs
from vitrail.studies.masked import masked

TENTH, OTHER = "a tenth of Tiny-ImageNet", "CIFAR-10"
ACCURACY = {  # of the two fine-tunings
    "mean colour": (0.14, 0.57),
    "MAE": (0.18, 0.64),
    "supervised": (0.15, 0.56),
    "one step": (0.10, 0.54),
    f"scratch, {TENTH}": (0.13, 0.99),
    f"scratch, {OTHER}": (0.99, 0.60),
}


def test_the_finding_has_the_scratch_of_each_task(tmp_path: Path) -> None:
    study = replace(masked("small").part(list(ACCURACY)[1:]), seeds=1)
    for plan in study_runs(study, tmp_path):
        few, tenth, other = study.measures
        write_json(plan.folder / "result.json", {})
        values = zip((TENTH, OTHER), ACCURACY[plan.run.name], strict=True)
        found = [(few, {"10-shot": 0.2, "linear": 0.4})]
        found += [(measure, {name: value}) for measure, (name, value) in zip((tenth, other), values, strict=True)]
        for measure, shares in found:
            write_json(measured_file(plan, measure), as_json(Measured(measure={}, values=shares, count=10_000)))
    said = study.finding(collect(study, tmp_path))
    first, second = said.split(" Fine-tuned on CIFAR-10: ")
    assert first.startswith(f"Fine-tuned on {TENTH}: masked patch prediction is 1.0 points above")
    assert "MAE is 5.0 points above (95 % interval 4.0 to 6.0) training from scratch as long" in first
    assert "4.0 points above (95 % interval 3.1 to 4.9) fine-tuning alone" in first
    assert second.startswith("masked patch prediction is 3.0 points below")
    assert "MAE is 4.0 points above (95 % interval 2.7 to 5.3) training from scratch as long" in second
    assert "MAE is 7.0 points above" in second
    assert "scratch," not in said  # a reference is no run to compare with the mean colour
