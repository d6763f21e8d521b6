"""What pre-training asks of a model: labels, or patches that it does not see. The only list of objectives."""

from dataclasses import dataclass

from torch import Tensor

from vitrail.models.build import Model
from vitrail.models.mae import MAE, MaskedAutoencoder
from vitrail.models.masked_patches import MaskedPatches, PatchPredictor
from vitrail.models.vit import ViT


@dataclass(frozen=True)
class Labels:
    """The class of each image."""


MaskedObjective = MaskedPatches | MAE
Objective = Labels | MaskedPatches | MAE
Learner = PatchPredictor | MaskedAutoencoder  # a model, and what it is trained with and then left by
TrainedModel = Model | Learner


def learner(model: ViT, objective: MaskedObjective) -> Learner:
    """The model as its `encoder`, with new parts; raises BadInput where they do not fit."""
    match objective:
        case MaskedPatches():
            return PatchPredictor(model, objective)
        case MAE():
            return MaskedAutoencoder(model, objective)


def own_parts(trained: Learner) -> dict[str, Tensor]:
    """The weights that are not the encoder's, by their names."""
    return {name: tensor for name, tensor in trained.state_dict().items() if not name.startswith("encoder.")}


def encoder_of(trained: TrainedModel) -> Model:
    """The model that is left when training ends."""
    return trained.encoder if isinstance(trained, Learner) else trained
