"""Resident data: the order, labels, keys and broken images of the workers' path, and views of the same distribution."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from tests.data.pictures import BytesSource, encoded, noise
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.core.seeds import Keyed, torch_seed
from vitrail.data.loader.batch import Batch
from vitrail.data.loader.loader import Batches, train_loader
from vitrail.data.loader.on_device import OnDeviceDataset, check_fits_device
from vitrail.data.loader.sampler import Sampling
from vitrail.data.sources.base import ArraySource, Source
from vitrail.data.transforms.pipeline import (
    Augment,
    CentreCrop,
    ColourJitter,
    InceptionCrop,
    PadCrop,
    Preprocess,
    ResizeCrop,
    SimpleRandomCrop,
    SquareResize,
    WholeImage,
    train_transform,
)
from vitrail.data.transforms.randaugment import RandAugment
from vitrail.data.transforms.random_erasing import RandomErasing
from vitrail.jobs import training
from vitrail.jobs.pretrain import pretrain
from vitrail.recipes import pretraining
from vitrail.train.config import check_training

CPU = torch.device("cpu")
PREPROCESS = Preprocess((12, 16), SquareResize())
PLAIN = Augment(crop=WholeImage(), flip=False)
SHAKEN = Augment(crop=InceptionCrop(), erasing=RandomErasing())


def source_of(count: int, broken: tuple[int, ...] = (), sizes: tuple[tuple[int, int], ...] = ((20, 24),)) -> Source:
    images = [b"broken" if i in broken else encoded(noise(*sizes[i % len(sizes)], i)) for i in range(count)]
    return BytesSource(images, [i % 3 for i in range(count)], ("a", "b", "c"))


def resident(source: Source, augment: Augment = SHAKEN, start: int = 0, stop: int = 7, **options: Any) -> Batches:
    device = options.pop("device", CPU)
    settings = {"batch": 6, "seed": 5, **options}
    return OnDeviceDataset(source, augment, PREPROCESS, device).batches(start=start, stop=stop, **settings)


def by_workers(source: Source, augment: Augment = SHAKEN, start: int = 0, stop: int = 7, **options: Any) -> Batches:
    settings = {"batch": 6, "seed": 5, "workers": 0, **options}
    return train_loader(source, augment, PREPROCESS, start=start, stop=stop, **settings)


def assert_same(ours: list[Batch], theirs: list[Batch], pixels: bool = True) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.images.dtype == b.images.dtype == torch.uint8
        assert a.images.shape == b.images.shape
        assert not pixels or torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
        assert a.keys == b.keys
        assert torch.equal(a.indices, b.indices)
        assert a.broken == b.broken


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sampling": Sampling(repeats=3)},
        {"sampling": Sampling(balanced=True)},
        {"rank": 1, "world": 2, "predecessor": True},
    ],
    ids=str,
)
def test_order_labels_keys_and_broken_images_are_those_of_the_workers(options: dict[str, Any]) -> None:
    for broken in ((), (3, 4, 19)):
        source = source_of(20, broken)
        assert_same(list(resident(source, **options)), list(by_workers(source, **options)), pixels=False)


@pytest.mark.parametrize("resize", [SquareResize(), CentreCrop()])
def test_without_anything_random_the_pixels_are_those_of_the_workers(resize: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("tests.data.loader.test_on_device.PREPROCESS", replace(PREPROCESS, resize=resize))
    for sizes in (((20, 24),), ((20, 24), (9, 40), (31, 12))):
        source = source_of(20, (4,), sizes)
        assert_same(list(resident(source, PLAIN)), list(by_workers(source, PLAIN)))


@pytest.mark.parametrize("augment", [SHAKEN, Augment(crop=PadCrop()), Augment(crop=SimpleRandomCrop())])
def test_resuming_at_a_step_continues_the_same_batches(augment: Augment) -> None:
    source = source_of(20, (4,), ((20, 24), (24, 20)))
    assert_same(list(resident(source, augment, start=3)), list(resident(source, augment))[3:])


@pytest.mark.parametrize("world", [2, 4])
def test_the_ranks_together_see_the_global_batch(world: int) -> None:
    source = source_of(20, broken=(4,))
    whole = list(resident(source))
    parts = [list(resident(source, rank=rank, world=world)) for rank in range(world)]
    for step, batch in enumerate(whole):
        assert torch.equal(torch.cat([part[step].images for part in parts]), batch.images)
        assert torch.equal(torch.cat([part[step].labels for part in parts]), batch.labels)


def test_mixing_gets_the_example_before_a_part_as_the_other_process_sees_it() -> None:
    source = source_of(20)
    first, second = (list(resident(source, rank=r, world=2, predecessor=True)) for r in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.images[-1], b.images[0])
        assert torch.equal(b.images[-1], a.images[0])


def test_an_example_looks_different_in_every_epoch_and_under_every_seed() -> None:
    source = source_of(6)
    first, second = (dict(zip(b.keys, b.images, strict=True)) for b in resident(source, stop=2))
    other = {k: v for b in resident(source, stop=1, seed=6) for k, v in zip(b.keys, b.images, strict=True)}
    for key, view in first.items():
        assert not torch.equal(view, second[key])
        assert not torch.equal(view, other[key])


def test_a_batch_without_one_readable_image_is_empty_and_says_why() -> None:
    for augment in (SHAKEN, PLAIN):
        source = BytesSource([b"broken"] * 3, [0, 1, 2], ("a", "b", "c"))
        (batch,) = resident(source, augment, stop=1)
        assert len(batch.labels) == batch.images.shape[0] == 0
        assert {one.key for one in batch.broken} == {"image-0", "image-1", "image-2"}


def gradient(height: int, width: int) -> np.ndarray:
    """Pixels that tell where they come from: red by the column, green by the row; blue is noise."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.stack([255 * x, 255 * y, 255 * np.random.default_rng(0).random((height, width))], -1).astype(np.uint8)


