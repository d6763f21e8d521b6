"""Positions and patch embeddings at another size, against SciPy, loops over places and pairs, and linear algebra."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from vitrail.models.position import ColumnsAndRows
from vitrail.models.resample import resample_line, resample_patches, resample_relative, resample_table

Grid = tuple[int, int]

PAIRS: list[tuple[Grid, Grid]] = [
    ((14, 14), (24, 24)),
    ((7, 7), (12, 12)),
    ((3, 5), (7, 4)),
    ((4, 4), (9, 2)),
    ((6, 3), (6, 8)),
    ((2, 2), (1, 5)),
    ((9, 5), (4, 3)),
    ((1, 6), (3, 3)),
]


def random_table(grid: Grid, prefix: int = 0, layers: int = 1, width: int = 6) -> Tensor:
    values = np.random.default_rng(0).normal(size=(layers, prefix + grid[0] * grid[1], width))
    return torch.from_numpy(values.astype(np.float32))


# tables of a grid


def test_resampled_positions_are_the_official_ones(goldens: Path) -> None:
    golden = np.load(goldens / "posembed_resize.npz")
    cases = sorted({key.rsplit("_", 1)[0] for key in golden})
    assert len(cases) >= 4
    for case in cases:
        old, _, new, prefix = case.split("_")
        sides = (int(old), int(old)), (int(new), int(new))
        got = resample_table(torch.from_numpy(golden[f"{case}_in"]), *sides, int(prefix.removeprefix("cls")))
        error = np.abs(got.numpy() - golden[f"{case}_out"]).max()
        assert error < 1e-5, case  # measured at most 4.4e-6


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_bilinear_is_scipys_zoom_of_order_one(old: Grid, new: Grid) -> None:
    table = random_table(old, layers=2)
    got = resample_table(table, old, new, prefix=0)
    for layer in range(2):
        grid = table[layer].numpy().reshape(*old, 6).astype(np.float64)
        # `nearest`: with SciPy's default, rounding makes the last row of some sizes zero
        zoomed = ndimage.zoom(grid, (new[0] / old[0], new[1] / old[1], 1), order=1, mode="nearest")
        assert zoomed.shape == (*new, 6)
        assert np.abs(got[layer].numpy().reshape(*new, 6) - zoomed).max() < 1e-5  # measured 2.2e-6


def slow_bilinear(grid: np.ndarray, y: float, x: float) -> np.ndarray:
    """The value between the four cells around a place."""
    top, left = min(int(y), grid.shape[0] - 1), min(int(x), grid.shape[1] - 1)
    bottom, right = min(top + 1, grid.shape[0] - 1), min(left + 1, grid.shape[1] - 1)
    dy, dx = y - top, x - left
    upper = grid[top, left] * (1 - dx) + grid[top, right] * dx
    lower = grid[bottom, left] * (1 - dx) + grid[bottom, right] * dx
    return upper * (1 - dy) + lower * dy


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_bilinear_aligns_corners(old: Grid, new: Grid) -> None:
    """Place i of n lies at i · (m - 1) / (n - 1) of the old grid."""
    table = random_table(old)
    got = resample_table(table, old, new, prefix=0).numpy().reshape(*new, 6)
    grid = table.numpy().reshape(*old, 6).astype(np.float64)
    for i, j in product(range(new[0]), range(new[1])):
        place = i * (old[0] - 1) / max(1, new[0] - 1), j * (old[1] - 1) / max(1, new[1] - 1)
        assert np.abs(got[i, j] - slow_bilinear(grid, *place)).max() < 1e-5  # measured 2.1e-6


def cubic(x: float) -> float:
    """Keys' kernel with a = -1/2, that of PIL."""
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def bicubic_matrix(old: int, new: int) -> np.ndarray:
    """Weights [new, old] of a line: edges on edges, the kernel as wide as a new cell where cells grow."""
    scale = old / new
    weights = np.array([[cubic((j + 0.5 - (i + 0.5) * scale) / max(scale, 1)) for j in range(old)] for i in range(new)])
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_bicubic_is_antialiased_and_aligns_edges(old: Grid, new: Grid) -> None:
    table = random_table(old, layers=2)
    got = resample_table(table, old, new, prefix=0, interpolation="bicubic").numpy().reshape(2, *new, 6)
    grid = table.numpy().reshape(2, *old, 6).astype(np.float64)
    rows, columns = bicubic_matrix(old[0], new[0]), bicubic_matrix(old[1], new[1])
    expected = np.einsum("yh,xw,lhwd->lyxd", rows, columns, grid)
    assert np.abs(got - expected).max() < 1e-5  # measured 4.4e-6
    if old[0] > 1 and new[0] > 1:
        bilinear = resample_table(table, old, new, prefix=0).numpy().reshape(2, *new, 6)
        assert np.abs(got - bilinear).max() > 0.1  # measured 0.8 and more


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_rows_before_the_patches_stay_and_so_does_the_number_type(interpolation: str) -> None:
    table = random_table((3, 5), prefix=2, layers=3)
    got = resample_table(table, (3, 5), (4, 4), 2, interpolation)
    without = resample_table(table[:, 2:], (3, 5), (4, 4), 0, interpolation)
    assert got.shape == (3, 18, 6)
    assert torch.equal(got[:, :2], table[:, :2])
    assert torch.equal(got[:, 2:], without)
    half = resample_table(table.bfloat16(), (3, 5), (4, 4), 2, interpolation)
    assert half.dtype == torch.bfloat16
    assert (half.float() - got).abs().max() < 0.02  # measured 0.0084: a bfloat16 has 8 bits


