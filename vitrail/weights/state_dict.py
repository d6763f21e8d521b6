"""The weights of one ViT among everything that a training script saved: wrappers, prefixes, heads of other tasks."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vitrail.core.errors import BadInput

# The first weights of the layouts that are read: by their place the prefix of all others is known.
_PATCHES = re.compile(
    r"(.*?)(patch_embed\.proj|conv_proj|embeddings\.patch_embeddings\.projection|embeds\.proj)\.weight"
)
_ROOT = re.compile(r"(.*?)(stem\.conv)\.weight")  # of a ResNet
# Of several models in one file the first of these is read: averages before the last weights, teachers before students.
_ORDER = [
    re.compile(pattern)
    for pattern in (
        r"(.*_)?ema(_.*)?|averaged_model|swa_model",
        r"teacher|target(_encoder|_network)?",
        r"model",
        r"(model_)?state_dict|model_state",
        r"net|network|module|weights|params|encoder|encoder_q|backbone|base_encoder|online(_.*)?",
        r"student|momentum_encoder|encoder_k",
    )
]
# What wrappers put into the middle of names: FSDP, activation checkpointing, torch.compile of single blocks.
_WRAPPED = re.compile(r"(?<![^.])(_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)\.")
_NAMES = re.compile(
    r"class(es|_?names|_?labels|_to_idx|2idx)|labels?(_?names)?|label(2id|_to_idx)|id(2label|x_to_class|x2class)"
)
_DEEP = 5  # wrappers in wrappers that are opened

# Beside a model, and no part of it: heads of self-supervision, losses and measures, the tower of texts, other copies.
_BESIDE = re.compile(
    r"((.*\.)?(dino_head|ibot_head|head\.(mlp|last_layer\d*)|projector|projection_head|predictor|prototypes|queue(_ptr)?|"
    r"center|criterion|loss(_fn|_function)?|.*(_loss|_metrics?|_acc|_accuracy)|metrics?|"
    r"text(_model|_projection)?|text_.*|transformer|token_embedding|positional_embedding|ln_final|"
    r"logit_(scale|bias)|visual\.head|n_averaged|epoch|step)(\..*)?)"
)


@dataclass(frozen=True)
class Weights:
    """The tensors of one model by its own names, and what lay beside them."""

    tensors: dict[str, Tensor]
    left_over: tuple[str, ...] = ()  # names as in the file
    said: tuple[str, ...] = ()  # sentences for people: which of several was taken
    classes: tuple[str, ...] | None = None  # their names, where they lie beside the weights


def find_weights(loaded: Any, path: Path) -> Weights:
    """The state dict in whatever `torch.load` returned, without wrappers and prefixes.

    Raises:
        BadInput: no tensors by name, several models of which none is preferred, or tensors beside it that may belong
            to it.
    """
    if isinstance(loaded, (list, tuple)):  # as `torch.save((model.state_dict(), epoch), FILE)` makes it
        loaded = {str(i): part for i, part in enumerate(loaded)}
    if not isinstance(loaded, Mapping):
        raise BadInput(f"{path} holds a {type(loaded).__name__}, expected a state dict")
    found = dict(_with_tensors(loaded, ()))
    models = {place: tensors for place, tensors in found.items() if _prefixes(tensors)}
    if not models:
        largest = max(found.values(), key=len, default={})
        if not largest:
            raise BadInput(f"{path} holds no tensors by name")
        return Weights(largest)  # its reader says what is missing
    place = _choose({".".join(p): p for p in models}, path)
    said = _which(".".join(place), [".".join(p) for p in models])
    unwrapped = without_prefix(models[place], path)
    return Weights(unwrapped.tensors, unwrapped.left_over, said + unwrapped.said, names_beside(loaded))


def without_prefix(tensors: Mapping[str, Tensor], path: Path) -> Weights:
    """The tensors of the one ViT or ResNet in a flat state dict, by its own names.

    Raises:
        BadInput: several models, or tensors outside its prefix that may belong to it, as a classifier.
    """
    tensors = {_WRAPPED.sub("", name): tensor for name, tensor in tensors.items()}
    prefixes = _prefixes(tensors)
    if not prefixes:
        return Weights(dict(tensors))
    prefix = _choose({p: p for p in prefixes}, path)
    others = tuple(p for p in prefixes if p != prefix)
    inside = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    outside = [n for n in tensors if not n.startswith(prefix) and not n.startswith(tuple(p for p in others if p))]
    unknown = [name for name in outside if not _BESIDE.fullmatch(name)]
    if unknown:
        raise BadInput(
            f"{path} holds {unknown[0]!r}{f' and {len(unknown) - 1} more' if len(unknown) > 1 else ''} beside the "
            f"model under {prefix!r}: how it belongs to it cannot be told, and nothing is left out in silence; "
            "save the state dict of the model alone"
        )
    if any(re.match(r"blocks\.\d+\.\d+\.", name) for name in inside):  # DINOv2 keeps its blocks in chunks
        inside = {re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name): t for name, t in inside.items()}
    left = tuple(name for name in tensors if not name.startswith(prefix))
    return Weights(inside, left, _which(prefix.rstrip("."), [p.rstrip(".") for p in prefixes]))


def names_beside(tree: Mapping[Any, Any]) -> tuple[str, ...] | None:
    """The names of the classes that a training script saved beside its weights: a list, or an object either way round.

    None where there are none, or where they do not number 0, 1, 2, ...
    """
    for name, value in tree.items():
        if not _NAMES.fullmatch(str(name).lower()):
            continue
        if isinstance(value, Mapping):  # {"cat": 0}, or {0: "cat"}, whose numbers JSON makes texts
            pairs = [(k, v) if type(v) is int else (v, k) for k, v in value.items()]
            numbers = {int(n): str(c) for c, n in pairs if type(n) is int or str(n).isdecimal()}
            value = [numbers[i] for i in sorted(numbers)] if sorted(numbers) == list(range(len(value))) else []
        if isinstance(value, (list, tuple)) and value and all(isinstance(c, str) for c in value):
            return tuple(value)
    return None


def _with_tensors(
    tree: Mapping[Any, Any], place: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every mapping of a nested one that holds tensors by name, with its place."""
    tensors = {str(name): value for name, value in tree.items() if isinstance(value, Tensor)}
    if tensors:
        yield place, tensors
    if len(place) < _DEEP:
        for name, value in tree.items():
            if isinstance(value, Mapping):
                yield from _with_tensors(value, (*place, str(name)))


