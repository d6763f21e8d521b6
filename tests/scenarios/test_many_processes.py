"""One, two and four processes, replicated or sharded, make the same run; and each goes on with what others saved."""

from pathlib import Path

import pytest

from tests.scenarios.many import differences, last_step, rows, run, run_until
from vitrail.weights.tensors import read_safetensors

TOLERANCE = 1e-5  # promised, of the loss over 50 steps in float32; measured: 1.3e-7


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, never killed."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    run(folder, 1)
    return folder


def close_weights(ours: Path, theirs: Path) -> float:
    """The norm of the difference of the final weights, relative to their norm.

    Not the largest difference: keys' biases have a gradient of nothing but rounding, which Adam makes a step of.
    """
    a, b = (read_safetensors(folder / "bundle" / "model.safetensors") for folder in (ours, theirs))
    assert a.keys() == b.keys()
    apart = sum(float((a[name] - b[name]).square().sum()) for name in a)
    return float((apart / sum(float(t.square().sum()) for t in a.values())) ** 0.5)


@pytest.mark.parametrize(
    ("processes", "sharding"),
    [
        (2, "replicated"),
        (2, "sharded"),
        pytest.param(4, "replicated", marks=pytest.mark.slow),
        pytest.param(4, "sharded", marks=pytest.mark.slow),
        pytest.param(4, "hybrid", marks=pytest.mark.slow),
    ],
)
def test_the_loss_curve_and_the_evaluation_are_those_of_one_process(
    alone: Path, tmp_path: Path, processes: int, sharding: str
) -> None:
    result = run(tmp_path / "run", processes, sharding)
    error = differences(rows(alone), rows(tmp_path / "run"))
    apart = close_weights(alone, tmp_path / "run")
    print(f"{processes} processes, {sharding}: losses differ by {error:.1e}, weights by {apart:.1e}")
    assert error < TOLERANCE
    assert apart < 1e-4
    assert result["processes"] == processes
    assert result["count"] == 445  # the test digits: divisible by neither 2 nor 4


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_a_checkpoint_of_four_goes_on_with_two_and_then_with_one(alone: Path, tmp_path: Path, sharding: str) -> None:
    folder = tmp_path / "run"
    run_until(folder, 13, 4, sharding)
    assert 11 <= last_step(folder) < 50
    run_until(folder, 25, 2, sharding)
    result = run(folder, 1)
    assert result["restarts"] == 2
    assert differences(rows(alone), rows(folder)) < TOLERANCE
    assert close_weights(alone, folder) < 1e-4


@pytest.mark.slow
def test_recomputation_changes_nothing(alone: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", 2, "sharded", "--recompute")
    assert differences(rows(alone), rows(tmp_path / "run")) < TOLERANCE


def test_a_batch_smaller_than_the_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from vitrail.core.errors import BadInput
    from vitrail.train.config import TrainConfig, check_training

    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(BadInput, match="a batch of 4 images cannot be shared by 8 processes"):
        check_training(TrainConfig("digits", batch=4))
