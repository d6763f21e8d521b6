"""transformers' folders: ViT, DeiT, MAE, MSN, DINOv2 with and without registers. One table reads and writes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from vitrail.core.errors import BadInput
from vitrail.models.head import ClassToken, PoolConfig, TokenAndAverage, TokenAndDistilled
from vitrail.models.resample import Interpolation
from vitrail.models.vit import ViTConfig
from vitrail.weights.default_preprocess import other_size
from vitrail.weights.foreign import what_type
from vitrail.weights.huggingface_preprocess import read_preprocess
from vitrail.weights.key_map import Rule, read, same, stacked, unexpected_keys
from vitrail.weights.pretrained import PretrainedModel, check_state
from vitrail.weights.timm_config import agree, whole

Kind = Literal["vit", "deit", "vit_mae", "vit_msn", "dinov2", "dinov2_with_registers"]
KINDS = get_args(Kind)
_DINO = ("dinov2", "dinov2_with_registers")
_GELU = {"gelu": "exact", "gelu_pytorch_tanh": "tanh", "gelu_new": "tanh"}
_IGNORED = re.compile(r"embeddings\.mask_token|decoder\..*|pooler\..*")  # of pre-training; no part of the model

# transformers 5 names parts otherwise in memory than in the files that it saves.
_IN_MEMORY = [
    (r"^layers\.", "encoder.layer."),
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
]
_IN_MEMORY_OF_VIT = [*_IN_MEMORY, (r"\.mlp\.fc1\.", ".intermediate.dense."), (r"\.mlp\.fc2\.", ".output.dense.")]

# Fields of a config: those that are read, and those that change nothing of what a trained model computes.
_READ = set(
    "model_type hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act layer_norm_eps "
    "image_size patch_size num_channels qkv_bias pooler_act pooler_output_size mlp_ratio layerscale_value "
    "use_swiglu_ffn num_register_tokens id2label label2id num_labels".split()
)
_IRRELEVANT = set(
    "architectures _name_or_path _commit_hash transformers_version torch_dtype dtype attn_implementation "
    "_attn_implementation_autoset hidden_dropout_prob attention_probs_dropout_prob drop_path_rate "
    "initializer_range encoder_stride use_mask_token mask_ratio norm_pix_loss decoder_hidden_size "
    "decoder_num_hidden_layers decoder_num_attention_heads decoder_intermediate_size "
    "finetuning_task return_dict output_hidden_states output_attentions torchscript use_bfloat16 use_cache "
    "tie_word_embeddings chunk_size_feed_forward is_encoder_decoder is_decoder add_cross_attention "
    "cross_attention_hidden_size tie_encoder_decoder max_length min_length do_sample early_stopping num_beams "
    "num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty "
    "no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores "
    "return_dict_in_generate forced_bos_token_id forced_eos_token_id remove_invalid_values tokenizer_class "
    "prefix exponential_decay_length_penalty suppress_tokens begin_suppress_tokens bos_token_id pad_token_id "
    "eos_token_id sep_token_id decoder_start_token_id task_specific_params tf_legacy_loss "
    "gradient_checkpointing out_features out_indices _out_features _out_indices stage_names "
    "reshape_hidden_states apply_layernorm".split()
)
_ONLY: dict[str, tuple[Any, ...]] = {
    "pruned_heads": ({},),
    "qkv_bias": (True,),
    "return_dict": (True, False),
    "problem_type": ("single_label_classification",),
}


def read_huggingface(tensors: Mapping[str, Tensor], folder: Path, about: Mapping[str, Any]) -> PretrainedModel:
    """A model in transformers' names; `about` is its config.json.

    Raises:
        BadInput: another model type, or weights that do not fit the config.
    """
    kind = about.get("model_type")
    if kind not in KINDS:
        raise BadInput(
            f"{folder} is a transformers model of type {kind!r}{what_type(str(kind))}; read are {', '.join(KINDS)}"
        )
    kind = cast(Kind, kind)
    bare = {as_saved(name, kind): tensor for name, tensor in tensors.items()}
    try:
        check_config_fields(about)
        bare = _two_classifiers(_one_classifier(bare))
        config = _config(kind, bare, about)
        lines = layout(config, kind)
        state = read(lines, bare)
        if kind == "deit" and config.registers:  # the distillation token has a position; our registers have none
            state["reg_token"] = state["reg_token"] + state["pos_embed"][:, 1:2]
            state["pos_embed"] = torch.cat([state["pos_embed"][:, :1], state["pos_embed"][:, 2:]], dim=1)
        classes = classes_of(about, config.num_classes)
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError, ArithmeticError) as problem:
        if isinstance(problem, BadInput):
            raise BadInput(f"{folder}: {problem}") from None
        raise BadInput(f"{folder} is no {kind} model of transformers: missing or misshapen {problem}") from None
    others = unexpected_keys(lines, bare)
    unknown = [name for name in others if not _IGNORED.fullmatch(name)]
    if unknown:
        raise BadInput(f"{folder} has the weights {unknown[0]!r}, which no {kind} model of transformers has")
    check_state(config, state, folder)
    provenance = {"source": str(about.get("_name_or_path") or folder.name), "layout": "transformers"}
    preprocess, assumed = read_preprocess(folder, config, kind)
    if preprocess.resolution != config.resolution:
        assumed = (*assumed, other_size(preprocess.resolution, config.resolution))
    assumed = (*assumed, *same_names(classes))
    # as its code does; only the kind with registers is antialiased
    interpolation: Interpolation = "bicubic" if kind == "dinov2_with_registers" else "bicubic plain"
    return PretrainedModel(config, state, preprocess, classes, provenance, others, interpolation, assumed)


def _config(kind: Kind, bare: Mapping[str, Tensor], about: Mapping[str, Any]) -> ViTConfig:
    projection = bare["embeddings.patch_embeddings.projection.weight"]
    depth = len({name.split(".")[2] for name in bare if name.startswith("encoder.layer.")})
    activation = str(about.get("hidden_act", "gelu"))
    if activation not in _GELU:
        raise BadInput(f"the activation {activation!r} is not one of {', '.join(_GELU)}")
    size = about.get("image_size", 224)
    sides = (size, size) if isinstance(size, int) else (size[0], size[1])
    height, width = (whole(side, "image_size") for side in sides)
    classes = bare["classifier.weight"].shape[0] if "classifier.weight" in bare else 0
    if kind not in _DINO:
        mlp, gated = bare["encoder.layer.0.intermediate.dense.weight"].shape[0], False
        pool: PoolConfig = TokenAndDistilled() if classes and _reads_two_tokens(bare) else ClassToken()
        hidden = bare["pooler.dense.weight"].shape[0] if "pooler.dense.weight" in bare and not classes else None
        if hidden and about.get("pooler_act", "tanh") != "tanh":
            raise BadInput(f"the activation of the pooler is {about['pooler_act']!r}, vitrail has tanh")
    else:
        gated = "encoder.layer.0.mlp.weights_in.weight" in bare
        last = bare[f"encoder.layer.0.mlp.{'weights_out' if gated else 'fc2'}.weight"]
        mlp, hidden = last.shape[1], None
        pool = TokenAndAverage() if classes else ClassToken()
    sizes = {"hidden_size": projection.shape[0], "num_hidden_layers": depth, "patch_size": projection.shape[2]}
    sizes["num_channels"] = projection.shape[1]
    sizes |= {"num_labels": classes} if classes and about.get("id2label") is None else {}
    registers = bare["embeddings.register_tokens"].shape[1] if "embeddings.register_tokens" in bare else 0
    if kind in _DINO:
        agree(sizes | {"num_register_tokens": registers, "use_swiglu_ffn": gated}, about)
    else:
        agree(sizes | {"intermediate_size": mlp}, about)
        registers = int("embeddings.distillation_token" in bare)
    return ViTConfig(
        patch=projection.shape[2],
        width=projection.shape[0],
        depth=depth,
        heads=whole(about["num_attention_heads"], "num_attention_heads"),
        mlp=mlp,
        resolution=(height, width),
        num_classes=classes,
        pool=pool,
        hidden=hidden,
        gelu=cast(Literal["tanh", "exact"], _GELU[activation]),
        eps=float(about.get("layer_norm_eps", 1e-6 if kind in (*_DINO, "vit_msn") else 1e-12)),
        registers=registers,
        layer_scale=float(about.get("layerscale_value", 1.0)) if kind in _DINO else None,
        gated=gated,
        channels=projection.shape[1],
    )


def layout(config: ViTConfig, kind: Kind) -> list[Rule]:
    """Every tensor of a model, without the prefix of the model's type."""
    lines = [
        *same("cls_token", "embeddings.cls_token"),
        *same("pos_embed", "embeddings.position_embeddings"),
        *layer_rules("patch_embed.proj", "embeddings.patch_embeddings.projection"),
        *layer_rules("norm", "layernorm"),
    ]
    if config.registers:
        lines += same("reg_token", f"embeddings.{'distillation_token' if kind == 'deit' else 'register_tokens'}")
    for i in range(config.depth):
        lines += block_rules(f"blocks.{i}", f"encoder.layer.{i}", config, kind)
    if config.hidden:
        lines += layer_rules("pre_logits", "pooler.dense")
    if config.num_classes:
        lines += layer_rules("head", "classifier")
    return lines


