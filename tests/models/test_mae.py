"""Masked autoencoders: what is seen, what is painted, the loss; and what both objectives cost."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.models.small import POSITIONS, SMALL, lively, pictures
from vitrail.core.errors import BadInput
from vitrail.models.head import AveragePool
from vitrail.models.mae import MAE, MaskedAutoencoder, draw_order, painting_loss
from vitrail.models.masked_patches import MaskedPatches, PatchPredictor, draw_corruption
from vitrail.models.objective import Labels, Objective
from vitrail.models.objective_cost import pass_multiply_adds
from vitrail.models.position import Relative
from vitrail.models.vit import ViT, ViTConfig

BARE = replace(SMALL, num_classes=0)
SMALL_MAE = MAE(masked=0.75, decoder_width=16, decoder_depth=2, decoder_heads=2, decoder_mlp=24)
NUMBERS = torch.rand(2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def autoencoder(config: ViTConfig = BARE, objective: MAE = SMALL_MAE) -> MaskedAutoencoder:
    model = lively(config)
    assert isinstance(model, ViT)
    torch.manual_seed(3)
    return MaskedAutoencoder(model, objective).eval()


def test_the_encoder_sees_a_quarter_and_nothing_of_the_rest() -> None:
    model, images, order = autoencoder(), pictures(), draw_order(NUMBERS)
    before = model(images, order)
    hidden, visible = order[0, 3:], order[0, :3]

    def changed(n: int) -> float:
        other = images.clone()
        other[0, :, n // 4 * 4 : n // 4 * 4 + 4, n % 4 * 4 : n % 4 * 4 + 4] += 1
        return float((model(other, order) - before).abs().max().detach())

    assert all(changed(int(n)) == 0 for n in hidden)
    assert all(changed(int(n)) > 1e-3 for n in visible)


@pytest.mark.parametrize("kind", [kind for kind, config in POSITIONS.items() if not isinstance(config, Relative)])
def test_with_everything_visible_in_any_order_the_encoder_is_the_model(kind: str) -> None:
    """So a patch keeps its own position wherever it stands in the sequence."""
    model = lively(replace(BARE, position=POSITIONS[kind]))
    assert isinstance(model, ViT)
    order = draw_order(NUMBERS)
    plain = model(pictures()).tokens
    found = model.encode(lambda: model.patch_embed(pictures()), visible_BV=order).tokens
    back = found[:, 1:].gather(1, order.argsort(dim=1)[:, :, None].expand(-1, -1, 24))
    assert (back - plain[:, 1:]).abs().max() < 1e-5  # measured 2e-6
    assert (found[:, 0] - plain[:, 0]).abs().max() < 1e-5


@pytest.mark.parametrize("normalised", [True, False])
def test_the_loss_is_that_of_a_loop(normalised: bool) -> None:
    objective = replace(SMALL_MAE, normalised=normalised)
    images, order = pictures(), draw_order(NUMBERS)
    predicted = torch.randn(2, 12, 48, generator=torch.Generator().manual_seed(2))
    errors = []
    for image in range(2):
        for n in order[image, 3:].tolist():
            y, x = n // 4 * 4, n % 4 * 4
            block = images[image, :, y : y + 4, x : x + 4].numpy().transpose(1, 2, 0).reshape(-1).astype(np.float64)
            if normalised:
                block = (block - block.mean()) / np.sqrt(block.var(ddof=1) + 1e-6)
            errors.append(np.mean((predicted[image, n].numpy() - block) ** 2))
    found = painting_loss(predicted, images, order, objective, patch=4)
    assert float(found) == pytest.approx(np.mean(errors), abs=1e-5)


@pytest.mark.parametrize(
    ("objective", "changes", "said"),
    [
        (replace(SMALL_MAE, masked=0.99), {}, "leaves 0 to be seen"),
        (replace(SMALL_MAE, masked=0.0), {}, "leaves 12"),
        (replace(SMALL_MAE, decoder_heads=3), {}, "multiple of its heads"),
        (SMALL_MAE, {"position": Relative()}, "relative positions"),
        (SMALL_MAE, {"pool": AveragePool(norm_after=True)}, "token or average"),
    ],
)
def test_what_does_not_fit_is_refused(objective: MAE, changes: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        objective.check(replace(BARE, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "objective",
    [
        Labels(),
        MaskedPatches(),
        MaskedPatches(target="small-colours", share=0.15),
        MaskedPatches(target="pixels"),
        SMALL_MAE,
    ],
)
@pytest.mark.parametrize("changes", [{}, {"pool": AveragePool(), "gated": True}])
def test_the_formula_of_the_arithmetic_counts_what_is_computed(
    objective: Objective, changes: dict[str, object]
) -> None:
    config = replace(BARE, **changes)  # type: ignore[arg-type]
    model = lively(config)
    assert isinstance(model, ViT)
    images = pictures(1)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        match objective:
            case MaskedPatches():
                drawn = draw_corruption(objective, torch.rand(1, 36, dtype=torch.float64))
                PatchPredictor(model, objective).eval()(images, *drawn)
            case MAE():
                MaskedAutoencoder(model, objective).eval()(images, draw_order(NUMBERS[:1]))
            case _:
                model(images)
    assert 2 * pass_multiply_adds(config, objective) == counter.get_total_flops()
