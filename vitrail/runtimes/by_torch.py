"""A model computed by PyTorch, with the weights of its products held in bfloat16 where the hardware multiplies it.

Under autocast alone the weights would be converted in every pass; the numbers that come out are the same bits.
"""

import copy
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.models.build import Model
from vitrail.models.kernels import attention_kernel
from vitrail.models.resnet import StandardisedConv
from vitrail.records.runtime import RuntimeInfo, RuntimePrecision
from vitrail.runtimes.runtime import Runtime, RuntimeOutput


class TorchRuntime(Runtime):
    """On the device where the model is. `model` stays as it is, and shares what is not converted."""

    name = "torch"

    def __init__(self, model: Model, precision: RuntimePrecision, batch: int | None = None):
        super().__init__(precision, batch, next(model.parameters()).device)
        self.model = in_bfloat16(model) if precision == "bfloat16" else model

    def compute(self, pixels: Float[Tensor, "b c y x"]) -> RuntimeOutput:
        """On the device."""
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"),
        ):
            output = self.model(pixels.to(self.device))
        return RuntimeOutput(output.logits.float(), output.representation.float())

    def info(self) -> RuntimeInfo:
        """With the kernel of its attention."""
        dtype = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
        kernel = attention_kernel(self.model.config, self.device, dtype, training=False)
        return replace(super().info(), attention=kernel)


def in_bfloat16(model: Model) -> Model:
    """The model with the weights that autocast would convert converted; all others are shared with `model`."""
    shared = {id(p): p for p in (*model.parameters(), *model.buffers())}
    made = copy.deepcopy(model, shared)  # the memo says that they are copied already
    for module in made.modules():
        # a standardised weight is computed in float32, and a relative or added position is added in it
        if isinstance(module, nn.Linear | nn.Conv2d) and not isinstance(module, StandardisedConv):
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(parameter.detach().bfloat16(), requires_grad=False))
    return made.eval()