def layer_rules(ours: str, theirs: str) -> list[Rule]:
    """A weight and a bias."""
    return same(f"{ours}.weight", f"{theirs}.weight") + same(f"{ours}.bias", f"{theirs}.bias")


def block_rules(ours: str, theirs: str, config: ViTConfig, kind: Kind) -> list[Rule]:
    """The tensors of a layer."""
    dino = kind in _DINO
    parts = [f"{theirs}.attention.attention.{part}" for part in ("query", "key", "value")]
    lines = [
        Rule(f"{ours}.attn.qkv.weight", tuple(f"{part}.weight" for part in parts), stacked(3)),
        Rule(f"{ours}.attn.qkv.bias", tuple(f"{part}.bias" for part in parts), stacked(3)),
        *layer_rules(f"{ours}.attn.proj", f"{theirs}.attention.output.dense"),
        *layer_rules(f"{ours}.norm1", f"{theirs}.norm1" if dino else f"{theirs}.layernorm_before"),
        *layer_rules(f"{ours}.norm2", f"{theirs}.norm2" if dino else f"{theirs}.layernorm_after"),
    ]
    if dino:
        first, second = ("weights_in", "weights_out") if config.gated else ("fc1", "fc2")
        lines += layer_rules(f"{ours}.mlp.fc1", f"{theirs}.mlp.{first}") + layer_rules(
            f"{ours}.mlp.fc2", f"{theirs}.mlp.{second}"
        )
        lines += same(f"{ours}.ls1.gamma", f"{theirs}.layer_scale1.lambda1")
        return lines + same(f"{ours}.ls2.gamma", f"{theirs}.layer_scale2.lambda1")
    lines += layer_rules(f"{ours}.mlp.fc1", f"{theirs}.intermediate.dense")
    return lines + layer_rules(f"{ours}.mlp.fc2", f"{theirs}.output.dense")


