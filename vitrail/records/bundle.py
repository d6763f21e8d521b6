"""A bundle: a folder that is a model and needs nothing else (`bundle/` of a run, `vitrail convert --to bundle`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitrail.records.record import Files, Record, optional


@dataclass(frozen=True, kw_only=True)
class BundleConfig(Record):
    """What rebuilds the model. The file has timm's own keys, too, so that timm reads the folder."""

    format: int
    model: Mapping[str, Any]  # config of the model; its type under "type"
    preprocess: Mapping[str, Any]  # resolution, resize, mean and standard deviation
    classes: Sequence[str]  # names, in the order of the logits
    provenance: Mapping[str, Any]  # job, recipe, data it was trained on, steps, versions
    weights_sha256: str
    temperature: float | None = optional()  # by which logits are divided before they become probabilities
    thresholds: Sequence[float] | None = (
        optional()
    )  # (several classes an image) the probability from which on each class is answered


FILES: Files = {
    "config.json": BundleConfig,
    "model.safetensors": "the weights",
    "README.md": "the same for people",
}
