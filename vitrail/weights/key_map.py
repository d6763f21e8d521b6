"""A layout: which of our tensors is which of a file's, and in what form. One table serves reading and writing.

D in · E out · H heads · K head width · p q kernel sides
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from vitrail.core.errors import BadInput


class Transform(NamedTuple):
    """How one of our tensors is made from the file's parts, and the parts from it. Both only move numbers."""

    read: Callable[[Sequence[Tensor]], Tensor]
    write: Callable[[Tensor], Sequence[Tensor]]


class Rule(NamedTuple):
    """One row of a layout."""

    ours: str
    theirs: tuple[str, ...]
    form: Transform


def _one(read: Callable[[Tensor], Tensor], write: Callable[[Tensor], Tensor]) -> Transform:
    return Transform(lambda parts: read(parts[0]), lambda tensor: [write(tensor)])


SAME = _one(lambda t: t, lambda t: t)
DENSE = _one(lambda t: rearrange(t, "d e -> e d"), lambda t: rearrange(t, "e d -> d e"))
CONV = _one(lambda t: rearrange(t, "p q d e -> e d p q"), lambda t: rearrange(t, "e d p q -> p q d e"))
FLAT = _one(lambda t: t.flatten(), lambda t: t)  # old files keep the scales of group norms as [1, 1, 1, C]


def stacked(parts: int) -> Transform:
    """Parts one below the other."""
    return Transform(lambda tensors: torch.cat(list(tensors)), lambda tensor: tensor.chunk(parts))


def heads_kernel(parts: int, heads: int) -> Transform:
    """flax's projections to heads, each [D, H, K], as one matrix [parts · H · K, D]."""
    return Transform(
        lambda tensors: torch.cat([rearrange(t, "d h k -> (h k) d") for t in tensors]),
        lambda tensor: [rearrange(t, "(h k) d -> d h k", h=heads) for t in tensor.chunk(parts)],
    )


def heads_bias(parts: int, heads: int) -> Transform:
    """Their biases, each [H, K]."""
    return Transform(
        lambda tensors: torch.cat([t.flatten() for t in tensors]),
        lambda tensor: [rearrange(t, "(h k) -> h k", h=heads) for t in tensor.chunk(parts)],
    )


def from_heads(heads: int) -> Transform:
    """flax's projection from heads [H, K, D] as a matrix [D, H · K]."""
    return _one(lambda t: rearrange(t, "h k d -> d (h k)"), lambda t: rearrange(t, "d (h k) -> h k d", h=heads))


def same(ours: str, theirs: str) -> list[Rule]:
    """A tensor that has another name."""
    return [Rule(ours, (theirs,), SAME)]


def read(lines: Sequence[Rule], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state from a file's tensors, contiguous and float32; raises KeyError with the name that is missing."""
    return {line.ours: line.form.read([tensors[n] for n in line.theirs]).float().contiguous() for line in lines}


def write(lines: Sequence[Rule], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file's tensors from our state; raises KeyError with the name that is missing."""
    parts: dict[str, Tensor] = {}
    for line in lines:
        for name, part in zip(line.theirs, line.form.write(state[line.ours]), strict=True):
            parts[name] = part.contiguous()
    return parts


def units_of_stages(names: Iterable[str], pattern: str) -> tuple[int, ...]:
    """How many units each stage of a ResNet has, by a pattern of names with the two numbers; none for a root alone.

    Raises:
        BadInput: stages other than 1 to 4; a name may hold any number.
    """
    found = {(int(m[1]), int(m[2])) for name in names if (m := re.match(pattern, name))}
    stages = {stage for stage, _ in found}
    if stages - {1, 2, 3, 4}:
        raise BadInput(f"its names count a block {max(stages)}; a ResNet's are 1 to 4")
    return tuple(sum(s == stage for s, _ in found) for stage in range(1, 1 + max(stages, default=0)))


def unexpected_keys(lines: Sequence[Rule], names: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The names of a file that the layout does not use."""
    used = {name for line in lines for name in line.theirs}
    return tuple(sorted(names.keys() - used))
