"""Stochastic depth: what it computes, what it leaves out, what it is on average; and where it does nothing."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.models.small import lively, pictures, vit
from vitrail.core.errors import BadInput
from vitrail.models.build import Model, build
from vitrail.models.encoder import Block, add_to_some
from vitrail.models.position import Relative


def tokens(batch: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def block(drop_path: float) -> Block:
    torch.manual_seed(0)
    made = Block(8, 2, 16, layer_scale=0.5, drop_path=drop_path).double().train()
    for p in made.parameters():
        nn.init.normal_(p, std=0.5)
    return made


# which rows


@pytest.mark.parametrize(("batch", "rate", "kept"), [(80, 0.25, 60), (80, 0.5, 40), (70, 0.4, 42), (80, 0.999, 1)])
def test_some_rows_are_x_plus_a_scaled_branch_and_the_others_are_x_bit_for_bit(
    batch: int, rate: float, kept: int
) -> None:
    x, weight = tokens(batch), torch.randn(8, 8, dtype=torch.float64)
    out = add_to_some(x, lambda some: (some @ weight).tanh(), rate)
    touched = [i for i in range(batch) if not torch.equal(out[i], x[i])]
    assert len(touched) == kept
    for i in touched:
        assert torch.allclose(out[i], x[i] + (x[i] @ weight).tanh() * batch / kept, rtol=1e-12)


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_on_average_over_draws_it_is_the_whole_branch(batch: int) -> None:
    torch.manual_seed(0)
    x, draws = tokens(batch), 4000
    mean = torch.zeros_like(x)
    for _ in range(draws):
        mean += add_to_some(x, torch.sin, 0.4) / draws
    # a row's branch counts 5/3 or 0: a deviation of sin x · sqrt(2/3 / draws), 1.3 % of sin x; four of them
    assert ((mean - x - x.sin()).abs() <= 4 * (2 / 3 / draws) ** 0.5 * x.sin().abs() + 1e-9).all()


@pytest.mark.parametrize("batch", [*range(1, 17), 63, 64, 65, 256])
def test_the_share_that_is_left_out_does_not_depend_on_how_a_batch_is_cut(batch: int) -> None:
    torch.manual_seed(0)
    rate, draws = 0.1, -(-6400 // batch)
    x = torch.zeros(batch, 1, 1)
    added = torch.stack([add_to_some(x, torch.ones_like, rate) for _ in range(draws)])
    left_out = float((added == 0).double().mean())
    assert abs(left_out - rate) < 4 * (rate * (1 - rate) / 6400) ** 0.5 + 0.5 / max(batch, 64)
    assert float(added.max()) == pytest.approx(1 / (1 - rate), rel=0.01)


def test_attention_and_the_mlp_draw_independently() -> None:
    layer = block(0.5)
    for branch, value in ((layer.attn.proj, 1.0), (layer.mlp.fc2, 10.0)):
        nn.init.zeros_(branch.weight)
        nn.init.constant_(branch.bias, value)
    for scale in (layer.ls1, layer.ls2):
        nn.init.ones_(scale.gamma)
    x = torch.zeros(64, 3, 8, dtype=torch.float64)
    added = layer(x)[0][:, 0, 0]
    counts = {value: int((added == value).sum()) for value in (0, 2, 20, 22)}
    assert counts[0] + counts[2] == counts[0] + counts[20] == 32  # half by either
    assert counts[0] == counts[22]
    assert 8 <= counts[0] <= 24  # 16 expected, with a deviation of 2


def test_no_image_is_no_error() -> None:
    assert add_to_some(tokens(1)[:0], torch.sin, 0.9).shape == (0, 3, 8)


def test_the_sums_are_those_of_adding_at_places_bit_for_bit() -> None:
    x, weight = tokens(80).float(), torch.randn(8, 8)
    torch.manual_seed(3)
    ours = add_to_some(x, lambda some: (some @ weight).tanh(), 0.3)
    torch.manual_seed(3)
    rows = torch.randperm(80)[:56]
    assert torch.equal(ours, x.index_add(0, rows, (x[rows] @ weight).tanh(), alpha=80 / 56))


# the model


def test_rates_rise_evenly_from_zero_in_the_first_block() -> None:
    rates = [layer.drop_path for layer in build(vit(depth=5, drop_path=0.4)).blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert [layer.drop_path for layer in build(vit(depth=1, drop_path=0.4)).blocks] == [0]


@pytest.mark.parametrize("rate", [1.0, -0.1])
def test_other_rates_are_refused(rate: float) -> None:
    with pytest.raises(BadInput, match="drop_path"):
        build(vit(drop_path=rate))


def test_branches_are_computed_for_the_kept_images_alone() -> None:
    model = lively(vit(drop_path=0.5)).train()
    rows: list[tuple[str, int]] = []

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows.append((name, inputs[0].shape[0]))

    for layer in model.blocks:
        for name in ("norm1", "attn", "norm2", "mlp"):
            getattr(layer, name).register_forward_pre_hook(partial(note, name))
    model(pictures(64))
    assert rows == [(name, kept) for kept in (64, 48, 32) for name in ("norm1", "attn", "norm2", "mlp")]


def without(model: Model) -> Model:
    """The same weights, without stochastic depth."""
    plain = build(vit(drop_path=0.0))
    plain.load_state_dict(model.state_dict())
    return plain


def test_evaluation_and_rate_zero_draw_nothing_and_change_no_bit() -> None:
    model = lively(vit(drop_path=0.5))
    plain, images = without(model), pictures(4)
    before = torch.get_rng_state()
    with torch.no_grad():
        assert torch.equal(model.eval()(images).logits, plain.eval()(images).logits)
        assert torch.equal(plain.train()(images).logits, plain.eval()(images).logits)
        assert torch.equal(torch.get_rng_state(), before)
        assert not torch.equal(model.train()(images).logits, plain(images).logits)
        assert not torch.equal(torch.get_rng_state(), before)


def test_the_seed_decides() -> None:
    model, images = lively(vit(drop_path=0.5)).train(), pictures(8)
    logits = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        logits.append(model(images).logits)
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


def test_weights_of_attention_are_refused_where_they_would_be_those_of_some_images() -> None:
    model, images = lively(vit(drop_path=0.5)).train(), pictures(4)
    with pytest.raises(ValueError, match=r"model\.eval\(\)"):
        model(images, attention=True)
    assert model(images, attention=[0]).attention[0].shape[0] == 4  # the first layer leaves out nothing
    assert len(model.eval()(images, attention=True).attention) == 3


def test_autocast_leaves_the_tokens_in_the_dtype_that_they_have_without() -> None:
    model = lively(vit(drop_path=0.5))
    plain = without(model).train()
    with torch.autocast("cpu", torch.bfloat16):
        assert model.train()(pictures(4)).tokens.dtype == plain(pictures(4)).tokens.dtype == torch.float32
    ours, theirs = model.bfloat16()(pictures(4).bfloat16()), plain.bfloat16()(pictures(4).bfloat16())
    assert ours.tokens.dtype == theirs.tokens.dtype == torch.bfloat16


# gradients


def test_gradients_are_those_of_a_loop_over_rows() -> None:
    layer, x = block(0.4), tokens(70)
    directions = tokens(70, seed=1)
    x.requires_grad_()
    torch.manual_seed(5)
    (layer(x)[0] * directions).sum().backward()
    ours = [x.grad, *(p.grad for p in layer.parameters())]

    x = tokens(70).requires_grad_()
    layer.zero_grad(set_to_none=True)
    torch.manual_seed(5)
    drawn = [set(torch.randperm(70)[:42].tolist()) for _ in range(2)]
    total = torch.zeros((), dtype=torch.float64)
    for i in range(70):
        row = x[i : i + 1]
        if i in drawn[0]:
            row = row + 70 / 42 * layer.ls1(layer.attn(layer.norm1(row))[0])
        if i in drawn[1]:
            row = row + 70 / 42 * layer.ls2(layer.mlp(layer.norm2(row)))
        total = total + (row * directions[i]).sum()
    total.backward()
    for mine, theirs in zip(ours, [x.grad, *(p.grad for p in layer.parameters())], strict=True):
        assert mine is not None
        assert theirs is not None
        assert torch.allclose(mine, theirs, rtol=1e-10, atol=1e-12)


def gradients(model: Model) -> list[Tensor]:
    model.zero_grad(set_to_none=True)
    torch.manual_seed(7)
    model(pictures(64)).logits.square().sum().backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_recomputed_activations_leave_out_the_same_images() -> None:
    model = lively(vit(drop_path=0.5)).train()
    kept = gradients(model)
    for layer in model.blocks:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    for ours, theirs in zip(gradients(model), kept, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.usefixtures("without_shape_checks")
def test_one_graph_of_fixed_shapes_serves_all_draws() -> None:
    torch._dynamo.utils.counters.clear()
    model = lively(vit(drop_path=0.5, position=Relative(), layer_scale=0.5, dropout=0.1)).train()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=False)
    logits = []
    for seed in range(4):
        for forward in (compiled, model):
            torch.manual_seed(seed)
            logits.append(forward(pictures(64)).logits)
        assert torch.equal(logits[-1], logits[-2])
    assert not torch.equal(logits[0], logits[-1])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    for ours, theirs in zip(gradients(compiled), gradients(model), strict=True):
        assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max() + 1e-8
