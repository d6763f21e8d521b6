"""Weights into a model with other classes or another resolution; says what it took, resampled, made new, left out."""

from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.models.build import Model, ModelConfig, build
from vitrail.models.resample import resample_table
from vitrail.weights.bundle import Published

Action = Literal["taken", "resampled", "new", "left out"]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """What happened to one tensor."""

    name: str
    action: Action
    source: Shape | None
    target: Shape | None


def transplant(published: Published, config: ModelConfig, new_head: bool) -> tuple[Model, list[Row]]:
    """A model of `config` with every weight of `published` that fits it.

    Positions are resampled to the new grid. With `new_head` the classifier and the hidden layer before it are left
    out, and the new classifier starts at zero (appendix B.1.1).

    Raises:
        BadInput: an encoder of another size, or a classifier of other classes that was to be kept.
    """
    with torch.device("meta"):
        new = build(config).state_dict()  # names and shapes, without memory
    old = published.state
    rows, state = [], {}
    for name, target in new.items():
        source = old.get(name)
        if source is None or (new_head and name.startswith(("head.", "pre_logits."))):
            rows.append(Row(name, "new", None, tuple(target.shape)))
            continue
        if name == "pos_embed" and published.config.grid != config.grid:
            prefix = source.shape[1] - published.config.grid[0] * published.config.grid[1]
            state[name] = resample_table(source, published.config.grid, config.grid, prefix)
            rows.append(Row(name, "resampled", tuple(source.shape), tuple(target.shape)))
            continue
        if source.shape != target.shape:
            raise BadInput(
                f"{name!r} is {tuple(source.shape)} in the source and {tuple(target.shape)} in the new model: "
                "only classes and resolution may differ"
            )
        state[name] = source
        rows.append(Row(name, "taken", tuple(source.shape), tuple(target.shape)))
    taken = {row.name for row in rows if row.action in ("taken", "resampled")}
    rows += [Row(name, "left out", tuple(t.shape), None) for name, t in old.items() if name not in taken]
    return _filled(config, state, complete=state.keys() == new.keys()), rows


def _filled(config: ModelConfig, state: dict[str, Tensor], complete: bool) -> Model:
    """A model with these weights; only one that lacks some is initialised, which takes seconds for a large one."""
    with torch.device("meta") if complete else nullcontext():
        model = build(config)
    model.load_state_dict({name: tensor.clone() for name, tensor in state.items()}, strict=complete, assign=True)
    return model


def for_transfer(published: Published, num_classes: int, resolution: tuple[int, int] | None) -> ModelConfig:
    """The config of the fine-tuned model: other classes and resolution, no hidden layer, a bias of zero."""
    config = published.config
    size = resolution or config.resolution
    return replace(config, num_classes=num_classes, resolution=size, hidden=None, head_bias=0.0)


def as_json(rows: list[Row], source: str) -> dict[str, Any]:
    """For transplant.json."""
    renamed = [{"from": asdict(r)["source"], "to": r.target, "name": r.name, "action": r.action} for r in rows]
    return {"source": source, "rows": renamed}


def summary(rows: list[Row], source: str) -> str:
    """One line for people: how many were taken, and the names of all that were not."""
    named = {a: [r.name for r in rows if r.action == a] for a in ("resampled", "new", "left out")}
    others = "; ".join(f"{action}: {', '.join(names)}" for action, names in named.items() if names)
    return f"from {source}: {sum(r.action == 'taken' for r in rows)} tensors taken" + (f"; {others}" if others else "")
