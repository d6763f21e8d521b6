"""A bundle: a folder that is a model and needs nothing else.

`model.safetensors`, `config.json` (architecture, preprocessing, class names, provenance, the hash of the weights, and
timm's own keys, so that `timm.create_model("local-dir:FOLDER", pretrained=True)` reads it too), `README.md`.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.core.config import from_json, to_json
from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_folder, read_json, write_json, write_text_atomic
from vitrail.data.views import CentreCrop, Preprocess
from vitrail.models.build import Model, ModelConfig, build
from vitrail.models.cost import parameters
from vitrail.models.head import ClassToken
from vitrail.models.position import NoPosition
from vitrail.weights.tensors import read_safetensors, refuse_not_finite, write_safetensors

FORMAT = 1


@dataclass(frozen=True)
class Published:
    """What a file holds: weights by our names, the architecture, and what travels with them."""

    config: ModelConfig
    state: dict[str, Tensor]
    preprocess: Preprocess | None  # None: the file does not say
    classes: tuple[str, ...] | None  # None: the file does not say
    provenance: dict[str, Any] = field(default_factory=dict)


def save_bundle(
    folder: Path, model: Model, preprocess: Preprocess, classes: tuple[str, ...], provenance: dict[str, Any]
) -> str:
    """Writes a bundle, whole or not at all. Returns the SHA-256 of its weights."""
    if model.config.num_classes != len(classes):
        raise BadInput(f"{len(classes)} class names for a model of {model.config.num_classes} classes")
    with atomic_folder(folder) as temporary:
        weights = temporary / "model.safetensors"
        write_safetensors(weights, model.state_dict(), {"format": "pt"})
        digest = _sha256(weights)
        config = {
            "format": FORMAT,
            "model": to_json(model.config),
            "preprocess": to_json(preprocess),
            "classes": list(classes),
            "provenance": provenance,
            "weights_sha256": digest,
            **_timm_keys(model.config, preprocess, classes),
        }
        write_json(temporary / "config.json", config)
        write_text_atomic(temporary / "README.md", _card(model.config, preprocess, classes, provenance))
    return digest


def read_bundle(folder: Path) -> Published:
    """Reads a bundle and checks it: the hash, the names and shapes of the weights, and that they are finite.

    Raises:
        BadInput: a file is missing or altered, or the config is not of this version.
    """
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or "model" not in config:
        raise BadInput(f"{folder} is no vitrail bundle: its config.json has no key 'model'")
    if config.get("format") != FORMAT:
        raise BadInput(f"{folder} is a bundle of format {config.get('format')!r}; this vitrail reads format {FORMAT}")
    model = from_json(ModelConfig, config["model"], "model")
    model.check()
    names = config.get("classes")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadInput(f"{folder}: the classes in config.json are {names!r}, expected a list of names")
    classes = tuple(names)
    if len(classes) != model.num_classes:
        raise BadInput(f"{folder}: config.json names {len(classes)} classes, the model has {model.num_classes}")
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise BadInput(f"{weights} is missing: the bundle is not whole; copy the folder again")
    if _sha256(weights) != config.get("weights_sha256"):
        raise BadInput(f"{weights} is not the file this bundle was written with (its SHA-256 differs from config.json)")
    state = read_safetensors(weights)
    check_state(model, state, folder)
    preprocess = from_json(Preprocess, config.get("preprocess"), "preprocess")
    return Published(model, state, preprocess, classes, dict(config.get("provenance") or {}))


def check_state(config: ModelConfig, state: dict[str, Tensor], source: Path) -> None:
    """Raises BadInput unless `state` has exactly the names and shapes of a model of `config`, all finite."""
    with torch.device("meta"):
        expected = {name: tuple(t.shape) for name, t in build(config).state_dict().items()}
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or extra:
        lacks = f"lacks {missing[0]!r} and {len(missing) - 1} more" if missing else f"has an unknown {extra[0]!r}"
        raise BadInput(f"{source}: the weights do not fit the architecture: the file {lacks}")
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            raise BadInput(f"{source}: {name!r} has the shape {tuple(state[name].shape)}, expected {shape}")
    refuse_not_finite(state, source)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _timm_keys(config: ModelConfig, preprocess: Preprocess, classes: tuple[str, ...]) -> dict[str, Any]:
    """timm's description of the same architecture, where it has one: no hidden layer, positions 1-D, the same MLP."""
    if config.hidden or isinstance(config.position, NoPosition):
        return {}
    token = isinstance(config.pool, ClassToken)
    return {
        "architecture": "vit_base_patch16_224",
        "num_classes": config.num_classes,
        "num_features": config.width,
        "global_pool": "token" if token else "avg",
        "model_args": {
            "img_size": list(config.resolution),
            "patch_size": config.patch,
            "embed_dim": config.width,
            "depth": config.depth,
            "num_heads": config.heads,
            "mlp_ratio": config.mlp / config.width,
            "class_token": token,
            "global_pool": "token" if token else "avg",
            "fc_norm": False,
            "act_layer": "gelu_tanh" if config.gelu == "tanh" else "gelu",
        },
        "pretrained_cfg": {
            "input_size": [3, *config.resolution],
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "interpolation": "bilinear",
            "crop_pct": preprocess.resize.share if isinstance(preprocess.resize, CentreCrop) else 1.0,
            "crop_mode": "center" if isinstance(preprocess.resize, CentreCrop) else "squash",
            "num_classes": config.num_classes,
            "label_names": list(classes),
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }


def _card(config: ModelConfig, preprocess: Preprocess, classes: tuple[str, ...], provenance: dict[str, Any]) -> str:
    shown = ", ".join(classes[:20]) + (f", … ({len(classes)} in all)" if len(classes) > 20 else "")
    facts = "\n".join(
        f"| {key} | {value} |" for key, value in provenance.items() if not isinstance(value, (dict, list))
    )
    height, width = config.resolution
    pool = "class token" if isinstance(config.pool, ClassToken) else "average pooling"
    crop = preprocess.resize
    resize = (
        f"the middle {crop.share:.1%} of the shorter side" if isinstance(crop, CentreCrop) else "both sides resized"
    )
    return f"""---
tags:
- image-classification
- vision-transformer
library_name: vitrail
---
# A Vision Transformer

{parameters(config):,} parameters: {config.depth} layers of width {config.width} with {config.heads} heads, MLP
{config.mlp}, patches of {config.patch} pixels, {pool}.

**Input:** RGB images of {height} x {width} pixels, {resize}, scaled by mean {preprocess.mean} and deviation
{preprocess.std} of pixels in 0…1.

**Classes:** {shown or "none (features only)"}.

| provenance | |
|---|---|
{facts}

```python
import vitrail
print(vitrail.Predictor("this-folder").predict(["image.jpg"], top=5))
```
`timm.create_model("local-dir:this-folder", pretrained=True)` reads the folder too, where timm has the architecture.
"""
