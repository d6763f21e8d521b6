"""Weights into a model with other classes, resolution, patches or pooling; says what became of each tensor."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.models.build import Model, ModelConfig, build
from vitrail.models.head import PoolConfig
from vitrail.models.initialise import on_meta
from vitrail.models.position import Learned1d, Learned2d, NoPosition, Relative, SinCos2d, has_class_entry
from vitrail.models.resample import resample_line, resample_patches, resample_relative, resample_table
from vitrail.models.resnet import ResNetConfig, Stages
from vitrail.models.vit import ViTConfig
from vitrail.records.run import MovedTensor, Transplant
from vitrail.weights.pretrained import PretrainedModel

Action = Literal["taken", "resampled", "new", "left out"]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """What happened to one tensor."""

    name: str
    action: Action
    source: Shape | None
    target: Shape | None


def transplant(published: PretrainedModel, config: ModelConfig, new_head: bool) -> tuple[Model, list[Row]]:
    """A model of `config` with every weight of `published` that fits it.

    Positions are resampled to the new grid as their authors do, the patch embedding to the new patch size. With
    `new_head` the classifier and the hidden layer before it are left out, and the new classifier starts at zero
    (appendix B.1.1).

    Raises:
        BadInput: an encoder of another size, or a classifier of other classes that was to be kept.
    """
    _same_encoder(published.config, config)
    config.check()
    with on_meta():
        new = build(config).state_dict()  # names and shapes, without memory
    old = {} if new_head else dict(published.state)
    if new_head:
        old = {n: t for n, t in published.state.items() if not n.startswith(("head.", "pre_logits."))}
    resampled = _resampled(published, config)
    rows, state = [], {}
    for name, target in new.items():
        source = old.get(name)
        shape = tuple(target.shape)
        if name in resampled:
            state[name] = resampled[name]
            known = None if source is None else tuple(source.shape)
            rows.append(Row(name, "new" if source is None else "resampled", known, shape))
        elif source is None or (name.startswith("pos_embed") and _computed_anew(published.config, config)):
            rows.append(Row(name, "new", None, shape))
        elif source.shape == target.shape:
            state[name] = source
            rows.append(Row(name, "taken", tuple(source.shape), shape))
        else:
            raise BadInput(f"{name!r} is {tuple(source.shape)} in the source and {shape} in the new model: {_ALLOWED}")
    used = {row.name for row in rows if row.action in ("taken", "resampled")}
    rows += [Row(name, "left out", tuple(t.shape), None) for name, t in published.state.items() if name not in used]
    return _filled(config, state, complete=state.keys() == new.keys()), rows


_ALLOWED = "only classes, resolution, patch size and pooling may differ"
_ENCODER = (
    "width",
    "depth",
    "heads",
    "mlp",
    "backbone",
    "gated",
    "qk_norm",
    "channels",
    "axial",
)  # heads have no shape of their own


def _same_encoder(old: ModelConfig, new: ModelConfig) -> None:
    """Raises BadInput for another encoder; constants such as eps may differ, they change no tensor."""
    if isinstance(old, ViTConfig) and isinstance(new, ViTConfig):
        parts = {name: (getattr(old, name), getattr(new, name)) for name in _ENCODER}
        parts["backbone"] = (_trunk(old.backbone), _trunk(new.backbone))
        parts["layer_scale"] = (old.layer_scale is not None, new.layer_scale is not None)
    elif isinstance(old, ResNetConfig) and isinstance(new, ResNetConfig):
        parts = {"stages": (_trunk(old.stages), _trunk(new.stages))}
        parts["axial_heads"] = (old.axial_heads, new.axial_heads)
    else:
        parts = {"kind": (type(old).__name__, type(new).__name__)}
    for name, (had, wanted) in parts.items():
        if had != wanted:
            raise BadInput(f"{name!r} is {had} in the source and {wanted} in the new model: {_ALLOWED}")


def _trunk(stages: Stages | None) -> tuple[tuple[int, ...], int, str] | None:
    return None if stages is None else (stages.units, stages.width, stages.order)


def _computed_anew(old: ModelConfig, new: ModelConfig) -> bool:
    """Positions of another kind start anew; fixed sines and cosines are computed for the grid, as officially."""
    fixed = isinstance(new, ViTConfig) and isinstance(new.position, SinCos2d) and not new.position.learned
    return not _same_kind(old, new) or (fixed and old.grid != new.grid)


def _same_kind(old: ModelConfig, new: ModelConfig) -> bool:
    """Whether a table of positions of the one means the same in the other."""
    if not isinstance(old, ViTConfig) or not isinstance(new, ViTConfig):
        return False
    match old.position, new.position:
        case ((Learned1d(where="stem") | SinCos2d()), (Learned1d(where="stem") | SinCos2d(learned=True))):
            return True
        case (Learned1d(a), Learned1d(b)) | (Learned2d(a), Learned2d(b)) | (Relative(a), Relative(b)):
            return a == b
        case (NoPosition(), NoPosition()) | (SinCos2d(), SinCos2d()):
            return True
    return False


def _resampled(published: PretrainedModel, new: ModelConfig) -> dict[str, Tensor]:
    """The tensors that change with the grid, the patch size or the class token's entry."""
    old, state, interpolation = published.config, published.state, published.interpolation
    if not isinstance(old, ViTConfig) or not isinstance(new, ViTConfig):
        return _axial_places(state, new)
    made: dict[str, Tensor] = {}
    if old.patch != new.patch:
        made["patch_embed.proj.weight"] = resample_patches(state["patch_embed.proj.weight"], new.patch)
    kept = isinstance(new.position, Relative) and not _computed_anew(old, new)
    if kept and old.num_prefix_tokens != new.num_prefix_tokens:
        raise BadInput("relative positions count the class token and registers: these cannot change")
    entries = (has_class_entry(old.position, old.class_token), has_class_entry(new.position, new.class_token))
    if _computed_anew(old, new) or (old.grid == new.grid and entries[0] == entries[1]):
        return made
    match new.position:
        case Learned1d() | SinCos2d():
            table = resample_table(state["pos_embed"], old.grid, new.grid, int(entries[0]), interpolation)
            made["pos_embed"] = torch.cat([_entry(table, entries), table[:, int(entries[0]) :]], dim=1)
        case Learned2d():
            made["pos_embed.x"] = resample_line(state["pos_embed.x"], new.grid[1], interpolation)
            made["pos_embed.y"] = resample_line(state["pos_embed.y"], new.grid[0], interpolation)
            if entries[1] and not entries[0]:
                made["pos_embed.token"] = torch.zeros(made["pos_embed.x"].shape[0], 1, new.width)
        case Relative():
            made["pos_embed"] = resample_relative(state["pos_embed"], old.grid, new.grid, interpolation)
    return {name: tensor for name, tensor in made.items() if tensor is not state.get(name)}  # same length: taken


