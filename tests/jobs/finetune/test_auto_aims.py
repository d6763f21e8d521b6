"""`finetune auto` on sets of classes, with classes that count alike, and trials that are cut short."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.data.open.names import open_data
from vitrail.data.sources.base import ArraySource
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.evals.features import Features
from vitrail.jobs.finetune import auto as job
from vitrail.jobs.finetune import auto_trials, candidates, race
from vitrail.jobs.finetune.auto import automatic
from vitrail.jobs.finetune.auto_plan import make_auto_plan
from vitrail.jobs.finetune.candidates import CANDIDATES, usable
from vitrail.jobs.finetune.finetune import finetune
from vitrail.jobs.finetune.held_out import ADJUSTMENTS, judge_logits, make_folds
from vitrail.jobs.finetune.linear_judge import linear_judge
from vitrail.jobs.finetune.run import Finetune
from vitrail.models.build import build
from vitrail.models.vit import ViTConfig
from vitrail.report.index import make
from vitrail.weights.bundle import read_bundle, save_bundle
from vitrail.weights.load import load, read_pretrained

from .test_auto import HERE, asked, better
from .test_sweep import model_bundle, pictures

COLOURS = ("blue", "green", "red")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 noisy pictures in which any of three colours shine, and a table that names them."""
    folder = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    lines = ["path,label,split"]
    for i in range(400):
        there = rng.random(3) < [0.3, 0.5, 0.4]
        pixels = rng.integers(0, 90, (8, 8, 3))
        pixels[..., [2, 1, 0]] += (there * 60).astype(int)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
        lines.append(f"{i}.png,{'|'.join(np.array(COLOURS)[there])},{'train' if i < 300 else 'test'}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


def of_sets(colours: Path, **changes: Any) -> Finetune:
    return asked(colours.parent, **{"train": f"{colours}@train", "test": f"{colours}@test", **changes})


def test_sets_of_classes_are_chosen_by_precision_and_leave_with_thresholds(colours: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    result = automatic(of_sets(colours, steps=40), folder, HERE)
    judge, trial = result.trials
    assert judge.count == trial.count == 60
    assert result.chosen.mean_average_precision == max(judge.mean_average_precision, trial.mean_average_precision)
    assert result.mean_average_precision == read_json(folder / "evaluation/multilabel.json")["mean_average_precision"]
    assert result.mean_average_precision > 0.9
    bundle = read_bundle(folder / "bundle")
    name = result.chosen.name
    judged = read_json(folder / ("judge.json" if name == "linear judge" else f"trials/{name}/judged.json"))["judged"]
    assert list(bundle.thresholds) == judged["thresholds"]["values"]
    assert (bundle.temperature, bundle.provenance["thresholds_chosen"]["count"]) == (None, 60)
    assert automatic(of_sets(colours, steps=40), folder, HERE) == result
    text = make(folder).read_text(encoding="utf-8")
    assert "mean average precision" in text
    assert "What was tried" in text


def test_probabilities_of_sets_are_those_of_the_held_out_images(colours: Path, tmp_path: Path, monkeypatch) -> None:
    """The classifier is divided by the temperature: what it says is calibrated as it was judged."""
    monkeypatch.setattr(job, "final_steps", lambda *_: 0)
    monkeypatch.setattr(
        auto_trials, "judge_logits", lambda *given: replace(judge_logits(*given), mean_average_precision=1.0, loss=-1.0)
    )
    result = automatic(of_sets(colours, test=None), tmp_path / "out", HERE)
    assert result.chosen.name == "all-layers"
    model, trial = load(tmp_path / "out"), load(tmp_path / "out/trials/all-layers/bundle")
    images = torch.rand(2, 3, 8, 8)
    expected = trial.eval()(images).logits / result.chosen.temperature
    torch.testing.assert_close(model.eval()(images).logits, expected, rtol=1e-5, atol=1e-5)
    assert result.chosen.temperature != pytest.approx(1, abs=1e-3)


def test_a_rare_class_of_sets_is_always_learned_from() -> None:
    labels = np.zeros((300, 3), np.uint8)
    labels[:, 0] = 1
    labels[:150, 1] = 1
    labels[7, 2] = 1
    source = ArraySource(np.zeros((300, 1, 1, 3), np.uint8), labels, COLOURS, [str(i) for i in range(300)])
    for seed in range(20):
        folds = make_folds(source, seed)
        assert folds
        assert all(source.labels[fold.train].any(axis=0).all() for fold in folds)


def few_and_many() -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Logits as of a model that knows its priors: 180, 15 and 5 images that overlap."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [180, 15, 5])
    priors = np.log(np.bincount(labels) / 200)
    logits = rng.normal(size=(200, 3)) + 1.5 * np.eye(3)[labels] + priors
    return torch.from_numpy(logits.astype(np.float32)), torch.from_numpy(labels), priors


def test_classes_that_count_alike_are_judged_by_their_mean() -> None:
    logits, labels, priors = few_and_many()
    found = judge_logits(logits, labels, COLOURS, priors)
    each = []
    for tau in ADJUSTMENTS:
        said = (logits.double().numpy() / found.temperature - tau * priors).argmax(axis=1)
        each.append(np.mean([(said[labels.numpy() == k] == k).mean() for k in range(3)]))
    assert found.balanced_accuracy == pytest.approx(max(each))
    assert found.adjustment == ADJUSTMENTS[int(np.argmax(each))] > 0
    plain = judge_logits(logits, labels, COLOURS)
    assert (plain.balanced_accuracy, plain.adjustment) == (None, None)
    assert plain.accuracy > found.accuracy, "what rare classes gain, others lose"


def test_rare_classes_gain_in_the_bundle(tmp_path: Path, monkeypatch, capsys) -> None:
    pictures(tmp_path / "photos/train", 60, seed=0)
    for label, kept in ((1, 20), (2, 8)):
        for file in sorted((tmp_path / f"photos/train/class-{label}").iterdir())[kept:]:
            file.unlink()
    pictures(tmp_path / "photos/test", 15, seed=1)
    automatic(asked(tmp_path), tmp_path / "plain", HERE)
    assert "classes have 8 to 60 images; with --aim balanced rare ones count" in capsys.readouterr().err
    original = judge_logits
    monkeypatch.setattr(
        "vitrail.jobs.finetune.linear_judge.judge_logits", lambda *given: replace(original(*given), adjustment=0.5)
    )
    monkeypatch.setattr(auto_trials, "judge_logits", lambda *given: replace(original(*given), loss=1e9))
    result = automatic(asked(tmp_path, aim="balanced"), tmp_path / "out", HERE)
    assert result.chosen.name == "linear judge"
    assert result.chosen.balanced_accuracy is not None
    evaluation = read_json(tmp_path / "out/evaluation/evaluation.json")
    assert result.balanced_accuracy == pytest.approx(evaluation["balanced_accuracy"])
    with np.load(tmp_path / "out/judge.npz") as arrays:
        shares = np.array([60, 20, 8]) / 88
        expected = arrays["bias"][-1] - 0.5 * np.log(shares)
    np.testing.assert_allclose(load(tmp_path / "out").head.bias.detach().numpy(), expected, rtol=1e-5)
    assert read_bundle(tmp_path / "out/bundle").provenance["logits_adjusted"] == 0.5


def test_an_aim_without_meaning_is_refused(colours: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="leave out aim"):
        automatic(of_sets(colours, aim="balanced"), tmp_path / "out", HERE)
    with pytest.raises(BadInput, match="an aim is of finetune auto"):
        finetune(of_sets(colours, aim="balanced"), tmp_path / "out", HERE)


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two candidates that are always tried."""
    both = (CANDIDATES[0], CANDIDATES[3])
    for place in (job, candidates):
        monkeypatch.setattr(place, "CANDIDATES", both)

    def planned(*given: Any) -> Any:
        return replace(make_auto_plan(*given), candidates=tuple(one.name for one in both))

    monkeypatch.setattr(job, "make_auto_plan", planned)
    better(monkeypatch)
    pictures(tmp_path / "photos/train", 90, seed=0)
    return tmp_path


def test_a_trial_that_is_clearly_behind_is_cut_short(two: Path, monkeypatch) -> None:
    losses = iter([0.5, 0.4, 0.9])  # of the first trial at its two marks, and of the second at its first
    held = np.random.default_rng(0).normal(size=54) * 0.1
    monkeypatch.setattr(auto_trials, "_held_out_losses", lambda *_: next(losses) + held)
    config = asked(two, test=None, steps=16)
    result = automatic(config, two / "out", HERE)
    judge, first, second = result.trials
    assert (judge.cut, first.cut) == (None, None)
    assert second.cut == "clearly behind all-layers after 5 of 16 steps"
    assert result.chosen.name == "all-layers"
    assert read_json(two / "out/trials/all-layers-faster/result.json")["steps"] == 5
    assert read_json(two / "out/trials/all-layers/result.json")["steps"] == 16
    assert not (two / "out/trials/soup").exists(), "of one there is no mean"
    assert automatic(config, two / "out", HERE) == result
    assert "cut short" in make(two / "out").read_text(encoding="utf-8")


def test_what_may_be_chance_cuts_nothing(two: Path, monkeypatch) -> None:
    rng, made = np.random.default_rng(0), []

    def noise(*_: Any) -> np.ndarray:
        made.append(rng.normal(size=54) + 0.1 * len(made))
        return made[-1]

    monkeypatch.setattr(auto_trials, "_held_out_losses", noise)
    result = automatic(asked(two, test=None, steps=16), two / "out", HERE)
    assert len(made) == 4
    assert [row.cut for row in result.trials[1:3]] == [None, None]


def test_clearly_is_two_standard_errors() -> None:
    own = np.random.default_rng(0).normal(size=100)
    error = own.std(ddof=1) / 10
    centred = own - own.mean()
    assert race._behind(centred + 2.1 * error, [0.0] * 100)
    assert not race._behind(centred + 1.9 * error, [0.0] * 100)
    assert not race._behind(centred - 9, [0.0] * 100)
    assert not race._behind(centred, None)


def test_what_a_model_and_its_images_allow_is_tried(tmp_path: Path) -> None:
    torch.manual_seed(0)
    deep = replace(ViTConfig(patch=4, width=16, depth=8, heads=2, mlp=32, resolution=(8, 8)), num_classes=2)
    save_bundle(tmp_path / "deep", build(deep), Preprocess((8, 8)), ("x", "y"), {})
    pictures(tmp_path / "small", 3, seed=0)
    small, big = open_data(str(tmp_path / "small")), tmp_path / "big"
    for file in sorted((tmp_path / "small").rglob("*.png")):
        target = big / file.relative_to(tmp_path / "small")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).resize((12, 16)).save(target)
        Image.open(file).resize((11, 16)).save(file)
    start = read_pretrained(str(tmp_path / "deep"))
    every = [one.name for one in CANDIDATES]
    assert [one.name for one in usable(start, open_data(str(big)), None)] == every
    assert [one.name for one in usable(start, small, None)] == [name for name in every if name != "larger"]
    assert [one.name for one in usable(start, open_data(str(big)), 8)] == [name for name in every if name != "larger"]
    shallow = read_pretrained(model_bundle(tmp_path))
    assert "last-blocks" not in [one.name for one in usable(shallow, small, None)]


@pytest.mark.parametrize("name", ["larger", "last-blocks"])
def test_other_candidates_go_on_to_a_bundle(tmp_path: Path, monkeypatch, name: str) -> None:
    torch.manual_seed(0)
    config = ViTConfig(patch=4, width=16, depth=8, heads=2, mlp=32, resolution=(8, 8), num_classes=2)
    save_bundle(tmp_path / "deep", build(config), Preprocess((8, 8)), ("x", "y"), {})
    pictures(tmp_path / "photos/train", 90, seed=0)
    for file in (tmp_path / "photos/train").rglob("*.png"):
        Image.open(file).resize((12, 12)).save(file)
    chosen = tuple(one for one in CANDIDATES if one.name == name)
    for place in (job, candidates):
        monkeypatch.setattr(place, "CANDIDATES", chosen)
    better(monkeypatch)
    asks = asked(tmp_path, init=str(tmp_path / "deep"), resolution=None, test=None)
    result = automatic(asks, tmp_path / "out", HERE)
    assert (result.chosen.name, result.steps) == (name, 20)
    model = load(tmp_path / "out")
    assert model.config.resolution == ((12, 12) if name == "larger" else (8, 8))
    assert model.preprocess.resolution == model.config.resolution


def test_the_judge_of_sets_is_read_again(colours: Path, tmp_path: Path) -> None:
    source = open_data(f"{colours}@train", multi_label=True)
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(len(source), 5)) + np.pad(source.labels, ((0, 0), (0, 2)))).astype(np.float32)
    frozen = Features(values, source.labels, (), np.arange(len(source)))
    folds = make_folds(source, 0)
    first = linear_judge(frozen, source.classes, folds, tmp_path / "judge.npz", 0.0)
    again = linear_judge(frozen, source.classes, folds, tmp_path / "judge.npz", 0.0)
    assert first.judged == again.judged
    assert first.judged is not None
    assert first.judged.thresholds is not None
    held = first.folds[0].scores(values[folds[0].held])
    from sklearn.metrics import average_precision_score

    expected = average_precision_score(source.labels[folds[0].held], held, average="macro")
    assert first.judged.mean_average_precision == pytest.approx(expected, abs=1e-6)
