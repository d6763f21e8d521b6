"""Soups (arXiv 2203.05482): one model from several that were fine-tuned from the same start, its weights their mean."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor

from vitrail.core.config import difference
from vitrail.core.errors import BadInput
from vitrail.models.build import Model


class Soup(NamedTuple):
    """A model, which of those that were given it is the mean of, its score, and the score of each that was given."""

    model: Model
    members: tuple[int, ...]
    score: float
    scores: tuple[float, ...]


def uniform_soup(models: Sequence[Model]) -> Model:
    """The mean of the weights of all, in float32; a new model with what travels with the first.

    Raises:
        BadInput: no model, or models of different architectures or classes.
    """
    if not models:
        raise BadInput("a soup needs at least one model")
    for other in models[1:]:
        differing = difference(models[0].config, other.config)
        if differing or other.classes != models[0].classes:
            said = differing[0] if differing else "their classes"
            raise BadInput(f"models that differ cannot be averaged: {said}")
    made = deepcopy(models[0])
    with torch.no_grad():
        states = [model.state_dict() for model in models]
        for name, tensor in made.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(_mean([state[name] for state in states]))
    made.temperature = models[0].temperature if len(models) == 1 else None  # one was fitted to each of them alone
    return made


def greedy_soup(models: Sequence[Model], judge: Callable[[Model], float]) -> Soup:
    """From the best model down, each is kept in the soup where the soup is not worse with it (Recipe 1 of the paper).

    So the score of the soup is never below that of the best model. The models stay as they are.

    Args:
        judge: a model's score on held-out images, higher is better: it is called once for each model, and once for
            each soup that is tried. The model is in evaluation mode, on the device of the first.
    """
    if not models:
        raise BadInput("a soup needs at least one model")
    scores = tuple(float(judge(model.eval())) for model in models)
    order = sorted(range(len(models)), key=lambda i: -scores[i])  # the earliest of equal ones first
    members, best, soup = [order[0]], scores[order[0]], uniform_soup([models[order[0]]])
    for i in order[1:]:
        tried = uniform_soup([models[j] for j in (*members, i)]).eval()
        score = float(judge(tried))
        if score >= best:
            members, best, soup = [*members, i], score, tried
    return Soup(soup.eval(), tuple(members), best, scores)


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([tensor.to(tensors[0].device, torch.float32) for tensor in tensors]).mean(dim=0)
