"""How long, in what batches, and how much is held out: the paper's table, BiT's rule."""

import pytest

from vitrail.core.errors import BadInput
from vitrail.jobs.finetune.schedule_rule import BATCH, PAPER, batch_for, hyper_rule, seconds_of
from vitrail.recipes import finetuning
from vitrail.recipes.finetuning import TABLE4


def test_the_papers_sets_have_their_rows() -> None:
    for row in TABLE4:
        if row.data != "vtab":
            assert PAPER[row.data][:2] == (row.steps, row.warmup)
            recipe = finetuning(f"paper-{row.data}")
            assert (recipe.sweep, recipe.held_out, recipe.repeats) == (row.sweep, PAPER[row.data].held_out, 2)
    assert [PAPER[name].held_out for name in ("pets", "flowers", "cifar10", "cifar100", "imagenet")] == [
        *(0.1, 0.1, 0.02, 0.02, 0.01)
    ]
    assert finetuning("paper-vtab").sweep == (), "VTAB's rate is fixed"


@pytest.mark.parametrize(
    ("data", "images", "steps", "warmup", "held_out"),
    [
        ("photos@train", 800, 500, 100, 0.1),
        ("photos", 19_999, 500, 100, 0.1),
        ("photos", 20_000, 10_000, 500, 0.02),
        ("photos", 499_999, 10_000, 500, 0.02),
        ("photos", 500_000, 20_000, 500, 0.01),
        ("pets", 3_680, 500, 100, 0.1),
        ("cifar10@train", 50_000, 10_000, 500, 0.02),
        ("cifar10@train[:1000]", 1_000, 500, 100, 0.1),  # a part of it is a small set
    ],
)
def test_steps_by_the_size_of_the_data(data: str, images: int, steps: int, warmup: int, held_out: float) -> None:
    assert hyper_rule(data, images)[:3] == (steps, warmup, held_out)


@pytest.mark.parametrize(("images", "batch"), [(100_000, BATCH), (1024, 512), (1023, 256), (74, 32), (3, 1), (1, 1)])
def test_few_images_make_small_batches(images: int, batch: int) -> None:
    assert batch_for(images) == batch


def test_times_as_people_write_them() -> None:
    assert [seconds_of(text) for text in ("90s", "10m", "1.5h", "2 d")] == [90, 600, 5400, 172_800]
    for text in ("", "10", "m", "-3m", "0s", "ten minutes"):
        with pytest.raises(BadInput, match="cannot be read"):
            seconds_of(text)
