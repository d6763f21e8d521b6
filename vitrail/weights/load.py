"""Any MODEL by its name: what kind of file or folder it is, and the model that is in it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.core.dist import launched
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.core.object_store import is_remote
from vitrail.core.progress import say
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.build import Model, ModelConfig, as_size
from vitrail.models.variants import variant
from vitrail.weights.adapters import CONFIG, read_adapter
from vitrail.weights.bit import read_bit
from vitrail.weights.bundle import read_bundle
from vitrail.weights.google import read_google
from vitrail.weights.hub import PREFIX, fetch
from vitrail.weights.huggingface import KINDS, as_saved, read_huggingface
from vitrail.weights.mae import with_decoder, with_metas_decoder
from vitrail.weights.pretrained import PretrainedModel
from vitrail.weights.state_dict import Weights, find_weights, without_prefix
from vitrail.weights.stored_model import fetch_model
from vitrail.weights.tensors import as_tensors, read_npz, read_safetensors, read_sharded, refuse_stand_ins
from vitrail.weights.timm import read_timm
from vitrail.weights.torch_file import bounded, is_torch_file, read_torch
from vitrail.weights.torchvision import read_torchvision
from vitrail.weights.transplant import for_transfer, transplant

EXPECTED = (
    "a bundle, a timm or transformers folder, an .npz (Google's ViT, big_vision, BiT), a .safetensors or .pth state "
    "dict or training checkpoint, hf://owner/name, or the address of one in an object store"
)


def read_pretrained(
    source: str | Path, *, resolution: int | tuple[int, int] | None = None, model: str | None = None
) -> PretrainedModel:
    """What a MODEL holds, its kind recognised from the file. A run folder stands for the bundle in it.

    What the file does not say and had to be assumed is said on standard error.

    Args:
        source: a bundle, a run, an `.npz`, a timm or transformers folder, a state dict, `hf://owner/name[@revision]`,
            or the address of one in an object store, which is asked each time whether it is another one now.
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
    if is_remote(str(source)):
        return _stored(str(source), resolution, model)
    path = Path(source)
    if not path.exists():
        raise BadInput(f"no such model: {str(source)!r}; expected {EXPECTED}")
    return _folder(path, size, named) if path.is_dir() else _file(path, size, named)


def _stored(address: str, resolution: int | tuple[int, int] | None, model: str | None) -> PretrainedModel:
    path = fetch_model(address)
    try:
        found = read_silently(path, resolution=resolution, model=model)
    except BadInput as problem:
        raise BadInput(str(problem).replace(str(path), address)) from None
    return replace(found, provenance={**found.provenance, "source": address})


def _folder(path: Path, size: tuple[int, int] | None, named: ModelConfig | None) -> PretrainedModel:
    if (path / CONFIG).exists():
        return _adapted(path, size, named)
    if not (path / "model.safetensors").exists() and (path / "bundle").is_dir():
        path = path / "bundle"
    elif (path / "metrics.jsonl").exists():
        raise BadInput(f"{path} is a run that has not written its bundle yet: finish it first")
    if not (path / "config.json").exists():
        files = [file for file in sorted(path.glob("*.npz")) if file.is_file()]
        if len(files) == 1:
            return _file(files[0], size, named)
        inside = sorted(p.parent for p in path.glob("*/config.json") if _describes_a_model(p))
        hint = f"; name a folder in it, as {inside[-1]}" if inside else f". Expected {EXPECTED}"
        raise BadInput(f"{path} is no model: it has no config.json{hint}")
    about = read_json(path / "config.json")
    if not isinstance(about, dict):
        raise BadInput(f"{path / 'config.json'} holds no object")
    if "model" in about:
        return read_bundle(path)
    if about.get("model_type") == "timm_wrapper":
        return _as_timm(_weights(path), path, about, size, named)
    if "model_type" in about:
        found = _weights(path)
        made = with_decoder(read_huggingface(found.tensors, path, about), found.tensors, path, about)
        return _with_what_lay_beside(made, found)
    if "architecture" in about:
        return _as_timm(_weights(path), path, about, size, named)
    raise BadInput(
        f"{path / 'config.json'} has neither 'model' (a bundle), 'architecture' (timm) nor 'model_type' (transformers)"
    )


def _adapted(path: Path, size: tuple[int, int] | None, named: ModelConfig | None) -> PretrainedModel:
    """The model of an adapter, with the adapter in it.

    A classifier that was trained with it has other classes than the model's, whose names stand in no file of peft.
    """
    if any((path / name).exists() for name in _READERS):
        raise BadInput(f"{path} holds an adapter and a whole model: remove what is not meant")
    adapter = read_adapter(
        path, lambda file: read_safetensors(file) if file.suffix == ".safetensors" else _torch_shard(file)
    )
    base = adapter.base_folder()
    own = path / "config.json"
    about = read_json(own if own.exists() else base / "config.json") if (base / "config.json").exists() else None
    if not isinstance(about, dict) or not about.keys() & {"model_type", "architecture"}:
        raise BadInput(f"{path}: the adapter's model {base} is no folder of transformers or timm")
    found = _weights(base)
    kind: Any = about.get("model_type")
    rename: Callable[[str], str] = partial(as_saved, kind=kind) if kind in KINDS else str
    own_names = {rename(name): tensor for name, tensor in found.tensors.items()}
    merged = adapter.merged(own_names, rename)
    said: tuple[str, ...] = (f"the adapter is merged into its model {adapter.base}",)
    if not own.exists() and any(
        merged[n] is not own_names.get(n) for n in merged if n.startswith(("classifier.", "head."))
    ):
        about = {name: value for name, value in about.items() if name not in ("id2label", "label2id", "num_labels")}
        said += ("its classifier is the adapter's, whose classes peft does not name",)
    found = replace(found, tensors=merged, said=(*said, *found.said))
    if "architecture" in about:
        return _as_timm(found, path, about, size, named)
    seen = path if (path / "preprocessor_config.json").exists() else base
    return _with_what_lay_beside(read_huggingface(found.tensors, seen, about), found)


