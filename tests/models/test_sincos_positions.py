"""Sin-cos positions against big_vision's values, and what is learned of them."""

import numpy as np
import pytest
import torch

from vitrail.core.errors import BadInput
from vitrail.models.build import build
from vitrail.models.position import SinCos2d, sincos2d
from vitrail.models.vit import AveragePool, ClassToken, ViTConfig


def small(position: SinCos2d, pool=ClassToken()) -> ViTConfig:  # type: ignore[no-untyped-def]
    return ViTConfig(
        patch=4, width=8, depth=1, heads=2, mlp=16, resolution=(8, 12), num_classes=3, pool=pool, position=position
    )


def test_the_official_values() -> None:
    """h = 2, w = 3, D = 8: the last frequency is exactly 1/10000; columns come first."""
    table = sincos2d((2, 3), 8).numpy()
    expected = {
        0: [0, 0, 1, 1, 0, 0, 1, 1],
        1: [0.8415, 0.0001, 0.5403, 1, 0, 0, 1, 1],
        3: [0, 0, 1, 1, 0.8415, 0.0001, 0.5403, 1],
    }
    for row, values in expected.items():
        np.testing.assert_allclose(table[row], values, atol=5e-5)


def test_a_loop_gives_the_same_on_a_grid_that_is_not_square() -> None:
    table = sincos2d((3, 5), 16)
    for y in range(3):
        for x in range(5):
            for k in range(4):
                omega = 10_000 ** (-k / 3)
                want = [np.sin(x * omega), np.cos(x * omega), np.sin(y * omega), np.cos(y * omega)]
                np.testing.assert_allclose(table[y * 5 + x, k::4], want, atol=1e-6)


@pytest.mark.parametrize("learned", [True, False])
def test_fixed_positions_stay_and_learned_ones_move(learned: bool) -> None:
    model = build(small(SinCos2d(learned)))
    torch.nn.init.normal_(model.head.weight)
    start = model.pos_embed.detach().clone()
    assert torch.equal(start[0, 0], torch.zeros(8)), "the class token's entry"
    assert torch.equal(start[0, 1:], sincos2d((2, 3), 8))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(torch.randn(2, 3, 8, 12)).logits.square().sum().backward()
    optimizer.step()
    assert torch.equal(model.pos_embed, start) is not learned


def test_without_a_class_token() -> None:
    model = build(small(SinCos2d(), AveragePool()))
    assert torch.equal(model.pos_embed[0], sincos2d((2, 3), 8))


def test_a_width_that_four_does_not_divide_is_refused() -> None:
    with pytest.raises(BadInput, match="multiple of 4"):
        sincos2d((2, 2), 10)
