"""The protocol on small images: the choice never sees the test set, kills cost nothing, ties and failures."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.core.estimate import over_seeds, wilson
from vitrail.core.files import read_json
from vitrail.data.open.names import open_data
from vitrail.data.sources.subset import stratified
from vitrail.data.transforms.pipeline import Augment, Preprocess, WholeImage
from vitrail.jobs import training
from vitrail.jobs.finetune import run as transfer
from vitrail.jobs.finetune import sweep
from vitrail.jobs.finetune.compare import compare, parse_trainable
from vitrail.jobs.finetune.finetune import Finetune, finetune
from vitrail.jobs.finetune.sweep import choose
from vitrail.models.build import build
from vitrail.models.vit import ViTConfig
from vitrail.records.finetune import FinetuneResult, Trial
from vitrail.records.record import as_json, load_record
from vitrail.records.run import RunResult
from vitrail.train.optim import Momentum
from vitrail.train.schedule import Cosine
from vitrail.train.trainable import HeadOnly, LastBlocks, LayerDecay, Lora, Whole
from vitrail.weights.bundle import read_bundle, save_bundle
from vitrail.weights.load import load, read_pretrained

MODEL = ViTConfig(patch=4, width=16, depth=2, heads=2, mlp=32, resolution=(8, 8), num_classes=2)
OLD = Path(__file__).parent.parent.parent / "fixtures/v0.1.0"
HERE = Machine(device="cpu", workers=0)


def model_bundle(root: Path) -> str:
    torch.manual_seed(0)
    if not (root / "model").exists():
        save_bundle(root / "model", build(MODEL), Preprocess((8, 8)), ("x", "y"), {})
    return str(root / "model")


def config(root: Path, **changes: Any) -> Finetune:
    """Ten steps on whole images of 8 pixels."""
    basis = Finetune(
        train="",
        init=model_bundle(root),
        resolution=8,
        steps=10,
        batch=8,
        augment=Augment(crop=WholeImage()),
        optimizer=Momentum(lr=0.05),
        schedule=Cosine(1),
        precision="float32",
        log_every=5,
        evaluate_every=100,
        save_every=3,
    )
    return replace(basis, **changes)


def pictures(root: Path, each: int, seed: int, labels: Callable[[int], int] = lambda label: label) -> Path:
    """Three classes of noise of different brightness; `labels` says in which folder an image of a class is put."""
    rng = np.random.default_rng(seed)
    for label in range(3):
        for i in range(each):
            folder = root / f"class-{labels(label)}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 120, (12, 12, 3)) + 60 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{label}-{i}.png")
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("protocol")
    pictures(root / "photos" / "train", 20, seed=0)
    pictures(root / "photos" / "test", 15, seed=1)
    return root


def sweeping(data: Path, **changes: Any) -> Finetune:
    names = {"train": f"{data / 'photos'}@train", "test": f"{data / 'photos'}@test"}
    return config(data, **{**names, "sweep": (0.2, 0.003, 0.05), "held_out": 0.2, **changes})


@pytest.fixture(scope="module")
def done(data: Path) -> Path:
    """A finished one with two final runs."""
    finetune(sweeping(data, repeats=1), data / "done", HERE)
    return data / "done"


def test_the_model_is_read_once_and_trained_in_copies(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[dict[str, torch.Tensor]] = []

    def counting(*args: Any, **named: Any) -> Any:
        found = read_pretrained(*args, **named)
        read.append({name: tensor.clone() for name, tensor in found.state.items()})
        starts.append(found)
        return found

    starts: list[Any] = []
    for module in (sweep, transfer):
        monkeypatch.setattr(module, "read_pretrained", counting)
    finetune(sweeping(data, repeats=1), tmp_path / "run", HERE)
    assert len(read) == 1
    assert all(torch.equal(starts[0].state[name], tensor) for name, tensor in read[0].items())


def test_the_folder_holds_trials_final_runs_and_the_result(done: Path) -> None:
    assert sorted(p.name for p in (done / "trials").iterdir()) == ["lr-0.003", "lr-0.05", "lr-0.2"]
    assert sorted(p.name for p in (done / "final").iterdir()) == ["seed-0", "seed-1"]
    for trial in (done / "trials").iterdir():
        about = read_json(trial / "config.json")["config"]
        assert about["test"] is None
        assert about["held_out"] == 0.2
        assert read_json(trial / "result.json")["count"] == 12
        assert not (trial / "checkpoints").exists()
        assert not (trial / "inspection").exists()
    for final in (done / "final").iterdir():
        about = read_json(final / "config.json")["config"]
        assert about["held_out"] is None
        assert read_json(final / "result.json")["count"] == 45
    assert [(done / "final" / f"seed-{seed}" / "inspection").is_dir() for seed in (0, 1)] == [True, False]
    result = load_record(FinetuneResult, done / "result.json")
    runs = [read_json(p / "result.json")["accuracy"] for p in sorted((done / "final").iterdir())]
    assert result.accuracy == pytest.approx(np.mean(runs))
    assert result.spread == pytest.approx(np.std(runs, ddof=1))
    low, high = over_seeds(runs)  # type: ignore[misc]
    assert result.interval == pytest.approx([max(0, low), min(1, high)])
    assert read_bundle(done / "bundle").classes == ("class-0", "class-1", "class-2")
    assert result.weights_sha256 == read_json(done / "final" / "seed-0" / "result.json")["weights_sha256"]
    assert len({row.weights_sha256 for row in result.runs}) == 2


def test_the_best_rate_on_held_out_images_is_taken(done: Path) -> None:
    trials = {p.name: read_json(p / "result.json")["accuracy"] for p in (done / "trials").iterdir()}
    result = load_record(FinetuneResult, done / "result.json")
    assert trials[f"lr-{result.learning_rate:g}"] == max(trials.values())
    rate = read_json(done / "final" / "seed-1" / "config.json")["config"]["optimizer"]["lr"]
    assert rate == result.learning_rate


def test_a_trial_is_a_run_that_anyone_can_repeat(done: Path, data: Path, tmp_path: Path) -> None:
    alone = replace(sweeping(data, sweep=(), test=None), optimizer=Momentum(lr=0.003))
    again = finetune(alone, tmp_path / "alone", HERE)
    assert again.weights_sha256 == read_json(done / "trials" / "lr-0.003" / "result.json")["weights_sha256"]


def test_poisoned_test_labels_change_neither_the_rate_nor_the_weights(done: Path, data: Path, tmp_path: Path) -> None:
    """The same test images with every label wrong."""
    shutil.copytree(data / "photos" / "train", tmp_path / "photos" / "train")
    pictures(tmp_path / "photos" / "test", 15, seed=1, labels=lambda label: (label + 1) % 3)
    names = {"train": f"{tmp_path / 'photos'}@train", "test": f"{tmp_path / 'photos'}@test"}
    result = finetune(sweeping(data, **names), tmp_path / "poisoned", HERE)
    honest = load_record(FinetuneResult, done / "result.json")
    assert result.learning_rate == honest.learning_rate
    assert result.weights_sha256 == honest.weights_sha256
    assert [t.accuracy for t in result.trials] == [t.accuracy for t in honest.trials]
    assert result.accuracy != honest.runs[0].accuracy, "the test labels did arrive at the test"
    assert result.interval == pytest.approx(list(wilson(round(45 * result.accuracy), 45)))
    assert result.spread is None


class Killed(Exception):
    pass


def test_kills_inside_and_between_trials_cost_nothing(done: Path, data: Path, tmp_path: Path, monkeypatch) -> None:
    asked, out = sweeping(data), tmp_path / "out"
    original, taken = training.train_step, 0

    def until(last: int) -> Callable[..., Any]:
        def step(state: Any, batch: Any, **options: Any) -> Any:
            nonlocal taken
            taken += 1
            if taken == last:
                raise Killed
            return original(state, batch, **options)

        return step

    def dying_trial(**options: Any) -> Trial:
        if options["folder"] == "trials/lr-0.05":
            raise Killed
        return Trial(**options)

    def dying(*_: Any) -> Any:
        raise Killed

    kills = {  # and how many runs are finished then; a trial takes ten steps, a checkpoint is made every three
        "inside the second trial": (training, "train_step", until(18), 1),
        "between it and the third": (sweep, "Trial", dying_trial, 2),
        "inside the final run": (training, "train_step", until(18), 3),
        "before the result": (sweep, "_link", dying, 4),
    }
    finished: dict[Path, int] = {}
    plan = None
    for place, (module, name, fatal, count) in kills.items():
        taken = 0
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(module, name, fatal)
            finetune(asked, out, HERE)
        seen = {file: file.stat().st_mtime_ns for file in out.glob("*/*/result.json")}
        assert len(seen) == count, place
        assert finished.items() <= seen.items(), "nothing is done twice"
        finished = seen
        plan = plan or (out / "plan.json").read_bytes()
        assert (out / "plan.json").read_bytes() == plan
    result = finetune(asked, out, HERE)
    honest = load_record(FinetuneResult, done / "result.json")
    assert result.weights_sha256 == honest.weights_sha256
    assert [t.weights_sha256 for t in result.trials] == [t.weights_sha256 for t in honest.trials]
    assert result.restarts == 2  # of those inside of runs


def test_a_finished_one_is_shown_and_another_config_refused(done: Path, data: Path) -> None:
    asked = sweeping(data, repeats=1)
    assert as_json(finetune(asked, done, HERE)) == read_json(done / "result.json")
    with pytest.raises(BadInput, match="held_out: 0.2 → 0.3"):
        finetune(replace(asked, held_out=0.3), done, HERE)


def test_runs_that_agree_have_the_interval_of_their_images() -> None:
    """Student's would have no width."""
    first = load_record(RunResult, OLD / "sweep/final/seed-0/result.json")
    row = load_record(FinetuneResult, OLD / "sweep/result.json").runs[0]
    result = sweep._result(replace(first, count=45), [], None, [replace(row, accuracy=44 / 45)] * 3)
    assert result.spread == 0
    assert result.interval == pytest.approx(list(wilson(44, 45)))


