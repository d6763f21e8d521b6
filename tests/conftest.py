"""Shared fixtures. Shapes and types of vitrail's functions are checked at run time while testing."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest

if "vitrail.models" not in sys.modules:
    jaxtyping.install_import_hook("vitrail", "beartype.beartype")

if "PYTEST_XDIST_WORKER" in os.environ:  # set, since workers inherit what this file gave the process that starts them
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))
else:
    os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("VITRAIL_OFFLINE", "1")  # tests download nothing, and leave nothing behind at home
os.environ.setdefault("VITRAIL_CACHE", str(Path(tempfile.gettempdir()) / "vitrail-tests-cache"))


def pytest_configure(config: pytest.Config) -> None:
    """Without `-m cuda` tests see no GPU: they compare bits, and were measured on a CPU."""
    if config.option.markexpr != "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session")
def goldens() -> Path:
    """Outputs of the official code on random weights."""
    return Path(__file__).parent / "goldens"


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """The checks of shapes that tests run with are no part of a graph; nothing compiled outlives a test."""
    import torch

    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
    torch.compiler.reset()


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pre-training run on the 8-pixel digits (a second or two)."""
    from dataclasses import replace

    from vitrail.core.device import Machine
    from vitrail.jobs.pretrain import pretrain
    from vitrail.recipes import pretraining

    folder = tmp_path_factory.mktemp("runs") / "digits"
    config = replace(pretraining("digits"), steps=120, evaluate_every=60, log_every=20, precision="float32")
    pretrain(config, folder, Machine(workers=0), "digits")
    return folder
