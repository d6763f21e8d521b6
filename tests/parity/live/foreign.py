"""Models of other libraries: numbers in all of their weights, and how far two outputs are apart."""

import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.data.pictures import smooth

# Relative to the largest expected number. What is promised is 1e-4, but that would not notice the other GELU.
TOLERANCE = 1e-5
WITH_RESNET = 1e-4  # dozens of convolutions, each summed in another order


def require(name: str) -> None:
    """Skips the test where a library is not installed.

    torchvision's compiled operators do not load beside a build of torch that they were not compiled for (a CPU build,
    say), and importing it then fails where it describes these operators to the tracer. timm and transformers need its
    Python parts only, so that description is left out.
    """
    missing = [library for library in (name, "torchvision") if find_spec(library) is None]
    if missing:
        pytest.skip(f"not installed, as `make test-all` does: {', '.join(missing)}")
    described = "torchvision._meta_registrations"
    sys.modules.setdefault(described, ModuleType(described))


def enliven(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random numbers in every parameter, so that no zero and no one hides anything; in evaluation mode.

    Embeddings are as small as where training starts from, so that the eps of the first norms matters.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_numbers(name, torch.randn(parameter.shape, generator=generator)))
    return model.eval()


def _numbers(name: str, noise: Tensor) -> Tensor:
    if any(part in name for part in ("pos", "token", "latent", "patch_embed.proj", "patch_embeddings")):
        return 0.02 * noise
    if noise.ndim == 1:
        return 0.1 * noise if name.endswith("bias") else 0.5 + 0.2 * noise
    return noise / noise[0].numel() ** 0.5


def images(size: tuple[int, int], count: int = 2) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


def photograph(height: int, width: int) -> np.ndarray:
    """Soft gradients under noise and edges, as in a photograph."""
    noise = np.random.default_rng(0).normal(0, 12, (height, width, 3))
    edges = 60 * ((np.add.outer(np.arange(height), np.arange(width)) // 17) % 2)[..., None]
    return (smooth(height, width) * 0.7 + noise + edges).clip(0, 255).astype(np.uint8)


def apart(got: Tensor, want: Tensor) -> float:
    """The largest difference, relative to the largest expected number."""
    assert got.shape == want.shape, f"{tuple(got.shape)} and {tuple(want.shape)}"
    assert want.abs().max() > 1e-3, "outputs that are nearly zero compare with nothing"
    return float((got - want).abs().max() / want.abs().max())


def agree(case: str, tolerance: float = TOLERANCE, **pairs: tuple[Tensor, Tensor]) -> None:
    """Compares outputs with those that are expected, and prints how far apart they are."""
    errors = {name: apart(got, want) for name, (got, want) in pairs.items()}
    print(f"{case}: " + ", ".join(f"{name} {error:.1e}" for name, error in errors.items()))
    assert max(errors.values()) < tolerance, f"{case}: {errors}"
