"""The functions of `vitrail` for one's own code: vitrail/api, and what they make of what people hold."""

import shlex
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from vitrail.api.configs import _options
from vitrail.commands.parsing import with_options
from vitrail.data.catalog.catalog import NAMED
from vitrail.data.decode.array import from_array
from vitrail.data.decode.image import BrokenImage
from vitrail.data.sources.base import ArraySource
from vitrail.data.transforms.pipeline import Augment, InceptionCrop, PadCrop, Preprocess, WholeImage
from vitrail.models import variants
from vitrail.recipes import FINETUNING, PRETRAINING

TINY = vitrail.ViTConfig(patch=4, width=16, depth=1, heads=2, mlp=16, resolution=(8, 8))
CPU = vitrail.Machine(device="cpu", workers=0)


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    known = dict(NAMED)
    monkeypatch.setattr(variants, "_REGISTERED", {})
    yield
    for name in NAMED.keys() - known.keys():
        del NAMED[name]


def model(classes: int = 10) -> Any:
    torch.manual_seed(0)
    return vitrail.create_model(TINY, num_classes=classes)


# Registries


def test_a_registered_model_has_a_name_everywhere() -> None:
    mine = replace(TINY, position=variants.ViTConfig().position, drop_path=0.3)
    vitrail.register_model("mine", lambda: mine)
    assert vitrail.list_models("mine*") == ["mine"]
    assert vitrail.create_model("mine", num_classes=3, resolution=16).config == replace(
        mine, num_classes=3, resolution=(16, 16)
    )
    asked = with_options(vitrail.recipe("digits"), ["--model", "mine"], "a test")
    assert asked == vitrail.recipe("digits", model="mine")
    assert asked.model.drop_path == 0.3  # all of it, not its sizes alone
    for taken in ("mine", "B/16", "R50x4"):
        with pytest.raises(vitrail.BadInput, match="exists already"):
            vitrail.register_model(taken, lambda: mine)


def test_a_registered_model_is_a_config() -> None:
    vitrail.register_model("wrong", lambda: 3)  # type: ignore[arg-type, return-value]
    with pytest.raises(vitrail.BadInput, match="returns 3"):
        vitrail.create_model("wrong")


def test_registered_data_are_data_everywhere() -> None:
    vitrail.register_data("mine", lambda split: vitrail.load_data(f"digits@{split}"))
    assert len(vitrail.load_data("mine@train[:10]")) == 10
    assert len(vitrail.load_data("mine", "test")) == len(vitrail.load_data("digits", "test"))
    with pytest.raises(vitrail.BadInput, match="validation"):
        vitrail.load_data("mine@validation")
    for taken in ("mine", "cifar10"):
        with pytest.raises(vitrail.BadInput, match="exist already"):
            vitrail.register_data(taken, lambda split: vitrail.load_data("digits"))
    with pytest.raises(vitrail.BadInput, match="letters"):
        vitrail.register_data("a/b", lambda split: vitrail.load_data("digits"))
    vitrail.register_data("wrong", lambda split: [1, 2])  # type: ignore[arg-type, return-value]
    with pytest.raises(vitrail.BadInput, match="not a Source"):
        vitrail.load_data("wrong")


# Data


def test_the_loader_gives_the_batches_of_training() -> None:
    """As the loop itself gets them; a second loop goes on, whatever `steps` are."""
    from vitrail.data.loader.loader import train_loader
    from vitrail.data.loader.normalise import normalise

    source, view, augment = vitrail.load_data("digits"), Preprocess((16, 16)), Augment()
    theirs = list(train_loader(source, augment, view, batch=32, seed=3, start=0, stop=6, workers=0))
    loader = vitrail.data_loader("digits", view, batch=32, augment=augment, steps=3, seed=3)
    ours = [*loader, *loader]
    assert loader.step == 6
    for (images, labels), batch in zip(ours, theirs, strict=True):
        assert torch.equal(labels, batch.labels)
        assert torch.equal(images, normalise(batch.images, view, torch.device("cpu")))
    assert len(vitrail.data_loader(source, view, batch=32, augment=augment)) == len(source) // 32


def test_the_dataset_gives_the_views_of_training() -> None:
    source, view, augment = vitrail.load_data("digits"), Preprocess((8, 8)), Augment(crop=PadCrop(2))
    loader = vitrail.data_loader(source, view, batch=len(source), augment=augment, seed=5)
    images, labels = next(iter(loader))
    dataset = vitrail.ImageDataset(source, view, augment=augment, seed=5)
    first, label = dataset[7]
    same = [i for i in range(len(images)) if labels[i] == label and torch.equal(images[i], first)]
    assert same
    dataset.epoch = 1
    assert not torch.equal(dataset[7][0], first)
    assert (first.shape, first.dtype, type(label)) == ((3, 8, 8), torch.float32, int)


