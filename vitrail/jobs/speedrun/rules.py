"""What a speedrun may be: a plain ViT from nothing, on the images of its track, that never sees those of the test."""

from vitrail.core.errors import BadInput
from vitrail.jobs.pretrain import Pretrain
from vitrail.models.objective import Labels
from vitrail.models.vit import ViTConfig
from vitrail.records.speedrun import Track

SEEDS = 5  # at least, for a bar to be reached
P = 0.01  # below this the mean is above the bar
CORES = 2  # of a processor, on the tracks without a GPU


def check_rules(track: Track, config: Pretrain) -> None:
    """Raises BadInput for a config that is no run of the track."""
    name, _, split = config.train.partition("@")
    if name != track.data or split.partition("[")[0] != "train":
        raise BadInput(
            f"--train {config.train}: the track {track.name} learns from {track.data}@train, or a part of it"
        )
    if config.validation is not None or config.test is not None:
        raise BadInput(
            "--validation and --test: a speedrun judges nothing while it trains, and once at the end "
            f"the images of its track, {track.test}"
        )
    if config.keep != "last" or config.patience is not None:
        raise BadInput("--keep and --patience: a speedrun chooses no weights and stops by no images; leave them out")
    if config.seed != 0:
        raise BadInput(f"--seed {config.seed}: the seeds of a speedrun are 0, 1, 2, ... as many as --seeds says")
    if config.init is not None or not isinstance(config.objective, Labels):
        raise BadInput("--init and --objective: a speedrun trains a new model by the labels alone")
    model = config.model
    if not isinstance(model, ViTConfig) or model.backbone is not None or model.axial:
        raise BadInput("--model: a speedrun is of a plain Vision Transformer, without convolutions or axial attention")