def as_saved(name: str, kind: Kind) -> str:
    """The name in the files of the library, without the part that names the model."""
    name = name.removeprefix("vit." if kind in ("vit_mae", "vit_msn") else f"{kind}.")
    for pattern, saved in _IN_MEMORY if kind in _DINO else _IN_MEMORY_OF_VIT:
        name = re.sub(pattern, saved, name)
    return name


def _one_classifier(bare: dict[str, Tensor]) -> dict[str, Tensor]:
    """A classifier that somebody put into a sequence with dropout (`classifier.1.weight`) is the classifier."""
    found = [name for name in bare if re.fullmatch(r"classifier\.\d+\.weight", name)]
    if len(found) != 1:
        return bare
    inner = found[0].removesuffix("weight")
    return {"classifier." + n.removeprefix(inner) if n.startswith(inner) else n: t for n, t in bare.items()}


def _two_classifiers(bare: dict[str, Tensor]) -> dict[str, Tensor]:
    """DeiT's two classifiers as one of both tokens: what the library returns is their mean."""
    if "cls_classifier.weight" not in bare:
        return bare
    one, two = "cls_classifier.", "distillation_classifier."
    made = {name: tensor for name, tensor in bare.items() if not name.startswith((one, two))}
    made["classifier.weight"] = torch.cat([bare[f"{one}weight"], bare[f"{two}weight"]], dim=1) / 2
    made["classifier.bias"] = (bare[f"{one}bias"] + bare[f"{two}bias"]) / 2
    return made


def _reads_two_tokens(bare: Mapping[str, Tensor]) -> bool:
    return bare["classifier.weight"].shape[1] == 2 * bare["embeddings.cls_token"].shape[2]


def check_config_fields(about: Mapping[str, Any]) -> None:
    """Raises BadInput for a field of config.json that is not known, or has a value that is not read."""
    for name, value in about.items():
        if name in _ONLY:
            if value is not None and value not in _ONLY[name]:
                raise BadInput(f"config.json says {name} {value!r}, which vitrail does not have")
        elif name not in _READ and name not in _IRRELEVANT and value is not None:
            raise BadInput(f"config.json says {name} {value!r}, which vitrail does not know")


def classes_of(about: Mapping[str, Any], count: int) -> tuple[str, ...] | None:
    """The names in `id2label`; None where there are none.

    Raises:
        BadInput: other names than one for each class.
    """
    names, back = about.get("id2label"), about.get("label2id")
    if isinstance(back, dict) and all(type(place) is int for place in back.values()):
        turned = {str(place): name for name, place in back.items()}
        if names is None:
            names = turned
        elif (
            count
            and len(turned) == count
            and isinstance(names, dict)
            and {k: str(v) for k, v in names.items()} != turned
        ):
            raise BadInput(
                "config.json names its classes in two ways, and id2label is not label2id turned round: mend one"
            )
    if not count or names is None:
        return None
    if not isinstance(names, dict) or sorted(names) != sorted(str(i) for i in range(count)):
        number = len(names) if isinstance(names, (dict, list)) else repr(names)
        raise BadInput(f"config.json names {number} classes (id2label), the classifier has {count}: mend id2label")
    return tuple(str(names[str(i)]) for i in range(count))


def same_names(classes: tuple[str, ...] | None) -> tuple[str, ...]:
    """A sentence for people where two classes have one name."""
    names = classes or ()
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is None:
        return ()
    places = [str(i) for i, name in enumerate(names) if name == twice]
    return (f"its classes {', '.join(places[:-1])} and {places[-1]} have one name, {twice!r}",)
