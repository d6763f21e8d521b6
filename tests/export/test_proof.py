"""What an export has to keep: which bound holds for which model, and what breaks it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.small import lively, vit
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.export import proof as proofs
from vitrail.export.proof import Differences, bound_of, broken_promises, is_plain, prove
from vitrail.models.build import Model, build
from vitrail.models.resnet import BIT, ResNetConfig, Stages
from vitrail.models.variants import variant
from vitrail.records.export import PixelProof, Proof
from vitrail.weights.load import attach

STAGES = Stages(units=(1, 1), width=32)


def plain() -> Model:
    return build(vit(depth=1))


def hybrid() -> Model:
    return build(vit(depth=1, patch=1, backbone=STAGES, resolution=(33, 40)))


def resnet() -> Model:
    return build(ResNetConfig(replace(BIT, units=(1, 1), width=32), resolution=(33, 40), num_classes=5))


def test_a_model_is_plain_unless_it_has_a_resnet() -> None:
    assert is_plain(plain())
    assert not is_plain(hybrid())
    assert not is_plain(resnet())


@pytest.mark.parametrize("name", ["Ti/16", "S/16", "R26+S/32", "R50x1"])
def test_variants_that_have_a_resnet_have_an_r_in_their_name(name: str) -> None:
    with torch.device("meta"):
        assert is_plain(build(variant(name))) is ("R" not in name)


@pytest.mark.parametrize(
    ("precision", "of_vits", "of_resnets", "whole_vits", "whole_resnets"),
    [
        ("float32", 1e-4, 1e-4, 0.02, 0.05),
        ("float16", 0.01, 0.05, 0.02, 0.05),
        ("bfloat16", 0.06, 0.25, 0.06, 0.25),
        ("int8", None, None, None, None),
    ],
)
def test_bounds(
    precision: str,
    of_vits: float | None,
    of_resnets: float | None,
    whole_vits: float | None,
    whole_resnets: float | None,
) -> None:
    """Whole images are given more, but never less than batches; ResNets and hybrids the same as each other."""
    assert bound_of(plain(), precision) == of_vits
    assert bound_of(plain(), precision, whole_images=True) == whole_vits
    for model in (hybrid(), resnet()):
        assert bound_of(model, precision) == of_resnets
        assert bound_of(model, precision, whole_images=True) == whole_resnets


def test_what_is_no_number_or_has_another_shape_is_infinitely_far_away() -> None:
    apart = Differences()
    apart.add(np.array([[1.0, -4.0]]), np.array([[1.5, -4.0]]))
    row = apart.row("x", "logits", 0.2)
    assert (row.largest, row.mean, row.relative) == (0.5, 0.25, 0.125)  # of the largest number, which is 4
    for found in (np.array([[1.0, np.nan]]), np.array([[1.0]])):
        worse = Differences()
        worse.add(np.array([[1.0, 2.0]]), np.array([[1.0, 2.0]]))
        worse.add(found, np.array([[1.0, 2.0]]))
        assert broken_promises(_proof(worse)) == ["logits of x differs by 1e+30 of its largest number, more than 0.2"]


def test_a_promise_is_broken_just_above_its_bound() -> None:
    for moved, broken in ((0.75, 0), (0.81, 1)):
        apart = Differences()
        apart.add(np.array([4.0 - moved]), np.array([4.0]))
        assert len(broken_promises(_proof(apart))) == broken
    assert broken_promises(_proof(apart, None)) == []  # nothing was promised


def _proof(apart: Differences, bound: float | None = 0.2) -> Proof:
    pixels = PixelProof(images=0, largest=0.0, mean=0.0, differing=0.0)
    return Proof(rows=[apart.row("x", "logits", bound)], batches=(1,), neighbours=0.0, pixels=pixels)


def test_each_row_of_a_proof_has_its_own_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "BATCHES", (1, 3))
    config = vit(depth=1)
    model = attach(lively(config), Preprocess(config.resolution), tuple("abcde"))
    wrong = {"logits": np.zeros((1, 5), np.float32), "representation": np.zeros((1, 24), np.float32)}
    rows = prove(model, lambda images: wrong, lambda pixels: wrong, "float32").rows
    assert {row.inputs: row.bound for row in rows} == {"whole images": 0.02, "batches of 1": 1e-4, "batches of 3": 1e-4}
