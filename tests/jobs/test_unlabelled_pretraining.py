"""Pre-training without labels as a job: data, refusals, exact resume, the bundle, and who reads it afterwards."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.scenarios.test_resume import interrupt_at
from vitrail.core.config import from_json, to_json, without_later
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput, Interrupted
from vitrail.data.transforms.mixup import Mixing
from vitrail.jobs.finetune.run import Finetune, finetune_once
from vitrail.jobs.inspect import Inspect, inspect
from vitrail.jobs.pretrain import Pretrain, pretrain
from vitrail.models.mae import MAE
from vitrail.models.masked_patches import MaskedPatches
from vitrail.models.objective import MaskedObjective
from vitrail.models.variants import variant
from vitrail.recipes import pretraining
from vitrail.report.index import make
from vitrail.train.loss import Sigmoid
from vitrail.weights.convert import convert
from vitrail.weights.load import load, read_pretrained

__all__ = ["interrupt_at"]  # a fixture

SMALL_MAE = MAE(decoder_width=16, decoder_depth=1, decoder_heads=2, decoder_mlp=24)
OBJECTIVES = {"masked-patches": MaskedPatches(), "mae": SMALL_MAE}
HERE = Machine(workers=0)


def config(objective: MaskedObjective, steps: int = 12) -> Pretrain:
    recipe = pretraining("digits")
    model = replace(recipe.model, depth=1, width=16, heads=2, mlp=32)
    short = {"steps": steps, "batch": 16, "log_every": 4, "evaluate_every": 6, "save_every": 4, "precision": "float32"}
    augment = replace(recipe.augment, flip=True)
    schedule = replace(recipe.schedule, warmup=1)
    return replace(recipe, objective=objective, model=model, augment=augment, schedule=schedule, **short)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_that_was_interrupted_ends_with_the_same_bytes(
    name: str, tmp_path: Path, interrupt_at, monkeypatch
) -> None:
    asked = config(OBJECTIVES[name])
    whole = pretrain(asked, tmp_path / "whole", HERE)
    with monkeypatch.context(), pytest.raises(Interrupted):
        interrupt_at(7, signal.SIGTERM)
        pretrain(asked, tmp_path / "cut", HERE)
    monkeypatch.undo()
    again = pretrain(asked, tmp_path / "cut", Machine(workers=1))
    assert again.weights_sha256 == whole.weights_sha256
    beside = [(tmp_path / run / "bundle" / "trained_with.safetensors").read_bytes() for run in ("whole", "cut")]
    assert beside[0] == beside[1]
    assert again.restarts == 1
    assert again.accuracy is None
    assert again.objective is not None
    assert again.objective.name == name
    assert (again.objective.accuracy is None) == (name == "mae")
    steps = sorted(file.name for file in (tmp_path / "cut" / "painted").glob("step-*.npz"))
    assert steps == ["step-00000006.npz", "step-00000012.npz"]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_bundle_is_a_model_without_its_decoder(name: str, tmp_path: Path) -> None:
    pretrain(config(OBJECTIVES[name], steps=2), tmp_path / "run", HERE)
    published = read_pretrained(tmp_path / "run")
    assert published.config.num_classes == 0
    assert published.trained_with is not None
    assert published.trained_with.objective == OBJECTIVES[name]
    assert not any("decoder" in key or "mask" in key for key in published.state)
    assert load(tmp_path / "run")(torch.zeros(1, 3, 8, 8)).representation.shape == (1, 16)
    convert(tmp_path / "run", tmp_path / "copy", "bundle")
    copied = read_pretrained(tmp_path / "copy").trained_with
    assert copied is not None
    assert all(torch.equal(t, copied.state[key]) for key, t in published.trained_with.state.items())
    again = replace(config(OBJECTIVES[name], steps=1), init=str(tmp_path / "copy"))
    pretrain(replace(again, optimizer=replace(again.optimizer, lr=0.0)), tmp_path / "on", HERE)
    went_on = read_pretrained(tmp_path / "on")
    assert all(torch.equal(t, published.state[key]) for key, t in went_on.state.items()), "init is where it starts"
    assert went_on.trained_with is not None
    assert all(torch.equal(t, copied.state[key]) for key, t in went_on.trained_with.state.items())
    tuned = Finetune("digits@train[:64]", test="digits@test[:64]", steps=2, batch=16, init=str(tmp_path / "copy"))
    result = finetune_once(tuned, tmp_path / "tuned", HERE, inside=False)
    assert result.count == 64
    assert inspect(Inspect(str(tmp_path / "copy"), "digits@test", count=2), tmp_path / "look", HERE).depth == 1
    with np.load(tmp_path / "look" / "arrays.npz") as arrays:
        images, seen, made = (arrays[name] for name in ("painted_images", "painted_seen", "painted"))
    assert images.shape == seen.shape == made.shape == (2, 8, 8, 3)
    holes = (seen != images).any(axis=3)
    assert holes.any()
    assert (made != seen).any(axis=3)[holes].any(), "something is painted there"
    page = make(tmp_path / "look").read_text(encoding="utf-8")
    assert "What it paints into the holes" in page
    assert "is given the mean colour and the contrast of the true one" in page
    inspect(Inspect(str(tmp_path / "copy"), "digits@test", count=2, resolution=16), tmp_path / "larger", HERE)
    with np.load(tmp_path / "larger" / "arrays.npz") as arrays:
        assert "painted" not in arrays, "the head and the decoder are of the size that they were trained at"


def flat(folder: Path, count: int = 20) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def test_a_flat_folder_is_learned_from(tmp_path: Path) -> None:
    place = flat(tmp_path / "photos")
    asked = replace(config(MaskedPatches(), steps=2), train=str(place), validation=None, test=None)
    result = pretrain(asked, tmp_path / "run", HERE)
    assert result.objective is None, "nothing was held out"
    assert (tmp_path / "run" / "painted" / "images.npz").is_file(), "its first images are painted all the same"


def test_flat_splits_are_learned_from(tmp_path: Path) -> None:
    flat(tmp_path / "photos" / "train")
    flat(tmp_path / "photos" / "val", 5)
    name = str(tmp_path / "photos")
    asked = replace(config(SMALL_MAE, steps=2), train=name, validation=f"{name}@val", test=None)
    result = pretrain(asked, tmp_path / "run", HERE)
    assert result.objective is not None
    assert result.objective.count == 5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mixing": Mixing(mixup=0.2)}, "mixing needs labels"),
        ({"loss": Sigmoid()}, "loss needs labels"),
        ({"class_weights": "sqrt"}, "class_weights needs labels"),
        ({"keep": "best"}, "keep best needs labels"),
        ({"model": variant("R50x1")}, "such as B/16"),
    ],
)
def test_options_of_labels_are_refused(changes: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        pretrain(replace(config(MaskedPatches()), **changes), tmp_path / "run", HERE)  # type: ignore[arg-type]


def test_init_with_labels_is_fine_tuning(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="finetune --init"):
        pretrain(replace(pretraining("digits"), init="somewhere"), tmp_path / "run", HERE)


def test_a_config_with_labels_is_written_as_before() -> None:
    told = to_json(pretraining("digits"))
    assert told["objective"] == {"type": "Labels"}
    assert not {"objective", "init"} & without_later(told).keys()
    assert from_json(Pretrain, without_later(told)) == pretraining("digits"), "and old ones are read"


def test_a_bundle_whose_decoder_was_altered_is_refused(tmp_path: Path) -> None:
    pretrain(config(SMALL_MAE, steps=1), tmp_path / "run", HERE)
    file = tmp_path / "run" / "bundle" / "trained_with.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(BadInput, match="not the file"):
        read_pretrained(tmp_path / "run")
