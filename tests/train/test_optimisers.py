"""Adam and momentum against NumPy, and which weights decay."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.train.small import MODEL
from vitrail.models.build import build
from vitrail.train.averaging import averaged, start_average, update_average
from vitrail.train.optim import Adam, Momentum, OptimizerConfig, build_optimizer, is_decayed, set_learning_rate

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
    with pytest.raises(RuntimeError), averaged(model, average):
        assert (model.state_dict()["0.weight"] == 7).all()
        raise RuntimeError
    assert torch.equal(model.state_dict()["0.weight"], own)
    with averaged(model, None) as same:
        assert torch.equal(same.state_dict()["0.weight"], own)
