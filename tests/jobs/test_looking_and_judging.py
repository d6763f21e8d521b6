"""Inspecting, few-shot accuracy and evaluation where images are broken, few, or of a model with other names."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.scenarios.test_bad_input import image_folder, refused, run
from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.jobs.evaluate import Evaluate, evaluate
from vitrail.jobs.finetune.finetune import Finetune, finetune
from vitrail.jobs.inspect import Inspect, inspect
from vitrail.jobs.linear_probe import Linear, linear
from vitrail.models.build import ModelConfig, build
from vitrail.models.head import AveragePool
from vitrail.models.position import SinCos2d
from vitrail.models.resnet import BIT, ResNetConfig
from vitrail.models.vit import ViTConfig
from vitrail.recipes import FINETUNING
from vitrail.weights.bundle import RESAMPLED, save_bundle
from vitrail.weights.google import write_google
from vitrail.weights.load import read_pretrained
from vitrail.weights.tensors import write_npz

CONFIG = ViTConfig(patch=4, width=16, depth=2, heads=2, mlp=32, resolution=(8, 8), num_classes=2)
RESNET = ResNetConfig(replace(BIT, units=(1,), width=32), (32, 32), num_classes=2)


def bundle(path: Path, config: ModelConfig = CONFIG, names: tuple[str, ...] = ("class-0", "class-1")) -> str:
    torch.manual_seed(0)
    model = build(config)
    torch.nn.init.normal_(next(p for n, p in model.named_parameters() if n.startswith("head.") and p.ndim > 1))
    save_bundle(path, model, Preprocess(config.resolution), names, {})
    return str(path)


def spoil(path: Path) -> str:
    path.write_bytes(b"no picture")
    return str(path)


@pytest.mark.parametrize(("count", "shown"), [(0, 8), (8, 0), (-1, 1)])
def test_looking_at_no_image_gets_a_sentence(
    count: int, shown: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = image_folder(tmp_path / "data")
    model = bundle(tmp_path / "model")
    options = ("--model", model, "--images", data, "--count", count, "--shown", shown, "--out", tmp_path / "out")
    assert f"count is {count} and shown is {shown}: both must be at least 1" in refused(capsys, "inspect", *options)


def test_the_images_that_could_be_read_are_counted(tmp_path: Path) -> None:
    data, model = image_folder(tmp_path / "data"), bundle(tmp_path / "model")
    spoil(data / "class-0" / "0.jpg")
    spoil(data / "class-1" / "3.jpg")
    summary = inspect(Inspect(model, str(data), count=100, shown=4), tmp_path / "inside")
    assert summary.distance_images == 10
    assert len(summary.images) == len(np.load(tmp_path / "inside" / "arrays.npz")["rollout"]) == 4


def test_all_images_broken_get_a_sentence(tmp_path: Path) -> None:
    data, model = image_folder(tmp_path / "data"), bundle(tmp_path / "model")
    for file in data.rglob("*.jpg"):
        spoil(file)
    with pytest.raises(BadInput, match=r"not one of the 5 images chosen can be read; the first is .*\.jpg: "):
        inspect(Inspect(model, str(data), count=5), tmp_path / "inside")
    assert not (tmp_path / "inside").exists()


def test_a_resnet_has_no_attention_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, model = image_folder(tmp_path / "data"), bundle(tmp_path / "resnet", RESNET)
    summary = inspect(Inspect(model, str(data)), tmp_path / "inside")
    assert summary.distance_images == 0
    assert f"is a ResNet and has no attention: its filters are drawn, {data} is not used" in capsys.readouterr().err


def test_linear_counts_the_images_that_it_judged_and_names_the_broken(tmp_path: Path) -> None:
    train, test = image_folder(tmp_path / "train"), image_folder(tmp_path / "test", each=60)
    broken = spoil(test / "class-0" / "7.jpg")
    config = Linear(bundle(tmp_path / "model"), str(train), str(test), shots=(2,), seeds=1, baselines=True)
    result = linear(config)
    assert result.count == 119
    assert [row.key for row in result.broken] == [broken]
    assert len(result.rows) == 3


def test_the_command_names_broken_images_and_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = image_folder(tmp_path / "train"), image_folder(tmp_path / "test", each=60)
    options = ("--model", bundle(tmp_path / "model"), "--train", train, "--test", test, "--shots", 2, "--seeds", 1)
    assert run(capsys, "linear", *options)[0] == 0
    broken = spoil(test / "class-0" / "7.jpg")
    code, out, _ = run(capsys, "linear", *options)
    assert code == 1
    assert f"broken: {broken}: " in out


def test_names_that_transformers_invented_are_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = image_folder(tmp_path / "data")
    for i, names in enumerate([("LABEL_0", "LABEL_1"), ("0", "1")]):
        model = bundle(tmp_path / f"model {i}", names=names)
        assert evaluate(Evaluate(model, str(data))).count == 12
        said = capsys.readouterr().err
        assert "names no classes: those of" in said
        assert "in the order of text: class-0 = class 0, class-1 = class 1" in said
    with pytest.raises(BadInput, match="has the class 'class-0', which"):
        evaluate(Evaluate(bundle(tmp_path / "other", names=("LABEL_A", "LABEL_B")), str(data)))


def test_evaluating_a_classifier_of_zeros_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_bundle(tmp_path / "zero", build(CONFIG), Preprocess((8, 8)), ("class-0", "class-1"), {})
    evaluate(Evaluate(str(tmp_path / "zero"), str(image_folder(tmp_path / "data"))))
    assert "its classifier is zero, so all classes are equally likely" in capsys.readouterr().err


def short(init: Path, data: Path, **changes: Any) -> Finetune:
    """Two steps of the digits' recipe on a folder."""
    recipe = FINETUNING["digits"]()
    one = {
        "init": str(init),
        "train": f"{data}@[:8]",
        "test": f"{data}@[8:]",
        "validation": None,
        "steps": 2,
        "batch": 4,
    }
    return replace(recipe, schedule=replace(recipe.schedule, warmup=0), **one, **changes)


def test_fine_tuning_says_the_resolution_that_computed_positions_need(tmp_path: Path) -> None:
    config = replace(CONFIG, pool=AveragePool(), position=SinCos2d())
    write_npz(tmp_path / "sincos.npz", write_google(config, build(config).state_dict()))
    data = image_folder(tmp_path / "data")
    with pytest.raises(BadInput, match="computed and not stored"):
        finetune(short(tmp_path / "sincos.npz", data, resolution=None), tmp_path / "without")
    assert finetune(short(tmp_path / "sincos.npz", data, resolution=16), tmp_path / "with").steps == 2


def test_a_fine_tuned_model_keeps_how_its_positions_are_resampled(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_bundle(tmp_path / "b", build(CONFIG), Preprocess((8, 8)), ("a", "b"), {RESAMPLED: "bicubic plain"})
    finetune(short(tmp_path / "b", image_folder(tmp_path / "data"), resolution=16), tmp_path / "run")
    assert read_pretrained(tmp_path / "run").interpolation == "bicubic plain"
