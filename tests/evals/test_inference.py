"""A model over a source: passes that memory has no room for, and passes that would be compiled for one batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.train.small import MODEL, PREPROCESS
from vitrail.data.open.names import open_data
from vitrail.data.sources.subset import Subset
from vitrail.evals import inference
from vitrail.evals.inference import BatchOutput, run_inference
from vitrail.models.build import Model, build


def judged(model: Model, images: int, batch: int) -> list[BatchOutput]:
    source = Subset(open_data("digits@test"), np.arange(images))
    return list(run_inference(model, source, PREPROCESS, batch=batch, workers=0, dtype=torch.float32))


def sizes(model: Model, most: int = 10**9) -> list[int]:
    """Of the passes from now on; memory ends above `most` images."""
    seen: list[int] = []

    def note(module: object, given: tuple[torch.Tensor, ...]) -> None:
        seen.append(len(given[0]))
        if len(given[0]) > most:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")

    model.register_forward_pre_hook(note)
    return seen


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return build(replace(MODEL, head_bias=-1.0))


def test_where_memory_ends_a_batch_is_judged_in_smaller_passes_from_then_on(model: Model) -> None:
    whole = judged(model, 30, 12)
    seen = sizes(model, most=4)
    parts = judged(model, 30, 12)
    assert seen == [12, 6, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]
    for one, other in zip(whole, parts, strict=True):
        assert one.batch.keys == other.batch.keys
        assert torch.allclose(one.logits, other.logits, atol=1e-5)
        assert torch.allclose(one.representation, other.representation, atol=1e-5)


def test_where_not_even_one_image_fits_the_error_is_that_of_memory(model: Model) -> None:
    sizes(model, most=0)
    with pytest.raises(RuntimeError, match="ALLOC_FAILED"):
        judged(model, 3, 2)


@pytest.mark.parametrize(("compiled", "expected"), [(True, [12, 12, 12]), (False, [12, 12, 6])])
def test_the_last_batch_is_filled_up_where_its_size_would_be_compiled(
    model: Model, monkeypatch: pytest.MonkeyPatch, compiled: bool, expected: list[int]
) -> None:
    plain = judged(model, 30, 12)
    monkeypatch.setattr(inference, "compiled_by_size", lambda device: compiled)
    seen = sizes(model)
    found = judged(model, 30, 12)
    assert seen == expected
    assert [len(one.logits) for one in found] == [12, 12, 6]
    for one, other in zip(plain, found, strict=True):
        assert torch.allclose(one.logits, other.logits, atol=1e-5)


def test_a_few_images_alone_are_not_filled_up(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "compiled_by_size", lambda device: True)
    seen = sizes(model)
    judged(model, 5, 12)
    assert seen == [5]
