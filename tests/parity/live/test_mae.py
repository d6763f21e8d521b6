"""MAE beside transformers: the same weights and mask give the same loss, whichever of the two wrote them."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.parity.live.foreign import enliven, images
from tests.parity.live.test_transformers import loaded
from vitrail.models.mae import draw_order, painting_loss
from vitrail.models.objective import Learner, learner
from vitrail.models.vit import ViT
from vitrail.weights.convert import convert
from vitrail.weights.load import model_of, read_pretrained

pytestmark = pytest.mark.slow

SIZES: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 112}
SIZES |= {"image_size": 64, "patch_size": 16, "decoder_hidden_size": 32, "decoder_num_hidden_layers": 2}
SIZES |= {"decoder_num_attention_heads": 4, "decoder_intermediate_size": 40}
CASES: dict[str, dict[str, Any]] = {
    "normalised targets": {"norm_pix_loss": True},
    "pixels": {"norm_pix_loss": False},
    "half hidden, GELU by tanh": {"mask_ratio": 0.5, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
}


def theirs_of(transformers: ModuleType, case: str) -> nn.Module:
    config = transformers.ViTMAEConfig(**SIZES, **CASES[case])
    return enliven(transformers.ViTMAEForPreTraining(config))


def ours_of(folder: Path) -> Learner:
    published = read_pretrained(folder)
    assert published.trained_with is not None
    model = model_of(published)
    assert isinstance(model, ViT)
    made = learner(model, published.trained_with.objective)
    missing = made.load_state_dict(published.trained_with.state, strict=False)
    assert not missing.unexpected_keys
    assert all(name.startswith("encoder.") for name in missing.missing_keys)
    return made.eval()


def losses(ours: Learner, theirs: nn.Module) -> tuple[float, float, float]:
    """Both losses, and how far apart what is painted is at most."""
    x = images((64, 64))
    noise = torch.rand(len(x), 16, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        expected = theirs(x, noise=noise)
        order = draw_order(noise)
        painted = ours(x, order)
        loss: Tensor = painting_loss(painted, x, order, ours.objective, 16)  # type: ignore[arg-type]
    return float(loss), float(expected.loss), float((painted - expected.logits).abs().max())


@pytest.mark.parametrize("case", CASES)
def test_the_loss_is_that_of_transformers_there_and_back(case: str, transformers: ModuleType, tmp_path: Path) -> None:
    """Measured (x86, float32, torch 2.13, transformers 5.23): losses at most 1.2e-7 apart."""
    model = theirs_of(transformers, case)
    model.save_pretrained(tmp_path / "theirs")
    ours, expected, apart = losses(ours_of(tmp_path / "theirs"), model)
    print(f"{case}: losses {ours:.7f} and {expected:.7f}, {abs(ours - expected):.1e} apart, painted {apart:.1e}")
    assert ours == pytest.approx(expected, abs=1e-5)
    assert apart < 1e-4
    done = convert(tmp_path / "theirs", tmp_path / "bundle", "bundle")
    assert not done.left_over
    convert(tmp_path / "bundle", tmp_path / "again", "huggingface")
    again = loaded(transformers, "ViTMAEForPreTraining", tmp_path / "again")
    state = model.state_dict()
    assert again.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())
    assert again.config.norm_pix_loss == model.config.norm_pix_loss
    assert again.config.mask_ratio == model.config.mask_ratio


def test_a_new_autoencoder_is_read_by_transformers(transformers: ModuleType, tmp_path: Path) -> None:
    """Fixed sines and cosines are a table there, and the loss is the same."""
    from vitrail.data.transforms.pipeline import Preprocess
    from vitrail.jobs.unlabelled_training import parts_of
    from vitrail.models.build import build
    from vitrail.models.mae import MAE
    from vitrail.models.position import SinCos2d
    from vitrail.models.vit import ViTConfig
    from vitrail.weights.bundle import save_bundle

    config = ViTConfig(patch=16, width=48, depth=2, heads=3, mlp=96, resolution=(64, 64), position=SinCos2d())
    model = build(config)
    assert isinstance(model, ViT)
    made = learner(model, MAE(decoder_width=32, decoder_depth=1, decoder_heads=2, decoder_mlp=48))
    enliven(made)
    save_bundle(tmp_path / "bundle", model, Preprocess((64, 64)), (), {}, trained_with=parts_of(made))
    done = convert(tmp_path / "bundle", tmp_path / "theirs", "huggingface")
    assert any(line.startswith("position") for line in done.changed)
    theirs = loaded(transformers, "ViTMAEForPreTraining", tmp_path / "theirs")
    ours, expected, _ = losses(made.eval(), theirs)
    assert ours == pytest.approx(expected, abs=1e-5)
