"""Every layout to every other: weights bit for bit, outputs compared, and what a layout cannot hold is named."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import vitrail
import vitrail.weights.convert as converting
from vitrail.cli import main
from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess
from vitrail.models.build import Model, ModelConfig, build
from vitrail.models.head import AttentionPool, AveragePool, TokenAndAverage
from vitrail.models.position import Learned1d, Learned2d, Relative, SinCos2d
from vitrail.models.resnet import BIT, ResNetConfig, Stages
from vitrail.models.vit import ViTConfig
from vitrail.weights.bundle import RESAMPLED, save_bundle
from vitrail.weights.convert import Layout, convert
from vitrail.weights.load import read_pretrained

LAYOUTS: tuple[Layout, ...] = get_args(Layout)
NAMES = tuple(f"class {i}" for i in range(5))


@dataclass(frozen=True)
class Case:
    """A model, and what the layouts say of it."""

    config: ModelConfig
    refused: dict[Layout, str] = field(default_factory=dict)  # the sentence
    changed: dict[Layout, str] = field(default_factory=dict)  # the fields of the config that come back otherwise
    tensors: dict[Layout, set[str]] = field(default_factory=dict)  # what comes back otherwise, not bit for bit
    apart: float = 0.0  # outputs may differ by so much where constants change


PLAIN = ViTConfig(patch=4, width=32, depth=2, heads=4, mlp=64, resolution=(24, 24), num_classes=5)
SCALED = replace(PLAIN, layer_scale=1e-5, gelu="exact")
NO_ENTRY = Learned1d(class_entry=False)
UNDER = "transformers' ViT and DINOv2 have no ResNet under them; a bundle or timm's folder keeps it"
NO = "; a bundle keeps everything"

CASES = {
    "class token": Case(PLAIN),
    "average": Case(
        replace(PLAIN, pool=AveragePool()), {"huggingface": f"transformers' vit has no pooling AveragePool{NO}"}
    ),
    "hidden layer": Case(
        replace(PLAIN, hidden=24),
        {
            "timm": f"timm has no hidden layer before the classifier{NO}",
            "huggingface": f"transformers' vit has no hidden layer before a classifier{NO}",
        },
    ),
    "pooler": Case(
        replace(PLAIN, hidden=24, num_classes=0), {"timm": f"timm has no hidden layer before the classifier{NO}"}
    ),
    "no classes": Case(replace(PLAIN, num_classes=0)),
    "attention pooling (big_vision)": Case(
        replace(PLAIN, pool=AttentionPool()), {"huggingface": f"transformers' vit has no pooling AttentionPool{NO}"}
    ),
    "sines and cosines (big_vision)": Case(
        replace(PLAIN, pool=AveragePool(), position=SinCos2d()),
        {"huggingface": f"transformers' vit has no pooling AveragePool{NO}"},
        {"timm": "position"},
    ),
    "sines and cosines, class token (big_vision)": Case(
        replace(PLAIN, position=SinCos2d()),
        {"huggingface": f"transformers' vit has no positions SinCos2d of this kind{NO}"},
        {"timm": "position"},
    ),
    "no entry for the class token (big_vision)": Case(
        replace(PLAIN, position=NO_ENTRY), {}, {"huggingface": "position"}, {"huggingface": {"pos_embed"}}
    ),
    "hybrid of a root": Case(
        replace(PLAIN, patch=2, backbone=Stages(units=(), width=64)),
        {"huggingface": UNDER},
        {"timm": "backbone", "npz": "backbone"},  # there and back
        apart=1e-4,  # timm has other eps. Measured: 9e-7
    ),
    "hybrid of three stages": Case(
        replace(PLAIN, patch=1, backbone=Stages(units=(1, 1, 1), width=32), resolution=(48, 48)),
        {"huggingface": UNDER, "timm": f"timm has no hybrid with the stages (1, 1, 1){NO}"},
    ),
    "BiT": Case(
        ResNetConfig(replace(BIT, units=(1, 2), width=32), (40, 40), num_classes=5),
        {
            "timm": f"timm has no ResNet of stages (1, 2), width 32 and this kind{NO}",
            "huggingface": UNDER,
        },
    ),
    "post-activation ResNet": Case(
        ResNetConfig(Stages((1, 1), width=32), (40, 40), num_classes=5),
        {
            "npz": f"BiT's .npz layout has no post-activation units{NO}",
            "timm": f"timm has no ResNet of stages (1, 1), width 32 and this kind{NO}",
            "huggingface": UNDER,
        },
    ),
    "DeiT III": Case(
        replace(SCALED, position=NO_ENTRY),
        {
            "npz": f"Google's .npz layouts have no layer scale{NO}",
            "huggingface": f"transformers' dinov2 has no pooling ClassToken{NO}",
        },
    ),
    "DINOv2": Case(
        replace(SCALED, num_classes=0, resolution=(28, 28)), {"npz": f"Google's .npz layouts have no layer scale{NO}"}
    ),
    "DINOv2 with registers": Case(
        replace(SCALED, num_classes=0, registers=3),
        {"npz": f"Google's .npz layouts have no registers{NO}"},
        {"timm": "position", "huggingface": "position"},  # there and back
        {"timm": {"cls_token", "pos_embed"}},
    ),
    "DINOv2's classifier with registers": Case(
        replace(SCALED, registers=3, pool=TokenAndAverage()),
        {
            "npz": f"Google's .npz layouts have no pooling TokenAndAverage(){NO}",
            "timm": f"timm has no pooling TokenAndAverage{NO}",
        },
    ),
    "norms of q and k": Case(
        replace(PLAIN, qk_norm=True),
        {
            "npz": f"Google's .npz layouts have no norms of q and k{NO}",
            "huggingface": f"transformers' vit has no norms of q and k{NO}",
        },
    ),
    "gated": Case(
        replace(PLAIN, gated=True, gelu="exact"),  # it has no GELU; readers call it exact
        {
            "npz": f"Google's .npz layouts have no gated MLPs{NO}",
            "huggingface": f"transformers' vit has no gated MLPs without layer scale{NO}",
        },
    ),
    "gated with layer scale (DINOv2's giant)": Case(
        replace(SCALED, num_classes=0, gated=True, mlp=88),
        {"npz": f"Google's .npz layouts have no layer scale{NO}"},
    ),
    "gated of another width": Case(
        replace(SCALED, num_classes=0, gated=True),
        {
            "npz": f"Google's .npz layouts have no layer scale{NO}",
            "huggingface": "transformers' dinov2 computes the width of gated MLPs, 64 is another one",
        },
    ),
    "not square": Case(
        replace(PLAIN, resolution=(16, 24)),
        {"npz": f"Google's .npz layouts have no grid that is not square (4 x 6 patches; it is not stored){NO}"},
    ),
    "columns and rows": Case(
        replace(PLAIN, position=Learned2d()),
        {
            "npz": f"Google's .npz layouts have no positions Learned2d of this kind{NO}",
            "timm": f"timm has no positions Learned2d of this kind{NO}",
            "huggingface": f"transformers' vit has no positions Learned2d of this kind{NO}",
        },
    ),
    "relative": Case(
        replace(PLAIN, position=Relative()),
        {
            "npz": f"Google's .npz layouts have no positions Relative of this kind{NO}",
            "timm": f"timm has no positions Relative of this kind{NO}",
            "huggingface": f"transformers' vit has no positions Relative of this kind{NO}",
        },
    ),
    "a table before each layer": Case(
        replace(PLAIN, position=Learned1d("layers")),
        {
            "npz": f"Google's .npz layouts have no positions Learned1d of this kind{NO}",
            "timm": f"timm has no positions Learned1d of this kind{NO}",
            "huggingface": f"transformers' vit has no positions Learned1d of this kind{NO}",
        },
    ),
}


def enlivened(config: ModelConfig) -> Model:
    """Random numbers in every weight that is learned, so that no zero and no one hides anything."""
    generator = torch.Generator().manual_seed(0)
    model = build(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(0.5 + 0.2 * noise if noise.ndim == 1 else noise / noise[0].numel() ** 0.5)
    return model.eval()


def written(config: ModelConfig, folder: Path) -> Model:
    model = enlivened(config)
    save_bundle(folder, model, Preprocess(config.resolution), NAMES[: config.num_classes], {"trained_on": "nothing"})
    return model


def place(folder: Path, name: str, layout: Layout) -> Path:
    return folder / f"{name}.npz" if layout == "npz" else folder / name


def outputs(source: Path | Model, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Logits and representation; some files do not say the resolution that they were trained at."""
    model = vitrail.load(source, resolution=config.resolution) if isinstance(source, Path) else source
    images = torch.randn(2, 3, *config.resolution, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = model(images)
    return output.logits, output.representation


def apart(got: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> float:
    return max(float((g - w).abs().max() / w.abs().max()) for g, w in zip(got, wanted, strict=True))


JOURNEYS = [(name, *pair) for name in CASES for pair in permutations(LAYOUTS, 2)]


@pytest.mark.parametrize(
    ("name", "first", "second"), [j for j in JOURNEYS if not CASES[j[0]].refused.keys() & {*j[1:]}]
)
def test_every_layout_to_every_other(name: str, first: Layout, second: Layout, tmp_path: Path) -> None:
    case, config = CASES[name], CASES[name].config
    model = written(config, tmp_path / "source")
    once, twice = place(tmp_path, "once", first), place(tmp_path, "twice", second)
    changed: set[str] = set()
    for source, destination, layout in ((tmp_path / "source", once, first), (once, twice, second)):
        done = convert(source, destination, layout, resolution=config.resolution)
        assert done.agrees
        assert done.relative <= case.apart
        fields = {line.split(":")[0].split(".")[0] for line in done.changed} - {
            "preprocess",
            "classes",
            "positions_resampled",
        }
        assert fields <= {case.changed.get(layout, "")}
        changed |= fields
    back = read_pretrained(twice, resolution=config.resolution)
    state = model.state_dict()
    unlike = {key for key, tensor in back.state.items() if not torch.equal(tensor, state[key])}
    assert back.state.keys() == state.keys()
    assert unlike == case.tensors.get(first, set()) | case.tensors.get(second, set())
    assert changed or back.config == config
    error = apart(outputs(twice, config), outputs(model, config))
    print(f"{name}, {first}, {second}: {error:.1e}")
    assert error <= case.apart


@pytest.mark.parametrize(
    ("name", "layout"), [(name, layout) for name, case in CASES.items() for layout in case.refused]
)
def test_what_a_layout_cannot_hold_is_said(name: str, layout: Layout, tmp_path: Path) -> None:
    written(CASES[name].config, tmp_path / "source")
    destination = place(tmp_path, "copy", layout)
    with pytest.raises(BadInput) as refused:
        convert(tmp_path / "source", destination, layout)
    assert str(refused.value) == CASES[name].refused[layout]
    assert not destination.exists()


def test_a_published_bit_size_goes_through_timm(tmp_path: Path) -> None:
    """R50x1, the smallest that timm has: to .npz, to timm, back to a bundle. timm adds 1e-8 to variances, BiT 1e-10."""
    config = ResNetConfig(resolution=(32, 32), num_classes=5)
    model = written(config, tmp_path / "source")
    here = tmp_path / "source"
    for layout in ("npz", "timm", "bundle"):
        there = place(tmp_path, f"as {layout}", layout)
        done = convert(here, there, layout, resolution=32)
        assert done.agrees
        assert done.equal_tensors == done.tensors == len(model.state_dict())
        here = there
    error = apart(outputs(here, config), outputs(model, config))
    print(f"R50x1 through .npz and timm: {error:.1e}")
    assert error < 1e-4  # measured: 1.7e-6


@pytest.mark.parametrize("layout", ["timm", "huggingface", "bundle"])
def test_class_names_and_preprocessing_come_along(layout: Layout, tmp_path: Path) -> None:
    preprocess = Preprocess((24, 24), CentreCrop(0.9), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic")
    save_bundle(tmp_path / "source", enlivened(PLAIN), preprocess, NAMES, {})
    convert(tmp_path / "source", tmp_path / "copy", layout)
    model = vitrail.load(tmp_path / "copy")
    assert model.classes == NAMES
    kept = model.preprocess
    assert (kept.resolution, kept.mean, kept.std) == ((24, 24), preprocess.mean, preprocess.std)
    assert kept.interpolation == "bicubic"
    assert isinstance(kept.resize, CentreCrop)
    assert round(24 / kept.resize.share) == round(24 / 0.9)  # transformers counts in whole pixels


def test_nothing_is_written_over_and_the_name_fits_the_layout(tmp_path: Path) -> None:
    written(PLAIN, tmp_path / "source")
    for destination, layout, sentence in (
        (tmp_path / "source", "bundle", "exists already: give a new name"),
        (tmp_path / "copy", "npz", r"the layout npz is a file that ends in \.npz"),
        (tmp_path / "copy.npz", "timm", r"the layout timm is a folder, without \.npz"),
    ):
        with pytest.raises(BadInput, match=sentence):
            convert(tmp_path / "source", destination, layout)
    assert {path.name for path in tmp_path.iterdir()} == {"source"}


# the command


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["convert", *map(str, arguments)])
    shown = capsys.readouterr()
    return int(stopped.value.code or 0), shown.out + shown.err


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = written(PLAIN, tmp_path / "source")
    code, shown = command(capsys, tmp_path / "source", tmp_path / "copy.npz", "--to", "npz")
    count = len(model.state_dict())
    assert code == 0
    assert f"{count} of {count} tensors are equal bit for bit" in shown
    assert "largest difference of a logit 0\n" in shown
    assert "relative to the largest, 0: the copy agrees\n" in shown
    assert "left over" not in shown
    assert "not in this layout: preprocess.resize.type: 'CentreCrop' → 'SquareResize'" in shown
    assert "not in this layout: classes: 5 names → numbers" in shown


def test_a_copy_that_loses_nothing_says_nothing_of_losses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(PLAIN, tmp_path / "source")
    code, shown = command(capsys, tmp_path / "source", tmp_path / "copy", "--to", "bundle")
    assert code == 0
    assert "not in this layout" not in shown


def test_what_a_layout_loses_of_preprocessing_names_and_positions_is_said(tmp_path: Path) -> None:
    preprocess = Preprocess((24, 24), CentreCrop(0.9), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic")
    save_bundle(tmp_path / "source", enlivened(PLAIN), preprocess, NAMES, {RESAMPLED: "bicubic plain"})
    changed = convert(tmp_path / "source", tmp_path / "copy.npz", "npz").changed
    assert "preprocess.mean: [0.1, 0.2, 0.3] → [0.5, 0.5, 0.5]" in changed
    assert "preprocess.interpolation: 'bicubic' → 'bilinear'" in changed
    assert "classes: 5 names → numbers" in changed
    assert "positions_resampled: 'bicubic plain' → 'bilinear'" in changed
    assert convert(tmp_path / "source", tmp_path / "hf", "huggingface").changed == (
        "preprocess.resize.share: 0.9 → 0.8888888888888888",  # whole pixels: 24 of 27
    )


@pytest.mark.parametrize("layout", ["npz", "timm"])
def test_a_copy_that_cannot_be_read_back_is_removed(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(published: object, model: object, destination: Path) -> None:
        destination.mkdir() if layout == "timm" else destination.write_bytes(b"nothing")

    written(PLAIN, tmp_path / "source")
    monkeypatch.setitem(converting._WRITERS, layout, broken)
    with pytest.raises(BadInput, match="the copy could not be read back and was removed: .*copy"):
        convert(tmp_path / "source", place(tmp_path, "copy", layout), layout)
    assert {path.name for path in tmp_path.iterdir()} == {"source"}


def test_names_that_are_no_part_of_the_model_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(PLAIN, tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "theirs", "huggingface")
    weights = tmp_path / "theirs" / "model.safetensors"
    extra = {"vit.pooler.dense.weight": torch.ones(32, 32), "vit.pooler.dense.bias": torch.ones(32)}
    save_file({**load_file(weights), **extra}, weights, {"format": "pt"})
    code, shown = command(capsys, tmp_path / "theirs", tmp_path / "copy")
    assert code == 0
    assert "left over in the source: pooler.dense.bias\nleft over in the source: pooler.dense.weight\n" in shown


def test_a_layout_that_changes_the_outputs_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Google's files do not say which GELU: their readers take the other one."""
    written(replace(PLAIN, gelu="exact"), tmp_path / "source")
    options = ("--to", "npz", "--tolerance", "1e-5")
    code, shown = command(capsys, tmp_path / "source", tmp_path / "copy.npz", *options, "--json")
    done = json.loads(shown)
    assert code == 1
    assert not done["agrees"]
    assert done["changed"][0] == "gelu: 'exact' → 'tanh'"
    assert 1e-5 < done["relative"] < 1e-3
    code, shown = command(capsys, tmp_path / "source", tmp_path / "again.npz", *options)
    assert code == 1
    assert "DIFFERS by more than 1e-05: do not use it" in shown
    assert "not in this layout: gelu: 'exact' → 'tanh'" in shown
    code, _ = command(capsys, tmp_path / "source", tmp_path / "third.npz", "--to", "npz", "--tolerance", "0.001")
    assert code == 0


def tampered(write: Callable, change: Callable[[dict[str, Tensor]], object]) -> Callable:
    """A writer after which somebody changes the file."""

    def write_and_change(published, model, destination):
        write(published, model, destination)
        weights = destination / "model.safetensors"
        tensors = load_file(weights)
        change(tensors)
        save_file(tensors, weights, {"format": "pt"})

    return write_and_change


CHANGES: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "one weight of a block": lambda tensors: tensors["blocks.1.mlp.fc1.weight"][3, 5].add_(0.5),
    "one number of the positions": lambda tensors: tensors["pos_embed"][0, 4, 2].add_(0.1),
    "two classes": lambda tensors: tensors["head.weight"].copy_(tensors["head.weight"].flip(0)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_tampered_copy_is_noticed(
    change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written(PLAIN, tmp_path / "source")
    writer = tampered(converting._WRITERS["timm"], CHANGES[change])
    monkeypatch.setitem(converting._WRITERS, "timm", writer)
    code, shown = command(capsys, tmp_path / "source", tmp_path / "copy", "--to", "timm")
    count = len(enlivened(PLAIN).state_dict())
    assert code == 1
    assert f"{count - 1} of {count} tensors are equal" in shown
    assert "DIFFERS" in shown


def test_a_classifier_of_zeros_hides_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All logits of a model that was not fine-tuned yet are equal, so the representation is compared too."""
    model = enlivened(PLAIN)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.zero_()
    save_bundle(tmp_path / "source", model, Preprocess((24, 24)), NAMES, {})
    assert command(capsys, tmp_path / "source", tmp_path / "good", "--to", "timm")[0] == 0
    writer = tampered(converting._WRITERS["timm"], CHANGES["one weight of a block"])
    monkeypatch.setitem(converting._WRITERS, "timm", writer)
    assert command(capsys, tmp_path / "source", tmp_path / "bad", "--to", "timm")[0] == 1


def test_bad_input_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, shown = command(capsys, tmp_path / "nothing", tmp_path / "copy")
    assert code == 2
    assert "no such model" in shown
    assert command(capsys, tmp_path / "nothing", tmp_path / "copy", "--to", "tim")[0] == 2
