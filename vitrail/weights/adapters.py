"""Adapters of peft: LoRA, merged into the model that its `adapter_config.json` names. Other kinds are refused by name.

W + scale · B A, as peft's `merge_and_unload` has it; modules that were trained whole (`modules_to_save`) take the place
of those of the model.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.weights.hub import PREFIX, fetch

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_BEGINNING = "base_model.model."
_IRRELEVANT = set(  # of how it was trained, or of texts
    "peft_type auto_mapping peft_version base_model_name_or_path task_type inference_mode r target_modules "
    "exclude_modules lora_alpha lora_dropout use_rslora modules_to_save bias rank_pattern loftq_config eva_config "
    "corda_config lora_ga_config runtime_config megatron_core qalora_group_size ensure_weight_tying "
    "tie_word_embeddings layers_to_transform layers_pattern revision".split()
)
_SAME_BASE = (
    True,
    False,
    None,
    "gaussian",
    "eva",
    "orthogonal",
)  # starts that leave the model's own weights


class Adapter(NamedTuple):
    """LoRA's matrices and whole tensors, by the names of the model."""

    folder: Path
    base: str
    alpha: float
    root: bool  # divided by the root of the rank (rsLoRA), not by the rank
    tensors: dict[str, Tensor]

    def base_folder(self) -> Path:
        """The folder of the model that it belongs to: beside it, a path, or a name of the hub."""
        for place in (Path(self.base), self.folder / self.base):
            if place.is_dir():
                return place
        return fetch(PREFIX + self.base)

    def merged(self, tensors: Mapping[str, Tensor], rename: Callable[[str], str]) -> dict[str, Tensor]:
        """The model's tensors with the adapter in them; `rename` makes names in memory those of the file.

        Raises:
            BadInput: a matrix without its other half, or of a tensor that the model does not have.
        """
        made = dict(tensors)
        for name, tensor in self.tensors.items():
            if name.endswith(".lora_B.weight"):
                continue
            if not name.endswith(".lora_A.weight"):
                made[rename(name.replace(".base_layer.", ".").replace(".modules_to_save.default.", "."))] = tensor
                continue
            module = name.removesuffix(".lora_A.weight")
            target, other = f"{rename(module + '.')}weight", self.tensors.get(f"{module}.lora_B.weight")
            if other is None or target not in made:
                what = "has no second matrix" if other is None else "is of a layer that its model does not have"
                raise BadInput(f"{self.folder}: the adapter's {name!r} {what}")
            rank = tensor.shape[0]
            weight, scale = made[target], self.alpha / (rank**0.5 if self.root else rank)
            if other.shape[1] != rank or other.shape[0] * tensor[0].numel() != weight.numel():
                raise BadInput(f"{self.folder}: the adapter's {name!r} does not fit {target!r} of its model")
            change = other.float().flatten(1) @ tensor.float().flatten(1)
            made[target] = weight.float() + scale * change.reshape(weight.shape)
        return made


def read_adapter(folder: Path, read: Callable[[Path], Mapping[str, Tensor]]) -> Adapter:
    """The adapter in a folder; `read` reads its file of weights.

    Raises:
        BadInput: another kind than LoRA, an option of it that is not read, or no base model.
    """
    about: Any = read_json(folder / CONFIG)
    if not isinstance(about, dict) or about.get("peft_type") != "LORA":
        kind = about.get("peft_type") if isinstance(about, dict) else about
        raise BadInput(
            f"{folder} is an adapter of peft of the kind {kind!r}; LoRA is read: merge it, or save it as one"
        )
    for name, value in about.items():
        start = name == "init_lora_weights" and value in _SAME_BASE
        if value and name not in _IRRELEVANT and not start:
            raise BadInput(
                f"{folder / CONFIG} says {name} {value!r}, which vitrail does not merge: `merge_and_unload()` does"
            )
    base, alpha = about.get("base_model_name_or_path"), about.get("lora_alpha")
    if not isinstance(base, str) or not base:
        raise BadInput(f"{folder / CONFIG} names no base_model_name_or_path: put the folder of its model there")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)):
        raise BadInput(f"{folder / CONFIG} says lora_alpha {alpha!r}, expected a number")
    file = next((folder / name for name in WEIGHTS if (folder / name).exists()), None)
    if file is None:
        raise BadInput(f"{folder} has an {CONFIG} and no {WEIGHTS[0]}")
    found = {name.removeprefix(_BEGINNING): tensor for name, tensor in read(file).items()}
    return Adapter(folder, base, float(alpha), bool(about.get("use_rslora")), found)