def test_evaluation_sees_each_image_once_in_order() -> None:
    loader = vitrail.data_loader("digits", model(), batch=100)  # the test split, where none is named
    batches = list(loader)
    assert len(batches) == len(loader) == 5
    dataset = vitrail.ImageDataset("digits@test", model())
    assert torch.equal(torch.cat([images for images, _ in batches])[123], dataset[123][0])
    assert loader.step == 0


def test_numbers_of_a_loader_that_mean_nothing() -> None:
    with pytest.raises(vitrail.BadInput, match="at least 1"):
        vitrail.data_loader("digits", TINY and model(), batch=0)
    with pytest.raises(vitrail.BadInput, match="augment"):
        vitrail.data_loader("digits", model(), steps=3)


class Damaged(ArraySource):
    def __getitem__(self, index: int) -> vitrail.Example:
        if index < 2:
            raise BrokenImage("torn", f"file {index}")
        return super().__getitem__(index)


def test_broken_images_are_named_and_too_many_are_refused() -> None:
    images, labels = np.zeros((40, 8, 8, 3), np.uint8), np.arange(40) % 2
    source = Damaged(images, labels, ("a", "b"), [f"file {i}" for i in range(40)])
    with pytest.raises(vitrail.BadInput, match="file 1: torn"):
        list(vitrail.data_loader(source, model(2), batch=8))
    with pytest.raises(vitrail.BadInput, match="file 0: torn"):
        vitrail.ImageDataset(source, model(2))[0]


# Training and evaluation


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    folder = tmp_path_factory.mktemp("api") / "run"
    config = vitrail.recipe("digits", steps=40, evaluate_every=20, log_every=10, precision="float32")
    fresh = model()
    return vitrail.train(fresh, "digits@train", config, folder, machine=CPU), fresh, folder


def test_train_leaves_a_run_and_a_trained_model(trained: tuple[Any, Any, Path]) -> None:
    run, fresh, folder = trained
    assert run.job == "train"
    assert run.config["model"]["width"] == 16  # that of the model, not of the recipe
    assert list(run.metrics()["step"]) == [10, 20, 30, 40]
    again = vitrail.load(folder)
    for name, weights in fresh.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name])
    assert fresh.classes == tuple("0123456789")
    assert vitrail.evaluate(fresh, "digits@test", precision="float32").accuracy == pytest.approx(run.result.accuracy)
    from vitrail.report.index import make

    assert "training" in make(folder).read_text(encoding="utf-8").lower()


def test_train_continues_and_refuses_other_things(trained: tuple[Any, Any, Path]) -> None:
    run, _, folder = trained
    config = vitrail.recipe("digits", steps=40, evaluate_every=20, log_every=10, precision="float32")
    other = model()
    again = vitrail.train(other, "digits@train", config, folder, machine=CPU)  # finished: read, not repeated
    assert again.result == run.result
    assert torch.equal(other.head.weight, vitrail.load(folder).head.weight)
    with pytest.raises(vitrail.BadInput, match="steps: 40"):
        vitrail.train(model(), "digits@train", replace(config, steps=50), folder, machine=CPU)
    with pytest.raises(vitrail.BadInput, match="num_classes=10"):
        vitrail.train(model(3), "digits@train", config, folder, machine=CPU)


def test_train_on_sources_with_a_callback(tmp_path: Path) -> None:
    seen = []

    class Look(vitrail.Callback):
        every = 2

        def __call__(self, state: Any, metrics: dict[str, float]) -> None:
            seen.append((state.step, metrics["loss"] > 0))

    data, test = vitrail.load_data("digits@train[:100]"), vitrail.load_data("digits@test[:50]")
    config = vitrail.TrainConfig("", steps=4, batch=16, augment=Augment(crop=WholeImage()))
    run = vitrail.train(model(), data, config, tmp_path / "a", test=test, callbacks=[Look()], machine=CPU)
    assert seen == [(2, True), (4, True)]
    assert (run.result.count, run.config["train"]) == (50, repr(data))
    assert "100 images" in repr(data)


def test_an_evaluation_says_what_it_is_and_has_rows(trained: tuple[Any, Any, Path], monkeypatch: Any) -> None:
    _, _, folder = trained
    found = vitrail.evaluate(folder, "digits@test[:40]")
    assert repr(found).startswith(f"accuracy {found.accuracy:.1%}")
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=dict))
    rows = found.to_pandas()
    assert (rows["label"] == rows["predicted"]).tolist() == rows["correct"].tolist()
    assert len(rows["key"]) == 40
    with pytest.raises(vitrail.BadInput, match="no classifier"):
        vitrail.evaluate(vitrail.create_model(TINY), "digits@test")


def test_features_of_a_model_and_of_its_folder(trained: tuple[Any, Any, Path], monkeypatch: Any) -> None:
    _, fresh, folder = trained
    one, other = vitrail.features(fresh, "digits@test[:30]"), vitrail.features(folder, "digits@test[:30]")
    assert np.allclose(one.values, other.values, atol=1e-5)
    assert "30 images, float32 (30, 16)" in repr(one)
    assert vitrail.features(fresh, "digits@test[:30]", layers=True).values.shape[1] > 16
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=dict))
    assert np.array_equal(one.to_pandas()["3"], one.values[:, 3])


