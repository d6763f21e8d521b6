"""Axial attention without a reference: a slow loop, a line that is a plain layer, rows in another order, the cost."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.models.small import GRID, SMALL, lively, pictures, shuffled_patches
from vitrail.analysis.look import look
from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.axial import AxialBlock
from vitrail.models.cost import multiply_adds, parameters
from vitrail.models.encoder import Block
from vitrail.models.head import AveragePool
from vitrail.models.mae import MAE
from vitrail.models.masked_patches import MaskedPatches, PatchPredictor, draw_corruption
from vitrail.models.position import NoPosition, Relative
from vitrail.models.summary import describe
from vitrail.models.variants import variant
from vitrail.models.vit import ViT, ViTConfig, layer
from vitrail.weights.bundle import save_bundle
from vitrail.weights.convert import convert
from vitrail.weights.load import load

AXIAL = replace(SMALL, axial=True)
POOLED = replace(AXIAL, pool=AveragePool())


def block(config: ViTConfig = AXIAL, grid: tuple[int, int] = GRID) -> AxialBlock:
    torch.manual_seed(0)
    made = AxialBlock(lambda: layer(config), grid, config.num_prefix_tokens)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return made.eval()


def tokens(count: int, seed: int = 1) -> Tensor:
    return torch.randn(2, count, 24, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("config", [AXIAL, POOLED, replace(AXIAL, registers=2)], ids=["token", "average", "registers"])
def test_a_slow_loop_over_rows_and_columns_computes_the_same(config: ViTConfig) -> None:
    made, prefix, (h, w) = block(config), config.num_prefix_tokens, GRID
    x = tokens(prefix + h * w)
    wanted = x.clone()
    for image in range(2):
        for half, lines in (
            (made.row, [[r * w + c for c in range(w)] for r in range(h)]),
            (made.column, [[r * w + c for r in range(h)] for c in range(w)]),
        ):
            before, first = wanted[image].clone(), []
            for line in lines:
                places = [prefix + n for n in line]
                sequence = torch.cat([before[:prefix], before[places]])
                after = half(sequence[None])[0][0]
                first.append(after[:prefix])
                wanted[image, places] = after[prefix:]
            if prefix:
                wanted[image, :prefix] = torch.stack(first).mean(dim=0)
    with torch.no_grad():
        found = made(x)[0]
    assert (found - wanted).abs().max() < 1e-5  # measured 7e-7


def test_one_row_is_a_plain_layer_and_then_each_token_alone() -> None:
    made = block(POOLED, grid=(1, 6))
    x = tokens(6)
    along = made.row(x)[0]
    alone = torch.stack([made.column(along[:, i : i + 1])[0][:, 0] for i in range(6)], dim=1)
    assert (made(x)[0] - alone).abs().max() < 1e-5
    tall = block(POOLED, grid=(6, 1))
    assert (
        tall(x)[0] - tall.column(torch.stack([tall.row(x[:, i : i + 1])[0][:, 0] for i in range(6)], 1))[0]
    ).abs().max() < 1e-5


def test_whole_rows_and_columns_may_be_permuted_and_single_patches_not() -> None:
    model = lively(replace(POOLED, position=NoPosition()))
    assert isinstance(model, ViT)
    before = model(pictures()).logits
    rows = [r * 4 + c for r in (2, 0, 1) for c in range(4)]
    columns = [r * 4 + c for r in range(3) for c in (3, 1, 0, 2)]
    single = [1, 0, 5, 3, 4, 2, *range(6, 12)]
    for order in (rows, columns):
        assert (model(shuffled_patches(pictures(), order)).logits - before).abs().max() < 1e-5
    assert (model(shuffled_patches(pictures(), single)).logits - before).abs().max() > 1e-3


@pytest.mark.parametrize("config", [AXIAL, POOLED])
def test_the_weights_of_a_layer_are_shares_of_what_both_halves_read(config: ViTConfig) -> None:
    model = lively(config)
    found = model(pictures(), attention=True).attention
    assert found is not None
    assert len(found) == 3
    assert found[0].shape == (2, 3, config.tokens, config.tokens)
    assert (found[0].sum(dim=-1) - 1).abs().max() < 1e-5
    if config is POOLED:  # a patch reads the rows of those in its column, by both weights
        made = model.blocks[0]
        assert isinstance(made, AxialBlock)
        x = model.patch_embed(pictures()) + model.pos_embed[0]
        _, row = made.row(made.split(x, rows=True), True)
        y = made.join(made.row(made.split(x, rows=True))[0], 2, rows=True)
        _, column = made.column(made.split(y, rows=False), True)
        row, column = row.unflatten(0, (2, 3)), column.unflatten(0, (2, 4))  # [b lines heads length length]
        r, c, r2, c2 = 2, 1, 0, 3
        wanted = column[:, c, :, r, r2] * row[:, r2, :, c, c2]
        assert (found[0][:, :, r * 4 + c, r2 * 4 + c2] - wanted).abs().max() < 1e-6


def test_it_is_inspected_like_others() -> None:
    model = lively(AXIAL)
    assert isinstance(model, ViT)
    seen = look(model, pictures())
    assert torch.isfinite(seen.distance).all()
    assert seen.distance.shape[1:] == (3, 3)


@pytest.mark.parametrize("config", [AXIAL, POOLED, replace(AXIAL, gated=True, registers=1)])
def test_parameters_and_arithmetic_by_formula_and_by_count(config: ViTConfig) -> None:
    model = lively(config)
    assert parameters(config) == sum(p.numel() for p in model.parameters())
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        model(pictures(1))
    assert 2 * multiply_adds(config) == counter.get_total_flops()


def test_names_and_what_they_cost() -> None:
    plain, axial = variant("B/16"), variant("Axial-B/16")
    assert isinstance(plain, ViTConfig)
    assert axial == replace(plain, axial=True)
    assert 1.8 < multiply_adds(axial) / multiply_adds(plain) < 2.1, "about twice: two MLPs, shorter attention"
    assert describe("Axial-B/32", 224, 0)["kind"] == "axial ViT"
    with pytest.raises(BadInput, match="over a ResNet"):
        variant("R50+Axial-B/16")


def test_it_is_a_bundle_and_no_other_layout(tmp_path: Path) -> None:
    model = lively(replace(AXIAL, num_classes=0))
    save_bundle(tmp_path / "bundle", model, Preprocess(SMALL.resolution), (), {})
    with torch.inference_mode():
        again = load(tmp_path / "bundle")(pictures()).representation
        assert torch.equal(again, model(pictures()).representation)
    for layout, name in (("npz", "a.npz"), ("timm", "timm"), ("huggingface", "hf")):
        with pytest.raises(BadInput, match="axial"):
            convert(tmp_path / "bundle", tmp_path / name, layout)  # type: ignore[arg-type]


def test_patches_are_masked_in_it_and_mae_is_refused() -> None:
    config = replace(AXIAL, num_classes=0)
    model = lively(config)
    assert isinstance(model, ViT)
    drawn = draw_corruption(MaskedPatches(), torch.rand(2, 36, dtype=torch.float64))
    assert PatchPredictor(model, MaskedPatches())(pictures(), *drawn).shape == (2, 6, 512)
    with pytest.raises(BadInput, match="holes"):
        MAE().check(config)


@pytest.mark.parametrize("changes", [{"position": Relative()}, {"drop_path": 0.1}])
def test_what_does_not_fit_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="axial"):
        replace(AXIAL, **changes).check()  # type: ignore[arg-type]


def test_a_plain_model_is_as_it_was() -> None:
    assert isinstance(lively(SMALL).blocks[0], Block)  # type: ignore[union-attr]
    assert isinstance(lively(AXIAL).blocks, nn.ModuleList)
