"""A server in a thread, with tiny models."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch

from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.build import build
from vitrail.models.vit import ViTConfig
from vitrail.serve.http.life import Life, Serve
from vitrail.weights.bundle import save_bundle

CLASSES = ("cat", "dog", "eel", "fox")
SERVE = Serve(port=0, runtime="torch", devices=("cpu",), log=False)


def save_tiny(
    folder: Path, seed: int = 0, temperature: float | None = None, thresholds: tuple[float, ...] | None = None
) -> Path:
    """A bundle of a ViT of one layer, with answers that differ from image to image."""
    torch.manual_seed(seed)
    config = ViTConfig(patch=4, width=16, depth=1, heads=2, mlp=32, resolution=(12, 16), num_classes=len(CLASSES))
    model = build(config)
    if model.head is not None:
        torch.nn.init.normal_(model.head.weight)
    save_bundle(folder, model, Preprocess((12, 16)), CLASSES, {}, temperature, thresholds)
    return folder


class Running(httpx.Client):
    """A client of a server in this process."""

    def __init__(self, life: Life, token: str | None = None):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        super().__init__(base_url=f"http://127.0.0.1:{life.port}", headers=headers, timeout=60)
        self.life = life


@contextmanager
def serving(config: Serve, ready: bool = True, style: str = "") -> Iterator[Running]:
    life = Life(config, style)
    thread = threading.Thread(target=life.run)
    thread.start()
    try:
        with Running(life, config.token) as client:
            while ready and not life.service.ready:
                assert thread.is_alive(), life.problem
                time.sleep(0.02)
            yield client
    finally:
        life.server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture(scope="package")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="package")
def server(tiny: Path) -> Iterator[Running]:
    """One for all tests that leave it as it is."""
    with serving(replace(SERVE, models=(str(tiny),))) as client:
        yield client
