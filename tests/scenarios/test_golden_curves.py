"""The losses of three small runs, step by step, as they were: new numbers are a decision that somebody writes down.

On the kind of processor and the version of PyTorch by which tests/goldens/curves.json was made they are equal bit for
bit, elsewhere within BOUND. `python -m tests.scenarios.test_golden_curves` writes it anew.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vitrail.core.device import Machine, processor_name
from vitrail.core.run import read_metrics
from vitrail.export.instructions import instructions
from vitrail.jobs.pretrain import Pretrain, pretrain
from vitrail.models.masked_patches import MaskedPatches
from vitrail.models.resnet import Stages
from vitrail.recipes import pretraining

FILE = Path(__file__).parents[1] / "goldens" / "curves.json"
STEPS = 15
# relative, of any step: PyTorch's kernels without AVX differ by 1.9e-7, a rate of one per cent more by 5.7e-4
BOUND = 1e-5


def config(name: str) -> Pretrain:
    """The recipe `digits`, shortened; with a ResNet under its patches; or without labels."""
    recipe = pretraining("digits")
    short = replace(
        recipe, steps=STEPS, batch=32, log_every=1, evaluate_every=100, save_every=100, precision="float32",
        validation=None, schedule=replace(recipe.schedule, warmup=3),
    )  # fmt: skip
    match name:
        case "hybrid":
            under = Stages(units=(1,), width=32)
            return replace(short, model=replace(recipe.model, resolution=(16, 16), patch=1, backbone=under))
        case "masked-patches":
            return replace(short, objective=MaskedPatches())
    return short


NAMES = ("digits", "hybrid", "masked-patches")


def curve(name: str, folder: Path) -> list[float]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pretrain(config(name), folder, Machine("cpu", 0))
    finally:
        torch.set_num_threads(threads)
    return [row["loss"] for row in read_metrics(folder / "metrics.jsonl") if row["kind"] == "train"]


def here() -> dict[str, str]:
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "processor": processor_name(), "instructions": " ".join(instructions()), "torch": torch.__version__,
        "kernels": capability,
    }  # fmt: skip


def apart(ours: list[float], golden: list[float]) -> float:
    """The largest relative difference of a step."""
    assert len(ours) == len(golden)
    return max(abs(a - b) / abs(b) for a, b in zip(ours, golden, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_the_losses_are_those_that_were_written_down(name: str, tmp_path: Path) -> None:
    known = json.loads(FILE.read_text())
    found, golden = curve(name, tmp_path / "run"), known["curves"][name]
    assert len(golden) == STEPS
    if here() == known["made_by"]:
        assert found == golden, f"the numbers of training have changed, by {apart(found, golden):.1e}"
    else:
        assert apart(found, golden) < BOUND


def test_a_change_would_be_seen(tmp_path: Path) -> None:
    """A learning rate of one per cent more is above the bound after a few steps."""
    recipe = config("digits")
    more = replace(recipe, optimizer=replace(recipe.optimizer, lr=1.01 * recipe.optimizer.lr))
    pretrain(more, tmp_path / "run", Machine("cpu", 0))
    found = [row["loss"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["kind"] == "train"]
    assert apart(found, json.loads(FILE.read_text())["curves"]["digits"]) > BOUND


@pytest.mark.slow
def test_other_kernels_stay_within_the_bound(tmp_path: Path) -> None:
    code = (
        "from tests.scenarios.test_golden_curves import *; import sys\n"
        "print(json.dumps({name: curve(name, Path(sys.argv[1]) / name) for name in NAMES}))"
    )
    plain = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    command = [sys.executable, "-c", code, tmp_path]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=True)
    found, golden = json.loads(done.stdout.splitlines()[-1]), json.loads(FILE.read_text())["curves"]
    differences = {name: apart(found[name], golden[name]) for name in NAMES}
    print(f"without AVX: {differences}")
    assert max(differences.values()) < BOUND


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        curves = {one: curve(one, Path(place) / one) for one in NAMES}
    FILE.write_text(json.dumps({"made_by": here(), "curves": curves}, indent=1) + "\n")
