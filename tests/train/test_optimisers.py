"""Adam and momentum against NumPy, which weights decay, rates that fall with depth, and sharded weights."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from tests.train.small import MODEL
from vitrail.core.errors import BadInput
from vitrail.models.build import Model, build
from vitrail.models.head import AttentionPool, AveragePool
from vitrail.models.position import Learned2d
from vitrail.models.resnet import BIT, ResNetConfig, Stages
from vitrail.train.optim import (
    Adam,
    Momentum,
    Muon,
    OptimizerConfig,
    build_optimizer,
    factors,
    is_decayed,
    set_learning_rate,
)
from vitrail.train.weight_averaging import start_average, update_average, use_averaged

RATES = [0.0, 0.02, 0.1, 0.05, 0.01]  # a schedule: decay must follow it


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))


def updates(config: OptimizerConfig, model: nn.Module) -> dict[str, list[np.ndarray]]:
    """Runs the optimiser over RATES on random gradients; the gradients, by parameter."""
    optimizer, rng = build_optimizer(config, model), np.random.default_rng(0)
    gradients: dict[str, list[np.ndarray]] = {name: [] for name, _ in model.named_parameters()}
    for rate in RATES:
        set_learning_rate(optimizer, rate)
        for name, p in model.named_parameters():
            g = rng.normal(size=tuple(p.shape))
            gradients[name].append(g)
            p.grad = torch.from_numpy(g).float()
        optimizer.step()
    return gradients


@pytest.mark.parametrize("decayed", ["kernels", "all"])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_adam_against_numpy(decay: float, decayed: str) -> None:
    config = Adam(lr=1.0, weight_decay=decay, betas=(0.8, 0.95), decayed=decayed)  # type: ignore[arg-type]
    model = small_network()
    before = {name: p.detach().double().numpy().copy() for name, p in model.named_parameters()}
    gradients = updates(config, model)
    for name, p in model.named_parameters():
        w, m, v = before[name], 0.0, 0.0
        acts = decayed == "all" or name == "0.weight"
        for t, (rate, g) in enumerate(zip(RATES, gradients[name], strict=True), start=1):
            w = w * (1 - rate * decay * acts)
            m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
            w = w - rate * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)
        assert np.abs(p.detach().numpy() - w).max() < 1e-6, name  # measured 9.5e-8


@pytest.mark.parametrize("decayed", ["kernels", "all"])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_momentum_against_numpy(decay: float, decayed: str) -> None:
    config = Momentum(lr=1.0, momentum=0.9, weight_decay=decay, decayed=decayed)  # type: ignore[arg-type]
    model = small_network()
    before = {name: p.detach().double().numpy().copy() for name, p in model.named_parameters()}
    gradients = updates(config, model)
    for name, p in model.named_parameters():
        w, velocity = before[name], 0.0
        acts = decayed == "all" or name == "0.weight"
        for rate, g in zip(RATES, gradients[name], strict=True):
            w = w * (1 - rate * decay * acts)  # decoupled: it never enters the velocity
            velocity = 0.9 * velocity + g
            w = w - rate * velocity
        assert np.abs(p.detach().numpy() - w).max() < 1e-6, name  # measured 1.1e-7


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_coupled_decay_enters_the_velocity(momentum: float) -> None:
    config = Momentum(lr=1.0, momentum=momentum, weight_decay=0.3, coupled=True)
    model = small_network()
    before = {name: p.detach().double().numpy().copy() for name, p in model.named_parameters()}
    gradients = updates(config, model)
    for name, p in model.named_parameters():
        w, velocity = before[name], 0.0
        for rate, g in zip(RATES, gradients[name], strict=True):
            velocity = momentum * velocity + g + 0.3 * w * (name == "0.weight")
            w = w - rate * velocity
        assert np.abs(p.detach().numpy() - w).max() < 1e-6, name  # measured 1.2e-7


def test_decoupled_decay_does_as_much_as_coupled_when_momentum_divides_it() -> None:
    """Why BiT's 1e-4 is 1e-3 here: without gradients, weights shrink as fast, but for the first steps."""
    left = []
    for config in (
        Momentum(weight_decay=1e-4, coupled=True, decayed="all"),
        Momentum(weight_decay=1e-3, decayed="all"),
    ):
        weight = nn.Linear(1, 1, bias=False)
        nn.init.ones_(weight.weight)
        optimizer = build_optimizer(config, weight)
        set_learning_rate(optimizer, 1.0)
        weight.weight.grad = torch.zeros(1, 1)
        for _ in range(1000):
            optimizer.step()
        left.append(weight.weight.item())
    assert left[1] == pytest.approx(np.exp(-1), rel=1e-2)
    assert left[0] == pytest.approx(left[1], rel=1e-2)


