"""What a start does not import: a second each, of a server that is to be ready within three."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.models.small import POSITIONS, vit
from vitrail.models.build import build
from vitrail.models.initialise import on_meta
from vitrail.models.resnet import BIT, ResNetConfig
from vitrail.models.vit import ViTConfig

CODE = """
import sys
import vitrail.serve.http.decoding
assert "torch" not in sys.modules, "a decoder needs none"
from vitrail.weights.load import load
load(sys.argv[1])
assert "torch._dynamo" not in sys.modules, "a model is read without torch.compile"
"""


def test_decoders_need_no_torch_and_reading_a_model_no_compiler(digits_run: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, str(digits_run)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("config", [*(vit(position=kind) for kind in POSITIONS.values()), ResNetConfig(BIT)], ids=repr)
def test_a_model_without_numbers_has_the_shapes_of_one_with(config: ViTConfig | ResNetConfig) -> None:
    with on_meta():
        shapes = build(config).state_dict()
    assert all(value.is_meta for value in shapes.values())
    with torch.device("cpu"):
        made = build(config).state_dict()
    assert {name: value.shape for name, value in shapes.items()} == {name: v.shape for name, v in made.items()}