#: what a view tells: [M, 3, h, w] -> [M]
TELLING: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "left or right": lambda v: v[:, 0, :, -1].mean(1) - v[:, 0, :, 0].mean(1),  # flips, and the width of the box
    "height": lambda v: v[:, 1, -1].mean(1) - v[:, 1, 0].mean(1),
    "column": lambda v: v[:, 0].mean((1, 2)),
    "row": lambda v: v[:, 1].mean((1, 2)),
    "area": lambda v: np.abs(v[:, 0, :, -1].mean(1) - v[:, 0, :, 0].mean(1)) * (v[:, 1, -1] - v[:, 1, 0]).mean(1),
    "contrast": lambda v: v[:, 2].std((1, 2)),
    "corner": lambda v: v[:, 0, 0, 0] + v[:, 1, 0, 0],
}


@pytest.mark.parametrize(
    "augment",
    [
        Augment(crop=InceptionCrop()),
        Augment(crop=InceptionCrop((0.3, 1.0)), flip=False),
        Augment(crop=PadCrop(4)),
        Augment(crop=ResizeCrop(0.7)),
        Augment(crop=SimpleRandomCrop(3)),
        Augment(crop=WholeImage(), erasing=RandomErasing(probability=0.6)),
        Augment(crop=PadCrop(2), flip=False, erasing=RandomErasing(probability=1.0, fill="constant")),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(16, 16), (30, 22)])
def test_views_are_distributed_as_those_of_the_workers(augment: Augment, shape: tuple[int, int]) -> None:
    """Two samples of 3,000 views of one image; by chance the distance is above 0.0503 once in 1,000 comparisons."""
    count, preprocess, pixels = 3000, Preprocess((12, 16), SquareResize()), gradient(*shape)
    source = ArraySource(pixels[None], np.array([0]), ("a",), ["it"])
    held = OnDeviceDataset(source, augment, preprocess, CPU)
    ours = held.views(torch_seed(1, "augment"), torch.arange(count), torch.zeros(count, dtype=torch.int64))
    random = Keyed(2, "augment")
    theirs = [train_transform(pixels, augment, preprocess, random.at(n, 0)).transpose(2, 0, 1) for n in range(count)]
    samples = ours.numpy().astype(float), np.stack(theirs).astype(float)
    distances = {name: stats.ks_2samp(*map(tell, samples)).statistic for name, tell in TELLING.items()}
    distances["pixels"] = max(
        np.abs(samples[0].mean(0) - samples[1].mean(0)).max() / samples[1].std(0).max().clip(1), 0
    )
    print({name: round(float(d), 3) for name, d in distances.items()})
    assert distances.pop("pixels") < 0.09  # of their deviation: the largest of 576, each +- 0.026; measured 0.074
    assert max(distances.values()) < 0.0503  # measured: at most 0.040


def test_images_of_different_sizes_give_boxes_in_the_proportions_of_each() -> None:
    """Kept squeezed to one size, drawn as if they were not: corners and sides of the boxes agree with the workers'."""
    count, preprocess = 3000, Preprocess((12, 16), SquareResize())
    pictures = [gradient(60, 24), gradient(40, 80)]
    source = BytesSource([encoded(p) for p in pictures], [0, 1], ("a", "b"))
    augment = Augment(crop=InceptionCrop((0.3, 1.0)), flip=False)
    held = OnDeviceDataset(source, augment, preprocess, CPU)
    assert held.images.shape == (2, 3, 18, 24), "one and a half times the resolution"
    for i, pixels in enumerate(pictures):
        ours = held.views(torch_seed(1, "augment"), torch.arange(count), torch.full((count,), i)).double().numpy()
        random = Keyed(2, "augment")
        views = [train_transform(pixels, augment, preprocess, random.at(n, i)).transpose(2, 0, 1) for n in range(count)]
        theirs = np.stack(views).astype(float)
        # away from the borders, which squeezing moves
        middle = {"height": lambda v: v[:, 1, -4].mean(1) - v[:, 1, 3].mean(1), "row": TELLING["row"]}
        middle |= {"width": lambda v: v[:, 0, :, -5].mean(1) - v[:, 0, :, 4].mean(1), "column": TELLING["column"]}
        blur = np.random.default_rng(3)  # boxes have whole sides: without it a shift by half a level moves steps apart
        for name, tell in middle.items():
            samples = (tell(v) + blur.normal(0, 4, count) for v in (ours, theirs))
            distance = stats.ks_2samp(*samples).statistic
            print(f"{name}: {distance:.3f}")
            assert distance < 0.0503, name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("augment", [SHAKEN, Augment(crop=PadCrop(), erasing=RandomErasing()), PLAIN], ids=str)
