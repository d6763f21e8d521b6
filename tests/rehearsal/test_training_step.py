"""A training step as on a GPU: everything on it, nothing read back, no number of 64 bits; and ways to break it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.rehearsal.fake_cuda import GPU, Read, Seen, fake_cuda, on_gpu
from tests.train.small import MODEL, PREPROCESS, training
from vitrail.core.device import Machine
from vitrail.data.loader.batch import Batch, Broken
from vitrail.data.transforms.mixup import Mixing
from vitrail.models.build import ModelConfig, build
from vitrail.models.head import AttentionPool, AveragePool
from vitrail.models.mae import MAE
from vitrail.models.masked_patches import MaskedPatches
from vitrail.models.objective import MaskedObjective, learner
from vitrail.models.position import Relative
from vitrail.models.resnet import ResNetConfig, Stages
from vitrail.train import step
from vitrail.train.config import TrainConfig
from vitrail.train.loss import LogitAdjusted, Sigmoid
from vitrail.train.parallel import parallelize
from vitrail.train.step import Metrics, TrainState, init_state, train_step

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # torch.compiler's own

DEEP = replace(MODEL, depth=2)
HYBRID = replace(DEEP, patch=1, resolution=(32, 32), backbone=Stages(units=(1, 1), width=32))
RESNET = ResNetConfig(stages=Stages(units=(1, 1), width=32), num_classes=10)
SMALL = MAE(decoder_width=16, decoder_depth=1, decoder_heads=2, decoder_mlp=32)
CONFIG = training()
IMAGES = 12


def rehearse(
    config: TrainConfig = CONFIG,
    model: ModelConfig = DEEP,
    dtype: torch.dtype = torch.bfloat16,
    objective: MaskedObjective | None = None,
    micro_batch: int = 0,
    several: bool = False,
    recompute: bool = False,
    weighed: bool = False,
) -> tuple[TrainState, Seen]:
    """Two steps, the second with what the first has left; raises where something would be wrong on a GPU."""

    def made() -> Any:
        built: Any = build(model)
        return built if objective is None else learner(built, objective)

    with fake_cuda() as seen:
        trained = on_gpu(made)
        machine = Machine(recompute=recompute, compile=False)
        state = init_state(trained, config, Broken(1), parallelize(trained, machine, GPU, dtype))
        state.micro_batch = micro_batch
        if weighed:
            state.class_weights = torch.ones(10, device=GPU)
        if isinstance(config.loss, LogitAdjusted):
            state.class_priors = torch.zeros(10, device=GPU)
        count = IMAGES + (config.mixing != Mixing())
        pixels = torch.zeros(count, 3, *model.resolution, dtype=torch.uint8)
        labels = torch.zeros(count, 10, dtype=torch.uint8) if several else torch.zeros(count, dtype=torch.int64)
        batch = Batch.of(pixels.to(GPU), labels.to(GPU))  # as the loader hands it over
        preprocess = replace(PREPROCESS, resolution=model.resolution)
        seen.copied_back.clear()
        for _ in range(2):
            metrics = train_step(state, batch, config=config, preprocess=preprocess, dtype=dtype)
        check(state, metrics, seen, exact=objective is not None)
    return state, seen


def check(state: TrainState, metrics: Metrics, seen: Seen, exact: bool) -> None:
    """`exact`: masks are drawn in float64, the same on every device."""
    assert not seen.copied_back, f"copied from the device: {seen.copied_back}"
    large = set(seen.dtypes.get(torch.float64, []))
    assert exact or not large, f"in float64 on the device: {large}"
    held: dict[str, Tensor] = {f"weight {name}": p for name, p in state.model.named_parameters()}
    held |= {f"gradient {name}": p.grad for name, p in state.model.named_parameters() if p.grad is not None}
    for p, kept in state.optimizer.state.items():
        held |= {f"moment {key} of {tuple(p.shape)}": value for key, value in kept.items() if value is not None}
    held |= {f"average {name}": tensor for name, tensor in (state.average or {}).items()}
    held |= {"loss": metrics.loss, "norm": metrics.gradient_norm, **metrics.sums}
    elsewhere = {name: tensor.device for name, tensor in held.items() if tensor.device != GPU}
    assert not elsewhere, f"not on the device: {elsewhere}"
    missing = {name for name, p in state.model.named_parameters() if p.grad is None}
    assert exact or not missing, f"without a gradient: {missing}"  # an encoder's head learns nothing of patches


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("config", "options"),
    [
        pytest.param(CONFIG, {}, id="plain"),
        pytest.param(CONFIG, {"micro_batch": 5}, id="parts"),
        pytest.param(replace(CONFIG, average=0.9), {}, id="average"),
        pytest.param(CONFIG, {"weighed": True}, id="class weights"),
        pytest.param(replace(CONFIG, loss=LogitAdjusted()), {}, id="logit-adjusted"),
        pytest.param(replace(CONFIG, loss=Sigmoid()), {"several": True}, id="several classes"),
        pytest.param(replace(CONFIG, mixing=Mixing(mixup=0.2)), {"micro_batch": 5}, id="mixup"),
        pytest.param(replace(CONFIG, mixing=Mixing(cutmix=1.0)), {}, id="cutmix"),
        pytest.param(replace(CONFIG, clip=None), {}, id="without clipping"),
        pytest.param(CONFIG, {"model": replace(DEEP, dropout=0.1, drop_path=0.5)}, id="noise"),
        pytest.param(CONFIG, {"model": replace(DEEP, pool=AttentionPool(), position=Relative())}, id="relative"),
        pytest.param(CONFIG, {"model": replace(DEEP, pool=AveragePool(), hidden=8, registers=1)}, id="head"),
        pytest.param(CONFIG, {"model": HYBRID}, id="hybrid"),
        pytest.param(CONFIG, {"model": RESNET}, id="resnet"),
        pytest.param(CONFIG, {"objective": SMALL, "micro_batch": 5}, id="mae"),
    ],
)
def test_a_step_stays_on_the_device(config: TrainConfig, options: dict[str, Any], dtype: torch.dtype) -> None:
    state, seen = rehearse(config, dtype=dtype, **options)
    assert state.step == 2
    assert (torch.bfloat16 in seen.dtypes) == (dtype == torch.bfloat16)


def test_a_step_with_recomputation_stays_on_the_device() -> None:
    rehearse(recompute=True, dtype=torch.float32)  # in bfloat16 the rehearsal's autocast does not reach the second pass


@pytest.mark.parametrize("target", ["colour", "small-colours", "pixels"])
def test_a_step_on_masked_patches_stays_on_the_device(target: Any) -> None:
    rehearse(objective=MaskedPatches(target=target))


# breaks, each of which must be found


def test_a_tensor_left_on_the_cpu_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = step.normalise
    monkeypatch.setattr(step, "normalise", lambda images, preprocess, device: plain(images, preprocess, device).cpu())
    with pytest.raises(RuntimeError, match="at least two devices"):
        rehearse()


def test_a_weight_of_classes_left_on_the_cpu_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = step.loss_of
    monkeypatch.setattr(step, "loss_of", lambda *given: plain(*given[:5], torch.ones(10), *given[6:]))
    with pytest.raises(RuntimeError, match="at least two devices"):
        rehearse()


def test_a_number_read_in_a_step_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = step._clip

    def reading(*given: Any) -> Tensor:
        norm = plain(*given)
        return norm if norm.item() < 1 else norm * 2

    monkeypatch.setattr(step, "_clip", reading)
    with pytest.raises(Read):
        rehearse()


def test_a_question_to_a_tensor_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = step.loss_of

    def asking(*given: Any) -> Any:
        found = plain(*given)
        if not found.mean.isfinite():
            raise ValueError
        return found

    monkeypatch.setattr(step, "loss_of", asking)
    with pytest.raises(Read):
        rehearse()


def test_a_copy_to_the_cpu_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = step.update_average

    def copying(average: Any, model: Any, decay: float) -> None:
        next(model.parameters()).detach().cpu()
        plain(average, model, decay)

    monkeypatch.setattr(step, "update_average", copying)
    with pytest.raises(AssertionError, match="copied from the device"):
        rehearse(replace(CONFIG, average=0.9))


def test_numbers_of_64_bits_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = step.normalise
    monkeypatch.setattr(step, "normalise", lambda *given: plain(*given).double().float())
    with pytest.raises(AssertionError, match="in float64 on the device"):
        rehearse()
