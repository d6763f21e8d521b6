"""Products of the encoder's linear layers in 8-bit floats, by torchao, on hardware that multiplies them."""

import torch
from torch import nn

from vitrail.core.errors import BadInput

CAPABILITY = (8, 9)  # of CUDA devices that multiply 8-bit floats: Ada, Hopper and later
_MULTIPLE = 16  # both sides of a matrix, for the kernels


def check_float8(device: torch.device) -> None:
    """Raises BadInput where the device has no such products, or torchao is not installed."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < CAPABILITY:
        raise BadInput(
            "precision float8 needs a CUDA device of compute capability "
            f"{CAPABILITY[0]}.{CAPABILITY[1]} or newer (Ada, Hopper), this is {device}; take bfloat16"
        )
    try:
        import torchao  # noqa: F401
    except ImportError:
        raise BadInput("precision float8 needs torchao: pip install 'vitrail[float8]'") from None


def in_float8(layers: list[nn.Module], emulate: bool = False) -> None:
    """Gives the linear layers inside `layers` products in 8 bits, each tensor scaled by its largest number at the time.

    Their weights stay the same parameters, in float32, under the same names. `emulate`: computes in 32 bits what the
    hardware would, for tests.
    """
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    def fits(module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Linear) and not (module.in_features % _MULTIPLE or module.out_features % _MULTIPLE)

    # padded: the inner side of a weight gradient's product is the number of tokens, which divides by nothing
    config = Float8LinearConfig(emulate=emulate, pad_inner_dim=True)
    for layer in layers:
        convert_to_float8_training(layer, module_filter_fn=fits, config=config)
