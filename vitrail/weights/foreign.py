"""Models near a Vision Transformer that vitrail does not have, recognised by a name in a config or by their keys."""

import re
from collections.abc import Iterable

from vitrail.core.errors import BadInput

ROTARY = "rotary positions: EVA, DINOv3 and rope ViTs are not read"
_RELATIVE = "relative position biases (BEiT, relpos ViTs, SAM), which are not read"
_PRE_NORM = "a norm before the encoder (CLIP), which is not read"
_PARALLEL = "attention and MLP side by side in a block, which is not read"

# Parts of the names of timm's architectures. What is listed here is refused by what it is, any other part by itself.
_PARTS_THAT_ARE_NOT_READ = {
    r"rope|dinov3|eva02|pe|lingbot|sapiens2|naflexvit|gemma4|qwen3": ROTARY,
    r"relpos|srelpos|beit|beitv2|beit3|samvit": _RELATIVE,
    r"clip|quickgelu": _PRE_NORM,
    r"xp|pwee|dpwee|18x2": _PARALLEL,
    r"dwee|dlittle": "differential attention, which is not read",
    r"rpn": "norms after attention and MLP, which is not read",
    r"miil": "no biases of q, k and v, which is not read",
    r"aimv2": "RMS norms and gated MLPs without biases, which is not read",
    r"radio": "no norm after its encoder, and positions cut from a larger table, which is not read",
    r"resnet\d+d|mci": "a convolutional stem that is not BiT's, which is not read",
}
_PARTS_THAT_ARE_READ = re.compile(
    r"vit\d?|deit3?|flexivit|test|resnetv2|bit|\d+x\d|"  # families
    r"tiny|wee|xsmall|little|small|medium|mediumd|betwixt|base|large|huge|giant|giantopt|gigantic|so150m2?|so400m|"
    r"plus|patch\d+|\d+|r|r26|r50|s16|s32|p8|"  # sizes
    r"gap|map|token|reg\d+|siglip|dinov2|dino|mae|augreg\d?|tipsv2|36x1|distilled"
)
_WHOLE_NAMES = {"eva_large_patch14_196", "eva_large_patch14_336"}  # plain ViTs, trained by EVA's method

_KEYS_THAT_ARE_NOT_READ = {
    r"(.*\.)?(rope|rotary|rotary_emb|rope_embed(dings)?)\..*|.*\.(freqs(_cos|_sin)?|inv_freq)": ROTARY,
    r"(.*\.)?(lora_[AB]|lora_magnitude_vector|base_layer)\..*": (
        "adapters of peft beside its weights: save the adapter alone with its adapter_config.json, or merge it"
    ),
    r".*(relative_position_bias|relative_position_index|rel_pos).*": _RELATIVE,
    r"norm_pre\..*|pre_layrnorm\..*|ln_pre\..*": _PRE_NORM,
    r"blocks\.\d+\.(q_bias|v_bias|attn\.(q_bias|v_bias|[qkv]_proj\.weight)|mlp\.(fc1_[gx]|w1|norm)\..*)": (
        "the attention or MLP of EVA or BEiT, which is not read"
    ),
    r"blocks\.\d+\.(in_proj|attns)\..*": _PARALLEL,
    r"blocks\.\d+\.(attn\.)?lambda_[qk]1": "differential attention, which is not read",
}
# transformers' model types; any other is refused too, by its name alone.
_TYPES_WITH_ROTARY_POSITIONS = re.compile(
    r"dinov3.*|eomt_dinov3|eva.*|pixtral.*|llama4.*|qwen\d.*|vjepa.*|aimv2.*|.*rope.*|gemma4.*|mlcd.*|perception.*"
)


def refuse_architecture(name: str) -> None:
    """Raises BadInput unless every part of the name of timm's architecture ("vit_small_patch16_224") is understood."""
    bare = name.removeprefix("hf_hub:").removeprefix("timm/").split(".")[0].lower()  # a tag of weights follows the dot
    if bare in _WHOLE_NAMES:
        return
    for part in bare.split("_"):
        for pattern, what in _PARTS_THAT_ARE_NOT_READ.items():
            if re.fullmatch(pattern, part):
                raise BadInput(f"the architecture {name!r} has {what}")
    unknown = [part for part in bare.split("_") if not _PARTS_THAT_ARE_READ.fullmatch(part)]
    if unknown:
        raise BadInput(
            f"the architecture {name!r} is not known: {unknown[0]!r} in its name is no part of a ViT or BiT ResNet "
            "that vitrail reads"
        )


def refuse_keys(names: Iterable[str]) -> None:
    """Raises BadInput where a key is one of a model that vitrail does not have; the sentence says which."""
    for name in names:
        for pattern, what in _KEYS_THAT_ARE_NOT_READ.items():
            if re.fullmatch(pattern, name):
                raise BadInput(f"the weights hold {name!r}: this model has {what}")


def what_type(kind: str) -> str:
    """A remark on a model type of transformers that is not read, to be put after its name."""
    return f" ({ROTARY})" if _TYPES_WITH_ROTARY_POSITIONS.fullmatch(kind) else ""