def test_positions_of_the_same_grid_are_left_alone_and_others_must_fill_theirs() -> None:
    table = torch.randn(1, 12, 6)
    assert resample_table(table, (3, 4), (3, 4), 0) is table
    with pytest.raises(ValueError, match="12 positions do not fill a grid of 3 x 5"):
        resample_table(table, (3, 5), (6, 6), 0)
    with pytest.raises(ValueError, match="11 positions do not fill a grid of 3 x 4"):
        resample_table(table, (3, 4), (6, 6), 1)


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_plain_bicubic_has_the_sharper_kernel_and_is_not_antialiased(old: Grid, new: Grid) -> None:
    """Keys' kernel with a = -3/4 over four neighbours, edges repeated: written out, not torch's."""

    def line(a: int, b: int) -> np.ndarray:
        weights = np.zeros((b, a))
        for i in range(b):
            place = (i + 0.5) * a / b - 0.5
            low = int(np.floor(place))
            for j in range(low - 1, low + 3):
                x = abs(place - j)
                near = 1.25 * x**3 - 2.25 * x**2 + 1
                far = -0.75 * x**3 + 3.75 * x**2 - 6 * x + 3
                weights[i, min(max(j, 0), a - 1)] += near if x <= 1 else far
        return weights

    table = random_table(old, layers=2)
    got = resample_table(table, old, new, prefix=0, interpolation="bicubic plain").numpy().reshape(2, *new, 6)
    grid = table.numpy().reshape(2, *old, 6).astype(np.float64)
    expected = np.einsum("yh,xw,lhwd->lyxd", line(old[0], new[0]), line(old[1], new[1]), grid)
    assert np.abs(got - expected).max() < 1e-5  # measured 3.9e-6


# columns and rows


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_columns_and_rows_resample_like_their_concatenated_grid(old: Grid, new: Grid, interpolation: str) -> None:
    """What does not vary along an axis is not changed by resampling that axis."""
    torch.manual_seed(0)
    before, after = (ColumnsAndRows(2, grid, width=8, class_entry=True) for grid in (old, new))
    with torch.no_grad():
        after.x.copy_(resample_line(before.x, new[1], interpolation))
        after.y.copy_(resample_line(before.y, new[0], interpolation))
        after.token.copy_(before.token)
        whole = resample_table(before(), old, new, 1, interpolation)
        assert (after() - whole).abs().max() < 1e-6  # measured 7e-9


def test_a_line_of_the_same_length_is_left_alone() -> None:
    line = torch.randn(2, 5, 4)
    assert resample_line(line, 5) is line


# relative


def slow_relative(table: np.ndarray, old: Grid, new: Grid) -> np.ndarray:
    """Each new offset: the mean, over all pairs of patches that have it, of what the old grid had at that displacement.

    A displacement of the new grid is one of the old by the ratio of the grids' sides, corner to corner; between the
    old displacements the vectors are bilinear. `table` has the offsets of patches alone.
    """
    middle, ratio = len(table) // 2, [(m - 1) / max(1, n - 1) for m, n in zip(old, new, strict=True)]
    plane = np.array(
        [[table[middle + r * old[1] + c] for c in range(1 - old[1], old[1])] for r in range(1 - old[0], old[0])]
    )
    patches = list(product(range(new[0]), range(new[1])))
    sums, counts = np.zeros((2 * len(patches) - 1, table.shape[1])), np.zeros(2 * len(patches) - 1)
    for i, (y, x) in enumerate(patches):
        for j, (v, u) in enumerate(patches):
            place = (y - v) * ratio[0] + old[0] - 1, (x - u) * ratio[1] + old[1] - 1
            sums[i - j + len(patches) - 1] += slow_bilinear(plane, *place)
            counts[i - j + len(patches) - 1] += 1
    return sums / counts[:, None]


