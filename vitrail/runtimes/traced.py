"""A model as a graph that any number of images goes through: what other libraries read."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping
import torch
from torch import Tensor, nn

from vitrail.models.build import Model


class LogitsAndRepresentation(nn.Module):
    """What a runtime computes of normalised images; of a model without a classifier the representation alone."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """[B, C, H, W] -> [B, K], [B, D]."""
        output = self.model(pixels)
        return (output.logits, output.representation) if self.model.config.num_classes else (output.representation,)


def traced(model: Model) -> torch.export.ExportedProgram:
    """The model in float32 for batches of any size, at its resolution."""
    module = LogitsAndRepresentation(model).eval()
    config = model.config
    device = next(model.parameters()).device
    images = torch.zeros(2, config.channels, *config.resolution, device=device)
    with quiet_export(), torch.no_grad():
        return torch.export.export(module, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))


@contextmanager
def quiet_export() -> Iterator[None]:
    """Without the checks of shapes that tests run with, and without what exporters warn of and nobody can mend."""
    before, noisy = (
        jaxtyping.config.jaxtyping_disable,
        [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")],
    )
    levels = [logger.level for logger in noisy]
    jaxtyping.config.update("jaxtyping_disable", True)
    for logger in noisy:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
        for logger, level in zip(noisy, levels, strict=True):
            logger.setLevel(level)
