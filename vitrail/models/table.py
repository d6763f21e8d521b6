"""The named models as rows: sizes and cost."""

from dataclasses import replace
from typing import Any

from vitrail.models.build import as_size
from vitrail.models.cost import multiply_adds, parameters
from vitrail.models.variants import NAMES, variant


def names() -> tuple[str, ...]:
    """All named variants."""
    return NAMES


def describe(name: str, resolution: int, num_classes: int) -> dict[str, Any]:
    """Sizes, parameters and multiply-adds of one forward pass; raises BadInput for an unknown name."""
    config = replace(variant(name), resolution=as_size(resolution), num_classes=num_classes)
    config.check()
    return {
        "name": name,
        "depth": config.depth,
        "width": config.width,
        "heads": config.heads,
        "mlp": config.mlp,
        "patch": config.patch,
        "tokens": config.tokens,
        "parameters": parameters(config),
        "macs": multiply_adds(config),
    }
