"""A batch that does not fit in memory is cut into parts; the update stays that of the whole batch."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.train.small import MODEL, PREPROCESS, batches, everything, fresh, save_checkpoint, training
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json, write_json
from vitrail.data.loader.loader import train_loader
from vitrail.data.loader.normalise import normalise
from vitrail.data.open.names import open_data
from vitrail.data.transforms.mixup import Mixing
from vitrail.models.cost import training_activations
from vitrail.train import micro_batch, step
from vitrail.train.checkpoint import restore_checkpoint
from vitrail.train.micro_batch import choose_micro_batch, retry_on_oom
from vitrail.train.optim import Momentum
from vitrail.train.schedule import Cosine
from vitrail.train.step import TrainState, train_step

CONFIG = training(optimizer=Momentum(lr=1.0), schedule=Cosine(), clip=None)


def at_most(state: TrainState, images: int, passes: list[int]) -> None:
    """From now on the model's memory ends above so many images; `passes` notes every one that is tried."""
    whole = state.model.forward

    def limited(x: torch.Tensor) -> object:
        passes.append(x.shape[0])
        if x.shape[0] > images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(x)

    state.model.forward = limited  # type: ignore[method-assign, assignment]


def update(folder: Path) -> object:
    step = partial(train_step, config=CONFIG, preprocess=PREPROCESS, dtype=torch.float32)
    return retry_on_oom(step, folder)


def test_a_step_without_memory_is_done_again_in_parts_and_equals_the_whole(tmp_path: Path) -> None:
    (batch,) = batches(CONFIG, stop=1)
    plain, limited = fresh(CONFIG), fresh(CONFIG)
    passes: list[int] = []
    at_most(limited, 4, passes)
    one = update(tmp_path)(plain, batch)  # type: ignore[operator]
    other = update(tmp_path)(limited, batch)  # type: ignore[operator]
    assert passes == [12, 6, 3, 3, 3, 3]
    assert limited.micro_batch == 3
    assert read_json(tmp_path / "micro_batch.json") == {"micro_batch": 3}
    assert limited.step == 1
    for name, tensor in everything(plain).items():
        assert (tensor - everything(limited)[name]).abs().max() < 1e-5, name  # measured 1.8e-7
    assert float(other.loss) == pytest.approx(float(one.loss), rel=1e-5)


def test_the_next_start_begins_with_what_fitted(tmp_path: Path) -> None:
    write_json(tmp_path / "micro_batch.json", {"micro_batch": 5})
    state = fresh(CONFIG)
    choose_micro_batch(state, CONFIG, torch.float32, tmp_path)
    assert state.micro_batch == 5


def test_not_even_one_image_is_said_with_what_would_help(tmp_path: Path) -> None:
    (batch,) = batches(CONFIG, stop=1)
    state = fresh(CONFIG)
    at_most(state, 0, [])
    with pytest.raises(BadInput, match=r"does not even hold the pass of 1 image: take recompute"):
        update(tmp_path)(state, batch)  # type: ignore[operator]


def test_other_errors_of_a_step_stay_what_they_are(tmp_path: Path) -> None:
    def broken(state: TrainState, batch: object) -> object:
        raise RuntimeError("shapes do not match")

    (batch,) = batches(CONFIG, stop=1)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        retry_on_oom(broken, tmp_path)(fresh(CONFIG), batch)  # type: ignore[arg-type]


@pytest.mark.parametrize(("images", "expected"), [(100, 12), (12, 12), (7, 7), (1, 1), (0, 1)])
def test_the_most_that_fits_by_the_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int, expected: int
) -> None:
    room = int((images + 0.5) * training_activations(MODEL, 4) / micro_batch.SHARE)
    monkeypatch.setattr(micro_batch, "available_memory", lambda device: room)
    state = fresh(CONFIG)
    choose_micro_batch(state, CONFIG, torch.float32, tmp_path)
    assert state.micro_batch == expected


def test_a_run_that_goes_on_keeps_its_own_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro_batch, "available_memory", lambda device: 10**12)
    first = fresh(CONFIG)
    first.micro_batch = 5
    save_checkpoint(tmp_path / "checkpoints", first)
    later = fresh(CONFIG)
    assert restore_checkpoint(tmp_path / "checkpoints", later)
    monkeypatch.setattr(micro_batch, "available_memory", lambda device: 0)
    choose_micro_batch(later, CONFIG, torch.float32, tmp_path)
    assert later.micro_batch == 5


def test_recomputation_leaves_room_for_more_images() -> None:
    deep = replace(MODEL, depth=8)
    assert training_activations(deep, 4, recompute=True) < 0.5 * training_activations(deep, 4)
    assert training_activations(MODEL, 4, recompute=True) > training_activations(MODEL, 4)  # one block: nothing saved


def test_memory_that_ends_in_the_update_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (batch,) = batches(CONFIG, stop=1)
    state = fresh(CONFIG)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(state.optimizer, "step", full)
    with pytest.raises(BadInput, match=r"memory ran out in the update of the weights at step 0.*micro_batch"):
        update(tmp_path)(state, batch)  # type: ignore[operator]


def test_trying_leaves_nothing_behind(tmp_path: Path) -> None:
    state = fresh(CONFIG)
    before = everything(state)
    passes: list[int] = []
    at_most(state, 5, passes)
    assert micro_batch._largest_that_fits(lambda n: micro_batch._fits(state, n, torch.float32, 2, 64), 12) == 3
    assert passes == [12, 6, 3]
    assert all(torch.equal(tensor, everything(state)[name]) for name, tensor in before.items())
    assert all(p.grad is None for p in state.model.parameters())


@pytest.mark.parametrize("mixing", [Mixing(), Mixing(mixup=0.2)])
def test_images_are_made_numbers_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch, mixing: Mixing) -> None:
    held: list[int] = []

    def noting(images: torch.Tensor, *others: object) -> torch.Tensor:
        held.append(len(images))
        return normalise(images, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(step, "normalise", noting)
    config, state = replace(CONFIG, mixing=mixing), fresh(CONFIG)
    state.micro_batch = 5
    (batch,) = train_loader(
        open_data(config.train),
        config.augment,
        PREPROCESS,
        batch=12,
        seed=0,
        start=0,
        stop=1,
        workers=0,
        predecessor=mixing != Mixing(),
    )
    train_step(state, batch, config=config, preprocess=PREPROCESS, dtype=torch.float32)
    assert held == [4, 4, 4]


@pytest.mark.parametrize(
    ("largest", "estimate", "first"), [(4096, 4096, 4096), (4096, 370, 512), (100, 40, 50), (7, 1, 2)]
)
def test_what_is_tried_starts_near_the_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest: int, estimate: int, first: int
) -> None:
    """Each try compiles the model anew."""
    tried: list[int] = []

    def fits(state: TrainState, images: int, dtype: torch.dtype, moments: int, batch: int) -> bool:
        assert batch == (largest + 1) * 3 * 8 * 8 * 2
        tried.append(images)
        return True

    monkeypatch.setattr(micro_batch, "_on_cuda_alone", lambda device: True)
    monkeypatch.setattr(micro_batch, "fitting", lambda *_, **options: estimate)
    monkeypatch.setattr(micro_batch, "_fits", fits)
    state = fresh(CONFIG)
    choose_micro_batch(state, replace(CONFIG, batch=largest), torch.float32, tmp_path)
    assert tried == [first] == [state.micro_batch]
