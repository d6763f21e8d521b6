"""8, 64 and 1,024 processes: what each sums, what it writes, which images it sees; and ways to break it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.rehearsal.fake_ranks import A_MACHINE, fake_rank
from tests.train.small import MODEL, PREPROCESS, training
from vitrail.core import dist
from vitrail.core.device import Machine, Sharding
from vitrail.data.loader import loader as loaders
from vitrail.data.loader.batch import Batch, Broken
from vitrail.data.loader.loader import Loader, eval_loader, train_loader
from vitrail.data.loader.sampler import Sampling, batch_indices, share_of_rank
from vitrail.data.sources.base import Example, Source
from vitrail.data.transforms.pipeline import Augment, WholeImage
from vitrail.evals.inference import run_inference
from vitrail.models.build import build
from vitrail.train import checkpoint, sharded, step
from vitrail.train.callbacks import Callback, Every
from vitrail.train.checkpoint import Saver
from vitrail.train.config import TrainConfig
from vitrail.train.loop import fit
from vitrail.train.parallel import parallelize
from vitrail.train.sharded import Rows, local, rows_of
from vitrail.train.step import TrainState, init_state, train_step

pytestmark = [
    pytest.mark.filterwarnings("ignore:Grad strides do not match bucket view strides"),  # of the class token
    pytest.mark.filterwarnings("ignore:FSDP2-wrapped module .* returned a view"),  # which nobody writes to
]

CPU = torch.device("cpu")
SHARDINGS: list[Sharding] = ["replicated", "sharded", "hybrid"]
SIZES = [8, 64, 1024]


class Noise(Source):
    """Small images, each of its own colour."""

    def __init__(self, count: int):
        self.classes = tuple("0123456789")
        self.labels = np.arange(count, dtype=np.int64) % 10

    def __getitem__(self, index: int) -> Example:
        return Example(np.full((8, 8, 3), index % 256, np.uint8), int(self.labels[index]), str(index))


def started(sharding: Sharding, config: TrainConfig) -> TrainState:
    torch.manual_seed(0)
    built = build(replace(MODEL, depth=2))
    wrapped = parallelize(built, Machine("cpu", sharding=sharding, compile=False), CPU, torch.float32)
    return init_state(built, config, Broken(10_000), wrapped)


class Given:
    """Batches that are there."""

    def __init__(self, steps: int, images: int):
        self.steps, self.waited, self.images = range(steps), 0.0, images

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Batch]:
        for _ in self.steps:
            labels = torch.arange(self.images) % 10
            yield Batch.of(torch.zeros(self.images, 3, 8, 8, dtype=torch.uint8), labels)


class Read(Callback):
    """Takes the metrics, as a log does."""

    every = 2

    def __call__(self, state: TrainState, metrics: dict[str, float]) -> None:
        assert "loss" in metrics


def trained(rank: int, size: int, sharding: Sharding, tmp_path: Any, passes: int = 2, **changes: Any) -> list[str]:
    """Two steps of two passes with a log and a checkpoint, and the collectives that they took."""
    config = training(steps=2, batch=3 * size + 1, **changes)
    with fake_rank(rank, size) as seen, mock.patch.object(checkpoint, "_write"):
        state = started(sharding, config)
        mine = share_of_rank(config.batch, rank, size)
        state.micro_batch = ceil(ceil(config.batch / size) / passes)
        update = partial(train_step, config=config, preprocess=PREPROCESS, dtype=torch.float32)
        saver = Saver(tmp_path)
        # the sums of a fake group are no numbers that a run could be judged by
        with (
            mock.patch("vitrail.train.divergence.SpikeDetector.check"),
            mock.patch("vitrail.train.loop._note", return_value=None),
        ):
            fit(
                state,
                Given(config.steps, mine.stop - mine.start),
                update,
                steps=config.steps,
                callbacks=[Read(), Every(2, saver.save)],
                save=saver.save_now,
            )
        saver.wait()
    return seen.collectives


def some_of(size: int) -> list[int]:
    """The first, which writes; the first of another machine; the last, whose rows may be fewer."""
    return sorted({0, min(A_MACHINE, size - 1), size - 1})


@pytest.mark.parametrize(
    ("size", "sharding"), [(8, "replicated"), (64, "hybrid"), (1024, "replicated"), (1024, "sharded")]
)
def test_all_processes_take_part_in_the_same_sums(size: int, sharding: Sharding, tmp_path: Any) -> None:
    found = {rank: trained(rank, size, sharding, tmp_path) for rank in some_of(size)}
    assert len(found[0]) > 10
    check_alike(found)


def check_alike(found: dict[int, list[str]]) -> None:
    for rank, collectives in found.items():
        for place, (one, other) in enumerate(zip(found[0], collectives, strict=False)):
            assert one == other, f"collective {place}: process 0 is in {one}, process {rank} in {other}"
        assert len(collectives) == len(found[0]), (
            f"process {rank} takes part in {len(collectives)}, 0 in {len(found[0])}"
        )


# What a process writes: every element of every tensor once.


def pieces(rank: int, size: int, sharding: Sharding) -> dict[str, Rows]:
    """By the code that saves, after a step, so that the optimizer has its moments."""
    config = training(batch=size, average=0.9)
    with fake_rank(rank, size):
        state = started(sharding, config)
        train_step(state, next(iter(Given(1, 1))), config=config, preprocess=PREPROCESS, dtype=torch.float32)
        tensors = checkpoint._tensors(state)
        copies, rows = sharded.snapshot(tensors, dist.world())
        for name, copy in copies.items():
            assert rows[name].number == (len(copy) if copy.ndim else 1), name
        return rows


def all_pieces(size: int, sharding: Sharding) -> list[dict[str, Rows]]:
    """Of every process; of 1,024 by one model whose place in the mesh changes, as a thousand would take minutes."""
    if size == 8:
        return [pieces(rank, size, sharding) for rank in range(size)]
    found = []
    with fake_rank(0, size):
        state = started(sharding, training(batch=size))
        tensors = dict(state.model.state_dict())
        for rank in range(size):
            places = (rank // A_MACHINE, rank % A_MACHINE) if sharding == "hybrid" else (rank,)
            with mock.patch(
                "torch.distributed.device_mesh.DeviceMesh.get_local_rank",
                lambda mesh, dimension=0, places=places: places[dimension],
            ):
                world = dist.World(rank, size, rank % A_MACHINE)
                found.append({n: rows_of(t) for n, t in tensors.items() if sharded.written_here(t, world)})
    return found


def check_once(found: list[dict[str, Rows]], shapes: dict[str, tuple[int, ...]]) -> None:
    """Every row of every tensor is in one piece, and in no second one."""
    rows: dict[str, Counter[int]] = {name: Counter() for name in shapes}
    for mine in found:
        for name, (start, number, shape) in mine.items():
            assert shape == shapes[name]
            rows[name].update(range(start, start + number))
    for name, shape in shapes.items():
        whole = range(shape[0] if shape else 1)
        twice = [row for row in whole if rows[name][row] > 1]
        never = [row for row in whole if not rows[name][row]]
        assert not twice, f"{name}: rows {twice[:5]} are written more than once"
        assert not never, f"{name}: rows {never[:5]} are written by nobody"
        assert rows[name].total() == len(whole)


def whole_shapes(size: int) -> dict[str, tuple[int, ...]]:
    """Of one process, which has all."""
    config = training(batch=size, average=0.9)
    torch.manual_seed(0)
    state = init_state(build(replace(MODEL, depth=2)), config, Broken(1))
    train_step(state, next(iter(Given(1, 1))), config=config, preprocess=PREPROCESS, dtype=torch.float32)
    tensors = checkpoint._tensors(state)
    kept = tensors if size == 8 else {n: t for n, t in tensors.items() if n.startswith("model.")}
    return {(n if size == 8 else n.removeprefix("model.")): tuple(t.shape) for n, t in kept.items()}


@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("size", SIZES)
def test_every_element_is_written_once(sharding: Sharding, size: int) -> None:
    check_once(all_pieces(size, sharding), whole_shapes(size))


@pytest.mark.parametrize("sharding", ["sharded", "hybrid"])
@pytest.mark.parametrize("rank", [0, 9, 1023])
def test_what_is_reckoned_for_a_thousand_processes_is_what_they_hold(sharding: Sharding, rank: int) -> None:
    with fake_rank(rank, 1024):
        tensors = started(sharding, training(batch=1024)).model.state_dict()
        for name, tensor in tensors.items():
            assert rows_of(tensor).number == len(local(tensor)), name


# Which images a process sees.


def global_batches(size: int, batch: int, steps: int, count: int, **options: Any) -> list[list[tuple[int, int]]]:
    """Of each step the (n, index) of all processes, in the order of ranks."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(steps)]
    source = Noise(count)
    for rank in range(size):
        loader = train_loader(
            source,
            Augment(WholeImage()),
            PREPROCESS,
            batch=batch,
            seed=1,
            start=0,
            stop=steps,
            workers=0,
            rank=rank,
            world=size,
            **options,
        )
        for place, one in enumerate(of(loader)):
            found[place] += zip(one.epochs.tolist(), one.indices.tolist(), strict=True)
    return found


