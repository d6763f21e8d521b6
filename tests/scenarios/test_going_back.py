"""A batch that breaks the training is left out: back to the last checkpoint, twice at most, with the evidence kept."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.data.loader.batch import Batch
from vitrail.jobs import training
from vitrail.jobs.pretrain import Pretrain, pretrain
from vitrail.models.mae import MAE
from vitrail.models.masked_patches import MaskedPatches
from vitrail.models.objective import Labels, Objective
from vitrail.recipes import pretraining
from vitrail.train.schedule import Cosine
from vitrail.train.step import Metrics, TrainState, train_step


def config(objective: Objective = Labels()) -> Pretrain:
    recipe = pretraining("digits")
    return replace(
        recipe,
        objective=objective,
        steps=30,
        batch=16,
        schedule=Cosine(2),
        save_every=8,
        log_every=1,
        evaluate_every=30,
    )


def break_at(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> list[int]:
    """Weights and loss become NaN in the updates after so many finished ones. Returns the list of all updates."""
    done: list[int] = []

    def breaking(state: TrainState, batch: Batch, **how: object) -> Metrics:
        done.append(state.step)
        broken = state.step in steps
        metrics = train_step(state, batch, **how)  # type: ignore[arg-type]
        if broken:
            with torch.no_grad():
                next(state.model.parameters()).fill_(float("nan"))
            return metrics._replace(loss=metrics.loss * float("nan"))
        return metrics

    monkeypatch.setattr(training, "train_step", breaking)
    return done


@pytest.mark.parametrize(
    "objective",
    [
        Labels(),
        MaskedPatches(),
        MAE(decoder_width=16, decoder_depth=1, decoder_heads=2, decoder_mlp=24),
    ],
    ids=["labels", "masked-patches", "mae"],
)
def test_the_run_goes_back_leaves_the_batch_out_and_ends(
    objective: Objective, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = break_at(monkeypatch, {19})
    result = pretrain(config(objective), tmp_path / "run", Machine(workers=0))
    assert done == [*range(20), 16, 17, 18, *range(20, 30)]
    assert result.skipped == (19,)
    assert result.steps == 30
    evidence = read_json(tmp_path / "run" / "failures" / "step-00000019" / "batch.json")
    assert evidence["step"] == 19
    assert "nan" in evidence["reason"]
    assert len(evidence["images"]) == 16
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [step for step in steps if step != 30] == [s for s in range(1, 30) if s != 20]  # no row twice, none of NaN


def test_before_the_first_save_it_goes_back_to_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = break_at(monkeypatch, {3})
    pretrain(config(), tmp_path / "run", Machine(workers=0))
    assert done == [0, 1, 2, 3, 0, 1, 2, *range(4, 30)]


def test_the_third_bad_batch_ends_the_run_with_the_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_at(monkeypatch, {9, 12, 20})
    with pytest.raises(BadInput, match=r"at step 20 the loss is nan, after the batches of steps 9, 12 .*step-00000020"):
        pretrain(config(), tmp_path / "run", Machine(workers=0))
    kept = sorted(p.name for p in (tmp_path / "run" / "failures").iterdir())
    assert kept == ["step-00000009", "step-00000012", "step-00000020"]
