"""torchvision beside a CPU build of torch: its wheels lack compiled operators, which no transform of images needs."""

import sys
from types import ModuleType

import torch


def torchvision_without_operators() -> None:
    """After this torchvision can be imported: an empty module stands in for the part that fails."""
    if not torch.cuda.is_available():
        described = "torchvision._meta_registrations"
        sys.modules.setdefault(described, ModuleType(described))
