"""The suites: the paper's numbers, the exceptions of VTAB, and a list of one's own."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vitrail.core.errors import BadInput
from vitrail.core.estimate import Estimate
from vitrail.data.transforms.pipeline import ResizeCrop, WholeImage
from vitrail.jobs.suite.suite import Rejudged, Suite, Task, chosen
from vitrail.jobs.suite.table import TaskResult, means
from vitrail.jobs.suite.task import Score
from vitrail.recipes.suites import EXAMPLE, adapted, paper, suite_of, vtab


def published(suite: Suite) -> dict[tuple[str, str], float]:
    """The published means, in per cent, by group and model, where all tasks are done."""
    done = (Score("fine-tuned", Estimate(0.5, (0.4, 0.6))),)
    standings = [TaskResult(task, "done", scores={"model": done}) for task in suite.tasks]
    rows = means(suite, standings)
    return {(row.group, other.model): 100 * other.accuracy for row in rows for other in row.published}


def test_the_means_of_table_9_are_the_papers() -> None:
    """The groups of H/14 as recomputed from Table 9, and its mean of Table 2, to 0.01."""
    found = published(vtab())
    theirs = {"Natural": 86.69, "Specialized": 87.00, "Structured": 65.03, "all tasks": 77.63}
    for group, value in theirs.items():
        assert found[group, "ViT-H/14 (JFT-300M)"] == pytest.approx(value, abs=0.01), group
    assert found["all tasks", "ViT-L/16 (JFT-300M)"] == pytest.approx(76.28, abs=0.01)
    assert found["all tasks", "ViT-L/16 (ImageNet-21k)"] == pytest.approx(72.72, abs=0.01)


def test_vtab_is_19_tasks_by_the_protocol() -> None:
    suite = vtab()
    tasks = [task for task in suite.tasks if isinstance(task, Task)]
    assert suite.groups == ("Natural", "Specialized", "Structured")
    assert len(tasks) == 19
    for task in tasks:
        tuned = task.finetune
        assert (tuned.steps, tuned.batch, tuned.resolution, tuned.optimizer.lr) == (2500, 512, 384, 0.01)
        assert tuned.train.endswith("@train800val200")
        assert (tuned.test or "").endswith("@test")
        assert not tuned.sweep
        assert task.choice is not None
    by_name = {task.name: task.finetune.augment for task in tasks}
    assert by_name["Clevr-Count"].crop == WholeImage()
    assert by_name["dSprites-Location"].crop == WholeImage()
    assert not by_name["dSprites-Location"].flip
    assert by_name["dSprites-Orientation"].crop == ResizeCrop()
    assert not by_name["SmallNORB-Azimuth"].flip
    assert by_name["SVHN"].flip


def test_the_papers_suite_is_its_five_sets_and_reals_labels_are_in_no_mean() -> None:
    suite = paper()
    assert [type(task) for task in suite.tasks].count(Task) == 5
    (real,) = (task for task in suite.tasks if isinstance(task, Rejudged))
    assert real.of == "ImageNet"
    rows = means(suite, [TaskResult(task) for task in suite.tasks])
    assert not rows  # nothing is done, so there is nothing to take a mean of
    # the mean of Table 6 over the five sets, of H/14 as Table 5 has it: 95.865
    values = [88.04, 99.50, 94.55, 97.56, 99.68]
    assert published(suite)["all tasks", "ViT-H/14 (JFT-300M)"] == pytest.approx(sum(values) / 5, abs=0.01)
    rates = {task.name: task.finetune.sweep for task in suite.tasks if isinstance(task, Task)}
    assert rates["ImageNet"] == (0.003, 0.01, 0.03, 0.06)
    assert rates["CIFAR-10"] == (0.001, 0.003, 0.01, 0.03)


def test_the_example_of_a_list_is_a_suite(tmp_path: Path) -> None:
    (tmp_path / "birds.toml").write_text(EXAMPLE)
    suite = suite_of(str(tmp_path / "birds.toml"))
    assert suite.groups == ("photographs", "spectrograms")
    species, nests, songs = (task for task in suite.tasks if isinstance(task, Task))
    assert species.finetune.resolution == 224
    assert species.finetune.sweep == (0.003, 0.01)
    assert species.finetune.steps == 0  # by the size of the data
    assert nests.finetune.steps == 500
    assert songs.finetune.augment.crop == WholeImage()
    assert not songs.finetune.augment.flip


def test_a_list_may_be_json(tmp_path: Path) -> None:
    content = {"name": "mine", "steps": 10, "tasks": [{"name": "a", "train": "x@train", "test": "x@test"}]}
    (tmp_path / "mine.json").write_text(json.dumps(content))
    (task,) = suite_of(str(tmp_path / "mine.json")).tasks
    assert isinstance(task, Task)
    assert task.finetune.steps == 10
    assert task.finetune.schedule.warmup <= 10


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "a"\ntasks = []', "has no task"),
        ('name = "a"\n[[tasks]]\nname = "b"\ntrain = "x"', "lacks the key 'test'"),
        ('name = "a"\n[[tasks]]\nname = "b"\ntrain = "x"\ntest = "y"\nstps = 4', "did you mean 'steps'"),
        ('name = "a"\n' + 2 * '[[tasks]]\nname = "b"\ntrain = "x"\ntest = "y"\n', "two tasks of one name"),
        ("name = ", "cannot be read"),
    ],
)
def test_a_list_that_is_none_says_why(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(BadInput, match=said):
        suite_of(str(tmp_path / "bad.toml"))


def test_names_that_are_unknown_find_the_nearest() -> None:
    with pytest.raises(BadInput, match="did you mean 'vtab'"):
        suite_of("vtb")
    with pytest.raises(BadInput, match="does not exist"):
        suite_of("nowhere.toml")
    with pytest.raises(BadInput, match="did you mean 'Natural'"):
        chosen(vtab(), ("natral",), ())
    assert len(chosen(vtab(), ("Natural",), ("SVHN",))) == 6
    with pytest.raises(BadInput, match="leave no task"):
        chosen(vtab(), ("SVHN",), ("Natural",))


def test_another_resolution_is_said() -> None:
    suite = adapted(vtab(), resolution=32)
    assert "a resolution of 32 instead" in suite.about
    assert all(task.finetune.resolution == 32 for task in suite.tasks if isinstance(task, Task))
    assert adapted(vtab()) == vtab()


def test_a_published_model_without_a_number_of_each_task_has_no_mean() -> None:
    first, second = vtab().tasks[:2]
    assert isinstance(second, Task)
    assert len(published(Suite("two", "", (first, second)))) == 2 * 3  # of the group and of all, three models
    lacking = replace(second, published=second.published[1:])
    assert not any("H/14" in model for _, model in published(Suite("two", "", (first, lacking))))