def _safetensors(path: Path) -> Weights:
    return without_prefix(read_safetensors(path), path)


def _torch(path: Path) -> Weights:
    found = find_weights(read_torch(path), path)
    bounded(found.tensors, path.stat().st_size, path)
    return found


def _torch_shard(path: Path) -> dict[str, Tensor]:
    loaded = read_torch(path)
    tensors = {n: t for n, t in loaded.items() if isinstance(t, Tensor)} if isinstance(loaded, dict) else {}
    return bounded(tensors, path.stat().st_size, path)


_READERS: dict[str, Callable[[Path], Weights]] = {
    "model.safetensors": _safetensors,
    "model.safetensors.index.json": lambda path: without_prefix(read_sharded(path), path),
    "pytorch_model.bin": _torch,
    "pytorch_model.bin.index.json": lambda path: without_prefix(read_sharded(path, _torch_shard), path),
    "model.pth": _torch,
}


def _weights(folder: Path) -> Weights:
    """The weights of a folder; where it has two files of them they must be the same."""
    found = [name for name in _READERS if (folder / name).exists()]
    if not found:
        raise BadInput(f"{folder} has a config.json and no weights: model.safetensors is missing")
    for name in found:
        refuse_stand_ins(folder / name)
    first = _READERS[found[0]](folder / found[0])
    for name in found[1:]:
        other = _READERS[name](folder / name).tensors
        same = other.keys() == first.tensors.keys() and all(torch.equal(t, other[n]) for n, t in first.tensors.items())
        if not same:
            raise BadInput(f"{folder}: {found[0]} and {name} hold different weights: remove the one that is not meant")
    return first


def _file(path: Path, size: tuple[int, int] | None, named: ModelConfig | None) -> PretrainedModel:
    refuse_stand_ins(path)
    if path.name in _READERS and _describes_a_model(path.parent / "config.json"):
        return _folder(path.parent, size, named)  # what lies beside it says what shapes cannot
    if path.suffix == ".npz":
        tensors = as_tensors(read_npz(path), path)
        return read_bit(tensors, path, size) if _is_bit(tensors) else read_google(tensors, path, size)
    if path.suffix == ".safetensors":
        found = _safetensors(path)
    elif path.suffix in (".pth", ".pt", ".bin", ".ckpt") or is_torch_file(path):
        found = _torch(path)
    elif _is_safetensors(path):
        found = _safetensors(path)
    else:
        raise BadInput(f"{path} is a {path.suffix or 'file'}; expected {EXPECTED}")
    if any("embeddings.patch_embeddings.projection" in name for name in found.tensors):
        raise BadInput(f"{path} are weights of transformers without their config.json: give the folder")
    return _as_timm(found, path, {}, size, named)


def _as_timm(
    found: Weights, path: Path, about: Mapping[str, Any], size: tuple[int, int] | None, named: ModelConfig | None
) -> PretrainedModel:
    """By timm's names or torchvision's, with what was said while the weights were looked for."""
    torchvision = "conv_proj.weight" in found.tensors
    made = (read_torchvision if torchvision else read_timm)(found.tensors, path, about, size, named)
    return _with_what_lay_beside(with_metas_decoder(made, found.tensors, path), found)


def _with_what_lay_beside(made: PretrainedModel, found: Weights) -> PretrainedModel:
    """What was seen while the weights were looked for; names of classes beside them where nothing else names any."""
    said, names, count = found.said, found.classes, made.config.num_classes
    if names and count and made.classes is None:
        if fit := len(names) == count:
            made = replace(made, classes=names)
        said += (
            f"beside its weights {len(names)} classes are named{', and used' if fit else f', not {count}: not used'}",
        )
    return replace(made, left_over=(*made.left_over, *found.left_over), assumed=(*said, *made.assumed))


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins with the length of a header, and the header."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


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
    """A model in evaluation mode with what travels with it: `model.config`, `.preprocess`, `.classes`, `.temperature`,
    and `.thresholds` where it answers several classes an image.

    Args:
        source: a bundle, a run folder, an official `.npz`, a timm or transformers folder, a state dict, `hf://...`, `s3://...`.
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
    size = as_size(resolution) if resolution is not None else published.preprocess.resolution
    new_head = num_classes is not None
    if num_classes is not None:
        config = for_transfer(published, num_classes, size)
    else:
        config = replace(published.config, resolution=size)
    made, _ = transplant(published, config, new_head)
    classes = None if new_head else published.classes
    # a temperature belongs to the classifier and the resolution that it was fitted at
    temperature = None if new_head or size != published.preprocess.resolution else published.temperature
    thresholds = None if new_head else published.thresholds
    return attach(made, replace(published.preprocess, resolution=size), classes, temperature, thresholds)


def attach(
    model: Model,
    preprocess: Preprocess,
    classes: tuple[str, ...] | None,
    temperature: float | None = None,
    thresholds: tuple[float, ...] | None = None,
) -> Model:
    """Gives a model what travels with it; classes without names are numbered."""
    model.preprocess = preprocess  # plain attributes: they are not weights
    model.classes = classes or tuple(str(i) for i in range(model.config.num_classes))
    model.temperature, model.thresholds = temperature, thresholds
    return model