def trial(lr: float, accuracy: float | None, loss: float | None = 1.0) -> Trial:
    rest = dict.fromkeys(
        ("interval", "count", "seconds", "memory_gib", "images_per_second", "weights_sha256", "restarts")
    )
    failed = None if accuracy is not None else "NaN"
    return Trial(folder="", learning_rate=lr, accuracy=accuracy, loss=loss, failed=failed, **rest)


def test_ties_go_to_the_lower_loss_and_then_to_the_lower_rate() -> None:
    assert choose([trial(0.1, 0.8), trial(0.01, 0.9, 2.0), trial(0.001, 0.7)]).learning_rate == 0.01
    assert choose([trial(0.01, 0.9, 0.5), trial(0.03, 0.9, 0.4)]).learning_rate == 0.03
    assert choose([trial(0.03, 0.9), trial(0.01, 0.9)]).learning_rate == 0.01
    assert choose([trial(0.1, None), trial(0.01, 0.1)]).learning_rate == 0.01
    with pytest.raises(BadInput, match=r"all trials diverged \(rates 0.1, 1\)"):
        choose([trial(0.1, None), trial(1.0, None)])


def test_a_trial_that_diverges_is_shown_and_the_others_go_on(data: Path, tmp_path: Path, capsys) -> None:
    asked = sweeping(data, sweep=(0.05, 1e38), clip=None)
    result = finetune(asked, tmp_path / "out", HERE)
    good, bad = result.trials
    assert result.learning_rate == 0.05
    assert good.failed is None
    assert "no number" in bad.failed or "NaN" in bad.failed or "is nan" in bad.failed
    assert "the trial at rate 1e+38 failed" in capsys.readouterr().err
    assert read_json(tmp_path / "out" / "trials" / "lr-1e+38" / "failed.json")["reason"] == bad.failed