def test_sgd_without_momentum_keeps_nothing() -> None:
    model = small_network()
    optimizer = build_optimizer(Momentum(lr=0.5, momentum=0.0), model)
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert not optimizer.state
    assert all(torch.equal(p, old - 0.5) for p, old in zip(model.parameters(), before, strict=True))


def test_a_parameter_without_a_gradient_stays() -> None:
    model = small_network()
    optimizer = build_optimizer(Momentum(weight_decay=0.1, decayed="all"), model)
    before = deepcopy(model.state_dict())
    model[0].weight.grad = torch.ones(3, 4)  # type: ignore[index, union-attr, operator]
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"0.weight"}


def test_only_kernels_decay() -> None:
    decayed = {name for name, p in build(MODEL).named_parameters() if is_decayed(name, p, "kernels")}
    assert decayed == {
        "patch_embed.proj.weight",
        "blocks.0.attn.qkv.weight",
        "blocks.0.attn.proj.weight",
        "blocks.0.mlp.fc1.weight",
        "blocks.0.mlp.fc2.weight",
        "head.weight",
    }


def test_parameters_that_are_not_trained_are_left_out() -> None:
    model = small_network()
    model[1].requires_grad_(False)  # type: ignore[index]
    optimizer = build_optimizer(Adam(weight_decay=0.1), model)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


# rates that fall with the distance from the head

DEEP = replace(MODEL, depth=3)
HALVES = {
    "ViT": (
        replace(DEEP, hidden=8, registers=2),
        {
            **dict.fromkeys(["cls_token", "reg_token", "pos_embed", "patch_embed.proj.weight"], 1 / 16),
            **{"blocks.0.norm1.weight": 1 / 8, "blocks.1.attn.qkv.bias": 1 / 4, "blocks.2.mlp.fc2.weight": 1 / 2},
            **dict.fromkeys(["norm.weight", "norm.bias", "pre_logits.weight", "head.weight", "head.bias"], 1.0),
        },
    ),
    "positions and pooling": (
        replace(DEEP, position=Learned2d("layers"), pool=AttentionPool(), layer_scale=0.1),
        {
            **dict.fromkeys(["pos_embed.x", "pos_embed.y"], 1 / 16),
            **{"blocks.0.ls1.gamma": 1 / 8, "attn_pool.latent": 1.0, "attn_pool.mlp.fc1.weight": 1.0},
        },
    ),
    "norm after the average": (replace(DEEP, pool=AveragePool(norm_after=True)), {"fc_norm.weight": 1.0}),
    "hybrid": (
        replace(DEEP, patch=1, backbone=Stages(units=(1, 2), width=32), resolution=(32, 32)),
        {
            **dict.fromkeys(["patch_embed.backbone.stem.conv.weight", "patch_embed.proj.weight"], 1 / 16),
            "patch_embed.backbone.stages.1.blocks.1.conv3.weight": 1 / 16,
            **{"blocks.0.attn.proj.weight": 1 / 8, "blocks.2.attn.proj.weight": 1 / 2, "head.weight": 1.0},
        },
    ),
    "ResNet": (
        ResNetConfig(replace(BIT, units=(1, 2), width=32), num_classes=3),
        {
            **{"stem.conv.weight": 1 / 16, "stages.0.blocks.0.downsample.conv.weight": 1 / 8},
            **{"stages.1.blocks.0.conv1.weight": 1 / 4, "stages.1.blocks.1.norm3.bias": 1 / 2},
            **dict.fromkeys(["norm.weight", "head.fc.weight", "head.fc.bias"], 1.0),
        },
    ),
}


def halved(model: Model) -> dict[str, float]:
    return factors(0.5, (name for name, _ in model.named_parameters()))


@pytest.mark.parametrize("case", HALVES)
def test_layer_decay_is_a_power_of_the_distance_from_the_head(case: str) -> None:
    config, expected = HALVES[case]
    rates = halved(build(config))
    assert {name: rates[name] for name in expected} == expected
    assert set(rates.values()) <= {1 / 16, 1 / 8, 1 / 4, 1 / 2, 1}


