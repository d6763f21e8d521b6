"""How many batches workers make before they are asked for: few where batches are large."""

import pytest

from vitrail.data.loader.loader import AHEAD, batches_ahead

GIB = 2**30
LARGE = 4096 * 3 * 224 * 224  # bytes of a batch


@pytest.mark.parametrize(
    ("workers", "size", "room", "ahead"),
    [
        (8, 128 * 3 * 32 * 32, 16 * GIB, AHEAD),
        (16, LARGE, 500 * GIB, AHEAD),
        (16, LARGE, 450 * GIB, 4),
        (16, LARGE, 300 * GIB, 2),
        (16, LARGE, 120 * GIB, 1),  # 28 GiB in three slots each, and no less
        (0, LARGE, GIB, 1),
    ],
)
def test_slots_take_an_eighth_of_the_free_memory_or_one_batch_ahead(
    workers: int, size: int, room: int, ahead: int
) -> None:
    found = batches_ahead(workers, size, room)
    assert workers * (found + 2) * size <= max(room / 8, 3 * workers * size)
    if workers:
        assert found == ahead