def test_one_rate_needs_no_trial_and_no_test_set_gives_no_accuracy(data: Path, tmp_path: Path) -> None:
    result = finetune(sweeping(data, sweep=(0.05,), held_out=None, test=None), tmp_path / "out", HERE)
    assert (result.trials, result.chosen, result.accuracy) == ((), None, None)
    assert not (tmp_path / "out" / "trials").exists()
    assert (tmp_path / "out" / "bundle" / "model.safetensors").exists()


def test_a_named_validation_is_not_learned_from_and_judges_the_trials(data: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "extra", 3, seed=5)
    asked = sweeping(data, sweep=(0.05, 0.1), held_out=None, validation=str(tmp_path / "extra"), test=None)
    result = finetune(asked, tmp_path / "out", HERE)
    assert [row.count for row in result.trials] == [9, 9]
    with pytest.raises(BadInput, match="two parts to judge by; give one"):
        finetune(replace(asked, held_out=0.1), tmp_path / "two", HERE)


def test_what_is_held_out_is_not_trained_on(data: Path, monkeypatch, tmp_path: Path) -> None:
    seen: dict[str, set[str]] = {}
    original = transfer.run_training

    def watched(config: Any, run: Any, model: Any, preprocess: Any, parts: Any, *more: Any) -> Any:
        seen[run.path.name] = {parts[0][i].key for i in range(len(parts[0]))}
        assert run.path.parent.name == "final" or parts[2] is None
        return original(config, run, model, preprocess, parts, *more)

    monkeypatch.setattr(transfer, "run_training", watched)
    finetune(sweeping(data, sweep=(0.05, 0.1)), tmp_path / "out", HERE)
    _, held = stratified(open_data(f"{data / 'photos'}@train"), 0.2, 0)
    keys = {held[i].key for i in range(len(held))}
    assert len(keys) == 12
    assert not keys & seen["lr-0.05"]
    assert keys < seen["seed-0"]
    assert len(seen["lr-0.1"]) == 48
    assert len(seen["seed-0"]) == 60


