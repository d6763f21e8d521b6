"""Any MODEL by its name: what kind of file or folder it is, and the model that is in it."""

from dataclasses import replace
from pathlib import Path

import torch

from vitrail.core.errors import BadInput
from vitrail.data.views import Preprocess
from vitrail.models.build import Model, as_size
from vitrail.weights.bundle import Published, read_bundle
from vitrail.weights.npz import read_vit_npz
from vitrail.weights.transplant import for_transfer, transplant


def read_published(source: str | Path) -> Published:
    """What a MODEL holds: a bundle, or an official ViT `.npz`. A run folder stands for the bundle in it.

    Raises:
        BadInput: nothing there, or of a kind that is not read; the message says which kinds are.
    """
    path = Path(source)
    if not path.exists():
        raise BadInput(f"no such model: {str(source)!r}; expected a bundle (a folder) or an .npz file")
    if path.is_dir():
        if not (path / "model.safetensors").exists() and (path / "bundle").is_dir():
            path = path / "bundle"
        elif not (path / "config.json").exists():
            raise BadInput(f"{path} is no model: a bundle holds config.json and model.safetensors")
        elif (path / "metrics.jsonl").exists():
            raise BadInput(f"{path} is a run that has not written its bundle yet: finish it first")
        return read_bundle(path)
    if path.suffix == ".npz":
        return read_vit_npz(path)
    raise BadInput(f"{path} is a {path.suffix or 'file'}; expected a bundle (a folder) or an .npz file")


def load(
    source: str | Path,
    *,
    resolution: int | tuple[int, int] | None = None,
    num_classes: int | None = None,
    device: str | torch.device = "cpu",
) -> Model:
    """A model in evaluation mode with what travels with it: `model.config`, `model.preprocess`, `model.classes`.

    Args:
        source: a bundle, a run folder, or an official `.npz`.
        resolution: pixels to read, if other than those of the source: positions are resampled.
        num_classes: gives the model a new classifier that starts at zero, and drops the hidden layer.
    """
    published = read_published(source)
    size = as_size(resolution) if resolution is not None else published.config.resolution
    new_head = num_classes is not None
    if num_classes is not None:
        config = for_transfer(published, num_classes, size)
    else:
        config = replace(published.config, resolution=size)
    model, _ = transplant(published, config, new_head)
    preprocess = published.preprocess or Preprocess(size)
    classes = None if new_head else published.classes
    return attach(model, replace(preprocess, resolution=size), classes).to(device).eval()


def attach(model: Model, preprocess: Preprocess, classes: tuple[str, ...] | None) -> Model:
    """Gives a model what travels with it; classes without names are numbered."""
    model.preprocess = preprocess  # plain attributes: they are not weights
    model.classes = classes or tuple(str(i) for i in range(model.config.num_classes))
    return model
