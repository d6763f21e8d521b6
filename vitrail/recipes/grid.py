"""AugReg's whole grid (2106.10270, section 3): 28 settings for each of nine models, made when they are asked for.

A cell is named augreg-DATA-MODEL-AUGMENTATION-DECAY[-regularised], such as `augreg-imagenet-s16-medium2-0.1`.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

from vitrail.jobs.pretrain import Pretrain
from vitrail.recipes.about import About
from vitrail.recipes.later import AUGREG, RECOMMENDED, augreg, short

DATA = ("imagenet", "imagenet21k")
DECAYS = (0.1, 0.03)
NAMES = "augreg-DATA-MODEL-AUGMENTATION-DECAY[-regularised]"

# After 300 epochs of ImageNet alone, at 224 pixels: the best of the 28 of each model, as published.
REACHED = {
    "L/16": 75.72, "B/16": 79.84, "S/16": 79.00, "R50+L/32": 76.84, "R26+S/32": 79.61, "Ti/16": 72.59, "B/32": 74.42,
    "S/32": 72.07, "R+Ti/16": 70.13,
}  # fmt: skip


def cells() -> dict[str, tuple[str, str, str, float, bool]]:
    """The arguments of `augreg` for every name: model, data, augmentation, decay, regularised."""
    models = [row.model for row in RECOMMENDED]
    found = {}
    for data, model, augmentation, decay, regularised in product(DATA, models, AUGREG, DECAYS, (False, True)):
        name = f"augreg-{data}-{short(model)}-{augmentation}-{decay:g}" + ("-regularised" if regularised else "")
        found[name] = (model, data, augmentation, decay, regularised)
    return found


def cell(name: str) -> Callable[[], Pretrain] | None:
    """The recipe of that name, or None where the grid has no such cell."""
    arguments = cells().get(name)
    if arguments is None:
        return None
    model, data, augmentation, decay, regularised = arguments
    made = partial(augreg, model, data, augmentation, decay, regularised)  # type: ignore[arg-type]
    best = f"the best of the 28 reached {REACHED[model]} % after 300 epochs" if data == "imagenet" else "not known"
    made.__doc__ = About(
        f"{model} on {data}, {augmentation}, decay {decay:g}{', dropout and stochastic depth' if regularised else ''}.",
        "AugReg (2106.10270), a cell of its grid.",
        f"{best}; it was not run here.",
        f"vitrail pretrain {name} --train {data}@train --out runs/{name}",
    ).docstring()
    return made


class WithGrid(dict[str, Callable[[], Pretrain]]):
    """Recipes by name; the cells of the grid are among them, though no list names them all."""

    def __missing__(self, name: str) -> Callable[[], Pretrain]:
        found = cell(name)
        if found is None:
            raise KeyError(name)
        return found

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and cell(name) is not None)