@pytest.mark.parametrize("prefix", [0, 1, 3])
@pytest.mark.parametrize(("old", "new"), [pair for pair in PAIRS if max(pair[1]) < 10])
def test_relative_vectors_resample_like_a_loop_over_pairs_of_patches(old: Grid, new: Grid, prefix: int) -> None:
    n, m = old[0] * old[1] + prefix, new[0] * new[1] + prefix
    table = torch.randn(2, 2 * n - 1, 4, generator=torch.Generator().manual_seed(0))
    got = resample_relative(table, old, new)
    assert got.shape == (2, 2 * m - 1, 4)
    for layer in range(2):
        patches = table[layer, prefix : 2 * n - 1 - prefix].double().numpy()
        expected = slow_relative(patches, old, new)
        found = got[layer, prefix : 2 * m - 1 - prefix].numpy()
        assert np.abs(found - expected).max() < 1e-5  # measured 2.2e-6
    # the offsets that only the tokens before the patches have
    assert torch.equal(got[:, :prefix], table[:, :prefix])
    assert torch.equal(got[:, 2 * m - 1 - prefix :], table[:, 2 * n - 1 - prefix :])


def test_relative_vectors_of_the_same_grid_are_left_alone() -> None:
    table = torch.randn(3, 2 * 13 - 1, 8)
    assert resample_relative(table, (3, 4), (3, 4)) is table
    assert not torch.equal(resample_relative(table, (3, 4), (4, 3)), table)


@pytest.mark.parametrize(("old", "new"), [((3, 2), (4, 4)), ((5, 3), (6, 6)), ((1, 5), (1, 9)), ((5, 3), (4, 2))])
def test_a_linear_table_stays_linear_where_the_rasters_agree(old: Grid, new: Grid) -> None:
    """A table can be linear in rows and columns only if a row is worth as many columns as the raster is wide.

    On these grids the resampled plane has that property again, so that folding averages equal numbers.
    """
    down, right = ((m - 1) / max(1, n - 1) for m, n in zip(old, new, strict=True))
    assert down * old[1] == pytest.approx(right * new[1]) or old[0] == 1
    half = old[0] * old[1] - 1
    table = torch.arange(-half, half + 1.0).reshape(1, -1, 1)
    got = resample_relative(table, old, new)
    half = new[0] * new[1] - 1
    assert (got[0, :, 0] - torch.arange(-half, half + 1.0) * right).abs().max() < 1e-5  # measured 9.5e-7


@pytest.mark.parametrize(("old", "new"), [((4, 4), (7, 7)), ((3, 5), (6, 4)), ((6, 3), (2, 9))])
def test_displacements_that_share_their_offset_with_none_are_interpolated_exactly(old: Grid, new: Grid) -> None:
    """Straight up and down, and between the outermost rows: there folding averages nothing."""
    half = old[0] * old[1] - 1
    table = torch.randn(1, 2 * half + 1, 1, generator=torch.Generator().manual_seed(0))
    got = resample_relative(table, old, new)[0, :, 0]
    down, right = ((m - 1) / (n - 1) for m, n in zip(old, new, strict=True))
    straight = np.interp(
        np.arange(1 - new[0], new[0]) * down,
        np.arange(1 - old[0], old[0]),
        [table[0, half + r * old[1], 0] for r in range(1 - old[0], old[0])],
    )
    middle = new[0] * new[1] - 1
    found = [float(got[middle + r * new[1]]) for r in range(1 - new[0], new[0])]
    assert np.abs(found - straight).max() < 1e-5  # measured 1.4e-7
    outermost = np.interp(
        np.arange(new[1]) * right,
        np.arange(old[1]),
        [table[0, half + (old[0] - 1) * old[1] + c, 0] for c in range(old[1])],
    )
    found = [float(got[middle + (new[0] - 1) * new[1] + c]) for c in range(new[1])]
    assert np.abs(found - outermost).max() < 1e-5  # measured 1.7e-7


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_grid_of_one_row_keeps_what_was_known_of_a_row(interpolation: str) -> None:
    """One row has no displacement downwards: its offsets are those of level displacements, the centre's stays."""
    table = torch.randn(1, 2 * 15 - 1, 4, generator=torch.Generator().manual_seed(0))
    got = resample_relative(table, (3, 5), (1, 5), interpolation)
    assert got.shape == (1, 9, 4)
    assert (got[0] - table[0, 10:19]).abs().max() < 1e-6  # measured 6e-8
    assert (resample_relative(table, (3, 5), (1, 1), interpolation)[0, 0] - table[0, 14]).abs().max() < 1e-6


