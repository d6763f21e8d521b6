"""Configs as commands: `recipe` makes one by name and options, `command_of` is the command that makes one."""

import shlex
from collections.abc import Iterator
from typing import Any

from vitrail.core.choices import choices, choose, name_of, part, with_part
from vitrail.core.config import changes, from_json, to_json
from vitrail.core.errors import BadInput, unknown
from vitrail.jobs.finetune.finetune import Finetune
from vitrail.jobs.pretrain import Pretrain
from vitrail.models.variants import list_models, variant_like
from vitrail.recipes import FINETUNING, PRETRAINING, finetuning, pretraining
from vitrail.train.config import TrainConfig


def recipe(name: str, **options: Any) -> Pretrain | Finetune:
    """The config of a recipe (`vitrail recipes`): "digits" or "pretrain digits", "finetune digits".

    Args:
        options: as on the command line: fields, alternatives by their names, dotted paths in `**{}`, as in
            `recipe("digits", steps=100, optimizer="sgd", model="S/16", **{"model.pool": "token"})`.

    Raises:
        BadInput: no such recipe, option or alternative, or a value of another type.
    """
    job, _, name = name.rpartition(" ")
    if job not in ("", "pretrain", "finetune"):
        raise unknown("job", job, ("pretrain", "finetune"))
    config: Any = finetuning(name) if job == "finetune" else pretraining(name)
    for path, value in sorted(options.items(), key=lambda option: option[0].count(".")):
        config = _with(config, path, value)
    made: Pretrain | Finetune = config
    return made


def _with(config: Any, path: str, value: Any) -> Any:
    there = choices(config)
    if path in there and isinstance(value, str):
        if path == "model" and value not in there[path]:
            return with_part(config, path, variant_like(value, config.model))
        return choose(config, path, value)
    owner, _, field = path.rpartition(".")
    holder = part(config, owner) if owner else config
    if not hasattr(holder, field):
        raise unknown("option", path, (f"{owner}.{name}".lstrip(".") for name in vars(holder)))
    stored = to_json(config)
    place = stored
    for name in filter(None, owner.split(".")):
        place = place[name]
    place[field] = to_json(value)
    return from_json(type(config), stored)


def command_of(config: TrainConfig, recipe: str | None = None, folder: str = "DIR") -> str:
    """The command that trains by a config: the nearest recipe, and the options in which the config differs.

    Args:
        recipe: to start from; None for that with the fewest differences.

    Raises:
        BadInput: the config of another job, or no such recipe.
    """
    if not isinstance(config, Pretrain | Finetune):
        raise BadInput(
            f"a {type(config).__name__} is the config of no command that trains; give a Pretrain or Finetune"
        )
    known = dict(PRETRAINING if isinstance(config, Pretrain) else FINETUNING)
    if recipe is not None and recipe not in known:
        raise unknown("recipe", recipe, known)
    name = recipe or min(known, key=lambda name: len(list(_changed(known[name](), config))))
    job = "pretrain" if isinstance(config, Pretrain) else "finetune"
    return f"vitrail {job} {name} --out {shlex.quote(folder)}" + "".join(
        f" {option}" for option in _options(known[name](), config)
    )


def _options(start: Any, config: Any) -> Iterator[str]:
    """The options that make `config` of `start`: alternatives first, as their own options come after them."""
    for path in sorted(choices(start) | choices(config), key=lambda path: path.count(".")):
        if path not in choices(start) or path not in choices(config):
            continue
        old, new = part(start, path), part(config, path)
        if type(old) is type(new):
            continue
        name = name_of(new)
        if path == "model":  # the sizes of another kind of model come by a name
            name = min(list_models(), key=lambda name: len(list(_changed(variant_like(name, old), new))))
        start = _with(start, path, name)
        yield f"--{path} {name}".replace("_", "-")
    for change in _changed(start, config):
        option = change.path.replace("_", "-")
        if isinstance(change.new, bool):
            owner, dot, field = option.rpartition(".")
            yield f"--{owner}{dot}{'' if change.new else 'no-'}{field}"
        else:
            values = change.new if isinstance(change.new, list) else [change.new]
            yield " ".join([f"--{option}", *(shlex.quote(str(value)) for value in values)])


def _changed(old: Any, new: Any) -> Any:
    return changes(to_json(old), to_json(new))
