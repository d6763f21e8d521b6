"""Batches in memory that is used again: never while somebody reads it, and never copied."""

import multiprocessing
import pickle
from itertools import islice

import numpy as np
import pytest
import torch

from tests.data.pictures import BytesSource, encoded, noise
from vitrail.data.loader.loader import AHEAD, Loader, train_loader
from vitrail.data.loader.shared_memory import SharedBuffers, make_buffers
from vitrail.data.transforms.pipeline import Augment, Preprocess, SquareResize, WholeImage

SHAPE = (2, 4, 5, 3)
PLAIN = Augment(WholeImage(), flip=False)
FORKED = pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="processes are not forked here")


def loader_of(count: int, workers: int, stop: int) -> Loader:
    source = BytesSource([encoded(noise(20, 24, i)) for i in range(count)], [0] * count, ("a",))
    preprocess = Preprocess((20, 24), SquareResize())
    return train_loader(source, PLAIN, preprocess, batch=4, seed=0, start=0, stop=stop, workers=workers)


def index_of(key: str) -> int:
    return int(key.split("-")[1])


def test_a_slot_is_free_again_when_the_last_view_of_it_dies() -> None:
    slots = SharedBuffers(workers=1, slots=1, size=1000)
    taken = slots.take(0, SHAPE)
    assert taken is not None
    taken[:] = torch.arange(120, dtype=torch.uint8).view(SHAPE)
    sent = slots.slot_of(taken.permute(0, 3, 1, 2))
    assert sent is not None
    images = pickle.loads(pickle.dumps(sent)).images()
    assert torch.equal(images.permute(0, 2, 3, 1), taken)
    assert images.data_ptr() == taken.data_ptr()
    view = images[1:, :2]
    assert slots.take(0, SHAPE) is None
    del images
    assert slots.take(0, SHAPE) is None  # a part of it is still read
    assert view.shape == (1, 2, 4, 5)
    del view
    assert slots.take(0, SHAPE) is not None


def test_every_worker_has_its_own_slots_and_all_differ() -> None:
    slots = SharedBuffers(workers=3, slots=2, size=200)
    taken = [slots.take(worker, SHAPE) for worker in (0, 2, 1, 0, 1, 2)]
    assert all(t is not None for t in taken)
    for i, tensor in enumerate(taken):
        tensor.fill_(i)  # type: ignore[union-attr]
    assert [int(t.max()) for t in taken] == [int(t.min()) for t in taken] == list(range(6))  # type: ignore[union-attr]
    assert slots.take(1, SHAPE) is None


def test_what_is_too_large_or_lies_elsewhere_has_no_slot() -> None:
    slots = SharedBuffers(workers=1, slots=1, size=100)
    assert slots.take(0, (100, 10, 10, 3)) is None
    assert slots.slot_of(torch.zeros(2, 3, 4, 5, dtype=torch.uint8)) is None


@FORKED
def test_what_another_process_writes_is_read() -> None:
    slots = SharedBuffers(workers=1, slots=2, size=200)

    def write(queue: multiprocessing.SimpleQueue) -> None:
        tensor = slots.take(0, SHAPE)
        assert tensor is not None
        tensor.fill_(7)
        queue.put(slots.slot_of(tensor.permute(0, 3, 1, 2)))

    queue = multiprocessing.SimpleQueue()
    process = multiprocessing.get_context("fork").Process(target=write, args=(queue,))
    process.start()
    assert (queue.get().images() == 7).all()
    process.join()


def test_batches_that_are_kept_stay_what_they_were() -> None:
    """More of them than there are slots, and parts of others; the workers go on meanwhile."""
    kept, parts = [], []
    for step, batch in enumerate(loader_of(30, workers=2, stop=60)):
        if step % 2:
            kept.append(batch)
        else:
            parts.append((batch.keys[1:3], batch.images[1:3]))
    assert len(kept) > 2 * (AHEAD + 2)
    for keys, images in [*((b.keys, b.images) for b in kept), *parts]:
        for key, image in zip(keys, images, strict=True):
            assert np.array_equal(image.permute(1, 2, 0).numpy(), noise(20, 24, index_of(key)))


@FORKED
def test_memory_is_used_again() -> None:
    places = {batch.images.data_ptr() for batch in loader_of(30, workers=1, stop=100)}
    assert len(places) <= AHEAD + 2


def test_a_loader_that_was_left_early_starts_again() -> None:
    loader = loader_of(30, workers=2, stop=20)
    first = list(islice(loader, 3))
    again = list(loader)
    assert len(again) == 20
    for a, b in zip(first, again, strict=False):
        assert torch.equal(a.images, b.images)


def test_batches_come_without_slots_where_there_is_no_memory_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_buffers(workers=4, slots=6, size=2**55) is None
    assert make_buffers(workers=0, slots=6, size=100) is None
    expected = list(loader_of(30, workers=0, stop=10))
    monkeypatch.setattr("vitrail.data.loader.loader.make_buffers", lambda *_: None)
    for ours, theirs in zip(loader_of(30, workers=2, stop=10), expected, strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert ours.keys == theirs.keys