def test_steps_and_batch_by_the_data_within_a_budget(data: Path, tmp_path: Path, capsys) -> None:
    asked = sweeping(data, steps=0, batch=0, sweep=(0.05, 0.1), budget="1s")
    result = finetune(asked, tmp_path / "out", HERE)
    plan = read_json(tmp_path / "out" / "plan.json")["plan"]
    assert plan["batch"] == 16  # the power of two in half of 60 images
    assert 1 <= plan["steps"] <= 500
    assert plan["seconds"] <= 0.9
    assert result.steps == plan["steps"]
    said = capsys.readouterr().err
    for part in ("plan: ", "to fit 1s: 500 steps became", "1 final run", "s a step, measured", "GiB"):
        assert part in said


def test_what_to_train_by_name() -> None:
    names = ("whole", "head", "blocks-3", "decay-0.65", "lora-4", "lora-4-32")
    expected = (Whole(), HeadOnly(), LastBlocks(3), LayerDecay(0.65), Lora(4, 8.0), Lora(4, 32.0))
    assert tuple(map(parse_trainable, names)) == expected
    for name in ("", "all", "head-2", "blocks", "blocks-1.5", "lora", "lora-1.5", "decay"):
        with pytest.raises(BadInput, match="names nothing to train; expected whole, head"):
            parse_trainable(name)


def test_choices_of_what_is_trained_in_one_table(data: Path, tmp_path: Path) -> None:
    asked = sweeping(data, sweep=())
    result = compare(replace(asked, held_out=None), ("head", "lora-2", "decay-0.5"), tmp_path / "out", HERE)
    head, lora, decay = result.rows
    assert [row.name for row in result.rows] == ["head", "lora-2", "decay-0.5"]
    assert head.trained_parameters == 16 * 3 + 3
    assert head.trained_parameters < lora.trained_parameters < decay.trained_parameters == decay.parameters
    for row in result.rows:
        assert row.count == 45
        assert row.seconds > 0
        assert row.interval[0] <= row.accuracy <= row.interval[1]
    table = read_json(tmp_path / "out" / "tunings.json")
    assert table["rows"] == as_json(result.rows)
    lora_model, started = load(tmp_path / "out" / "lora-2"), load(data / "model")
    assert not [name for name in lora_model.state_dict() if "lora" in name]
    weight = "blocks.0.mlp.fc1.weight"
    difference = lora_model.state_dict()[weight] - started.state_dict()[weight]
    assert 1 <= int(torch.linalg.matrix_rank(difference, atol=1e-7)) <= 2
    with pytest.raises(BadInput, match="holds a run; a comparison wants a new folder"):
        compare(asked, ("head",), tmp_path / "out" / "head", HERE)


def test_the_pages_say_what_happened(done: Path, data: Path, tmp_path: Path) -> None:
    from vitrail.report.index import make

    text = make(done).read_text()
    result = load_record(FinetuneResult, done / "result.json")
    assert f"The learning rate {result.learning_rate:g} was chosen from 3 on 12 held-out training images" in text
    assert "Mean accuracy of 2 runs" in text
    for name in ("trials/lr-0.05", "final/seed-1"):
        assert f'href="{name}/report.html"' in text
        assert (done / name / "report.html").exists()
    partly = shutil.copytree(done, tmp_path / "partly")
    (partly / "result.json").unlink()
    assert "Unfinished: 3 of 3 trials, 2 of 2 final runs." in make(partly).read_text()
    assert "unfinished: 3 of 3 trials" in make(tmp_path).read_text()