def _prefixes(tensors: Mapping[str, Tensor]) -> list[str]:
    """What stands before the names of each model; a hybrid's root is part of its patch embedding."""
    for pattern in (_PATCHES, _ROOT):
        found = [m for name in tensors if (m := pattern.fullmatch(name)) and (not m[1] or m[1].endswith("."))]
        if found:
            return sorted({_outer(m[1]) if m[2].startswith("embeddings.") else m[1] for m in found})
    return []


def _outer(prefix: str) -> str:
    """transformers puts a name of the model before its embeddings, and none before the classifier."""
    return re.sub(r"(^|\.)(vit|deit|dinov2|dinov2_with_registers)\.$", r"\1", prefix)


def _choose(places: Mapping[str, Any], path: Path) -> Any:
    """The one of several that is preferred by the part of its name that says most, then by the last one."""

    def preference(name: str) -> tuple[int, int]:
        ranks = [_rank(part) for part in name.rstrip(".").split(".")]
        return min(ranks), ranks[-1] if ranks[-1] < len(_ORDER) else min(ranks)

    ranked = sorted((preference(name), name) for name in places)
    if len(ranked) > 1 and ranked[0][0] == ranked[1][0]:
        names = ", ".join(repr(name) for _, name in ranked[:3])
        raise BadInput(f"{path} holds several models, {names}: save the one that is meant alone")
    return places[ranked[0][1]]


def _rank(part: str) -> int:
    return next((i for i, pattern in enumerate(_ORDER) if pattern.fullmatch(part)), len(_ORDER))


def _which(taken: str, all_of_them: list[str]) -> tuple[str, ...]:
    others = [name for name in all_of_them if name != taken]
    if not others:
        return ()
    return (f"of several models in it {taken or 'the outermost'!r} is read, not {', '.join(map(repr, others[:3]))}",)
