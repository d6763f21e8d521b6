"""LoRA adapters of peft: what is read is what peft's own merge computes; what is not LoRA is refused by its name."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import vitrail
from tests.parity.live.foreign import agree, enliven, images, require
from vitrail.core.errors import BadInput

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # peft's and transformers' of each other

SIZES = {
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def peft(transformers: ModuleType) -> ModuleType:
    require("peft")
    import peft

    return peft


def adapted(peft: ModuleType, transformers: ModuleType, folder: Path, classes: int = 5, **options: Any) -> Any:
    """A base model with 3 classes in `base`, an adapter with others in `adapter`; the model with both."""
    kind = transformers.ViTForImageClassification
    base = enliven(kind(transformers.ViTConfig(**SIZES, num_labels=3)))
    base.save_pretrained(folder / "base")
    model = kind.from_pretrained(folder / "base", num_labels=classes, ignore_mismatched_sizes=True)
    model = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=6, **options))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder / "adapter")
    return model.eval()


LAYERS = {
    "attention": r".*\.(query|value|q_proj|v_proj)",
    "all linear layers": r".*\.layers?\.\d+\..*(query|key|value|dense|_proj|fc\d)",
    "the projection": r".*\.projection",
}


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"rank_pattern": {r".*\.1\..*": 2}}], ids=str)
def test_an_adapter_is_merged_as_peft_merges_it(
    layers: str, options: dict[str, Any], peft: ModuleType, transformers: ModuleType, tmp_path: Path
) -> None:
    given = {"target_modules": LAYERS[layers], "modules_to_save": ["classifier"], **options}
    model, x = adapted(peft, transformers, tmp_path, **given), images((32, 32))
    plain = vitrail.load(tmp_path / "base")
    ours = vitrail.load(tmp_path / "adapter")
    with torch.inference_mode():
        want = model.merge_and_unload()(x).logits
        agree(layers, logits=(ours(x).logits, want))
        assert (ours(x).representation - plain(x).representation).abs().max() > 1e-3  # it does something
    assert ours.classes == ("0", "1", "2", "3", "4")


def test_other_kinds_and_options_are_refused_by_name(
    peft: ModuleType, transformers: ModuleType, tmp_path: Path
) -> None:
    adapted(peft, transformers, tmp_path, target_modules=LAYERS["attention"])
    config = tmp_path / "adapter" / "adapter_config.json"
    about = json.loads(config.read_text())
    for changes, sentence in [
        ({"peft_type": "IA3"}, "'IA3'"),
        ({"use_dora": True}, "use_dora"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa'"),
        ({"alpha_pattern": {"x": 2}}, "alpha_pattern"),
        ({"invented": 1}, "invented"),
        ({"base_model_name_or_path": None}, "names no base_model"),
    ]:
        config.write_text(json.dumps({**about, **changes}))
        with pytest.raises(BadInput, match=sentence):
            vitrail.load(tmp_path / "adapter")
