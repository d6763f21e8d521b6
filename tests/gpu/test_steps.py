"""Steps on the device: those of the CPU in float32, and the same whether compiled, in parts, or recomputed."""

from dataclasses import replace

import pytest
import torch

from tests.train.small import MODEL, PREPROCESS, batches, training
from vitrail.core.device import Machine
from vitrail.data.loader.batch import Broken
from vitrail.models.build import build
from vitrail.models.vit import ViTConfig
from vitrail.train.config import TrainConfig
from vitrail.train.optim import Momentum
from vitrail.train.parallel import parallelize
from vitrail.train.schedule import Cosine
from vitrail.train.step import init_state, train_step

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.filterwarnings("default"),
    pytest.mark.usefixtures("without_shape_checks"),
]

CONFIG = training(optimizer=Momentum(lr=0.1), schedule=Cosine())
EAGER = Machine(compile=False)
Run = tuple[dict[str, torch.Tensor], list[float]]


def trained(
    device: torch.device,
    machine: Machine = EAGER,
    config: TrainConfig = CONFIG,
    dtype: torch.dtype = torch.float32,
    model: ViTConfig = MODEL,
) -> Run:
    """The weights after three steps, and their losses."""
    torch.manual_seed(0)
    made = build(model)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    made.to(device)
    state = init_state(made, config, Broken(1), parallelize(made, machine, device, dtype))
    state.micro_batch = config.micro_batch or config.batch
    losses = []
    for batch in batches(config, stop=3):
        metrics = train_step(state, batch, config=config, preprocess=PREPROCESS, dtype=dtype)
        losses.append(float(metrics.loss))
    return {name: p.detach().cpu().clone() for name, p in made.named_parameters()}, losses


def apart(one: Run, other: Run) -> float:
    """The norm of the difference of the weights, in that of the weights."""
    square = sum(float((one[0][name] - other[0][name]).double().square().sum()) for name in one[0])
    return float((square / sum(float(p.double().square().sum()) for p in one[0].values())) ** 0.5)


def test_in_float32_they_are_those_of_the_cpu(device: torch.device) -> None:
    torch.backends.cudnn.allow_tf32 = False
    one, other = trained(torch.device("cpu")), trained(device)
    assert apart(one, other) < 1e-4
    assert one[1] == pytest.approx(other[1], rel=1e-4)


@pytest.mark.parametrize(
    ("machine", "changes", "tolerance"),
    [
        (Machine(compile=True), {}, 1e-4),
        (EAGER, {"micro_batch": 5}, 1e-4),
        (replace(EAGER, recompute=True), {}, 1e-5),
        (Machine(compile=True, recompute=True), {}, 1e-4),
    ],
    ids=["compiled", "parts", "recomputed", "recomputed and compiled"],
)
def test_how_they_are_computed_changes_rounding_alone(
    device: torch.device, machine: Machine, changes: dict[str, int], tolerance: float
) -> None:
    assert apart(trained(device), trained(device, machine, replace(CONFIG, **changes))) < tolerance


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_bfloat16_is_near(device: torch.device, compiled: bool) -> None:
    found = trained(device, Machine(compile=compiled), dtype=torch.bfloat16)
    assert apart(trained(device), found) < 3e-2


def test_graphs_give_the_same_steps(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("graphs are CUDA's")
    found = trained(device, Machine(graphs=True), dtype=torch.bfloat16)
    assert apart(trained(device, dtype=torch.bfloat16), found) < 1e-2


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_noise_is_keyed_by_the_seed(device: torch.device, compiled: bool) -> None:
    noisy = replace(MODEL, dropout=0.1, drop_path=0.3, depth=2)
    one, other = (trained(device, Machine(compile=compiled), model=noisy) for _ in range(2))
    assert apart(one, other) < 1e-5