# Prediction


def test_one_image_in_any_form_is_labelled_as_in_a_list(trained: tuple[Any, Any, Path], tmp_path: Path) -> None:
    _, fresh, folder = trained
    pixels = vitrail.load_data("digits", "test")[3].image
    assert isinstance(pixels, np.ndarray)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    predictor = vitrail.Predictor(folder, device="cpu")
    (want,) = predictor.predict([pixels])
    forms: list[Any] = [
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        (tmp_path / "a.png").read_bytes(),
        Image.fromarray(pixels),
        pixels,
        pixels[..., 0],
        pixels[..., :1],
        pixels.transpose(2, 0, 1),
        pixels / 255,
        (pixels / 255).astype(np.float32),
        pixels.astype(np.int64),
        np.dstack([pixels, np.full((8, 8), 255, np.uint8)]),
        torch.from_numpy(pixels).permute(2, 0, 1) / 255,
    ]
    for form in forms:
        for labels in (predictor.predict(form), *predictor.predict([form, pixels])):
            assert dict(labels) == pytest.approx(dict(want), abs=1e-5)
    assert len(predictor.predict(np.stack([pixels, pixels]))) == 2
    assert vitrail.Predictor(fresh, device="cpu").predict(pixels)[0].name == want[0].name


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((8, 8, 2), np.uint8), "1, 3 or 4 channels"),
        (np.zeros(8, np.uint8), "1, 3 or 4 channels"),
        (np.zeros((0, 8, 3), np.uint8), "1, 3 or 4 channels"),
        (np.full((8, 8, 3), 200.0), "from 200 to 200"),
        (np.full((8, 8, 3), -0.5), "floats from 0 to 1"),
        (np.full((8, 8, 3), np.nan), "floats from 0 to 1"),
        (np.full((8, 8, 3), 300), "from 0 to 255"),
        (np.zeros((8, 8, 3), bool), "expected uint8"),
        (np.zeros((8, 8, 3), object), "expected uint8"),
    ],
)
def test_an_array_that_is_no_image_is_refused(wrong: np.ndarray, said: str) -> None:
    with pytest.raises(BrokenImage, match=said):
        from_array(wrong)


def test_alpha_is_laid_on_black_as_in_files() -> None:
    half = np.full((4, 4, 4), (200, 100, 50, 0), np.uint8)
    assert from_array(half).max() == 0


def test_addresses_are_not_fetched(trained: tuple[Any, Any, Path]) -> None:
    with pytest.raises(vitrail.BadInput, match="https://example.org/a.jpg: an address, and nothing is fetched"):
        vitrail.Predictor(trained[2]).predict("https://example.org/a.jpg")


# Configs as commands


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"steps": 100, "optimizer": "sgd", "optimizer.lr": 0.03},
        {"model": "S/16", "model.pool": "token", "model.position": "relative", "loss": "sigmoid"},
        {"model": "R50x1", "clip": None, "resident": True, "augment.flip": True},
        {"validation": None, "test": "my photos@test", "schedule": "steps", "schedule.warmup": 7},
        {"augment": Augment(InceptionCrop((0.3, 1.0)), jitter=None), "average": 0.999, "micro_batch": 8},
        {"model.position": "sincos", "model.resolution": (12, 16), "resize": "centre-crop", "resize.share": 0.9},
    ],
)
def test_the_command_of_a_config_makes_it(options: dict[str, Any]) -> None:
    config = vitrail.recipe("digits", **options)
    for start in ("digits", "cifar10", None):
        command = shlex.split(vitrail.command_of(config, start, "runs/a"))
        assert command[:2] == ["vitrail", "pretrain"]
        assert command[3:5] == ["--out", "runs/a"]
        assert with_options(PRETRAINING[command[2]](), command[5:], "a test") == config


def test_every_recipe_is_its_own_command() -> None:
    for known in (PRETRAINING, FINETUNING):
        for name, make in known.items():
            assert not list(_options(make(), make())), name
    assert vitrail.command_of(PRETRAINING["cifar10"]()) == "vitrail pretrain cifar10 --out DIR"
    assert vitrail.command_of(FINETUNING["cifar10"](), folder="a b") == "vitrail finetune cifar10 --out 'a b'"


def test_options_of_a_recipe_that_there_are_not() -> None:
    for name, options, said in (
        ("digit", {}, "digits"),
        ("digits", {"step": 3}, "steps"),
        ("digits", {"optimizer": "sdg"}, "sgd"),
        ("digits", {"steps": "many"}, "expected int"),
        ("digits", {"optimizer.rate": 1.0}, "optimizer.lr"),
        ("train digits", {}, "pretrain"),
    ):
        with pytest.raises(vitrail.BadInput, match=said):
            vitrail.recipe(name, **options)
    with pytest.raises(vitrail.BadInput, match="no command"):
        vitrail.command_of(vitrail.TrainConfig("digits"))
