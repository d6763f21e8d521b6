"""Google's ViT `.npz` files (gs://vit_models): both vintages of block names; the shapes say all about the model."""

import re
from math import isqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.data.views import Preprocess
from vitrail.models.head import AveragePool, ClassToken
from vitrail.models.vit import ViTConfig
from vitrail.weights.bundle import Published, check_state
from vitrail.weights.tensors import read_npz

# One block's modules by our names: files from before Linen count all modules of a block, later ones count each kind.
_VINTAGES = (
    {"norm1": "LayerNorm_0", "attn": "MultiHeadDotProductAttention_1", "norm2": "LayerNorm_2", "mlp": "MlpBlock_3"},
    {"norm1": "LayerNorm_0", "attn": "MultiHeadDotProductAttention_0", "norm2": "LayerNorm_1", "mlp": "MlpBlock_0"},
)


def read_vit_npz(path: Path) -> Published:
    """A plain ViT. Its position table must fill a square grid: these files do not store the grid.

    Raises:
        BadInput: not such a file, or shapes that contradict each other.
    """
    arrays = read_npz(path)
    try:
        config, state = _convert(arrays)
    except (KeyError, IndexError, ValueError) as problem:
        if isinstance(problem, BadInput):
            raise BadInput(f"{path}: {problem}") from None
        raise BadInput(f"{path} is not a ViT in Google's layout: missing or misshapen {problem}") from None
    check_state(config, state, path)
    preprocess = Preprocess(config.resolution)
    return Published(config, state, preprocess, None, {"source": path.name, "layout": "google vit npz"})


def _convert(arrays: dict[str, np.ndarray]) -> tuple[ViTConfig, dict[str, Tensor]]:
    kernel = arrays["embedding/kernel"]
    if kernel.ndim != 4 or kernel.shape[0] != kernel.shape[1] or kernel.shape[2] != 3:
        raise BadInput(f"the patch embedding has the shape {kernel.shape}, expected (P, P, 3, D)")
    depth = 1 + max(int(m[1]) for name in arrays if (m := re.match(r"Transformer/encoderblock_(\d+)/", name)))
    first = "Transformer/encoderblock_0"
    names = next((v for v in _VINTAGES if f"{first}/{v['attn']}/query/kernel" in arrays), None)
    if names is None:
        raise BadInput("no attention weights under either naming of the blocks")
    width, heads, _ = arrays[f"{first}/{names['attn']}/query/kernel"].shape
    positions = arrays["Transformer/posembed_input/pos_embedding"]
    pool = ClassToken() if "cls" in arrays else AveragePool()
    side = isqrt(positions.shape[1] - ("cls" in arrays))
    if side * side + ("cls" in arrays) != positions.shape[1]:
        raise BadInput(f"{positions.shape[1]} positions are no square grid")
    patch = kernel.shape[0]
    config = ViTConfig(
        patch=patch,
        width=width,
        depth=depth,
        heads=heads,
        mlp=arrays[f"{first}/{names['mlp']}/Dense_0/kernel"].shape[1],
        resolution=(side * patch, side * patch),
        num_classes=arrays["head/kernel"].shape[1] if "head/kernel" in arrays else 0,
        pool=pool,
        hidden=arrays["pre_logits/kernel"].shape[1] if "pre_logits/kernel" in arrays else None,
    )
    state = {
        "patch_embed.proj.weight": kernel.transpose(3, 2, 0, 1),
        "patch_embed.proj.bias": arrays["embedding/bias"],
        "pos_embed": positions,
        "norm.weight": arrays["Transformer/encoder_norm/scale"],
        "norm.bias": arrays["Transformer/encoder_norm/bias"],
    }
    if "cls" in arrays:
        state["cls_token"] = arrays["cls"]
    for ours, theirs in (("pre_logits", "pre_logits"), ("head", "head")):
        if f"{theirs}/kernel" in arrays:
            state[f"{ours}.weight"] = arrays[f"{theirs}/kernel"].T
            state[f"{ours}.bias"] = arrays[f"{theirs}/bias"]
    for i in range(depth):
        state |= _block(arrays, f"Transformer/encoderblock_{i}", names, f"blocks.{i}")
    return config, {name: torch.from_numpy(np.array(a, dtype=np.float32, order="C")) for name, a in state.items()}


def _block(arrays: dict[str, np.ndarray], theirs: str, names: dict[str, str], ours: str) -> dict[str, np.ndarray]:
    attention, mlp = f"{theirs}/{names['attn']}", f"{theirs}/{names['mlp']}"
    kernels = [arrays[f"{attention}/{part}/kernel"] for part in ("query", "key", "value")]  # each (D, H, K)
    biases = [arrays[f"{attention}/{part}/bias"] for part in ("query", "key", "value")]  # each (H, K)
    out = arrays[f"{attention}/out/kernel"]  # (H, K, D)
    block = {
        "attn.qkv.weight": np.concatenate([k.reshape(k.shape[0], -1).T for k in kernels]),
        "attn.qkv.bias": np.concatenate([b.reshape(-1) for b in biases]),
        "attn.proj.weight": out.reshape(-1, out.shape[-1]).T,
        "attn.proj.bias": arrays[f"{attention}/out/bias"],
    }
    for norm in ("norm1", "norm2"):
        block[f"{norm}.weight"] = arrays[f"{theirs}/{names[norm]}/scale"]
        block[f"{norm}.bias"] = arrays[f"{theirs}/{names[norm]}/bias"]
    for layer, dense in (("fc1", "Dense_0"), ("fc2", "Dense_1")):
        block[f"mlp.{layer}.weight"] = arrays[f"{mlp}/{dense}/kernel"].T
        block[f"mlp.{layer}.bias"] = arrays[f"{mlp}/{dense}/bias"]
    return {f"{ours}.{name}": array for name, array in block.items()}
