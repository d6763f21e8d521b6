"""Above DENSE classes no matrix is kept; what is counted is the same. A pass takes no more images than memory holds."""

import pytest
import torch

from tests.train.small import MODEL, PREPROCESS, fresh, training
from vitrail.data.open.names import open_data
from vitrail.evals import classify, inference
from vitrail.evals.classify import evaluate
from vitrail.models.cost import inference_activations


def test_counts_without_the_matrix_are_those_of_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    model, source = fresh(training()).model, open_data("digits@test")
    dense = evaluate(model, source, PREPROCESS, dtype=torch.float32)
    assert dense.confusion is not None
    monkeypatch.setattr(classify, "DENSE", 9)
    sparse = evaluate(model, source, PREPROCESS, dtype=torch.float32)
    assert sparse.confusion is None
    assert sparse.counts.tolist() == dense.confusion.sum(axis=1).tolist()
    assert sparse.rights.tolist() == dense.confusion.diagonal().tolist()
    ours, theirs = sparse.summary("d", "m"), dense.summary("d", "m")
    for key in ("accuracy", "per_class", "balanced_accuracy", "loss", "calibration"):
        assert getattr(ours, key) == getattr(theirs, key)
    assert ours.confusion is None


@pytest.mark.parametrize(("room", "expected"), [(1000, 256), (5, 5), (0, 1)])
def test_a_pass_takes_what_memory_holds(monkeypatch: pytest.MonkeyPatch, room: int, expected: int) -> None:
    free = int((room + 0.5) * inference_activations(MODEL, 4) / inference.SHARE)
    monkeypatch.setattr(inference, "available_memory", lambda device: free)
    model = fresh(training()).model
    assert inference.inference_batch_size(model, torch.device("cpu"), torch.float32, 256) == expected
