"""A bundle: a folder that is a model and needs nothing else.

`model.safetensors`, `config.json` (architecture, preprocessing, class names, provenance, the hash of the weights, the
temperature where one was fitted, and timm's own keys, so that `timm.create_model("local-dir:FOLDER", pretrained=True)`
reads it too), `README.md`; after a masked objective also `trained_with.safetensors`, the head or the decoder.
"""

import hashlib
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from vitrail.core.config import from_json, to_json
from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_folder, read_json, write_json, write_text_atomic
from vitrail.core.object_store import is_remote
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess
from vitrail.models.build import Model, ModelConfig
from vitrail.models.cost import parameters
from vitrail.models.objective import MaskedObjective
from vitrail.models.resample import Interpolation
from vitrail.models.resnet import ResNetConfig
from vitrail.weights.pretrained import PretrainedModel, TrainedWith, check_state, check_trained_with
from vitrail.weights.tensors import read_safetensors, write_safetensors
from vitrail.weights.timm_write import timm_keys

FORMAT = 1
BESIDE = "trained_with.safetensors"
RESAMPLED = "positions_resampled"  # the provenance's key of how positions come to another grid; without it: bilinear


def save_bundle(
    folder: Path,
    model: Model,
    preprocess: Preprocess,
    classes: tuple[str, ...],
    provenance: dict[str, Any],
    temperature: float | None = None,
    thresholds: tuple[float, ...] | None = None,
    trained_with: TrainedWith | None = None,
) -> str:
    """Writes a bundle, whole or not at all. Returns the SHA-256 of its weights.

    Args:
        temperature: by which logits are divided before they become probabilities, where one was fitted.
        thresholds: of a model of several classes an image, the probability of each from which on it is answered.
        trained_with: what a masked objective has beside the model.
    """
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
            **({} if temperature is None else {"temperature": temperature}),
            **({} if thresholds is None else {"thresholds": list(thresholds)}),
            **_trained_with(temporary, trained_with),
            **timm_keys(model.config, preprocess, classes),
        }
        write_json(temporary / "config.json", config)
        write_text_atomic(temporary / "README.md", _card(model.config, preprocess, classes, provenance))
    return digest


def _trained_with(folder: Path, parts: TrainedWith | None) -> dict[str, Any]:
    if parts is None:
        return {}
    write_safetensors(folder / BESIDE, parts.state, {"format": "pt"})
    return {"trained_with": {"objective": to_json(parts.objective), "sha256": _sha256(folder / BESIDE)}}


def _read_trained_with(folder: Path, model: ModelConfig, said: Any) -> TrainedWith | None:
    if said is None:
        return None
    file = folder / BESIDE
    if not isinstance(said, dict) or not file.is_file() or _sha256(file) != said.get("sha256"):
        raise BadInput(f"{file} is not the file this bundle was written with: copy the folder again")
    try:
        objective: MaskedObjective = from_json(MaskedObjective, said.get("objective"), "trained_with.objective")
    except BadInput as problem:
        raise BadInput(f"{folder / 'config.json'}: {problem}") from None
    parts = TrainedWith(objective, read_safetensors(file))
    check_trained_with(model, parts, file)
    return parts


def read_bundle(folder: Path) -> PretrainedModel:
    """Reads a bundle and checks it: the hash, the names and shapes of the weights, and that they are finite.

    Raises:
        BadInput: a file is missing or altered, or the config is not of this version.
    """
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or "model" not in config:
        raise BadInput(f"{folder} is no vitrail bundle: its config.json has no key 'model'")
    if config.get("format") != FORMAT:
        raise BadInput(f"{folder} is a bundle of format {config.get('format')!r}; this vitrail reads format {FORMAT}")
    try:
        model: ModelConfig = from_json(ModelConfig, config["model"], "model")
        preprocess = from_json(Preprocess, config.get("preprocess"), "preprocess")
    except BadInput as problem:
        raise BadInput(f"{folder / 'config.json'}: {problem}") from None
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
    said = config.get("provenance")
    provenance = said if isinstance(said, dict) else {}
    how = provenance.get(RESAMPLED, "bilinear")
    if how not in get_args(Interpolation):
        raise BadInput(f"{folder}: {RESAMPLED} is {how!r}, expected one of {', '.join(get_args(Interpolation))}")
    temperature = _temperature(folder, config.get("temperature"))
    thresholds = _thresholds(folder, config.get("thresholds"), len(classes))
    beside = _read_trained_with(folder, model, config.get("trained_with"))
    return PretrainedModel(
        model,
        state,
        preprocess,
        classes,
        provenance,
        interpolation=how,
        temperature=temperature,
        thresholds=thresholds,
        trained_with=beside,
    )


