"""What is trained: nothing else changes, nothing else takes memory, and LoRA leaves a plain model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.train.small import MODEL, fresh, training
from vitrail.core.errors import BadInput
from vitrail.data.loader.batch import Batch, Broken
from vitrail.models.build import Model, build
from vitrail.models.resnet import BIT, ResNetConfig
from vitrail.train.step import TrainState, init_state, train_step
from vitrail.train.trainable import (
    HeadOnly,
    LastBlocks,
    LayerDecay,
    Lora,
    Tuned,
    Whole,
    make_trainable,
    merge,
    trained_parameters,
)
from vitrail.train.trainable import work_share as share
from vitrail.weights.pretrained import check_state

DEEP = replace(MODEL, depth=3)
RESNET = ResNetConfig(replace(BIT, units=(1, 1), width=32), (32, 32), num_classes=10)


def tuned_state(tuned: Tuned, config: object = DEEP) -> TrainState:
    state = fresh(training(), config)  # type: ignore[arg-type]
    make_trainable(state.model, tuned)
    return init_state(state.model, training(), Broken(10))


def step(state: TrainState) -> None:
    from tests.train.small import PREPROCESS

    images = torch.randint(0, 255, (6, 3, *state.model.config.resolution), dtype=torch.uint8)
    batch = Batch.of(images, torch.arange(6))
    for _ in range(
        3
    ):  # the rate of the first one is zero, a warm-up; in the second LoRA's B is zero, so A has no gradient
        train_step(state, batch, config=training(), preprocess=PREPROCESS, dtype=torch.float32)


def changed(before: dict[str, torch.Tensor], model: Model) -> set[str]:
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize(
    ("tuned", "prefixes"),
    [
        (HeadOnly(), ("head.",)),
        (LastBlocks(1), ("head.", "norm.", "blocks.2.")),
        (LastBlocks(2), ("head.", "norm.", "blocks.1.", "blocks.2.")),
        (Lora(2, 4.0), ("head.", "lora")),
        (Whole(), ("",)),
        (LayerDecay(0.5), ("",)),
    ],
    ids=str,
)
def test_only_what_is_trained_changes_and_takes_the_optimisers_memory(tuned: Tuned, prefixes: tuple[str, ...]) -> None:
    state = tuned_state(tuned)
    before = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    step(state)

    def trained(name: str) -> bool:
        return name.startswith(prefixes) or ("lora" in prefixes and ".lora_" in name)

    expected = {name for name, p in state.model.named_parameters() if trained(name)}
    assert changed(before, state.model) == expected
    kept = {name for name, p in state.model.named_parameters() if p in state.optimizer.state}
    assert kept == expected
    assert trained_parameters(state.model) == sum(before[name].numel() for name in expected)


def test_there_is_no_backward_pass_below_what_is_trained() -> None:
    state = tuned_state(LastBlocks(1))
    seen = {}
    for i, block in enumerate(state.model.blocks):  # type: ignore[arg-type]
        block.register_forward_hook(lambda _, inputs, out, i=i: seen.update({i: out[0].requires_grad}))
    step(state)
    assert seen == {0: False, 1: False, 2: True}


def test_a_resnet_trains_its_last_units() -> None:
    state = tuned_state(LastBlocks(1), RESNET)
    before = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    step(state)
    names = changed(before, state.model)
    assert names
    assert all(name.startswith(("head.", "norm.", "stages.1.")) for name in names)


def test_lora_starts_as_the_model_and_ends_as_a_plain_one() -> None:
    images = torch.randn(4, 3, 8, 8)
    state = tuned_state(Lora(3, 6.0))
    plain = fresh(training(), DEEP).model.eval()
    assert torch.equal(state.model.eval()(images).logits, plain(images).logits), "B is zero: nothing is added"
    step(state)
    model = state.model.eval()
    two_paths = model(images).logits
    merge(model)
    one_path = model(images).logits
    assert torch.allclose(one_path, two_paths, atol=1e-6)  # measured: 6e-8
    assert not torch.allclose(one_path, plain(images).logits, atol=1e-4), "it learned"
    check_state(DEEP, model.state_dict(), Path("merged"))
    for name in ("blocks.0.attn.qkv.weight", "blocks.2.mlp.fc2.weight"):
        difference = model.state_dict()[name] - plain.state_dict()[name]
        assert 0 < int(torch.linalg.matrix_rank(difference, atol=1e-7)) <= 3


def test_a_checkpoint_restores_low_rank_matrices(tmp_path: Path) -> None:
    from tests.train.small import save_checkpoint
    from vitrail.train.checkpoint import restore_checkpoint

    state = tuned_state(Lora(2, 4.0))
    step(state)
    save_checkpoint(tmp_path, state)
    other = tuned_state(Lora(2, 4.0))
    assert restore_checkpoint(tmp_path, other)
    assert changed({n: t.clone() for n, t in state.model.state_dict().items()}, other.model) == set()
    step(state)
    torch.manual_seed(0)
    assert len(other.optimizer.state) == len(state.optimizer.state)


def test_the_share_of_the_arithmetic() -> None:
    """Forward, gradients of activations, gradients of weights: a third each."""
    shares = {str(t): share(tuned_state(t).model) for t in (Whole(), HeadOnly(), LastBlocks(1), Lora())}
    assert list(shares.values()) == pytest.approx([1, 1 / 3, (1 + 1 / 3 + 1 / 3) / 3, 2 / 3])


@pytest.mark.parametrize("tuned", [LastBlocks(4), LastBlocks(0), Lora(0), Lora(4, 0.0)], ids=str)
def test_what_cannot_be_trained_is_refused(tuned: Tuned) -> None:
    with pytest.raises(BadInput):
        make_trainable(build(DEEP), tuned)


def test_a_resnet_has_no_linear_maps_to_add_to() -> None:
    with pytest.raises(BadInput, match="a ResNet has none"):
        make_trainable(build(RESNET), Lora())