def _axial_places(state: Mapping[str, Tensor], new: ModelConfig) -> dict[str, Tensor]:
    """The vectors of places of an axial ResNet, for lines of another length: differences, scaled with the line."""
    if not isinstance(new, ResNetConfig) or not new.axial_heads:
        return {}
    with on_meta():
        wanted = {name: len(tensor) for name, tensor in build(new).state_dict().items() if name.endswith(".relative")}
    return {
        name: resample_line(state[name][None], length)[0]
        for name, length in wanted.items()
        if len(state[name]) != length
    }


def _entry(table: Tensor, entries: tuple[bool, bool]) -> Tensor:
    """The class token's row in the new table: kept, or zero where there was none."""
    if not entries[1]:
        return table[:, :0]
    return table[:, :1] if entries[0] else torch.zeros_like(table[:, :1])


def _filled(config: ModelConfig, state: dict[str, Tensor], complete: bool) -> Model:
    """A model with these weights; only one that lacks some is initialised, which takes seconds for a large one."""
    with on_meta() if complete else nullcontext():
        model = build(config)
    model.load_state_dict({name: tensor.clone() for name, tensor in state.items()}, strict=complete, assign=True)
    for name, parameter in model.named_parameters():
        if name == "pos_embed" and isinstance(config, ViTConfig) and isinstance(config.position, SinCos2d):
            parameter.requires_grad_(config.position.learned)
    return model


def for_transfer(
    published: PretrainedModel,
    num_classes: int,
    resolution: tuple[int, int] | None,
    *,
    patch: int | None = None,
    pool: PoolConfig | None = None,
) -> ModelConfig:
    """The config of the fine-tuned model: no hidden layer, a bias of zero, and what else is given."""
    config = published.config
    size = resolution or published.preprocess.resolution
    if isinstance(config, ResNetConfig):
        if patch or pool:
            raise BadInput("a ResNet has neither patches nor a choice of pooling")
        return replace(config, num_classes=num_classes, resolution=size, head_bias=0.0)
    new = replace(config, num_classes=num_classes, resolution=size, hidden=None, head_bias=0.0)
    return replace(new, patch=patch or new.patch, pool=pool or new.pool)


def record(rows: list[Row], source: str) -> Transplant:
    """What transplant.json holds."""
    moved = [MovedTensor(from_=row.source, to=row.target, name=row.name, action=row.action) for row in rows]
    return Transplant(source=source, rows=moved)


def summary(rows: list[Row], source: str) -> str:
    """One line for people: how many were taken, and the names of all that were not."""
    named = {a: [r.name for r in rows if r.action == a] for a in ("resampled", "new", "left out")}
    others = "; ".join(f"{action}: {', '.join(names)}" for action, names in named.items() if names)
    return f"from {source}: {sum(r.action == 'taken' for r in rows)} tensors taken" + (f"; {others}" if others else "")
