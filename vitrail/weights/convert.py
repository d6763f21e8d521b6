"""Any checkpoint to any layout; then it is loaded back, and its outputs are compared with those of the source."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from vitrail.core.config import difference
from vitrail.core.errors import BadInput, nearest
from vitrail.core.files import atomic_folder, write_json
from vitrail.core.temporary import refuse_existing, writing_alone
from vitrail.models.build import Model
from vitrail.models.mae import MAE
from vitrail.models.resnet import ResNetConfig
from vitrail.weights.bit import write_bit
from vitrail.weights.bundle import RESAMPLED, save_bundle
from vitrail.weights.google import write_google
from vitrail.weights.huggingface_write import write_huggingface, write_preprocess
from vitrail.weights.load import model_of, read_pretrained, read_silently
from vitrail.weights.mae import write_mae
from vitrail.weights.pretrained import PretrainedModel
from vitrail.weights.tensors import write_npz, write_safetensors
from vitrail.weights.timm_write import timm_keys, write_timm

Layout = Literal["bundle", "npz", "timm", "huggingface"]
TOLERANCE = 1e-4  # of logits and representation, relative to the largest
_IMAGES = 4


@dataclass(frozen=True)
class Conversion:
    """What a conversion did, and how far the copy is from the source."""

    source: str
    destination: str
    layout: Layout
    parameters: int
    tensors: int
    equal_tensors: int  # bit for bit, by our names
    difference: float  # largest of the logits, absolute
    relative: float  # largest of logits or representation, to the largest of the source
    tolerance: float
    changed: tuple[str, ...]  # what the layout cannot say: lines "gelu: 'exact' → 'tanh'"
    left_over: tuple[str, ...]  # names in the source that are no part of the model

    @property
    def agrees(self) -> bool:
        """Whether the copy computes what the source computes."""
        return self.relative <= self.tolerance


def convert(
    source: str | Path,
    destination: Path,
    layout: Layout,
    *,
    resolution: int | tuple[int, int] | None = None,
    model: str | None = None,
    tolerance: float = TOLERANCE,
) -> Conversion:
    """Writes `source` (any MODEL) to `destination` in a layout, loads it back, and compares outputs on fixed images.

    The representation is compared too, because a classifier that was never trained is zero and hides everything.

    Args:
        resolution: what the model was trained at, for the few files that do not say it.
        model: a variant with as many heads, for the state dicts that do not say it.

    Raises:
        BadInput: a source that cannot be read, a destination that exists, a model that the layout cannot hold, or a
            copy that cannot be read back, which is removed.
    """
    if layout not in get_args(Layout):
        raise BadInput(f"unknown layout {layout!r}{nearest(layout, get_args(Layout))}")
    refuse_existing(destination)
    if (destination.suffix == ".npz") != (layout == "npz"):
        wanted = "a file that ends in .npz" if layout == "npz" else "a folder, without .npz"
        raise BadInput(f"the layout {layout} is {wanted}, not {destination}")
    published = read_pretrained(source, resolution=resolution, model=model)
    size = published.config.resolution  # images may be made of another size: preprocess.resolution
    before = model_of(published, size).eval()
    before.preprocess, before.temperature = published.preprocess, published.temperature
    try:
        with writing_alone(destination):
            _WRITERS[layout](published, before, destination)
    except OSError as problem:
        raise BadInput(f"{destination} could not be written, and nothing of it is left: {problem}") from None
    back = _read_back(destination, published.config.resolution, model)
    after = model_of(back, size).eval()
    images = torch.randn(_IMAGES, published.config.channels, *size, generator=torch.Generator().manual_seed(0)).clamp(
        -1, 1
    )
    with torch.inference_mode():
        wanted, got = before(images), after(images)
    logits, representation = _apart(got.logits, wanted.logits), _apart(got.representation, wanted.representation)
    equal = sum(n in back.state and torch.equal(t, back.state[n]) for n, t in published.state.items())
    return Conversion(
        source=str(source),
        destination=str(destination),
        layout=layout,
        parameters=sum(tensor.numel() for tensor in published.state.values()),
        tensors=len(published.state),
        equal_tensors=equal,
        difference=logits[0],
        relative=max(logits[1], representation[1]),
        tolerance=tolerance,
        changed=_changed(published, back, before.classes == after.classes),
        left_over=published.left_over,
    )


def _apart(got: Tensor, wanted: Tensor) -> tuple[float, float]:
    """The largest difference, and relative to the largest number wanted; infinite for NaN or another shape."""
    if got.shape != wanted.shape:
        return float("inf"), float("inf")
    largest = float((got - wanted).abs().max().nan_to_num(nan=float("inf"), posinf=float("inf")))
    return largest, largest / max(float(wanted.abs().max()), 1e-30)


def _read_back(destination: Path, resolution: tuple[int, int], model: str | None) -> PretrainedModel:
    try:
        return read_silently(destination, resolution=resolution, model=model)
    except BadInput as problem:
        if destination.is_dir():
            shutil.rmtree(destination)
        else:
            destination.unlink()
        raise BadInput(f"the copy could not be read back and was removed: {problem}") from None


def _changed(published: PretrainedModel, back: PretrainedModel, same_names: bool) -> tuple[str, ...]:
    """What the copy says otherwise: the config, how images are prepared, how positions are resampled, class names."""
    lines = difference(published.config, back.config)
    lines += [f"preprocess.{line}" for line in difference(published.preprocess, back.preprocess)]
    if not isinstance(published.config, ResNetConfig) and published.interpolation != back.interpolation:
        lines.append(f"{RESAMPLED}: {published.interpolation!r} → {back.interpolation!r}")
    if published.thresholds != back.thresholds:
        lines.append("thresholds: the copy answers one class an image, the source several")
    if not same_names:
        names = "numbers" if back.classes is None else "others"
        lines.append(f"classes: {published.config.num_classes} names → {names}")
    return tuple(lines)


def _bundle(published: PretrainedModel, model: Model, destination: Path) -> None:
    provenance = published.provenance
    if not isinstance(model.config, ResNetConfig):
        provenance = {**provenance, RESAMPLED: published.interpolation}
    save_bundle(
        destination,
        model,
        model.preprocess,
        model.classes,
        provenance,
        published.temperature,
        published.thresholds,
        published.trained_with,
    )


def _npz(published: PretrainedModel, model: Model, destination: Path) -> None:
    config, state = published.config, published.state
    write_npz(
        destination, write_bit(config, state) if isinstance(config, ResNetConfig) else write_google(config, state)
    )


def _timm(published: PretrainedModel, model: Model, destination: Path) -> None:
    config, state = write_timm(published.config, published.state)
    with atomic_folder(destination) as temporary:
        write_safetensors(temporary / "model.safetensors", state, {"format": "pt"})
        write_json(temporary / "config.json", timm_keys(config, model.preprocess, model.classes))


def _huggingface(published: PretrainedModel, model: Model, destination: Path) -> None:
    beside = published.trained_with
    if beside is not None and isinstance(beside.objective, MAE) and not published.config.num_classes:
        tensors, about = write_mae(published.config, published.state, beside)
    else:
        tensors, about = write_huggingface(published.config, published.state, model.classes)
    with atomic_folder(destination) as temporary:
        write_safetensors(temporary / "model.safetensors", tensors, {"format": "pt"})
        write_json(temporary / "config.json", about)
        write_json(temporary / "preprocessor_config.json", write_preprocess(model.preprocess))


_WRITERS: dict[Layout, Callable[[PretrainedModel, Model, Path], None]] = {
    "bundle": _bundle,
    "npz": _npz,
    "timm": _timm,
    "huggingface": _huggingface,
}
