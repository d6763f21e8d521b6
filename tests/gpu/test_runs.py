"""Whole runs on the device: with deterministic kernels twice the same bytes, and after an interruption too."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vitrail.core.device import Machine
from vitrail.core.errors import Interrupted
from vitrail.jobs.pretrain import Pretrain, pretrain
from vitrail.recipes import pretraining
from vitrail.train import loop

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.filterwarnings("default"),
    pytest.mark.usefixtures("without_shape_checks"),
]


def recipe() -> Pretrain:
    return replace(pretraining("digits"), steps=60, save_every=20, evaluate_every=30, log_every=10)


def test_deterministic_runs_end_with_the_same_bytes_also_after_an_interruption(
    device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(device.type, workers=0, deterministic=True)
    try:
        whole = pretrain(recipe(), tmp_path / "whole", machine)
        again = pretrain(recipe(), tmp_path / "again", machine)
        assert again.weights_sha256 == whole.weights_sha256
        plain, asked = loop.sync_stop_and_check, [0]

        def stopping(received: int | None, *others: object) -> int | None:
            asked[0] += 1
            return plain(15 if asked[0] == 33 else received, *others)  # type: ignore[arg-type]

        with monkeypatch.context() as patched:
            patched.setattr(loop, "sync_stop_and_check", stopping)
            with pytest.raises(Interrupted):
                pretrain(recipe(), tmp_path / "stopped", machine)
        continued = pretrain(recipe(), tmp_path / "stopped", machine)
        assert continued.restarts == 1
        assert continued.weights_sha256 == whole.weights_sha256
        assert whole.memory_gib is not None
        assert whole.memory_gib < 4  # not what was tried before the first step
    finally:
        torch.use_deterministic_algorithms(False)
