"""A suite on slices of the digits: both methods, two models, tasks that fail or are absent, and going on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.evals.few_shot import rank_selected
from tests.scenarios.test_bad_input import refused, run
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput, Interrupted
from vitrail.core.estimate import Estimate, wilson
from vitrail.data.open.names import open_data
from vitrail.data.transforms.pipeline import Augment, WholeImage
from vitrail.evals.features import features
from vitrail.evals.fewshot_rank import FewShotSet
from vitrail.jobs.finetune.finetune import Finetune
from vitrail.jobs.linear_probe import Linear, linear
from vitrail.jobs.suite import task as attempts
from vitrail.jobs.suite.run import SuiteRun, run_suite
from vitrail.jobs.suite.suite import Choice, FewShot, FineTuned, PublishedResult, Rejudged, Setting, Suite, Task
from vitrail.jobs.suite.table import TaskResult
from vitrail.jobs.suite.task import TUNED, Score
from vitrail.records.finetune import FinetuneResult
from vitrail.records.read_run import read_result
from vitrail.records.record import load_record, parse_record, write_record
from vitrail.records.suite import ChosenSetting, PublishedMean, SuiteMean, SuiteResult, SuiteTask
from vitrail.train.optim import Momentum
from vitrail.train.schedule import Cosine
from vitrail.weights.load import load

OLD = Path(__file__).parent.parent.parent / "fixtures/v0.1.0"
HERE = Machine("cpu", workers=0)
SHOTS = FewShot(shots=(1, 5), seeds=3)


def task(name: str, train: str, test: str, group: str = "", **more: Any) -> Task:
    tuned = Finetune(
        train=train,
        test=test,
        steps=3,
        batch=8,
        augment=Augment(crop=WholeImage(), flip=False),
        optimizer=Momentum(lr=0.03),
        schedule=Cosine(warmup=0),
        log_every=1,
        precision="float32",
    )
    return Task(name, tuned, group, **more)


PLAIN = task(
    "Plain", "digits@train[:300]", "digits@test[:120]", "whole", published=(PublishedResult("theirs", 0.9, "x"),)
)
SCATTERED = task("Scattered", "scattered-digits@train[:300]", "scattered-digits@test[:120]", "whole")
ABSENT = task("Absent", "nowhere/at/all@train", "nowhere/at/all@test", "few", layout="nowhere/train|test/CLASS/FILE")
# its test images have classes that training lacks
BREAKS = task("Breaks", "scattered-digits@seen-train[:60]", "scattered-digits@test[:40]", "few")


@pytest.fixture(scope="module")
def model(digits_run: Path) -> str:
    return str(digits_run / "bundle")


def by_name(result: SuiteResult) -> dict[str, SuiteTask]:
    return {row.name: row for row in result.tasks}


def mean(result: SuiteResult, of: str, group: str = "all tasks") -> SuiteMean:
    (row,) = (row for row in result.means if (row.of, row.group) == (of, group))
    return row


@pytest.fixture(scope="module")
def few_shot(model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[SuiteRun, Path, dict[str, Any]]:
    """Three tasks, one of them absent."""
    folder = tmp_path_factory.mktemp("suites") / "shots"
    config = SuiteRun(Suite("three", "Three tasks.", (PLAIN, SCATTERED, ABSENT)), model, SHOTS)
    return config, folder, run_suite(config, folder, HERE)


def test_a_task_has_the_accuracies_of_the_few_shot_command(few_shot: Any, model: str) -> None:
    _, _, result = few_shot
    alone = linear(Linear(model, "digits@train[:300]", "digits@test[:120]", (1, 5), 3), None, HERE)
    found = {score.of: score for score in by_name(result)["Plain"].scores}
    for row, of in zip(alone.rows, ("1 shot", "5 shots"), strict=True):
        assert found[of].accuracy == row.mean
        assert found[of].interval == row.interval


def test_a_mean_over_fewer_tasks_says_so(few_shot: Any) -> None:
    _, _, result = few_shot
    rows = by_name(result)
    assert [rows[name].state for name in ("Plain", "Scattered", "Absent")] == ["done", "done", "absent"]
    assert "nowhere/at/all" in rows["Absent"].sentence
    whole = mean(result, "5 shots")
    assert (whole.tasks, whole.expected) == (2, 3)
    accuracies = [rows[name].scores[1].accuracy for name in ("Plain", "Scattered")]
    assert whole.mean.value == pytest.approx(np.mean(accuracies))
    assert "on average over 2 of 3 tasks, 5 shots a class" in result.sentence
    assert mean(result, "5 shots", "few").tasks == 0
    assert mean(result, "5 shots", "few").mean is None


def test_what_is_finished_is_not_repeated_and_a_second_model_may_come_later(
    few_shot: Any, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder, before = few_shot
    monkeypatch.setattr(attempts, "linear", lambda *_: pytest.fail("done again"))
    again = run_suite(config, folder, HERE)
    assert again.tasks[0].scores == before.tasks[0].scores
    monkeypatch.undo()
    done: list[str] = []
    monkeypatch.setattr(attempts, "linear", lambda c, *rest: done.append(c.test) or linear(c, *rest))
    compared = run_suite(replace(config, against=model), folder, HERE)
    assert done == ["digits@test[:120]", "scattered-digits@test[:120]"]  # the other model alone
    difference = by_name(compared)["Plain"].scores[1].difference
    assert (difference.value, difference.how) == (0.0, "unpaired")  # no spread of the differences is no certainty
    assert difference.interval[0] < 0 < difference.interval[1]
    assert "cannot be told apart" in compared.sentence
    with pytest.raises(BadInput, match="compares with"):
        run_suite(replace(config, against=str(Path(model).parent)), folder, HERE)


def test_another_model_or_a_changed_task_is_refused_and_a_new_task_is_not(few_shot: Any, tmp_path: Path) -> None:
    config, folder, _ = few_shot
    with pytest.raises(BadInput, match="shots"):
        run_suite(replace(config, method=FewShot(shots=(2,))), folder, HERE)
    changed = replace(PLAIN, finetune=replace(PLAIN.finetune, test="digits@test[:60]"))
    with pytest.raises(BadInput, match=r"'Plain' is another than in .*digits@test\[:120\]"):
        run_suite(replace(config, suite=Suite("three", "", (changed, SCATTERED))), folder, HERE)
    more = replace(config, suite=Suite("three", "", (PLAIN, task("New", "digits@train[:200]", "digits@test[:50]"))))
    assert by_name(run_suite(more, folder, HERE))["New"].state == "done"


def test_only_and_skip_leave_the_other_tasks_as_they_are(model: str, tmp_path: Path) -> None:
    config = SuiteRun(Suite("two", "", (PLAIN, SCATTERED)), model, SHOTS)
    first = run_suite(config, tmp_path / "s", HERE, only=("Plain",))
    assert [row.state for row in first.tasks] == ["done", "waiting"]
    assert not first.finished
    second = run_suite(config, tmp_path / "s", HERE, skip=("Plain",))
    assert [row.state for row in second.tasks] == ["done", "done"]
    assert second.finished


def test_the_older_variant_chooses_its_ridge_over_the_tasks_of_the_suite(model: str, tmp_path: Path) -> None:
    tasks = (PLAIN, SCATTERED)
    result = run_suite(SuiteRun(Suite("two", "", tasks), model, FewShot((5,), variant="older")), tmp_path / "s", HERE)
    loaded = load(model)
    sets = {}
    for one in tasks:
        train, test = (open_data(name) for name in (one.finetune.train, one.finetune.test or ""))
        seen = [features(loaded, source, loaded.preprocess) for source in (train, test)]
        sets[one.name] = FewShotSet(seen[0].values, seen[0].labels, seen[1].values, seen[1].labels, 10)
    for name, _, _, accuracy in rank_selected(sets, (5,)):
        (score,) = by_name(result)[name].scores
        assert score.accuracy == pytest.approx(accuracy)
        assert score.interval == pytest.approx(wilson(round(accuracy * 120), 120))


@pytest.fixture(scope="module")
def tuned(model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[SuiteRun, Path, dict[str, Any]]:
    """One task that works, one that breaks, one that judges the model of the first; two models that are one."""
    folder = tmp_path_factory.mktemp("suites") / "tuned"
    again = Rejudged("Again", "Plain", "digits@test[120:200]")
    config = SuiteRun(Suite("tuned", "", (BREAKS, PLAIN, again)), model, against=model)
    return config, folder, run_suite(config, folder, HERE)


def test_a_failed_task_is_shown_and_the_others_go_on(tuned: Any) -> None:
    _, folder, result = tuned
    rows = by_name(result)
    assert rows["Breaks"].state == "failed"
    assert "which train lacks" in rows["Breaks"].sentence
    assert rows["Plain"].state == rows["Again"].state == "done"
    own = read_result(folder / "model/plain/result.json")
    (score,) = rows["Plain"].scores
    assert (score.accuracy, score.interval, score.count) == (own.accuracy, own.interval, 120)
    whole = mean(result, "fine-tuned")
    assert (whole.tasks, whole.expected) == (1, 2)  # the images judged again are in no mean
    assert whole.mean.value == own.accuracy
    assert whole.published == (PublishedMean(model="theirs", accuracy=0.9, tasks=1),)


def test_one_model_twice_is_compared_image_by_image_and_cannot_be_told_apart(tuned: Any) -> None:
    _, _, result = tuned
    for name in ("Plain", "Again"):
        difference = by_name(result)[name].scores[0].difference
        assert difference.how == "paired by images"
        assert difference.value == 0
        assert difference.interval[0] < 0 < difference.interval[1]


def test_means_of_several_runs_are_compared_as_means() -> None:
    """The first runs say the contrary of the means; their right answers are at hand, and must not be what is paired."""
    first = Score(TUNED, Estimate(0.8, (0.7, 0.9)), 4, (0.75, 1.0, 0.75))
    second = Score(TUNED, Estimate(0.7, (0.6, 0.8)), 4, (1.0, 0.5, 0.5))
    right = {("a", i): i > 0 for i in range(4)}
    one = TaskResult(
        PLAIN, scores={"model": (first,), "baseline": (second,)}, right={"model": right, "baseline": right}
    )
    found = one.difference(TUNED)
    assert found is not None
    pairs = np.array([-0.25, 0.5, 0.25])
    expected = stats.t.interval(0.95, 2, pairs.mean(), stats.sem(pairs))
    assert found[1] == "paired by seeds"
    assert found[0].value == pytest.approx(pairs.mean())
    assert found[0].interval == pytest.approx(expected)


def test_equal_differences_of_all_seeds_are_no_certainty() -> None:
    first, second = (Score(TUNED, Estimate(v, (v - 0.1, v + 0.1)), 4, (v, v)) for v in (0.75, 0.5))
    found = TaskResult(PLAIN, scores={"model": (first,), "baseline": (second,)}).difference(TUNED)
    assert found is not None
    assert found[1] == "unpaired"
    assert found[0].interval == pytest.approx((0.25 - 0.1 * 2**0.5, 0.25 + 0.1 * 2**0.5))


def test_the_runs_of_a_task_are_its_values(tmp_path: Path) -> None:
    """As `vitrail finetune --repeats 1` writes them."""
    result = load_record(FinetuneResult, OLD / "sweep/result.json")
    runs = [replace(result.runs[0], accuracy=accuracy) for accuracy in (0.5, 0.75)]
    result = replace(result, accuracy=0.625, interval=(0.5, 0.75), count=4, runs=runs)
    write_record(tmp_path / "result.json", result)
    (score,) = attempts.scores(PLAIN, FineTuned(repeats=1), tmp_path) or ()
    assert score.values == (0.5, 0.75)


def test_a_failed_task_is_tried_again_and_finished_ones_are_not(tuned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config, folder, before = tuned
    tried: list[str] = []

    def noted(config: Finetune, *rest: Any) -> Any:
        tried.append(config.train)
        raise BadInput("again")

    monkeypatch.setattr(attempts, "finetune", noted)
    result = run_suite(config, folder, HERE)
    assert tried == [BREAKS.finetune.train] * 2  # once for each model
    assert by_name(result)["Plain"].scores == by_name(before)["Plain"].scores
    assert by_name(result)["Breaks"].sentence == "again"


def test_a_signal_stops_the_suite_and_is_no_failure(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> Any:
        raise Interrupted(15)

    monkeypatch.setattr(attempts, "finetune", stopped)
    config = SuiteRun(Suite("one", "", (PLAIN,)), model)
    with pytest.raises(Interrupted):
        run_suite(config, tmp_path / "s", HERE)
    monkeypatch.undo()
    monkeypatch.setattr(attempts, "finetune", lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
    result = run_suite(config, tmp_path / "s", HERE)
    assert by_name(result)["Plain"].sentence == "RuntimeError: out of memory"


def test_one_setting_is_chosen_for_all_tasks_without_a_test_image(model: str, tmp_path: Path) -> None:
    one = replace(PLAIN, choice=Choice("digits@train[:200]", "digits@train[200:300]"))
    method = FineTuned((Setting(1e-6, 2), Setting(0.1, 6)))
    folder = tmp_path / "s"
    result = run_suite(SuiteRun(Suite("one", "", (one,)), model, method), folder, HERE)
    best = max(result.choice.settings, key=lambda row: (row.mean, -row.lr))
    assert result.choice.chosen == ChosenSetting(lr=best.lr, steps=best.steps)
    assert len({row.mean for row in result.choice.settings}) == 2
    trials = [json.loads(p.read_text())["config"] for p in sorted(folder.glob("choice/*/plain/config.json"))]
    assert len(trials) == 2
    assert all(trial["test"] is None and trial["train"] == "digits@train[:200]" for trial in trials)
    final = json.loads((folder / "model/plain/config.json").read_text())["config"]
    assert (final["optimizer"]["lr"], final["steps"], final["train"]) == (
        best.lr,
        best.steps,
        "digits@train[:300]",
    )
    with pytest.raises(BadInput, match="no task of two .* held-out part"):
        run_suite(SuiteRun(Suite("two", "", (PLAIN,)), model, method), tmp_path / "t", HERE)


OWN = """
name = "mine"
steps = 2
batch = 8
[[tasks]]
name = "plain"
train = "digits@train[:100]"
test = "digits@test[:50]"
[[tasks]]
name = "absent"
train = "nowhere/at/all@train"
test = "nowhere/at/all@test"
layout = "nowhere/train|test/CLASS/FILE"
"""


def test_the_command_plans_runs_and_makes_a_page(model: str, tmp_path: Path, capsys: Any) -> None:
    listed = tmp_path / "mine.toml"
    listed.write_text(OWN)
    code, out, _ = run(capsys, "suite", listed, "--model", model, "--plan", "--json", "--device", "cpu")
    plan = json.loads(out)
    assert code == 0
    assert [row["state"] for row in plan["tasks"]] == ["to do", "absent"]
    assert plan["tasks"][0] | {"train_images": 100, "test_images": 50, "steps": 2, "batch": 8} == plan["tasks"][0]
    assert plan["seconds"] > 0
    assert "nowhere/train|test" in plan["tasks"][1]["note"]
    shots = ("--method", "few-shot", "--shots", "1", "5", "--draws", "2", "--device", "cpu", "--workers", "0")
    code, out, _ = run(capsys, "suite", listed, "--model", model, "--out", tmp_path / "s", *shots, "--json")
    result = parse_record(SuiteResult, json.loads(out))
    assert code == 1  # a task is absent
    assert [row.state for row in result.tasks] == ["done", "absent"]
    page = (tmp_path / "s/report.html").read_text()
    assert result.sentence in page
    assert "mean of 1 of 2" in page
    assert "nowhere/train|test/CLASS/FILE" in page
    code, out, _ = run(capsys, "suite", listed, "--model", model, "--out", tmp_path / "s", *shots, "--skip", "absent")
    assert "over 1 of 2 tasks" in out


def test_the_command_lists_suites_and_prints_an_example(capsys: Any) -> None:
    code, out, _ = run(capsys, "suite", "--json")
    assert code == 0
    assert {row["name"]: row["tasks"] for row in json.loads(out)["suites"]} == {"paper": 6, "vtab": 19}
    code, out, _ = run(capsys, "suite", "--example")
    assert "[[tasks]]" in out


def test_bad_input_of_the_command(model: str, tmp_path: Path, capsys: Any) -> None:
    listed = tmp_path / "mine.toml"
    listed.write_text(OWN)
    assert "give --out DIR" in refused(capsys, "suite", listed, "--model", model)
    assert "are of --method finetune" in refused(
        capsys, "suite", listed, "--model", model, "--method", "few-shot", "--rates", "0.1"
    )
    assert "no such" in refused(capsys, "suite", listed, "--model", tmp_path / "none", "--out", tmp_path / "s")
    assert "did you mean 'plain'" in refused(
        capsys, "suite", listed, "--model", model, "--out", tmp_path / "s", "--only", "plane"
    )
