"""benchmarks/gpu.sh runs to its end without a GPU, very small: on one it must not fail for a silly reason."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenarios.many import environment

ROOT = Path(__file__).parent.parent


def run(out: Path, *parts: str) -> subprocess.CompletedProcess[str]:
    told = environment(DEVICE="cpu", OUT=str(out), PYTHON=sys.executable, CUDA_VISIBLE_DEVICES="")
    return subprocess.run(
        [str(ROOT / "benchmarks/gpu.sh"), *parts], env=told, capture_output=True, text=True, timeout=300, check=False
    )


def test_every_part_ends_with_a_table() -> None:
    told = environment(PYTHONPATH=str(ROOT), CUDA_VISIBLE_DEVICES="")
    asked = [sys.executable, "benchmarks/gpu.py", "steps", "equal", "loader", "cifar", "--device", "cpu"]
    done = subprocess.run(asked, env=told, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    for said in ("of measured", "bfloat16 recomputed", "waiting", "a step, eager"):
        assert said in done.stdout
    assert "FAILED" not in done.stdout


@pytest.mark.slow
def test_the_script_runs_all_and_keeps_what_they_say(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    assert sorted(file.stem for file in tmp_path.iterdir()) == ["cifar", "equal", "loader", "steps", "tests"]
    assert "passed" in (tmp_path / "tests.txt").read_text()
    assert "of measured" in (tmp_path / "steps.txt").read_text()


def test_another_part_is_refused(tmp_path: Path) -> None:
    assert run(tmp_path, "speed").returncode == 2


def test_it_can_be_started() -> None:
    assert os.access(ROOT / "benchmarks/gpu.sh", os.X_OK)
