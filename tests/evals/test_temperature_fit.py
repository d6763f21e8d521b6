"""A fitted temperature is the minimum of the loss, recovers what was planted, and keeps every answer."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from vitrail.evals.calibration import COLDEST, HOTTEST, fit_temperature


def planted(temperature: float, count: int = 6000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are `temperature` times too sure of labels that are drawn from them."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, 7, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    return temperature * logits, labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_it_recovers_what_was_planted_and_is_scipys_minimum(temperature: float) -> None:
    logits, labels = planted(temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.04)  # measured 1.1 %: what 6,000 labels tell

    def loss(value: float) -> float:
        return float(log_loss(labels, (logits.double() / value).softmax(dim=1).numpy()))

    best = minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-6}).x
    assert found == pytest.approx(best, rel=1e-4)  # measured 6e-8
    assert torch.equal((logits / found).argmax(dim=1), logits.argmax(dim=1))


def test_the_ends_where_the_labels_set_no_bound() -> None:
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    assert fit_temperature(logits, logits.argmax(dim=1)) == COLDEST
    assert fit_temperature(logits, logits.argmin(dim=1)) == HOTTEST
    assert fit_temperature(torch.zeros(5, 3), torch.zeros(5, dtype=torch.int64)) == HOTTEST


def test_parts_of_many_rows_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from vitrail.evals import calibration

    logits, labels = planted(1.5, 1000)
    whole = fit_temperature(logits, labels)
    monkeypatch.setattr(calibration, "ROWS", 77)
    assert fit_temperature(logits, labels) == pytest.approx(whole, rel=1e-9)
    assert np.isfinite(whole)
