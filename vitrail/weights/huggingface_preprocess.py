"""transformers' preprocessor_config.json: every field of it is applied as the library does, or refused by its name."""

from pathlib import Path
from typing import Any, NamedTuple, cast

from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.data.transforms.crops import Interpolation
from vitrail.data.transforms.pipeline import CentreCrop, Preprocess, SquareResize
from vitrail.models.vit import ViTConfig
from vitrail.weights.default_preprocess import as_sentence, usual_preprocess
from vitrail.weights.timm_config import for_channels

RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # Pillow's numbers
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


class _Defaults(NamedTuple):
    """What a processor does where its file does not say."""

    size: dict[str, int]
    crop: int | None
    resample: int
    scale: tuple[tuple[float, ...], tuple[float, ...]]
    square: bool  # whether a size that is one number is that of both sides; else of the shorter one


_SHORTER = _Defaults({"shortest_edge": 224}, 224, 3, _CLIP, square=False)
_PROCESSORS = {
    "ViT": _Defaults({"height": 224, "width": 224}, None, 2, _HALF, square=True),
    "DeiT": _Defaults({"height": 256, "width": 256}, 224, 3, _HALF, square=True),
    "Bit": _SHORTER,
    "CLIP": _SHORTER,
}
_KNOWN = set(  # applied below, or of texts, types and speed
    "image_processor_type feature_extractor_type processor_class size crop_size resample do_resize "
    "do_center_crop do_rescale rescale_factor do_normalize image_mean image_std do_convert_rgb return_tensors "
    "data_format input_data_format device disable_grouping default_to_square _valid_processor_keys "
    "_valid_kwargs_names _processor_class image_seq_length".split()
)


def read_preprocess(folder: Path, config: ViTConfig, kind: str) -> tuple[Preprocess, tuple[str, ...]]:
    """How images are prepared, at the size that the preprocessor makes, and sentences on what the file does not say.

    Raises:
        BadInput: a field, or a value of one, that vitrail does not have.
    """
    path = folder / "preprocessor_config.json"
    if not path.exists():
        usual = usual_preprocess("meta" if kind.startswith("dinov2") else "transformers", config.resolution)
        mean, std, said = for_channels(usual.mean, usual.std, config.channels, path)
        made = Preprocess(usual.resolution, usual.resize, mean, std, usual.interpolation)
        return made, (as_sentence(made), *said)
    about = read_json(path)
    if not isinstance(about, dict):
        raise BadInput(f"{path} holds no object")
    for name, value in about.items():
        if name not in _KNOWN and value is not None and value is not False:
            raise BadInput(f"{path} says {name} {value!r}, which vitrail does not have")
    usual_of = _defaults(about, kind, path)
    if not _flag(about, "do_resize", True, path):
        raise BadInput(f"{path} says do_resize false: images of any size, which vitrail does not have")
    resolution, resize = _geometry(about, usual_of, path)
    number = about.get("resample", usual_of.resample)
    if type(number) is not int or number not in RESAMPLE:
        raise BadInput(f"{path} says resample {number!r}, expected one of Pillow's numbers, 0 to 5")
    mean, std, said = _scale(about, usual_of, config.channels, path)
    return Preprocess(resolution, resize, mean, std, cast(Interpolation, RESAMPLE[number])), said


def _defaults(about: dict[str, Any], kind: str, path: Path) -> _Defaults:
    usual = "Bit" if kind.startswith("dinov2") else "DeiT" if kind == "deit" else "ViT"
    named = str(about.get("image_processor_type") or about.get("feature_extractor_type") or f"{usual}ImageProcessor")
    stem = (
        named.removesuffix("Pil").removesuffix("Fast").removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    )
    if stem not in _PROCESSORS:
        raise BadInput(f"{path} is of a {named!r}; read are those of {', '.join(_PROCESSORS)}")
    return _PROCESSORS[stem]


def _flag(about: dict[str, Any], name: str, usual: bool, path: Path) -> bool:
    value = about.get(name)
    if value is not None and type(value) is not bool:
        raise BadInput(f"{path} says {name} {value!r}, expected true or false")
    return usual if value is None else value


def _geometry(about: dict[str, Any], usual: _Defaults, path: Path) -> tuple[tuple[int, int], SquareResize | CentreCrop]:
    """The size of the images that are made, and how they are made of others."""
    size = about.get("size")
    size = usual.size if size is None else size
    if type(size) is int:
        size = {"height": size, "width": size} if usual.square else {"shortest_edge": size}
    cropped = _flag(about, "do_center_crop", usual.crop is not None, path)
    crop = about.get("crop_size", usual.crop)
    if isinstance(size, dict) and set(size) == {"height", "width"}:
        before = _sides(size, "size", path)
        if not cropped:
            return before, SquareResize()
        cut = _sides(crop, "crop_size", path)
        share = cut[0] / before[0]
        if share > 1 or round(cut[0] / share) != before[0] or round(cut[1] / share) != before[1]:
            raise BadInput(f"{path}: a crop of {cut} pixels of {before}: vitrail cuts out the same share of both sides")
        return cut, SquareResize(share)
    if isinstance(size, dict) and set(size) == {"shortest_edge"} and cropped:
        cut, edge = _sides(crop, "crop_size", path), size["shortest_edge"]
        if type(edge) is not int or edge < 1:
            raise BadInput(f"{path} says size {size!r}, expected a positive number of pixels")
        if max(cut) > edge or cut[0] != cut[1]:
            raise BadInput(
                f"{path}: a crop of {cut} pixels of a shorter side of {edge}: the rest would be filled with zeros"
            )
        return cut, CentreCrop(cut[0] / edge)
    raise BadInput(
        f"{path} says size {size!r} {'with' if cropped else 'without'} a crop; read are a height and a width, and a "
        "shortest_edge with a crop"
    )


def _sides(size: Any, name: str, path: Path) -> tuple[int, int]:
    sides = (size.get("height"), size.get("width")) if isinstance(size, dict) else (size, size)
    if not all(type(side) is int and side > 0 for side in sides):
        raise BadInput(f"{path} says {name} {size!r}, expected positive numbers of pixels")
    return cast(tuple[int, int], sides)


def _scale(
    about: dict[str, Any], usual: _Defaults, channels: int, path: Path
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[str, ...]]:
    """(x · factor - mean) / std of pixels from 0 to 255, as mean and deviation of pixels from 0 to 1."""
    factor = about.get("rescale_factor", 1 / 255)
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or factor <= 0:
        raise BadInput(f"{path} says rescale_factor {factor!r}, expected a number above 0")
    white = 255 * factor if _flag(about, "do_rescale", True, path) else 255.0
    white = 1.0 if abs(white - 1) < 1e-6 else white
    mean, std = (0.0,) * channels, (1.0,) * channels
    said: tuple[str, ...] = ()
    if _flag(about, "do_normalize", True, path):
        given = (about.get("image_mean", usual.scale[0]), about.get("image_std", usual.scale[1]))
        mean, std, said = for_channels(*given, channels, path)
    if not all(std):
        raise BadInput(f"{path} says image_std {std!r}: a deviation of zero")
    return tuple(m / white for m in mean), tuple(s / white for s in std), said
