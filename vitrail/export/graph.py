"""What is exported: a model with everything between a photograph's pixels and an answer, and the same without it.

B batch · H W sides of the images · C channels · y x sides of what the model reads · K classes · D features · h w grid
"""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from vitrail.analysis.maps import output_map
from vitrail.analysis.rollout import rollout
from vitrail.core.errors import BadInput
from vitrail.export.preprocessing import Preprocessing
from vitrail.models.build import Model
from vitrail.models.vit import ViT, ViTConfig
from vitrail.records.export import ExportPrecision
from vitrail.runtimes.traced import quiet_export

Output = Literal["probabilities", "logits", "representation", "attention"]
DTYPES: dict[ExportPrecision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class Graph(NamedTuple):
    """A program of PyTorch with the names of what goes in and what comes out."""

    program: torch.export.ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class FromPixels(nn.Module):
    """Normalised images [B, C, y, x] -> the outputs, in float32 whatever the model computes in.

    probabilities [B, K]: softmax(logits / temperature); logits [B, K]; representation [B, D]: what the classifier
    reads; attention [B, h, w]: rollout to the patches, as `vitrail inspect` shows it
    """

    def __init__(self, model: Model, outputs: tuple[Output, ...]):
        super().__init__()
        self.model, self.outputs = model, outputs

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """In the order of `outputs`."""
        dtype = next(self.model.parameters()).dtype
        made = self.model(pixels.to(dtype), attention="attention" in self.outputs)
        logits = made.logits.float()
        found = {"logits": logits, "representation": made.representation.float()}
        if "probabilities" in self.outputs:
            found["probabilities"] = (logits / (self.model.temperature or 1.0)).softmax(dim=-1)
        if "attention" in self.outputs:
            config = self.model.config
            assert isinstance(config, ViTConfig)
            found["attention"] = output_map(rollout(made.attention), config.grid, config.num_prefix_tokens, config.pool)
        return tuple(found[name] for name in self.outputs)


class FromImages(nn.Module):
    """uint8 [B, H, W, 3] of any size, all of a batch of one -> the same."""

    def __init__(self, model: Model, outputs: tuple[Output, ...]):
        super().__init__()
        self.preprocessing, self.rest = Preprocessing(model.preprocess), FromPixels(model, outputs)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """In the order of `outputs`."""
        return self.rest(self.preprocessing(images))


def check_outputs(model: Model, outputs: tuple[Output, ...], name: str) -> tuple[Output, ...]:
    """The outputs of a model that are asked for, in the order of all; none: those that it has but attention.

    Raises:
        BadInput: one that the model does not have.
    """
    classifies = bool(model.config.num_classes)
    chosen = outputs or (("probabilities", "representation") if classifies else ("representation",))
    if not classifies and {"probabilities", "logits"} & set(chosen):
        raise BadInput(f"{name} has no classifier: give --outputs representation")
    if "attention" in chosen and not isinstance(model, ViT):
        raise BadInput(f"{name} is a ResNet, which has no attention: leave attention out of --outputs")
    return tuple(output for output in get_args(Output) if output in chosen)


def from_images(model: Model, outputs: tuple[Output, ...]) -> Graph:
    """The graph with preprocessing inside, for any number of images of any size."""
    sides = {i: torch.export.Dim(name) for i, name in enumerate(("batch", "height", "width"))}
    images = torch.zeros(2, 40, 50, 3, dtype=torch.uint8)
    return Graph(_program(FromImages(model, outputs), images, sides), ("images",), outputs)


def from_pixels(model: Model, outputs: tuple[Output, ...]) -> Graph:
    """The plain graph, for any number of normalised images."""
    config = model.config
    pixels = torch.zeros(2, config.channels, *config.resolution)
    return Graph(_program(FromPixels(model, outputs), pixels, {0: torch.export.Dim("batch")}), ("pixels",), outputs)


def only_preprocessing(model: Model) -> Graph:
    """uint8 [B, H, W, 3] -> normalised images, alone."""
    sides = {i: torch.export.Dim(name) for i, name in enumerate(("batch", "height", "width"))}
    images = torch.zeros(2, 40, 50, 3, dtype=torch.uint8)
    return Graph(_program(Preprocessing(model.preprocess), images, sides), ("images",), ("pixels",))


def plain_outputs(outputs: tuple[Output, ...], model: Model) -> tuple[Output, ...]:
    """What the plain graph gives: the same, and always logits and representation."""
    wanted = {*outputs, "representation", *(("logits",) if model.config.num_classes else ())}
    return tuple(name for name in get_args(Output) if name in wanted)


def _program(module: nn.Module, example: Tensor, sides: dict) -> torch.export.ExportedProgram:
    with quiet_export(), torch.no_grad():
        return torch.export.export(module.eval(), (example,), dynamic_shapes=(sides,))
