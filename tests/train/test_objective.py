"""Objectives without labels in the one step: keys of the masks, losses, counts; and the same run twice."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.train.small import MODEL, PREPROCESS, assert_equal, batches, everything, training, update
from vitrail.data.loader.batch import Broken
from vitrail.models.build import build
from vitrail.models.mae import MAE
from vitrail.models.masked_patches import MaskedPatches, PatchPredictor, mean_colours
from vitrail.models.objective import Learner, MaskedObjective, learner
from vitrail.models.vit import ViT
from vitrail.train.config import TrainConfig
from vitrail.train.loss import Softmax
from vitrail.train.objective import Part, inputs, loss_of, summary
from vitrail.train.optim import Momentum
from vitrail.train.reconstruct import judge_objective, paint
from vitrail.train.schedule import Cosine
from vitrail.train.step import TrainState, init_state

SMALL_MAE = MAE(masked=0.5, decoder_width=16, decoder_depth=1, decoder_heads=2, decoder_mlp=24)
OBJECTIVES: dict[str, MaskedObjective] = {
    "colour": MaskedPatches(),
    "small colours": MaskedPatches(target="small-colours"),
    "pixels": MaskedPatches(target="pixels"),
    "mae": SMALL_MAE,
}
BARE = replace(MODEL, num_classes=0)


def fresh(config: TrainConfig, objective: MaskedObjective) -> TrainState:
    torch.manual_seed(0)
    model = build(BARE)
    assert isinstance(model, ViT)
    return init_state(learner(model, objective), config, Broken(1352))


def a_part(count: int = 6, epoch: int = 0) -> Part:
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8))
    nothing = torch.zeros(count, dtype=torch.int64)
    return Part(pixels / 127.5 - 1, pixels, nothing, nothing, nothing + epoch, torch.arange(count))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_masks_are_keyed_by_seed_epoch_and_example(name: str) -> None:
    state = fresh(training(), OBJECTIVES[name])
    whole = inputs(state.model, a_part(), key=3)[1:]
    part = a_part()
    turned = Part(*(tensor.flip(0) for tensor in part))
    for first, second in zip(whole, inputs(state.model, turned, key=3)[1:], strict=True):
        assert torch.equal(first, second.flip(0)), "whoever else is in the batch"
    for other in (inputs(state.model, a_part(epoch=1), key=3), inputs(state.model, part, key=4)):
        assert any(not torch.equal(a, b) for a, b in zip(whole, other[1:], strict=True))


def test_the_loss_of_colours_is_that_of_a_loop() -> None:
    state, part = fresh(training(), MaskedPatches()), a_part()
    assert isinstance(state.model, PatchPredictor)
    given = inputs(state.model, part, key=3)
    output = state.model(*given).detach()
    found = loss_of(state.model, output, given, part, Softmax(), None)
    losses, right = [], []
    for image in range(6):
        for m, n in enumerate(given[1][image].tolist()):
            wanted = int(mean_colours(part.pixels[image : image + 1], 4)[0, n])
            logits = output[image, m].double().numpy()
            losses.append(float(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[wanted]))
            right.append(int(logits.argmax()) == wanted)
    assert float(found.mean) == pytest.approx(np.mean(losses), abs=1e-5)
    said = summary(found.sums, 6)
    assert said["accuracy"] == pytest.approx(np.mean(right))
    assert said["majority"] == float(found.sums["colours"].max()) / 12
    assert int(found.sums["colours"].sum()) == 12, "two of four patches of each image"


def test_the_loss_of_pixels_is_the_mean_of_squares() -> None:
    state, part = fresh(training(), MaskedPatches(target="pixels")), a_part()
    given = inputs(state.model, part, key=3)
    output = state.model(*given).detach()
    blocks = [
        part.images[i, :, n // 2 * 4 : n // 2 * 4 + 4, n % 2 * 4 : n % 2 * 4 + 4] for i in range(6) for n in given[1][i]
    ]
    wanted = torch.stack(blocks).flatten(1)
    found = loss_of(state.model, output, given, part, Softmax(), None)
    assert float(found.mean) == pytest.approx(float(F.mse_loss(output.flatten(0, 1), wanted)), rel=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("micro", [1, 5])
def test_accumulated_gradients_equal_the_whole_batch(name: str, micro: int) -> None:
    base = training(optimizer=Momentum(lr=1.0), schedule=Cosine(), clip=None)
    whole, parts = fresh(base, OBJECTIVES[name]), fresh(base, OBJECTIVES[name])
    (batch,) = batches(base, stop=1)
    one = update(whole, batch, base)
    other = update(parts, batch, replace(base, micro_batch=micro))
    for (key, a), b in zip(everything(whole).items(), everything(parts).values(), strict=True):
        assert (a - b).abs().max() < 1e-4, key
    assert float(other.loss) == pytest.approx(float(one.loss), rel=1e-5)
    for key, value in one.sums.items():
        assert torch.allclose(value.double(), other.sums[key].double())


@pytest.mark.parametrize("name", ["colour", "mae"])
def test_learning_lowers_the_loss_of_images_that_are_not_learned_from(name: str) -> None:
    from vitrail.data.open.names import open_unlabelled

    config = training(steps=60, batch=64, optimizer=replace(training().optimizer, lr=5e-3))
    state = fresh(config, OBJECTIVES[name])
    test = open_unlabelled("digits@test")
    assert isinstance(state.model, Learner)
    before = judge_objective(state.model, test, PREPROCESS, seed=0, dtype=torch.float32)
    for batch in batches(config):
        update(state, batch, config)
    after = judge_objective(state.model, test, PREPROCESS, seed=0, dtype=torch.float32)
    assert after == judge_objective(state.model, test, PREPROCESS, seed=0, dtype=torch.float32)
    assert after["loss"] < 0.8 * before["loss"]
    assert after["count"] == 445
    if name == "colour":
        assert after["accuracy"] > before["accuracy"] + 0.1
        assert 0 < after["majority"] < 1


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_same_run_twice_is_the_same_bit_for_bit(name: str) -> None:
    config = training(average=0.9)
    states = [fresh(config, OBJECTIVES[name]) for _ in range(2)]
    for state in states:
        for batch in batches(config, 0, 3):
            update(state, batch, config)
    assert_equal(everything(states[0]), everything(states[1]))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_only_holes_are_painted(name: str) -> None:
    from vitrail.data.open.names import open_unlabelled

    state = fresh(training(), OBJECTIVES[name])
    assert isinstance(state.model, Learner)
    made = paint(state.model, open_unlabelled("digits@test"), PREPROCESS, seed=0, dtype=torch.float32, count=5)
    assert made.images.shape == made.seen.shape == made.painted.shape == (5, 8, 8, 3)
    changed = (made.images != made.painted).any(axis=3)
    patches = changed.reshape(5, 2, 4, 2, 4).any(axis=(2, 4)).sum(axis=(1, 2))
    assert patches.max() <= 2
    assert patches.sum() > 0
