"""`finetune auto` on small images: the judge's logits, kills, a test set that says nothing, few and unequal classes."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.data.open.names import open_data
from vitrail.data.sources.subset import Subset
from vitrail.evals.features import features
from vitrail.evals.inference import run_inference
from vitrail.jobs import training
from vitrail.jobs.finetune import auto as job
from vitrail.jobs.finetune import auto_plan, auto_trials, candidates
from vitrail.jobs.finetune.auto import automatic
from vitrail.jobs.finetune.auto_plan import Sizes, Times, final_steps, make_auto_plan
from vitrail.jobs.finetune.auto_trials import choose
from vitrail.jobs.finetune.candidates import CANDIDATES
from vitrail.jobs.finetune.held_out import judge_logits, make_folds
from vitrail.jobs.finetune.linear_judge import LEAST, fit_seconds, linear_judge
from vitrail.jobs.finetune.run import Finetune, build_pretrained, finetune_once
from vitrail.records.finetune import AutoPlanFile, FinetuneResult, Sweep, Trial
from vitrail.records.record import as_json, load_record
from vitrail.report.index import make
from vitrail.train.optim import Muon
from vitrail.train.schedule import Cosine
from vitrail.weights.bundle import read_bundle
from vitrail.weights.load import load, read_pretrained

from .test_sweep import Killed, config, model_bundle, pictures

HERE = Machine(device="cpu", workers=0)
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("auto")
    pictures(root / "photos" / "train", 90, seed=0)
    pictures(root / "photos" / "test", 15, seed=1)
    return root


def asked(root: Path, **changes: Any) -> Finetune:
    """Sixteen steps of the trial, four of the final run that goes on from it."""
    names = {"train": f"{root / 'photos'}@train", "test": f"{root / 'photos'}@test"}
    return replace(
        config(root),
        **{**names, "steps": 16, "batch": 0, "save_every": 2, "budget": "10m", "schedule": Cosine(), **changes},
    )


def better(monkeypatch: pytest.MonkeyPatch, accuracy: float = 1.0) -> None:
    """The images are so easy that only a made-up accuracy is above the linear judge."""
    original = auto_trials.judge_logits
    monkeypatch.setattr(
        auto_trials, "judge_logits", lambda *given: replace(original(*given), accuracy=accuracy, loss=-1.0)
    )


@pytest.fixture(scope="module")
def done(data: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITRAIL_CACHE", str(data / "cache"))
        better(patch)
        automatic(asked(data), data / "done", HERE)
    return data / "done"


def test_logits_before_the_first_step_are_the_scores_of_the_judge(data: Path, tmp_path: Path) -> None:
    """Within 1e-4 of logits of about 1: the classifier is rounded to float32, and so are its products."""
    source, start = open_data(f"{data / 'photos'}@train"), read_pretrained(model_bundle(data))
    model, _, preprocess = build_pretrained(asked(data), start, source.classes)
    frozen = features(model, source, preprocess, dtype=torch.float32)
    judge = linear_judge(frozen, source.classes, make_folds(source, 0), tmp_path / "judge.npz", 0.0)
    ready, _, _ = build_pretrained(asked(data), start, source.classes, judge.whole)
    parts = run_inference(ready, source, preprocess, dtype=torch.float32)
    logits = torch.cat([part.logits for part in parts]).numpy()
    np.testing.assert_allclose(logits, judge.whole.scores(frozen.values), atol=1e-4)
    assert np.ptp(logits) > 0.5
    again = linear_judge(frozen, source.classes, (), tmp_path / "judge.npz", 0.0)
    assert again.judged == judge.judged, "read, not fitted again"


def test_confidence_of_the_judge_is_right_on_held_out_images(data: Path, tmp_path: Path) -> None:
    source = open_data(f"{data / 'photos'}@train")
    rng = np.random.default_rng(0)
    values = rng.standard_normal((270, 5)).astype(np.float32)
    values[:, 0] += source.labels  # overlapping classes
    frozen = features(load(model_bundle(data)), source, read_pretrained(model_bundle(data)).preprocess)
    frozen = frozen._replace(values=values)
    (fold,) = make_folds(source, 0)
    judge = linear_judge(frozen, source.classes, (fold,), tmp_path / "judge.npz", 0.0)
    scores = torch.from_numpy(judge.folds[0].scores(values[fold.held]).astype(np.float32))
    found = judge_logits(scores, torch.from_numpy(source.labels[fold.held]), source.classes)
    assert found.temperature == pytest.approx(1, abs=1e-3)
    assert judge.judged is not None
    assert judge.judged.temperature != pytest.approx(1, abs=1e-3)


def test_the_folder_holds_everything(done: Path) -> None:
    result = load_record(FinetuneResult, done / "result.json")
    for name, kind in (("plan.json", AutoPlanFile), ("transfer.json", Sweep), ("result.json", FinetuneResult)):
        load_record(kind, done / name)
    assert [row.name for row in result.trials] == ["linear judge", "all-layers"]
    assert (result.chosen.name, result.steps, result.count) == ("all-layers", 20, 45)
    assert result.trials[0].count == 54
    bundle = read_bundle(done / "bundle")
    assert bundle.temperature == result.chosen.temperature
    assert bundle.provenance["temperature_fitted"]["count"] == 54
    evaluation = read_json(done / "evaluation" / "evaluation.json")
    assert evaluation["accuracy"] == result.accuracy
    assert evaluation["temperature"]["value"] == bundle.temperature
    for run in ("trials/all-layers", "final/seed-0"):
        about = read_json(done / run / "config.json")["config"]
        assert (about["test"], about["tuned"]["type"]) == (None, "LayerDecay")
    trial, final = (read_json(done / run / "config.json")["config"] for run in ("trials/all-layers", "final/seed-0"))
    assert (trial["steps"], final["steps"]) == (16, 4)
    assert final["optimizer"]["lr"] == trial["optimizer"]["lr"] / 4


def test_wrong_test_labels_change_no_byte_of_the_bundle(done: Path, data: Path, tmp_path: Path, monkeypatch) -> None:
    better(monkeypatch)
    kept = shutil.copytree(data / "photos" / "test", tmp_path / "kept")
    shutil.rmtree(data / "photos" / "test")
    pictures(data / "photos" / "test", 15, seed=1, labels=lambda label: (label + 1) % 3)
    try:
        result = automatic(asked(data), tmp_path / "out", HERE)
    finally:
        shutil.rmtree(data / "photos" / "test")
        shutil.copytree(kept, data / "photos" / "test")
    for file in sorted((done / "bundle").iterdir()):
        assert (tmp_path / "out" / "bundle" / file.name).read_bytes() == file.read_bytes(), file.name
    assert result.accuracy != read_json(done / "result.json")["accuracy"], "the test labels did arrive at the test"


def test_kills_between_parts_and_inside_a_trial_cost_nothing(
    done: Path, data: Path, tmp_path: Path, monkeypatch
) -> None:
    better(monkeypatch)
    original, taken = training.train_step, 0

    def until(last: int) -> Callable[..., Any]:
        def step(state: Any, batch: Any, **options: Any) -> Any:
            nonlocal taken
            taken += 1
            if taken == last:
                raise Killed
            return original(state, batch, **options)

        return step

    def dying(*_: Any, **__: Any) -> Any:
        raise Killed

    kills = {  # and a file that is there then, and one that is not
        "before the features": (job, "stored_features", dying, "plan.json", "judge.json"),
        "in the judge": (job, "linear_judge", dying, "plan.json", "judge.json"),
        "inside the trial": (training, "train_step", until(4), "judge.json", "trials/all-layers/result.json"),
        "before it is judged": (auto_trials, "_held_out_logits", dying, "trials/all-layers/result.json", "final.json"),
        "before the choice": (job, "final_steps", dying, "trials/all-layers/judged.json", "final.json"),
        "inside the final run": (training, "train_step", until(4), "final.json", "final/seed-0/result.json"),
        "before the end": (job, "finish_auto", dying, "final/seed-0/result.json", "bundle/config.json"),
    }
    for place, (module, name, fatal, there, absent) in kills.items():
        taken = 0
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(module, name, fatal)
            automatic(asked(data), tmp_path / "out", HERE)
        assert (tmp_path / "out" / there).exists(), place
        assert not (tmp_path / "out" / absent).exists(), place
    result = automatic(asked(data), tmp_path / "out", HERE)
    assert result.weights_sha256 == read_json(done / "result.json")["weights_sha256"]
    assert result.restarts == 1
    assert (tmp_path / "out" / "bundle" / "config.json").read_bytes() == (done / "bundle" / "config.json").read_bytes()


DRIVEN = """
import sys
from pathlib import Path
import pytest
from tests.jobs.finetune.test_auto import HERE, asked, automatic, better
with pytest.MonkeyPatch.context() as patch:
    better(patch)
    automatic(asked(Path(sys.argv[1])), Path(sys.argv[2]), HERE)
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bundle(done: Path, data: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments, each after the folder has got on, until it has ended; measured: 53 kills."""
    rng = random.Random()
    environment = {
        **os.environ,
        "VITRAIL_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    command = [sys.executable, "-c", DRIVEN, str(data), str(tmp_path / "out")]
    seen: list[str] = []
    for kills in range(60):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, cwd=ROOT)
        files = set(tmp_path.glob("out/**/*"))
        while process.poll() is None and set(tmp_path.glob("out/**/*")) <= files:
            time.sleep(0.002)  # until it has got on
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, 0.3 + 0.05 * kills))  # later ones come later: on a slow machine it ends, too
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        seen.append(f"{len(list(tmp_path.glob('out/**/*')))} files")
    said = process.communicate()[1].decode()
    assert process.returncode == 0, "killed 60 times" if process.returncode == -9 else said
    print(f"{kills} kills: {', '.join(seen)}")
    assert kills >= 5
    for file in sorted((done / "bundle").iterdir()):
        assert (tmp_path / "out" / "bundle" / file.name).read_bytes() == file.read_bytes(), file.name
    assert not list((tmp_path / "out").rglob("*.tmp*"))


def test_a_finished_one_is_shown_and_another_question_refused(done: Path, data: Path) -> None:
    assert as_json(automatic(asked(data), done, HERE)) == read_json(done / "result.json")
    with pytest.raises(BadInput, match="steps: 16 → 9"):
        automatic(asked(data, steps=9), done, HERE)


def test_the_linear_judge_is_the_model_where_nothing_is_above_it(data: Path, tmp_path: Path, monkeypatch) -> None:
    better(monkeypatch, accuracy=0.1)
    result = automatic(asked(data), tmp_path / "out", HERE)
    assert (result.chosen.name, result.steps) == ("linear judge", 0)
    assert not (tmp_path / "out" / "final").exists()
    model, began = load(tmp_path / "out"), load(data / "model")
    assert model.temperature == 1.0
    kept = [n for n in model.state_dict() if not n.startswith("head.")]
    assert all(torch.equal(model.state_dict()[name], began.state_dict()[name]) for name in kept)
    assert result.trained_parameters == 16 * 3 + 3
    with np.load(tmp_path / "out" / "judge.npz") as arrays:
        np.testing.assert_allclose(model.head.weight.detach().numpy(), arrays["weights"][-1].T, rtol=1e-6)
    assert result.accuracy > 0.5


def test_a_final_run_that_diverges_leaves_the_judge(data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    better(monkeypatch)
    original = auto_trials.finetune_once

    def failing(asked: Any, folder: Path, *more: Any, **named: Any) -> Any:
        if folder.parent.name == "final":
            raise job.Diverged("the loss is NaN")
        return original(asked, folder, *more, **named)

    monkeypatch.setattr(auto_trials, "finetune_once", failing)
    result = automatic(asked(data), tmp_path / "out", HERE)
    assert (result.failed, result.chosen.name) == ("the loss is NaN", "linear judge")
    assert "the final run failed (the loss is NaN)" in capsys.readouterr().err


@pytest.mark.parametrize("counts", [(2, 2, 2), (60, 5, 2), (4, 30), (1, 3, 9)])
def test_few_images_and_unequal_classes(data: Path, tmp_path: Path, counts: tuple[int, ...], capsys) -> None:
    many = pictures(tmp_path / "all", max(counts), seed=3)
    for label, count in enumerate(counts):
        for i in range(count):
            target = tmp_path / "few" / f"class-{label}" / f"{i}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(many / f"class-{label}" / f"{label}-{i}.png", target)
    result = automatic(asked(data, train=str(tmp_path / "few"), test=None), tmp_path / "out", HERE)
    judge, trial = result.trials
    assert judge.count == trial.count == sum(count for count in counts if count > 1)
    assert "each image is held out once" in capsys.readouterr().err
    assert result.accuracy is None
    assert result.chosen.accuracy >= judge.accuracy
    assert read_bundle(tmp_path / "out" / "bundle").temperature is not None


def test_one_image_a_class_leaves_nothing_to_choose_by(data: Path, tmp_path: Path, capsys) -> None:
    few = pictures(tmp_path / "few", 1, seed=3)
    result = automatic(asked(data, train=str(few)), tmp_path / "out", HERE)
    assert (result.chosen.name, result.chosen.accuracy) == ("linear judge", None)
    assert "nothing can be held out to choose by" in capsys.readouterr().err
    assert read_bundle(tmp_path / "out" / "bundle").temperature is None
    assert result.count == 45


def test_every_image_is_held_out_once_and_learned_from_elsewhere(data: Path) -> None:
    source = open_data(f"{data / 'photos'}@train")
    few = Subset(
        source, np.concatenate([np.flatnonzero(source.labels == label)[:n] for label, n in enumerate((1, 2, 7))])
    )
    folds = make_folds(few, 0)
    held = np.concatenate([fold.held for fold in folds])
    assert sorted(held) == list(range(1, 10))
    for fold in folds:
        assert not set(fold.train) & set(fold.held)
        assert set(few.labels[fold.train]) == {0, 1, 2}


def test_low_rank_trials_start_from_the_judge_too(data: Path, tmp_path: Path, monkeypatch) -> None:
    better(monkeypatch)
    monkeypatch.setattr(job, "CANDIDATES", CANDIDATES[1:2])
    monkeypatch.setattr(candidates, "CANDIDATES", CANDIDATES[1:2])
    result = automatic(asked(data), tmp_path / "out", HERE)
    assert result.chosen.name == "lora-8"
    assert not [name for name in load(tmp_path / "out").state_dict() if "lora" in name]


@pytest.mark.parametrize("mean", [0.95, 0.9])
def test_the_mean_of_trials_goes_on_where_it_is_better_than_each(
    data: Path, tmp_path: Path, monkeypatch, mean: float
) -> None:
    """Made-up accuracies: of the two trials, of both again, of their mean."""
    accuracies = iter([0.9, 0.8, 0.9, 0.8, mean])
    original, both, begun = auto_trials.judge_logits, (CANDIDATES[0], CANDIDATES[3]), {}
    monkeypatch.setattr(
        auto_trials, "judge_logits", lambda *given: replace(original(*given), accuracy=next(accuracies), loss=-1.0)
    )
    for place in (job, candidates):
        monkeypatch.setattr(place, "CANDIDATES", both)
    plan = auto_plan.make_auto_plan

    def two(sizes: Sizes, times: Times, budget: float, batch: int, steps: int, known: Any) -> Any:
        return replace(plan(sizes, times, budget, batch, steps, known), candidates=tuple(one.name for one in both))

    def noted(config: Any, folder: Path, *given: Any, head: Any = None) -> Any:
        begun["/".join(folder.parts[-2:])] = given[4]
        return finetune_once(config, folder, *given, head=head)

    monkeypatch.setattr(job, "make_auto_plan", two)
    monkeypatch.setattr(auto_trials, "finetune_once", noted)
    judge = job.linear_judge
    monkeypatch.setattr(
        job,
        "linear_judge",
        lambda *given: (found := judge(*given))._replace(judged=replace(found.judged, accuracy=0.5)),
    )
    result = automatic(asked(data), tmp_path / "out", HERE)
    first, second = (load(tmp_path / "out" / "trials" / one.name / "bundle").state_dict() for one in both)
    better_than_each = mean > 0.9
    assert [row.name for row in result.trials[1:]] == [one.name for one in both] + ["soup"] * better_than_each
    assert result.chosen.name == ("soup" if better_than_each else "all-layers")
    state = begun["final/seed-0"].state
    expected = {name: (first[name] + second[name]) / 2 for name in first} if better_than_each else first
    assert all(torch.equal(state[name], expected[name]) for name in state)
    assert automatic(asked(data), tmp_path / "out", HERE) == result, "shown, not made again"


def test_the_plan_keeps_to_its_budget() -> None:
    sizes, times = Sizes(1000, 200, 500, 10, 1), Times(2.5, 0.04, 5.0)
    for budget, tried in {120.0: 0, 360.0: 1, 1200.0: 1, 2400.0: 2, 36_000.0: len(CANDIDATES)}.items():
        plan = make_auto_plan(sizes, times, budget, 32, 0, CANDIDATES)
        assert plan.seconds <= 0.9 * budget
        assert len(plan.candidates) == tried
        assert tried < 2 or plan.trial_steps >= 300
    assert plan.trial_steps == pytest.approx(625, abs=4)  # 20 epochs
    assert make_auto_plan(sizes, times, 30.0, 32, 0, CANDIDATES).candidates == ()
    plan = make_auto_plan(sizes, times, 360.0, 32, 0, CANDIDATES)
    assert 60 < plan.trial_steps < 100
    assert plan.trial_steps > final_steps(plan, 270.0, 2.5, 3.0) > 10 > final_steps(plan, 300.0, 2.5, 3.0)
    given = make_auto_plan(sizes, times, 30.0, 32, 40, CANDIDATES)
    assert (given.trial_steps, given.steps, final_steps(given, 1e9, 1.0, 1.0)) == (40, 10, 10)
    several = make_auto_plan(sizes._replace(held=1000, folds=5), times, 3600.0, 32, 40, CANDIDATES)
    assert (several.trial_steps, several.steps) == (20, 40)


def test_the_plan_counts_the_fit_of_the_judge() -> None:
    """Of a thousand classes it takes minutes: fewer steps are left."""
    sizes, times = Sizes(20_000, 4_000, 500, 1_000, 1), Times(1.0, 0.02, 5.0)
    soon, late = (make_auto_plan(sizes, times._replace(fit=fit), 1800.0, 32, 0, CANDIDATES[:1]) for fit in (0.0, 300.0))
    assert late.seconds == pytest.approx(soon.seconds, abs=10)
    assert soon.trial_steps - late.trial_steps == pytest.approx(240, abs=4), "300 s, of which a fifth is the final run"
    several = [fit_seconds(count, 64, 100) - LEAST for count in (1_000, 1_000_000)]
    assert several[1] > 20 * several[0] > 0


def test_equal_accuracies_go_to_the_lower_loss_and_failed_trials_never_win() -> None:
    def row(name: str, accuracy: float | None, loss: float, failed: str | None = None) -> Trial:
        rest: dict[str, Any] = dict.fromkeys(field.name for field in fields(Trial))
        return Trial(**rest | {"name": name, "accuracy": accuracy, "loss": loss, "failed": failed})

    judge = row("linear judge", 0.9, 0.3)
    assert choose([judge, row("a", 0.9, 0.2)]).name == "a"
    assert choose([judge, row("a", 0.9, 0.3)]).name == "linear judge"
    assert choose([judge, row("a", 0.899, 0.1), row("b", None, 0.0, "NaN")]).name == "linear judge"


def test_what_auto_chooses_itself_is_refused(data: Path, tmp_path: Path) -> None:
    for changes, named in (
        ({"sweep": (0.1, 0.2)}, "sweep"),
        ({"validation": "x"}, "validation"),
        ({"repeats": 1}, "repeats"),
        ({"schedule": Cosine(5)}, "schedule"),
    ):
        with pytest.raises(BadInput, match=f"leave out {named}"):
            automatic(asked(data, **changes), tmp_path / "out", HERE)
    with pytest.raises(BadInput, match="where muon has no matrices"):
        automatic(asked(data, optimizer=Muon()), tmp_path / "out", HERE)


def test_the_page_and_the_command_without_a_recipe(data: Path, tmp_path: Path, capsys) -> None:
    from vitrail.cli import main

    words = ["--init", model_bundle(data), "--train", f"{data / 'photos'}@train", "--test", f"{data / 'photos'}@test"]
    words += ["--steps", "4", "--resolution", "8", "--device", "cpu", "--workers", "0", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        main(["finetune", *words])
    assert ended.value.code == 0
    assert "on held-out images (linear judge: " in capsys.readouterr().out
    assert read_json(tmp_path / "out" / "config.json")["recipe"] == "auto"
    text = make(tmp_path / "out").read_text()
    for part in ("What was tried", "linear judge", "all-layers", "held-out training images"):
        assert part in text
    with pytest.raises(SystemExit) as ended:
        main(["finetune", "auto", *words, "--tune", "head"])
    assert ended.value.code == 2


def test_without_time_to_go_on_the_trial_is_the_model(data: Path, tmp_path: Path, monkeypatch) -> None:
    better(monkeypatch)
    monkeypatch.setattr(job, "final_steps", lambda *_: 0)
    result = automatic(asked(data), tmp_path / "out", HERE)
    trial, made = (load(tmp_path / "out" / name).state_dict() for name in ("trials/all-layers/bundle", "bundle"))
    assert all(torch.equal(value, trial[name]) for name, value in made.items())
    assert (result.steps, result.runs[0].folder) == (16, "trials/all-layers")
    assert not (tmp_path / "out" / "final").exists()
    assert "The trial as it is" in make(tmp_path / "out").read_text(encoding="utf-8")


def test_the_final_run_goes_on_from_the_chosen_trial(data: Path, tmp_path: Path, monkeypatch) -> None:
    better(monkeypatch)
    begun: dict[str, tuple[Any, Any]] = {}

    def noted(config: Any, folder: Path, *given: Any, head: Any = None) -> Any:
        begun["/".join(folder.parts[-2:])] = (given[4], head)
        return finetune_once(config, folder, *given, head=head)

    monkeypatch.setattr(auto_trials, "finetune_once", noted)
    automatic(asked(data), tmp_path / "out", HERE)
    start, head = begun["final/seed-0"]
    trial = load(tmp_path / "out" / "trials" / "all-layers" / "bundle")
    images = torch.rand(2, 3, *trial.config.resolution)
    again, _, _ = build_pretrained(asked(data), start, trial.classes, head)
    assert torch.equal(again.eval()(images).logits, trial.eval()(images).logits)
    first, _ = begun["trials/all-layers"]
    assert any(not torch.equal(value, first.state[name]) for name, value in start.state.items() if name in first.state)
