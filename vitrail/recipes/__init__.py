"""Recipes: functions that return a whole job config, by name."""

from collections.abc import Callable

from vitrail.core.errors import unknown
from vitrail.jobs.finetune.finetune import Finetune
from vitrail.jobs.pretrain import Pretrain
from vitrail.recipes import augreg, gpu, masked, small
from vitrail.recipes import finetuning as paper_finetuning
from vitrail.recipes import pretraining as paper_pretraining
from vitrail.recipes.augreg import WithGrid

PRETRAINING: dict[str, Callable[[], Pretrain]] = WithGrid(
    {
        "digits": small.digits,
        "scattered-digits": small.scattered_digits,
        "cifar10": small.cifar10,
        "cifar10-speedrun": small.cifar10_speedrun,
        "cifar100": small.cifar100,
        "tiny-imagenet": small.tiny_imagenet,
        "folder": small.folder,
        **gpu.PRETRAINING,
        **paper_pretraining.RECIPES,
        **augreg.RECIPES,
        **masked.RECIPES,
    }
)

FINETUNING: dict[str, Callable[[], Finetune]] = {
    "digits": small.finetune_digits,
    "cifar10": small.finetune_cifar10,
    "folder": small.finetune_folder,
    **gpu.FINETUNING,
    **paper_finetuning.RECIPES,
}


def pretraining(name: str) -> Pretrain:
    """The pre-training recipe of that name; raises BadInput with the nearest one."""
    if name not in PRETRAINING:
        raise unknown("recipe", name, PRETRAINING)
    return PRETRAINING[name]()


def finetuning(name: str) -> Finetune:
    """The fine-tuning recipe of that name; raises BadInput with the nearest one."""
    if name not in FINETUNING:
        raise unknown("recipe", name, FINETUNING)
    return FINETUNING[name]()