def of(loader: Loader) -> Iterator[Batch]:
    """The batches without a loader's processes and queues."""
    for place in loader.steps:
        yield loader._dataset[place]


@pytest.mark.parametrize(("size", "batch", "count"), [(8, 13, 61), (64, 100, 611), (1024, 1500, 2000)])
def test_every_image_is_seen_once_an_epoch(size: int, batch: int, count: int) -> None:
    steps = -(-count // batch)
    found = global_batches(size, batch, steps, count)
    for place, examples in enumerate(found):
        assert examples == batch_indices(1, place, batch, count)
    seen = Counter(index for examples in found for epoch, index in examples if epoch == 0)
    assert seen == Counter(range(count))


def test_repeated_examples_are_shared_too() -> None:
    found = global_batches(8, 24, 3, 50, sampling=Sampling(repeats=3))
    assert [sorted(Counter(index for _, index in step).values()) for step in found] == [[3] * 8] * 3


@pytest.mark.parametrize(("size", "count"), [(8, 1000), (64, 100), (1024, 700)])
def test_every_image_is_judged_once_and_nobody_stops_earlier(size: int, count: int) -> None:
    seen: Counter[int] = Counter()
    lengths = set()
    for rank in range(size):
        loader = eval_loader(Noise(count), PREPROCESS, batch=256, rank=rank, world=size)
        lengths.add(len(loader))
        for part in of(loader):
            seen.update(part.indices.tolist())
    assert seen == Counter(range(count))
    assert len(lengths) == 1


def test_an_evaluation_counts_every_image_once(tmp_path: Any) -> None:
    """By the model itself, in eight processes of which some have no image of the last batch."""
    seen: Counter[int] = Counter()
    taken = {}
    for rank in range(8):
        with fake_rank(rank, 8) as noted:
            model = started("sharded", training(batch=8)).model
            noted.collectives.clear()
            for out in run_inference(
                model, Noise(37), PREPROCESS, batch=4, dtype=torch.float32, workers=0, together=True
            ):
                seen.update(out.batch.indices.tolist())
                assert len(out.logits) == len(out.batch.labels)
            taken[rank] = list(noted.collectives)
    assert seen == Counter(range(37))
    check_alike(taken)


def test_mixing_gets_the_example_before() -> None:
    found = global_batches(8, 16, 1, 40, predecessor=True)[0]
    whole = batch_indices(1, 0, 16, 40)
    assert found == [one for rank in range(8) for one in (whole[2 * rank - 1], *whole[2 * rank : 2 * rank + 2])]


# breaks, each of which must be found


def test_a_collective_of_one_process_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    plain = step._clip

    def waiting(*given: Any) -> Tensor:
        if dist.world().first:
            dist.barrier()
        return plain(*given)

    monkeypatch.setattr(step, "_clip", waiting)
    found = {rank: trained(rank, 8, "replicated", tmp_path) for rank in (0, 1)}
    with pytest.raises(AssertionError, match="process 0 is in allreduce_"):
        check_alike(found)


def test_a_save_of_one_process_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Not every process finds its weights finite: the sum that says so must be of all."""
    plain = Saver.save

    def only_the_first(saver: Saver, state: TrainState) -> None:
        if dist.world().first:
            plain(saver, state)

    monkeypatch.setattr(Saver, "save", only_the_first)
    found = {rank: trained(rank, 8, "replicated", tmp_path) for rank in (0, 1)}
    with pytest.raises(AssertionError, match="process 0 is in|takes part in"):
        check_alike(found)


@pytest.mark.parametrize("size", [8, 64])
def test_a_shard_that_is_written_twice_is_found(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """By each replica, and not by the first alone."""
    monkeypatch.setattr(sharded, "written_here", lambda tensor, world: rows_of(tensor).number > 0)
    with pytest.raises(AssertionError, match="written more than once"):
        check_once(all_pieces(size, "hybrid" if size > 8 else "replicated"), whole_shapes(size))


def test_a_shard_that_nobody_writes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded, "written_here", lambda tensor, world: world.first)
    with pytest.raises(AssertionError, match="written by nobody"):
        check_once(all_pieces(64, "sharded"), whole_shapes(64))


def test_an_image_of_two_processes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "share_of_rank", lambda batch, rank, world: slice(rank, rank + 1))
    assert global_batches(8, 13, 1, 61)[0] != batch_indices(1, 0, 13, 61)