def _thresholds(folder: Path, stored: Any, classes: int) -> tuple[float, ...] | None:
    if stored is None:
        return None
    numbers = isinstance(stored, list) and all(type(one) in (int, float) and 0 <= one <= 1 for one in stored)
    if not numbers or len(stored) != classes:
        raise BadInput(f"{folder}: the thresholds in config.json are {stored!r}, expected {classes} from 0 to 1")
    return tuple(map(float, stored))


def _temperature(folder: Path, stored: Any) -> float | None:
    if stored is None:
        return None
    if isinstance(stored, bool) or not isinstance(stored, int | float) or not isfinite(stored) or stored <= 0:
        raise BadInput(f"{folder}: the temperature in config.json is {stored!r}, expected a number above 0")
    return float(stored)


def bundle_of(source: str | Path) -> Path:
    """The folder of a bundle: `source` itself, or the bundle of a run.

    Raises:
        BadInput: a model that is no bundle, or none of this machine.
    """
    if is_remote(str(source)):
        raise BadInput(
            f"{source} is no bundle of this machine, and only such a one can keep a temperature: copy it here"
        )
    for folder in (Path(source), Path(source) / "bundle"):
        if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
            config = read_json(folder / "config.json")
            if isinstance(config, dict) and "model" in config:
                return folder
    raise BadInput(
        f"{source} is no bundle, and only a bundle can keep a temperature: `vitrail convert` makes one of it"
    )


def store_temperature(folder: Path, temperature: float, fitted: dict[str, Any]) -> None:
    """Writes a temperature into the bundle in `folder`, and into its provenance on what it was fitted."""
    config = read_json(folder / "config.json")
    said = config.get("provenance")
    provenance = said if isinstance(said, dict) else {}
    changed = {"temperature": temperature, "provenance": {**provenance, "temperature_fitted": fitted}}
    write_json(folder / "config.json", {**config, **changed})


def store_thresholds(folder: Path, thresholds: tuple[float, ...], chosen: dict[str, Any]) -> None:
    """Writes thresholds into the bundle in `folder`, and into its provenance on what they were chosen."""
    config = read_json(folder / "config.json")
    said = config.get("provenance")
    provenance = said if isinstance(said, dict) else {}
    changed = {"thresholds": list(thresholds), "provenance": {**provenance, "thresholds_chosen": chosen}}
    write_json(folder / "config.json", {**config, **changed})


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _card(config: ModelConfig, preprocess: Preprocess, classes: tuple[str, ...], provenance: dict[str, Any]) -> str:
    shown = ", ".join(classes[:20]) + (f", … ({len(classes)} in all)" if len(classes) > 20 else "")
    facts = "\n".join(
        f"| {key} | {value} |" for key, value in provenance.items() if not isinstance(value, (dict, list))
    )
    crop, (height, width) = preprocess.resize, preprocess.resolution
    resize = (
        f"the middle {crop.share:.1%} of the shorter side" if isinstance(crop, CentreCrop) else "both sides resized"
    )
    return f"""---
tags:
- image-classification
- vision-transformer
library_name: vitrail
---
# {_kind(config)}

{parameters(config):,} parameters: {_sizes(config)}.

**Input:** {"grey" if config.channels == 1 else "RGB"} images of {height} x {width} pixels, {resize}, scaled by mean
{preprocess.mean} and deviation {preprocess.std} of pixels in 0…1.

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


def _kind(config: ModelConfig) -> str:
    if isinstance(config, ResNetConfig):
        return "An axial ResNet" if config.axial_heads else "A BiT ResNet"
    return "A hybrid Vision Transformer" if config.backbone else "A Vision Transformer"


def _sizes(config: ModelConfig) -> str:
    if isinstance(config, ResNetConfig):
        return f"stages of {config.stages.units} units, {config.stages.channels} channels at the end"
    under = f" of the feature map of a ResNet with stages {config.backbone.units}" if config.backbone else " pixels"
    pool = {
        "ClassToken": "class token",
        "AveragePool": "average pooling",
        "AttentionPool": "attention pooling",
        "TokenAndAverage": "class token and average",
        "TokenAndDistilled": "class token and distillation token",
    }[type(config.pool).__name__]
    return (
        f"{config.depth} layers of width {config.width} with {config.heads} heads, MLP {config.mlp}, "
        f"patches of {config.patch} x {config.patch}{under}, {pool}"
    )