@pytest.mark.parametrize("config", [Momentum(lr=0.1, layer_decay=0.5), Adam(lr=0.1, layer_decay=0.5)])
def test_each_weight_is_updated_by_its_own_rate(config: OptimizerConfig) -> None:
    model = build(DEEP)
    optimizer, rates = build_optimizer(config, model), halved(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    set_learning_rate(optimizer, 0.01)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()  # the first step of either is the rate times the gradient, or its sign
    for name, p in model.named_parameters():
        assert (before[name] - p - 0.01 * rates[name]).abs().max() < 1e-6, name


def test_decay_follows_the_rate_of_its_layer() -> None:
    model = build(DEEP)
    optimizer, rates = build_optimizer(Momentum(lr=0.1, weight_decay=0.5, layer_decay=0.5), model), halved(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        decay = 0.5 if is_decayed(name, p, "kernels") else 0.0
        assert torch.allclose(p, before[name] * (1 - 0.1 * rates[name] * decay), rtol=1e-6), name


def test_groups_are_few() -> None:
    model = build(DEEP)
    assert len(build_optimizer(Adam(), model).param_groups) == 1
    assert len(build_optimizer(Adam(weight_decay=0.1), model).param_groups) == 2
    assert len(build_optimizer(Adam(layer_decay=0.5), model).param_groups) == 5
    optimizer = build_optimizer(Adam(weight_decay=0.1, layer_decay=0.5), model)
    assert len({(g["weight_decay"], g["factor"]) for g in optimizer.param_groups}) == len(optimizer.param_groups) == 10
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_layers_that_are_not_trained_keep_the_distance_of_the_others() -> None:
    model = build(DEEP)
    model.blocks[1:].requires_grad_(False)  # type: ignore[index, union-attr, operator]
    optimizer = build_optimizer(Adam(layer_decay=0.5), model)
    assert {group["factor"] for group in optimizer.param_groups} == {1 / 16, 1 / 8, 1.0}


@pytest.mark.parametrize("decay", [0.0, 1.1, -0.5])
def test_a_layer_decay_that_means_nothing_is_refused(decay: float) -> None:
    with pytest.raises(BadInput, match="layer_decay"):
        build_optimizer(Adam(layer_decay=decay), build(DEEP))


# sharded


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """One process's, which is enough for tensors to be sharded."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "config",
    [
        Adam(weight_decay=0.1, layer_decay=0.5),
        Momentum(weight_decay=0.1, layer_decay=0.5),
        Momentum(weight_decay=0.1, coupled=True),
        Momentum(momentum=0.0),
        Muon(weight_decay=0.1, adam_weight_decay=0.1, layer_decay=0.5),
    ],
)
def test_sharded_weights_are_updated_as_whole_ones_are(config: OptimizerConfig, mesh: DeviceMesh) -> None:
    whole = build(MODEL)
    sharded = deepcopy(whole)
    fully_shard(sharded, mesh=mesh)
    optimizers = [build_optimizer(config, model) for model in (whole, sharded)]
    rng = torch.Generator().manual_seed(0)
    for rate in RATES:
        for p, q in zip(whole.parameters(), sharded.parameters(), strict=True):
            p.grad = torch.randn(p.shape, generator=rng)
            q.grad = DTensor.from_local(p.grad.clone(), mesh, q.placements)  # type: ignore[attr-defined]
        for optimizer in optimizers:
            set_learning_rate(optimizer, rate)
            optimizer.step()
    for p, q in zip(whole.parameters(), sharded.parameters(), strict=True):
        assert isinstance(q, DTensor)
        assert torch.equal(q.full_tensor(), p)
    for p, values in optimizers[1].state.items():
        moment = values.get("momentum_buffer", values.get("exp_avg"))
        assert isinstance(moment, DTensor)
        assert moment.placements == p.placements  # type: ignore[attr-defined]


def test_a_process_that_holds_no_rows_of_a_weight_updates_the_others() -> None:
    model = nn.ParameterDict({"a": torch.zeros(0, 3), "b": torch.zeros(2, 3)})
    optimizer = build_optimizer(Momentum(lr=1.0, weight_decay=0.1, decayed="all"), model)
    for p in model.values():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert torch.equal(model["b"], -torch.ones(2, 3))


def test_the_average_follows_the_weights() -> None:
    model = small_network()
    average = start_average(model)
    expected = {name: p.detach().double().numpy().copy() for name, p in model.named_parameters()}
    for step in range(4):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(step + 1)
        update_average(average, model, 0.9)
        for name, p in model.named_parameters():
            expected[name] = 0.9 * expected[name] + 0.1 * p.detach().double().numpy()
    for name, value in average.items():
        assert np.abs(value.numpy() - expected[name]).max() < 1e-5  # measured 1.4e-7


def test_averaged_weights_are_borrowed_and_given_back() -> None:
    model = small_network()
    average = start_average(model)
    own = model[0].weight.detach().clone()  # type: ignore[index, union-attr, operator]
    average["0.weight"].fill_(7)
    with pytest.raises(RuntimeError), use_averaged(model, average):
        assert (model.state_dict()["0.weight"] == 7).all()
        raise RuntimeError
    assert torch.equal(model.state_dict()["0.weight"], own)
    with use_averaged(model, None) as same:
        assert torch.equal(same.state_dict()["0.weight"], own)
