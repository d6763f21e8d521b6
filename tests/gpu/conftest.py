"""Tests on a CUDA device, by `pytest -m cuda tests/gpu`. With VITRAIL_TEST_DEVICE=cpu they only show that they run."""

import os
from collections.abc import Iterator

import jaxtyping
import pytest
import torch


@pytest.fixture
def device() -> torch.device:
    found = torch.device(os.environ.get("VITRAIL_TEST_DEVICE", "cuda"))
    if found.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return found


@pytest.fixture(autouse=True)
def without_shape_checks() -> Iterator[None]:
    """They are no part of what is compiled; and nothing compiled outlives a test."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
    torch.compiler.reset()
