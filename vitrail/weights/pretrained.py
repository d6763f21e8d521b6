"""What a file holds, whatever its layout: weights by our names, the architecture, and what travels with them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.build import Model, ModelConfig, build
from vitrail.models.cost import parameters
from vitrail.models.initialise import on_meta
from vitrail.models.mae import MAE
from vitrail.models.objective import MaskedObjective, learner, own_parts
from vitrail.models.resample import Interpolation
from vitrail.models.vit import ViT, ViTConfig
from vitrail.weights.tensors import refuse_not_finite

MAX_SIDE = 16_384  # pixels of a file's resolution; the memory of everything later grows with it


@dataclass(frozen=True)
class TrainedWith:
    """What a model was trained with and does not need itself: MAE's decoder, the head of masked patches."""

    objective: MaskedObjective
    state: dict[str, Tensor]  # of the learner, without its encoder


@dataclass(frozen=True)
class PretrainedModel:
    """A model as it lay in a file or folder."""

    config: ModelConfig
    state: dict[str, Tensor]
    preprocess: Preprocess  # the file's; where it does not say, what its authors do (weights.assumed)
    classes: tuple[str, ...] | None  # None: the file does not say
    provenance: dict[str, Any] = field(default_factory=dict)
    left_over: tuple[str, ...] = ()  # names in the file that are no part of the model
    interpolation: Interpolation = "bilinear"  # of its positions at another grid, as its authors do
    assumed: tuple[str, ...] = ()  # sentences for people: what the file does not say, or cannot mean here
    temperature: float | None = None  # that its logits are divided by for calibrated probabilities
    thresholds: tuple[float, ...] | None = None  # of a model of several classes an image; None: one class
    trained_with: TrainedWith | None = None  # what a masked objective left beside it


def check_state(config: ModelConfig, state: dict[str, Tensor], source: Path) -> None:
    """Raises BadInput unless `state` has exactly the names and shapes of a model of `config`, all finite."""
    try:
        config.check()
    except BadInput as problem:
        raise BadInput(f"{source}: {problem}") from None
    if max(config.resolution) > MAX_SIDE:
        raise BadInput(f"{source}: a resolution of {config.resolution} pixels; up to {MAX_SIDE} a side are read")
    if isinstance(config, ViTConfig):
        layers = config.depth + (sum(config.backbone.units) if config.backbone else 0)
    else:
        layers = sum(config.stages.units)
    if layers > len(state):  # each has several; building a million empty layers takes an hour
        raise BadInput(f"{source}: the config asks for {layers:,} layers, the file holds {len(state):,} tensors")
    asked, held = parameters(config), sum(tensor.numel() for tensor in state.values())
    if asked > 2 * held + 1_000_000:  # before anything of that size is built
        raise BadInput(f"{source}: the config asks for {asked:,} parameters, the file holds {held:,}")
    try:
        with on_meta():
            expected = {name: tuple(t.shape) for name, t in build(config).state_dict().items()}
    except (ValueError, RuntimeError, TypeError) as problem:
        raise BadInput(f"{source}: no model can be built as its config says: {problem}") from None
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or extra:
        lacks = f"lacks {missing[0]!r} and {len(missing) - 1} more" if missing else f"has an unknown {extra[0]!r}"
        raise BadInput(f"{source}: the weights do not fit the architecture: the file {lacks}")
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            raise BadInput(f"{source}: {name!r} has the shape {tuple(state[name].shape)}, expected {shape}")
    refuse_not_finite(state, source)


def check_trained_with(config: ModelConfig, with_: TrainedWith, source: Path) -> None:
    """Raises BadInput unless the parts have exactly the names and shapes that their objective needs, all finite."""
    try:
        if not isinstance(config, ViTConfig):
            raise BadInput("only a ViT is trained with a masked objective")
        with_.objective.check(config)
        _check_size(with_)
        with on_meta():
            built = build(config)
            assert isinstance(built, ViT)
            expected = own_parts(learner(built, with_.objective))
    except BadInput as problem:
        raise BadInput(f"{source}: {problem}") from None
    for name in sorted(expected.keys() | with_.state.keys()):
        ours, theirs = (tuple(s[name].shape) if name in s else None for s in (expected, with_.state))
        if ours != theirs:
            raise BadInput(f"{source}: {name!r} of what it was trained with has the shape {theirs}, expected {ours}")
    refuse_not_finite(with_.state, source)


def _check_size(with_: TrainedWith) -> None:
    """Raises BadInput before a decoder is built that is far larger than what the file holds."""
    objective, state = with_.objective, with_.state
    if not isinstance(objective, MAE):
        return
    depth, width = objective.decoder_depth, objective.decoder_width
    if depth > len(state):
        raise BadInput(f"the config asks for a decoder of {depth:,} layers, the file holds {len(state):,} tensors")
    asked, held = depth * width * (4 * width + 2 * objective.decoder_mlp), sum(t.numel() for t in state.values())
    if asked > 2 * held + 1_000_000:
        raise BadInput(f"the config asks for a decoder of {asked:,} parameters, the file holds {held:,}")


def unusable_classifier(model: Model) -> str | None:
    """A sentence when a classifier was never meant to be used: one of zeros, or that of an original ImageNet-21k file.

    The released `imagenet21k/*.npz` keep the hidden layer and 21,843 classes, and their classifier is not valid.
    """
    weight = next((p for name, p in model.named_parameters() if name in ("head.weight", "head.fc.weight")), None)
    if weight is None:
        return None
    if not weight.any():
        return "its classifier is zero, so all classes are equally likely: fine-tune it first"
    config = model.config
    if isinstance(config, ViTConfig) and config.hidden and config.num_classes == 21_843:
        return "the classifiers of the original ImageNet-21k files are not valid: use this model for transfer only"
    return None
