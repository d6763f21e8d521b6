"""Convolutions and group norms of a processor in bfloat16: channels last, and as products where oneDNN's are slow.

oneDNN (PyTorch 2.13) rearranges the weights and their gradient at each call, some 25 ns an element for the gradient,
which is most of the time of a convolution with many weights and a small map: for 512 -> 512 channels of 3x3 on 128 maps
of 2x2 pixels 117 ms forward and backward where the product takes 21, for 2048 -> 512 of 1x1 46 ms where it takes 4.4
(one thread, AMX, bfloat16). So training multiplies matrices for all 1x1 convolutions, whose columns are the map itself,
and for larger ones with more weights than there are inputs. CUDA's libraries, float32 (of which an R50x1 that is looked
through takes 1.2 to 1.35 times as long channels last) and what is exported are left alone.

B batch · C channels · y x pixels · h w feature map · k kernel · D channels that come out
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

VECTOR = 16  # channels of a group from which on PyTorch's group norm of what is channels last is vectorised


def channels_last(images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
    """The same images in the order in memory for which these convolutions are fast; all after them keep it."""
    return images.contiguous(memory_format=torch.channels_last) if _special(images) else images


def convolve(
    x: Float[Tensor, "b c y x"], weight: Float[Tensor, "d c k k"], stride: int, padding: int
) -> Float[Tensor, "b d h w"]:
    """A convolution without bias; `padding` zeros on each side."""
    if _by_product(x, weight):
        return _product(x, weight, stride, padding)
    # One column needs no stride across it; with one, oneDNN's bfloat16 gradient of the weights reads memory that
    # nothing wrote (PyTorch 2.13, AVX512): NaN now and then.
    return F.conv2d(x, weight, None, (stride, 1) if x.shape[-1] == 1 else stride, padding)


def _by_product(x: Tensor, weight: Tensor) -> bool:
    trained = _special(x) and torch.is_grad_enabled() and weight.requires_grad
    return trained and (weight.shape[-1] == 1 or weight.numel() > x.numel())


def _special(x: Tensor) -> bool:
    if x.device.type != "cpu" or torch.compiler.is_exporting():
        return False
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    return dtype == torch.bfloat16


def _product(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """[B, h, w, k k C] x [k k C, D], channels last."""
    kernel = weight.shape[-1]
    x = (F.pad(x, [padding] * 4) if padding else x).movedim(1, -1)  # [B, y, x, C]
    height, width = ((side - kernel) // stride * stride + 1 for side in x.shape[1:3])
    columns = [x[:, i : i + height : stride, j : j + width : stride] for i in range(kernel) for j in range(kernel)]
    # copied, as a product with what is not contiguous takes a hundred times as long
    inputs = torch.cat(columns, dim=-1) if kernel > 1 else columns[0].contiguous()
    return F.linear(inputs, weight.permute(0, 2, 3, 1).flatten(1)).movedim(-1, 1)


class GroupNorm(nn.GroupNorm):
    """PyTorch's, by way of its kernel for channels first where the other takes four to twenty times as long."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        if x.device.type != "cpu" or x.is_contiguous() or x.shape[1] // self.num_groups >= VECTOR:
            return super().forward(x)
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
