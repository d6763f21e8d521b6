"""From tokens to a representation and logits, for every kind of pooling; class token and registers."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.models.small import POOLS, POSITIONS, lively, pictures, vit
from vitrail.models.build import build
from vitrail.models.head import AttentionPool, AveragePool, ClassToken, PoolConfig, TokenAndAverage
from vitrail.models.position import Learned1d, NoPosition
from vitrail.models.vit import ViT


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def slow_attention_pool(model: ViT, patches: Tensor) -> Tensor:
    """PyTorch's own multi-head attention of the learned query, and the MLP written out."""
    pool = model.attn_pool
    mixed, _ = F.multi_head_attention_forward(
        query=pool.latent[0][:, None].expand(-1, patches.shape[0], -1),  # [1, B, D]
        key=patches.transpose(0, 1),
        value=patches.transpose(0, 1),
        embed_dim_to_check=24,
        num_heads=3,
        in_proj_weight=torch.cat([pool.q.weight, pool.kv.weight]),
        in_proj_bias=torch.cat([pool.q.bias, pool.kv.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=pool.proj.weight,
        out_proj_bias=pool.proj.bias,
        training=False,
    )
    x = mixed[0]
    hidden = layer_norm(x, pool.norm) @ pool.mlp.fc1.weight.T + pool.mlp.fc1.bias
    return x + F.gelu(hidden, approximate="tanh") @ pool.mlp.fc2.weight.T + pool.mlp.fc2.bias


def slow_representation(model: ViT, pool: PoolConfig, registers: int, states: Tensor) -> Tensor:
    """What the pooling makes of the states that leave the last block; the registers' are dropped."""
    token = pool in (ClassToken(), TokenAndAverage()) or (isinstance(pool, AveragePool) and pool.class_token)
    assert states.shape[1] == token + registers + 12
    patches = states[:, -12:]
    match pool:
        case ClassToken():
            return layer_norm(states[:, 0], model.norm)
        case AveragePool(_, norm_after=False):
            return layer_norm(patches, model.norm).sum(dim=1) / 12
        case AveragePool(_, norm_after=True):
            return layer_norm(patches.sum(dim=1) / 12, model.fc_norm)
        case TokenAndAverage():
            normed = layer_norm(states, model.norm)
            return torch.cat([normed[:, 0], normed[:, -12:].sum(dim=1) / 12], dim=1)
        case AttentionPool():
            return slow_attention_pool(model, layer_norm(patches, model.norm))


@pytest.mark.parametrize("hidden", [None, 8])
@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("kind", POOLS)
def test_every_pooling_equals_a_slow_version(kind: str, registers: int, hidden: int | None) -> None:
    pool = POOLS[kind]
    model = lively(vit(pool=pool, registers=registers, hidden=hidden))
    states: list[Tensor] = []
    model.blocks[-1].register_forward_hook(lambda _, __, output: states.append(output[0]))
    with torch.no_grad():
        output = model(pictures())
        expected = slow_representation(model, pool, registers, states[0])
        if hidden:
            expected = (expected @ model.pre_logits.weight.T + model.pre_logits.bias).tanh()
        logits = expected @ model.head.weight.T + model.head.bias
    width = hidden or (48 if pool == TokenAndAverage() else 24)
    assert output.representation.shape == (2, width)
    assert model.config.representation_width == width
    assert (output.representation - expected).abs().max() < 1e-5  # measured 7e-7
    assert (output.logits - logits).abs().max() < 1e-5  # measured 3e-7
    assert output.logits.abs().max() > 0.05


@pytest.mark.parametrize("kind", POOLS)
def test_without_a_classifier_the_logits_are_the_representation(kind: str) -> None:
    model = lively(vit(pool=POOLS[kind], num_classes=0))
    with torch.no_grad():
        output = model(pictures())
    assert torch.equal(output.logits, output.representation)
    assert output.logits.shape == (2, model.config.representation_width)


def test_the_tokens_are_those_after_the_last_norm() -> None:
    for pool in (ClassToken(), AveragePool(), AveragePool(norm_after=True)):
        model = lively(vit(pool=pool))
        states: list[Tensor] = []
        model.blocks[-1].register_forward_hook(lambda _, __, output, states=states: states.append(output[0]))
        with torch.no_grad():
            tokens = model(pictures()).tokens
            if pool == AveragePool(norm_after=True):  # the only norm is that of the mean
                assert torch.equal(tokens, states[0])
                assert isinstance(model.norm, nn.Identity)
            else:
                assert (tokens - layer_norm(states[0], model.norm)).abs().max() < 1e-5  # measured 5e-7
                assert isinstance(model.fc_norm, nn.Identity)


def test_a_norm_after_the_mean_is_not_the_norm_before_it() -> None:
    before = lively(vit(pool=AveragePool()))
    after = build(vit(pool=AveragePool(norm_after=True))).eval()
    after.load_state_dict(
        {
            name.replace("norm.", "fc_norm.") if name.startswith("norm.") else name: tensor
            for name, tensor in before.state_dict().items()
        }
    )
    with torch.no_grad():
        difference = before(pictures()).representation - after(pictures()).representation
    assert difference.abs().max() > 0.05  # measured 0.94


# attention pooling


def test_attention_pooling_is_pytorchs_multi_head_attention() -> None:
    model, patches = lively(vit(pool=AttentionPool())), torch.randn(2, 12, 24)
    reference = nn.MultiheadAttention(24, 3, batch_first=True)
    pool = model.attn_pool
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([pool.q.weight, pool.kv.weight]))
        reference.in_proj_bias.copy_(torch.cat([pool.q.bias, pool.kv.bias]))
        reference.out_proj.load_state_dict(pool.proj.state_dict())
        x, _ = reference(pool.latent.expand(2, -1, -1), patches, patches)
        expected = (x + pool.mlp(pool.norm(x)))[:, 0]
        assert (pool(patches) - expected).abs().max() < 1e-5  # measured 5e-7


def test_attention_pooling_has_the_sizes_of_big_visions_head() -> None:
    """A probe, q, k, v and out, a norm, and an MLP as wide as the encoder's; no dropout."""
    model = build(vit(pool=AttentionPool(), dropout=0.5))
    counted = sum(p.numel() for p in model.attn_pool.parameters())
    assert counted == 24 + 4 * (24 * 24 + 24) + 2 * 24 + (24 * 48 + 48) + (48 * 24 + 24)
    assert model.attn_pool.mlp.dropout.p == 0
    assert model.cls_token is None


# class token and registers


def sequence(model: ViT, images: Tensor) -> Tensor:
    """What enters the first block."""
    seen: list[Tensor] = []
    model.blocks[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    with torch.no_grad():
        model(images)
    return seen[0]


@pytest.mark.parametrize("pool", [ClassToken(), AveragePool()], ids=["class token", "average"])
def test_the_class_token_is_first_then_registers_then_patches(pool: PoolConfig) -> None:
    model, images = lively(vit(pool=pool, registers=2, position=NoPosition())), pictures()
    tokens = sequence(model, images)
    assert tokens.shape[1] == model.config.tokens == model.config.num_prefix_tokens + 12
    if pool == ClassToken():
        assert model.config.num_prefix_tokens == 3
        assert torch.equal(tokens[:, 0], model.cls_token[0, 0].expand(2, -1))
    else:
        assert model.config.num_prefix_tokens == 2
        assert model.cls_token is None
    assert torch.equal(tokens[:, -14:-12], model.reg_token.expand(2, -1, -1))
    assert torch.equal(tokens[:, -12:], model.patch_embed(images))


@pytest.mark.parametrize("kind", [k for k in POSITIONS if not k.startswith(("none", "relative"))])
def test_registers_have_no_position(kind: str) -> None:
    model = lively(vit(registers=2, position=POSITIONS[kind]))
    tokens = sequence(model, pictures())
    assert torch.equal(tokens[:, 1:3], model.reg_token.expand(2, -1, -1))
    assert (tokens[:, 3:] - model.patch_embed(pictures())).abs().amin(dim=0).amax(dim=1).min() > 0, "patches have one"


@pytest.mark.parametrize(("class_entry", "moved"), [(True, True), (False, False)])
def test_the_class_token_has_a_position_where_the_config_says_so(class_entry: bool, moved: bool) -> None:
    for kind in (Learned1d, type(POSITIONS["2-D"])):
        model = lively(vit(position=kind(class_entry=class_entry)))
        tokens = sequence(model, pictures())
        assert torch.equal(tokens[:, 0], model.cls_token[0, 0].expand(2, -1)) is not moved


@pytest.mark.parametrize("kind", POOLS)
def test_registers_and_unused_class_tokens_matter_only_through_attention(kind: str) -> None:
    """The state of a register after the last block is not pooled: nothing of it reaches the representation."""
    model = lively(vit(pool=POOLS[kind], registers=2))
    first = model.config.num_prefix_tokens - 2

    def disturbed(places: slice) -> Tensor:
        def disturb(_: nn.Module, __: object, output: tuple[Tensor, None]) -> tuple[Tensor, None]:
            states = output[0].clone()
            states[:, places] += torch.linspace(-5, 5, 24)
            return states, None

        handle = model.blocks[-1].register_forward_hook(disturb)
        with torch.no_grad():
            result = model(pictures()).representation
        handle.remove()
        return result

    untouched = disturbed(slice(0, 0))
    assert torch.equal(disturbed(slice(first, first + 2)), untouched)
    reads_class_token = POOLS[kind] in (ClassToken(), TokenAndAverage())
    assert torch.equal(disturbed(slice(0, first)), untouched) is not reads_class_token
    reads_patches = POOLS[kind] != ClassToken()
    assert torch.equal(disturbed(slice(first + 2, None)), untouched) is not reads_patches
    # and in the layers before, patches do read them
    with torch.no_grad():
        model.reg_token.add_(torch.linspace(-2, 2, 24))
        assert (model(pictures()).representation - untouched).abs().max() > 1e-3


def test_every_register_learns() -> None:
    model = lively(vit(registers=4))
    assert model.reg_token.shape == (1, 4, 24)
    model(pictures()).logits.square().sum().backward()
    assert (model.reg_token.grad.abs().amax(dim=-1) > 0).all()
    assert lively(vit()).reg_token is None


def test_a_class_token_that_is_not_pooled_still_takes_part() -> None:
    """MAE's fine-tuned models: the mean of the patches, beside a class token that they attend to."""
    config = vit(pool=AveragePool(class_token=True))
    model = lively(config)
    assert model.config.tokens == 13
    with torch.no_grad():
        before = model(pictures()).representation
        model.cls_token.add_(torch.linspace(-2, 2, 24))
        assert (model(pictures()).representation - before).abs().max() > 1e-3
    assert replace(config, pool=AveragePool()).tokens == 12
