"""timm's config.json: every field of it is known, or refused by its name and value.

`model_args` say the architecture where names and shapes of tensors do not; the rest says how images are prepared.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

from vitrail.core.errors import BadInput
from vitrail.data.transforms.crops import Interpolation
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess, SquareResize
from vitrail.models.build import ModelConfig
from vitrail.weights.default_preprocess import as_sentence, usual_preprocess

# Where images, weights and texts of a model come from, and what acts in training alone.
_PRETRAINED = set(
    "url file state_dict hf_hub_id hf_hub hf_hub_filename source architecture tag custom_load min_input_size "
    "test_input_size fixed_input_size test_crop_pct pool_size test_pool_size first_conv classifier license "
    "description origin_url paper_name paper_ids notes label_names label_descriptions num_classes input_size "
    "interpolation crop_pct crop_mode mean std global_pool".split()
)
_TOP = _PRETRAINED | set(
    "num_features model_args pretrained_cfg model_type architectures initializer_range do_pooling "
    "transformers_version torch_dtype dtype id2label label2id problem_type _name_or_path library_name tags".split()
)
_ARGUMENTS = set(  # read, or of training alone
    "img_size patch_size in_chans num_classes global_pool embed_dim depth num_heads mlp_ratio qkv_bias qk_norm "
    "init_values class_token pos_embed no_embed_class reg_tokens fc_norm act_layer dynamic_img_size drop_rate "
    "pos_drop_rate patch_drop_rate proj_drop_rate attn_drop_rate drop_path_rate weight_init fix_init".split()
)
# Fields with one value that is read; with any other the model is another one.
_ONLY: dict[str, tuple[Any, ...]] = {
    "pre_norm": (False,),
    "final_norm": (True,),
    "pool_include_prefix": (False,),
    "scale_attn_norm": (False,),
    "scale_mlp_norm": (False,),
    "proj_bias": (True,),
    "dynamic_img_pad": (False,),
    "norm_layer": ("layernorm",),
    "embed_norm_layer": (),
    "label_offset": (0,),
    "do_pooling": (True,),
    "qkv_bias": (True,),
}


def check_fields(about: Mapping[str, Any]) -> None:
    """Raises BadInput for a field of the config that is not known, or has a value that is not read."""
    nested = about.get("pretrained_cfg"), about.get("model_args")
    groups = [(about, _TOP, ""), (nested[0], _PRETRAINED, "pretrained_cfg."), (nested[1], _ARGUMENTS, "model_args.")]
    for group, known, place in groups:
        for name, value in (group if isinstance(group, Mapping) else {}).items():
            if value is None:
                continue
            if name in _ONLY:
                if value not in _ONLY[name]:
                    raise BadInput(f"config.json says {place}{name} {value!r}, which vitrail does not have")
            elif name not in known:
                raise BadInput(f"config.json says {place}{name} {value!r}, which vitrail does not know")


def settings_of(about: Mapping[str, Any]) -> dict[str, Any]:
    """timm keeps these under `pretrained_cfg`, or at the top."""
    inner = about.get("pretrained_cfg")
    return {**about, **(inner if isinstance(inner, dict) else {})}


def size_of(value: Any, path: Path) -> tuple[int, int] | None:
    """(height, width) of timm's `img_size` (one number or two) or `input_size` (channels first)."""
    if value is None:
        return None
    numbers = [value, value] if type(value) is int else list(value)[-2:]
    if len(numbers) != 2 or not all(type(n) is int and n > 0 for n in numbers):  # True is an int
        raise BadInput(f"{path}: the image size {value!r} is not one or two positive numbers")
    return numbers[0], numbers[1]


def agree(found: Mapping[str, int], said: Mapping[str, Any]) -> None:
    """Raises BadInput where a config says another number than the weights."""
    for name, number in found.items():
        if said.get(name) is not None and said[name] != number:
            raise BadInput(f"config.json says {name} {said[name]!r}, the weights have {number}")


def whole(number: Any, name: str) -> int:
    """A whole number of a config; raises BadInput for anything else, True included."""
    if type(number) is not int:
        raise BadInput(f"config.json says {name} {number!r}, expected a whole number")
    return number


def preprocess_of(
    settings: Mapping[str, Any], config: ModelConfig, size: tuple[int, int], path: Path, metas: bool
) -> tuple[Preprocess, tuple[str, ...]]:
    """What config.json says, and sentences on what it does not say.

    Args:
        size: of the images that are made.
    """
    channels = config.channels
    if "mean" not in settings:
        made = usual_preprocess("meta" if metas else "google", size)
        mean, std, _ = for_channels(made.mean, made.std, channels, path)
        made = replace(made, mean=mean, std=std)
        return made, (as_sentence(made),)
    share = float(settings.get("crop_pct") or 0.875)
    mode, kernel = settings.get("crop_mode") or "center", settings.get("interpolation") or "bicubic"
    if mode not in ("center", "squash"):
        raise BadInput(f"{path}: config.json says crop_mode {mode!r}, which vitrail does not have")
    if kernel not in get_args(Interpolation):
        raise BadInput(f"{path}: config.json says interpolation {kernel!r}, which vitrail does not have")
    if not 0 < share <= 1:
        raise BadInput(f"{path}: config.json says crop_pct {share}, expected above 0, up to 1")
    mean, std, said = for_channels(settings["mean"], settings.get("std"), channels, path)
    resize = SquareResize(share) if mode == "squash" else CentreCrop(share)
    return Preprocess(size, resize, mean, std, cast(Interpolation, kernel)), said


def for_channels(
    mean: Any, std: Any, channels: int, path: Path
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[str, ...]]:
    """Mean and deviation of each channel, and a sentence where a file has three of them for another number of channels.

    Raises:
        BadInput: anything but as many numbers as channels, or three.
    """
    both = []
    for values in (mean, std):
        if isinstance(values, (int, float)) and not isinstance(values, bool):
            values = [values] * channels
        if not isinstance(values, (list, tuple)) or len(values) not in (channels, 3):
            raise BadInput(
                f"{path}: {values!r} are not the numbers of {'three' if channels == 3 else channels} channels"
            )
        both.append(tuple(float(value) for value in values))
    if len(both[0]) == len(both[1]) == channels:
        return both[0], both[1], ()
    made = [(sum(v) / 3,) if channels == 1 else (*v, *[sum(v) / 3] * (channels - 3)) for v in both]
    if channels == 2 or any(len(v) != channels for v in made):
        raise BadInput(
            f"{path}: mean {mean!r} and deviation {std!r} are those of three channels, the model has {channels}"
        )
    said = f"its mean and deviation are those of three channels; their average is taken for {channels}"
    return made[0], made[1], (said,)
