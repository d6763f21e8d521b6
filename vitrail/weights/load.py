"""Any MODEL by its name: what kind of file or folder it is, and the model that is in it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.core.dist import launched
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.core.progress import say
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.build import Model, ModelConfig, as_size
from vitrail.models.variants import variant
from vitrail.weights.bit import read_bit
from vitrail.weights.bundle import read_bundle
from vitrail.weights.google import read_google
from vitrail.weights.hub import PREFIX, fetch
from vitrail.weights.huggingface import read_huggingface
from vitrail.weights.pretrained import PretrainedModel
from vitrail.weights.tensors import as_tensors, read_npz, read_pth, read_safetensors, read_sharded
from vitrail.weights.timm import read_timm
from vitrail.weights.transplant import for_transfer, transplant

EXPECTED = (
    "a bundle, a timm or transformers folder, an .npz (Google's ViT, big_vision, BiT), a .safetensors or .pth state "
    "dict, or hf://owner/name"
)


def read_pretrained(
    source: str | Path, *, resolution: int | tuple[int, int] | None = None, model: str | None = None
) -> PretrainedModel:
    """What a MODEL holds, its kind recognised from the file. A run folder stands for the bundle in it.

    What the file does not say and had to be assumed is said on standard error.

    Args:
        source: a bundle, a run, an `.npz`, a timm or transformers folder, a state dict, or `hf://owner/name[@revision]`.
        resolution: what it was trained at, for the few files that do not say it.
        model: the name of a variant ("S/16") that has as many heads, for the state dicts that do not say it.

    Raises:
        BadInput: nothing there, or of a kind that is not read; the message says which kinds are.
    """
    published = read_silently(source, resolution=resolution, model=model)
    if launched().first:
        for sentence in published.assumed:
            say(f"{source}: {sentence}")
    return published


def read_silently(
    source: str | Path, *, resolution: int | tuple[int, int] | None = None, model: str | None = None
) -> PretrainedModel:
    """`read_pretrained`, which says nothing."""
    size = as_size(resolution) if resolution is not None else None
    named = variant(model) if model is not None else None
    if str(source).startswith(PREFIX):
        found = _folder(fetch(str(source)), size, named)
        return replace(found, provenance={**found.provenance, "source": str(source)})
    path = Path(source)
    if not path.exists():
        raise BadInput(f"no such model: {str(source)!r}; expected {EXPECTED}")
    return _folder(path, size, named) if path.is_dir() else _file(path, size, named)


def _folder(path: Path, size: tuple[int, int] | None, named: ModelConfig | None) -> PretrainedModel:
    if not (path / "model.safetensors").exists() and (path / "bundle").is_dir():
        path = path / "bundle"
    elif (path / "metrics.jsonl").exists():
        raise BadInput(f"{path} is a run that has not written its bundle yet: finish it first")
    if not (path / "config.json").exists():
        files = [file for file in sorted(path.glob("*.npz")) if file.is_file()]
        if len(files) == 1:
            return _file(files[0], size, named)
        raise BadInput(f"{path} is no model: it has no config.json. Expected {EXPECTED}")
    about = read_json(path / "config.json")
    if not isinstance(about, dict):
        raise BadInput(f"{path / 'config.json'} holds no object")
    if "model" in about:
        return read_bundle(path)
    if "model_type" in about:
        return read_huggingface(_weights(path), path, about)
    if "architecture" in about:
        return read_timm(_weights(path), path, about, size, named)
    raise BadInput(
        f"{path / 'config.json'} has neither 'model' (a bundle), 'architecture' (timm) nor 'model_type' (transformers)"
    )


_READERS = {
    "model.safetensors": read_safetensors,
    "model.safetensors.index.json": read_sharded,
    "pytorch_model.bin": read_pth,
    "model.pth": read_pth,
}


def _weights(folder: Path) -> dict[str, Tensor]:
    for name, read in _READERS.items():
        if (folder / name).exists():
            return read(folder / name)
    raise BadInput(f"{folder} has a config.json and no weights: model.safetensors is missing")


def _file(path: Path, size: tuple[int, int] | None, named: ModelConfig | None) -> PretrainedModel:
    if path.name in _READERS and _describes_a_model(path.parent / "config.json"):
        return _folder(path.parent, size, named)  # what lies beside it says what shapes cannot
    match path.suffix:
        case ".npz":
            tensors = as_tensors(read_npz(path), path)
            return read_bit(tensors, path, size) if _is_bit(tensors) else read_google(tensors, path, size)
        case ".safetensors":
            tensors = read_safetensors(path)
        case ".pth" | ".pt" | ".bin":
            tensors = read_pth(path)
        case other:
            raise BadInput(f"{path} is a {other or 'file'}; expected {EXPECTED}")
    if any("embeddings.patch_embeddings.projection" in name for name in tensors):
        raise BadInput(f"{path} are weights of transformers without their config.json: give the folder")
    return read_timm(tensors, path, {}, size, named)


def _describes_a_model(config: Path) -> bool:
    """A run has a config.json too."""
    about = read_json(config) if config.exists() else None
    return isinstance(about, dict) and not about.keys().isdisjoint(("model", "model_type", "architecture"))


def _is_bit(tensors: Mapping[str, Any]) -> bool:
    return any(name.startswith("resnet/") for name in tensors)


def load(
    source: str | Path,
    *,
    resolution: int | tuple[int, int] | None = None,
    num_classes: int | None = None,
    device: str | torch.device = "cpu",
    model: str | None = None,
) -> Model:
    """A model in evaluation mode with what travels with it: `model.config`, `.preprocess`, `.classes`, `.temperature`.

    Args:
        source: a bundle, a run folder, an official `.npz`, a timm or transformers folder, a state dict, `hf://...`.
        resolution: pixels to read, if other than those of the source: positions are resampled.
        num_classes: gives the model a new classifier that starts at zero, and drops the hidden layer.
        model: the name of a variant with as many heads, for the state dicts that do not say how many they have.
    """
    published = read_pretrained(source, resolution=resolution, model=model)
    return model_of(published, resolution, num_classes).to(device).eval()


def model_of(
    published: PretrainedModel, resolution: int | tuple[int, int] | None = None, num_classes: int | None = None
) -> Model:
    """The model that a file held, at another resolution or with a new classifier where they are given."""
    size = as_size(resolution) if resolution is not None else published.config.resolution
    new_head = num_classes is not None
    if num_classes is not None:
        config = for_transfer(published, num_classes, size)
    else:
        config = replace(published.config, resolution=size)
    made, _ = transplant(published, config, new_head)
    classes = None if new_head else published.classes
    # a temperature belongs to the classifier and the resolution that it was fitted at
    temperature = None if new_head or size != published.config.resolution else published.temperature
    return attach(made, replace(published.preprocess, resolution=size), classes, temperature)


def attach(
    model: Model, preprocess: Preprocess, classes: tuple[str, ...] | None, temperature: float | None = None
) -> Model:
    """Gives a model what travels with it; classes without names are numbered."""
    model.preprocess = preprocess  # plain attributes: they are not weights
    model.classes = classes or tuple(str(i) for i in range(model.config.num_classes))
    model.temperature = temperature
    return model
