"""Batches: the same for any number of workers and ranks and from any step; broken images named and replaced."""

import time

import numpy as np
import pytest
import torch

from tests.data.pictures import BytesSource, encoded, noise, smooth
from vitrail.core.errors import BadInput
from vitrail.data.loader.batch import Batch, Broken, BrokenExample
from vitrail.data.loader.loader import Loader, eval_loader, train_loader
from vitrail.data.loader.normalise import normalise, stack
from vitrail.data.loader.sampler import batch_indices
from vitrail.data.transforms.pipeline import Augment, Preprocess, SquareResize, eval_transform
from vitrail.records.record import as_json

PREPROCESS = Preprocess((12, 16), SquareResize())


def source_of(count: int, broken: tuple[int, ...] = ()) -> BytesSource:
    images = [b"broken" if i in broken else encoded(noise(20, 24, i)) for i in range(count)]
    return BytesSource(images, [i % 3 for i in range(count)], ("a", "b", "c"))


def training(source: BytesSource, start: int = 0, stop: int = 7, **options: int) -> Loader:
    settings = {"batch": 6, "seed": 5, "workers": 0, **options}
    return train_loader(source, Augment(), PREPROCESS, start=start, stop=stop, **settings)


def assert_same(ours: list[Batch], theirs: list[Batch]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
        assert a.keys == b.keys
        assert torch.equal(a.indices, b.indices)
        assert a.broken == b.broken


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")  # more than there may be cores
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_batches_are_the_same_for_any_number_of_workers(workers: int) -> None:
    source = source_of(20, broken=(4,))
    assert_same(list(training(source, workers=workers)), list(training(source)))


def test_resuming_at_a_step_continues_the_same_batches() -> None:
    source = source_of(20)
    assert_same(list(training(source, start=3)), list(training(source))[3:])


def test_the_batch_is_the_one_of_the_order() -> None:
    source = source_of(20)
    for step, batch in enumerate(training(source)):
        assert batch.keys == [f"image-{index}" for _, index in batch_indices(5, step, 6, 20)]
        assert batch.labels.tolist() == [int(key.split("-")[1]) % 3 for key in batch.keys]
        assert batch.images.shape == (6, 3, 12, 16)
        assert batch.images.dtype == torch.uint8


def test_an_example_looks_different_in_every_epoch_and_under_every_seed() -> None:
    source = source_of(6)
    first, second = (dict(zip(b.keys, b.images, strict=True)) for b in training(source, stop=2))
    other = {k: v for b in training(source, stop=1, seed=6) for k, v in zip(b.keys, b.images, strict=True)}
    for key, view in first.items():
        assert not torch.equal(view, second[key])
        assert not torch.equal(view, other[key])


@pytest.mark.parametrize("workers", [0, 2])
def test_channels_lie_side_by_side_as_they_were_decoded(workers: int) -> None:
    batch = next(iter(training(source_of(20), workers=workers)))
    assert batch.images.permute(0, 2, 3, 1).is_contiguous()


def test_the_seconds_of_waiting_are_counted() -> None:
    loader = training(source_of(20), stop=4)
    assert loader.waited == 0
    begun = time.perf_counter()
    for _ in loader:
        time.sleep(0.05)
    spent = time.perf_counter() - begun
    assert 0 < loader.waited < spent - 4 * 0.05 + 0.01


@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_ranks_together_see_the_global_batch(world: int) -> None:
    source = source_of(20, broken=(4,))
    whole = list(training(source))
    parts = [list(training(source, rank=rank, world=world)) for rank in range(world)]
    for step, batch in enumerate(whole):
        assert torch.equal(torch.cat([part[step].images for part in parts]), batch.images)
        assert torch.equal(torch.cat([part[step].labels for part in parts]), batch.labels)


def test_evaluation_sees_every_example_once_in_order() -> None:
    source = source_of(10)
    batches = list(eval_loader(source, PREPROCESS, batch=4))
    assert [len(b.labels) for b in batches] == [4, 4, 2]
    assert [key for b in batches for key in b.keys] == [f"image-{i}" for i in range(10)]
    expected = stack([eval_transform(noise(20, 24, i), PREPROCESS) for i in range(10)])
    assert torch.equal(torch.cat([b.images for b in batches]), expected)


def test_evaluation_leaves_broken_images_out_and_names_them() -> None:
    (batch,) = eval_loader(source_of(5, broken=(1, 4)), PREPROCESS)
    assert batch.keys == ["image-0", "image-2", "image-3"]
    assert batch.indices.tolist() == [0, 2, 3]
    assert batch.images.shape[0] == len(batch.labels) == 3
    assert [(one.index, one.key) for one in batch.broken] == [(1, "image-1"), (4, "image-4")]
    assert all("not an image" in one.reason for one in batch.broken)


def test_the_next_readable_example_stands_in_for_a_broken_one() -> None:
    whole, holed = source_of(12), source_of(12, broken=(3, 4, 11))
    stand_in = {3: 5, 4: 5, 11: 0}
    for intact, batch in zip(training(whole), training(holed), strict=True):
        expected = [int(key.split("-")[1]) for key in intact.keys]
        assert batch.keys == [f"image-{stand_in.get(i, i)}" for i in expected]
        assert batch.indices.tolist() == [stand_in.get(i, i) for i in expected]
        assert batch.labels.tolist() == [stand_in.get(i, i) % 3 for i in expected]
        named = {one.key for one in batch.broken}
        assert named == {f"image-{j}" for i in expected if i in stand_in for j in ((3, 4) if i == 3 else (i,))}
    assert_same(list(training(holed)), list(training(holed)))


def test_a_batch_without_one_readable_image_is_empty_and_says_why() -> None:
    (batch,) = training(source_of(3, broken=(0, 1, 2)), stop=1)
    assert len(batch.labels) == 0
    assert {one.key for one in batch.broken} == {"image-0", "image-1", "image-2"}


def test_each_broken_image_is_counted_once() -> None:
    broken = Broken(size=300)
    for _ in range(5):
        broken.add([BrokenExample(0, "a.png", "empty file"), BrokenExample(1, "b.png", "truncated")])
    assert as_json(broken.rows()) == [{"key": "a.png", "reason": "empty file"}, {"key": "b.png", "reason": "truncated"}]


def test_one_broken_image_never_ends_a_run() -> None:
    Broken(size=3).add([BrokenExample(0, "a.png", "empty file")])


def test_too_many_broken_images_end_the_run_with_the_list() -> None:
    broken = Broken(size=300)  # 1 %: three are allowed
    broken.add([BrokenExample(i, f"{i}.png", "empty file") for i in range(3)])
    with pytest.raises(BadInput, match=r"4 of 300 images are broken, more than the 1% allowed:(?s:.*)x\.png: cut off"):
        broken.add([BrokenExample(7, "x.png", "cut off")])


def test_the_list_of_broken_images_stays_short() -> None:
    with pytest.raises(BadInput, match="and 80 more") as raised:
        Broken(size=300).add([BrokenExample(i, f"{i}.png", "empty file") for i in range(100)])
    assert len(str(raised.value).splitlines()) == 22


def test_pixels_become_minus_one_to_one() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16).contiguous()
    got = normalise(images, Preprocess(), torch.device("cpu"))
    pixels = np.arange(256, dtype=np.float32).reshape(16, 16)
    assert np.array_equal(got[0, 2].numpy(), pixels / np.float32(127.5) - 1)  # bit for bit
    assert (got.amin(), got.amax()) == (-1, 1)


def test_the_order_in_memory_is_that_of_the_shape_whatever_it_was() -> None:
    images = torch.from_numpy(noise(6, 7)).permute(2, 0, 1)[None]
    assert not images.is_contiguous()
    got = normalise(images, Preprocess(), torch.device("cpu"))
    assert got.is_contiguous()
    assert torch.equal(got, normalise(images.contiguous(), Preprocess(), torch.device("cpu")))


def test_any_mean_and_deviation_are_applied_by_channel() -> None:
    preprocess = Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    images = torch.from_numpy(smooth(6, 7).transpose(2, 0, 1)[None].copy())
    got = normalise(images, preprocess, torch.device("cpu")).double().numpy()
    mean, std = (np.array(v).reshape(1, 3, 1, 1) for v in (preprocess.mean, preprocess.std))
    assert np.abs(got - (images.numpy() / 255 - mean) / std).max() < 1e-6  # measured 2.0e-7
