"""Tests on a CUDA device, by `pytest -m cuda tests/gpu`. With VITRAIL_TEST_DEVICE=cpu they only show that they run."""

import os

import pytest
import torch


@pytest.fixture
def device() -> torch.device:
    found = torch.device(os.environ.get("VITRAIL_TEST_DEVICE", "cuda"))
    if found.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return found
