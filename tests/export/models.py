"""Bundles of a millisecond, to be exported."""

from pathlib import Path

from tests.models.small import lively, vit
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess, Resize
from vitrail.models.build import ModelConfig
from vitrail.weights.bundle import save_bundle

CLASSES = tuple("abcde")


def bundle(
    folder: Path,
    config: ModelConfig | None = None,
    *,
    resize: Resize = CentreCrop(),
    temperature: float | None = 1.7,
    seed: int = 0,
) -> Path:
    """A saved model with a view of its own."""
    config = config or vit(depth=2)
    grey = getattr(config, "channels", 3) == 1
    scale = ((0.4,), (0.3,)) if grey else ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    preprocess = Preprocess(config.resolution, resize, *scale)
    classes = CLASSES if config.num_classes else ()
    save_bundle(folder, lively(config, seed), preprocess, classes, {}, temperature if classes else None)
    return folder
