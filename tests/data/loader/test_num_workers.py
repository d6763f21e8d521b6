"""How many processes decode is measured: enough for what training can use, and no more than there are cores."""

import time

import pytest

from tests.data.pictures import BytesSource, encoded, noise
from vitrail.data.decode.image import BrokenImage
from vitrail.data.loader import loader
from vitrail.data.loader.loader import choose_workers
from vitrail.data.loader.num_workers import IMAGES, MOST, PLACES, default_workers, enough_workers, seconds_an_image
from vitrail.data.transforms.pipeline import Augment, Preprocess


def source_of(count: int) -> BytesSource:
    return BytesSource([encoded(noise(8, 8, i)) for i in range(count)], [0] * count, ("a",))


@pytest.mark.parametrize(
    ("seconds", "rate", "cores", "expected"),
    [
        (0.004, 1000.0, 64, 5),  # four would just do
        (0.004, 1000.0, 4, 3),
        (0.004, 10.0, 64, 1),
        (0.001, 1e9, 64, MOST),
        (0.001, 1e9, 2, 1),
        (0.001, 1e9, 1, 1),
        (0.0, 1e9, 8, 1),
    ],
)
def test_as_many_as_are_needed_and_as_there_are_cores(seconds: float, rate: float, cores: int, expected: int) -> None:
    assert enough_workers(seconds, rate, cores) == expected


def test_what_an_image_costs_is_measured() -> None:
    assert 0.002 <= seconds_an_image(source_of(100), lambda _: time.sleep(0.002)) < 0.004


def test_opening_a_file_does_not_count() -> None:
    opened: set[int] = set()

    def view(index: int) -> None:
        if index // 25 not in opened:
            opened.add(index // 25)
            time.sleep(0.1)

    assert seconds_an_image(source_of(100), view) < 0.002


def test_a_measurement_is_short_and_looks_at_all_parts() -> None:
    seen: list[int] = []

    def view(index: int) -> None:
        seen.append(index)
        time.sleep(0.03)

    begun = time.perf_counter()
    seconds_an_image(source_of(100), view, seconds=0.2)
    assert time.perf_counter() - begun < 0.6
    assert {index // 25 for index in seen} == {0, 1, 2, 3}
    quick: list[int] = []
    seconds_an_image(source_of(100), quick.append)
    assert len(quick) == PLACES * (IMAGES + 1)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_small_sets_and_broken_images_can_be_measured(count: int) -> None:
    def view(index: int) -> None:
        assert index < count
        raise BrokenImage("torn")

    assert seconds_an_image(source_of(count), view) >= 0


def test_slow_images_and_fast_training_get_more_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "usable_cores", lambda: 64)
    source, preprocess = source_of(8), Preprocess((64, 64))
    slow = choose_workers(source, Augment(), preprocess, rate=1e6)
    assert slow == MOST
    assert choose_workers(source, Augment(), preprocess, rate=1.0) == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert choose_workers(source, Augment(), preprocess, rate=1e6) == 7


def test_processes_of_a_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitrail.data.loader.num_workers.usable_cores", lambda: 16)
    assert default_workers() == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert default_workers() == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert default_workers() == 1