def test_cuda_makes_the_batches_of_the_cpu_and_waits_for_nothing(augment: Augment) -> None:
    source = source_of(20, (4,))
    ours = resident(source, augment, device=torch.device("cuda"))
    list(ours)  # what is made once: tables, kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches = list(ours)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    on_cpu = [b._replace(images=b.images.cpu(), labels=b.labels.cpu()) for b in batches]
    assert_same(on_cpu, list(resident(source, augment)))


@pytest.mark.parametrize(
    ("augment", "option"),
    [
        (Augment(three_augment=True), "augment.three_augment"),
        (Augment(jitter=ColourJitter()), "augment.jitter"),
        (Augment(randaugment=RandAugment()), "augment.randaugment"),
    ],
)
def test_an_augmentation_that_is_not_there_is_refused_before_any_work(augment: Augment, option: str) -> None:
    with pytest.raises(BadInput, match=f"cannot be augmented with {option}: leave it out, or leave out --resident"):
        check_fits_device(augment)
    config = replace(pretraining("digits"), resident=True, augment=augment)
    with pytest.raises(BadInput, match=option):
        check_training(config)
    check_training(replace(config, resident=False))


def test_a_set_that_does_not_fit_is_refused_with_the_numbers_after_its_first_image() -> None:
    asked = []

    class Large(BytesSource):
        def __getitem__(self, index: int) -> Any:
            asked.append(index)
            return super().__getitem__(0)

    source = Large([encoded(noise(20, 24))], [0] * 100_000, ("a",))
    sentence = r"100,000 images of 12 x 16 pixels take 0\.0576 GB, more than the 0\.05 GB allowed: leave out --resident"
    with pytest.raises(BadInput, match=sentence):
        OnDeviceDataset(source, PLAIN, PREPROCESS, CPU, limit=50_000_000)
    assert len(asked) < 10_000
    OnDeviceDataset(source_of(10), PLAIN, PREPROCESS, CPU, limit=10 * 3 * 12 * 16)
    with pytest.raises(BadInput, match="more than"):
        OnDeviceDataset(source_of(10), PLAIN, PREPROCESS, CPU, limit=10 * 3 * 12 * 16 - 1)


def test_the_limit_is_a_quarter_of_the_devices_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitrail.data.loader.on_device.memory_gib", lambda device: 4 * 5760 / 2**30)
    OnDeviceDataset(source_of(10), PLAIN, PREPROCESS, CPU)
    monkeypatch.setattr("vitrail.data.loader.on_device.memory_gib", lambda device: 4 * 5759 / 2**30)
    with pytest.raises(BadInput, match=r"25\.0% of the memory of cpu"):
        OnDeviceDataset(source_of(10), PLAIN, PREPROCESS, CPU)


def test_a_resident_run_that_is_broken_off_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: Any) -> None:
    recipe = pretraining("digits")
    config = replace(
        recipe,
        steps=24,
        batch=16,
        save_every=5,
        resident=True,
        precision="float32",
        schedule=replace(recipe.schedule, warmup=4),
        augment=Augment(crop=PadCrop(1), erasing=RandomErasing()),
    )
    whole = pretrain(config, tmp_path / "whole", Machine("cpu", workers=0))
    original = training.train_step

    def broken_off(state: Any, batch: Batch, **options: Any) -> Any:
        if state.step == 13:
            raise KeyboardInterrupt
        return original(state, batch, **options)

    monkeypatch.setattr(training, "train_step", broken_off)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, tmp_path / "run", Machine("cpu", workers=0))
    monkeypatch.undo()
    result = pretrain(config, tmp_path / "run", Machine("cpu", workers=0))
    assert result.weights_sha256 == whole.weights_sha256
    other = pretrain(replace(config, resident=False), tmp_path / "workers", Machine("cpu", workers=0))
    assert other.weights_sha256 != whole.weights_sha256, "the comparison could tell"
    plain = replace(config, augment=PLAIN)
    ours = pretrain(plain, tmp_path / "plain", Machine("cpu", workers=0))
    theirs = pretrain(replace(plain, resident=False), tmp_path / "plain-workers", Machine("cpu", workers=0))
    assert ours.weights_sha256 == theirs.weights_sha256, "nothing random: the same run by either path"