def test_bicubic_resizing_of_relative_vectors_keeps_the_centre_symmetric() -> None:
    """A table that is even in the offset stays even: the plane is resized about its centre."""
    half = torch.randn(1, 12, 4, generator=torch.Generator().manual_seed(0))
    table = torch.cat([half, half[:, :-1].flip(1)], dim=1)
    assert torch.equal(table, table.flip(1))
    got = resample_relative(table, (3, 4), (5, 3), "bicubic")
    assert (got - got.flip(1)).abs().max() < 1e-5  # measured 8.6e-7
    assert (got - resample_relative(table, (3, 4), (5, 3), "bilinear")).abs().max() > 0.05


# patch embeddings


def resize_matrix(old: int, new: int) -> np.ndarray:
    """B [new², old²] of resized patches: a triangle, edges on edges, as wide as a new pixel where pixels grow (JAX)."""
    scale = old / new
    line = np.array(
        [[max(0.0, 1 - abs((i + 0.5) * scale - (j + 0.5)) / max(scale, 1.0)) for j in range(old)] for i in range(new)]
    )
    line /= line.sum(axis=1, keepdims=True)
    return np.kron(line, line)


@pytest.mark.parametrize(("old", "new"), [(4, 7), (7, 4), (8, 16), (16, 8), (5, 1), (1, 3)])
def test_patch_embeddings_are_resized_by_the_pseudo_inverse(old: int, new: int) -> None:
    """ŵ = pinv(Bᵀ) w, equation 4 of FlexiViT."""
    weight = torch.randn(6, 3, old, old, generator=torch.Generator().manual_seed(0))
    inverse = np.linalg.pinv(resize_matrix(old, new).T)
    expected = np.einsum("qp,dcp->dcq", inverse, weight.double().numpy().reshape(6, 3, -1))
    got = resample_patches(weight, new)
    assert got.shape == (6, 3, new, new)
    assert got.dtype == torch.float32
    assert np.abs(got.numpy().reshape(6, 3, -1) - expected).max() < 1e-5  # measured 2.4e-7


@pytest.mark.parametrize(("old", "new"), [(4, 7), (8, 16), (14, 16), (6, 6)])
def test_a_grown_patch_keeps_its_token(old: int, new: int) -> None:
    """<resize(x), ŵ> = <x, w>."""
    torch.manual_seed(0)
    weight, patch = torch.randn(6, 3, old, old), torch.randn(3, old, old)
    grown = F.interpolate(patch[None], size=(new, new), mode="bilinear", align_corners=False)[0]
    before, after = (weight * patch).sum(dim=(1, 2, 3)), (resample_patches(weight, new) * grown).sum(dim=(1, 2, 3))
    assert (before - after).abs().max() < 1e-4  # measured 5e-6, of numbers up to 27
    assert before.abs().max() > 1


def test_a_shrunk_patch_keeps_its_token_as_well_as_any_weight_can() -> None:
    """The least squares of <resize(x), ŵ> - <x, w> over patches of white noise: its gradient is zero."""
    weight = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    resize = torch.from_numpy(resize_matrix(8, 5))

    def squares(candidate: Tensor) -> Tensor:
        return (candidate.flatten(1) @ resize - weight.flatten(1)).square().sum()

    best = resample_patches(weight, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(squares(best), best)
    assert gradient.abs().max() < 1e-10  # measured 7e-15
    assert squares(best) > 1, "and yet it is not exact"


def test_a_patch_embedding_of_the_same_size_is_left_alone() -> None:
    weight = torch.randn(6, 3, 4, 4)
    assert resample_patches(weight, 4) is weight
