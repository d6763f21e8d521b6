"""An inspection (`vitrail inspect`)."""

from collections.abc import Sequence
from dataclasses import dataclass

from vitrail.core.estimate import Interval
from vitrail.records.images import UnreadableImage
from vitrail.records.record import Files, Record, optional


@dataclass(frozen=True, kw_only=True)
class InspectedImage(Record):
    """An image that is drawn."""

    key: str
    label: str | None  # name of its class
    predicted: str | None  # null for a model without a classifier
    confidence: float | None


@dataclass(frozen=True, kw_only=True)
class Mean(Record):
    """A mean with its interval."""

    mean: float
    interval: Interval | None  # null for one image


@dataclass(frozen=True, kw_only=True)
class MeanOfLayers(Record):
    """A mean over some layers."""

    layers: tuple[int, int]  # the first and the last of them, from 1
    mean: float
    interval: Interval | None  # null for one image


@dataclass(frozen=True, kw_only=True)
class AttentionDistance(Record):
    """How far the heads look, pixels of the input: means over heads, then over images."""

    even: float  # of a head that attends evenly to all patches
    layers: Sequence[Mean]
    first: MeanOfLayers  # the first third of the layers
    last: MeanOfLayers


@dataclass(frozen=True, kw_only=True)
class Rollout(Record):
    """Attention of what the classifier reads on the patches."""

    half: Mean  # the smallest share of the patches that holds half of a map
    alike: Mean | None  # correlation of the maps of two images; null for two images or fewer


@dataclass(frozen=True, kw_only=True)
class HeadMaps(Record):
    """Which heads are drawn one by one, all counted from 1."""

    layers: Sequence[int]
    heads: Sequence[int]
    query: tuple[int, int] | None  # row and column of the patch that looks; null: the output


@dataclass(frozen=True, kw_only=True)
class NearestImage(Record):
    """An image of the set."""

    key: str
    label: str | None  # its class; null where the set has none
    similarity: float  # cosine
    picture: int | None  # number in pictures.npz


@dataclass(frozen=True, kw_only=True)
class QueryImage(Record):
    """An image and its nearest in the set."""

    key: str
    label: str | None  # its class; null where the images have none
    picture: int | None  # number in pictures.npz
    nearest: Sequence[NearestImage]


@dataclass(frozen=True, kw_only=True)
class NearestImages(Record):
    """(with `--neighbours`) The nearest of a set by what the classifier reads."""

    data: str  # DATA
    count: int  # images of the set
    queries: int
    same: float | None  # share of the queries whose nearest is of their class; null where no class is in both
    interval: Interval | None
    chance: float | None  # the same of images drawn at random
    rows: Sequence[QueryImage]


@dataclass(frozen=True, kw_only=True)
class Inspection(Record):
    """What was looked at, and what is seen in numbers."""

    model: str  # MODEL
    resolution: tuple[int, int]  # height and width, pixels
    patch: int | None  # pixels of a side; null for a ResNet
    grid: tuple[int, int]
    depth: int | None
    heads: int | None
    class_token: bool
    positions: str  # "none", "relative", "learned from noise", "learned from sines and cosines", "fixed ..."
    images: Sequence[InspectedImage]
    filters_variance: Sequence[float]  # share of the variance of each component
    distance_images: int  # over which was averaged; broken ones are not among them
    broken: Sequence[UnreadableImage]
    distance: AttentionDistance | None = optional()
    rollout: Rollout | None = optional()
    head_maps: HeadMaps | None = optional()
    neighbours: NearestImages | None = optional()


FILES: Files = {
    "inspection.json": Inspection,
    "arrays.npz": "each optional: "
    "`filters` float32 [K, P, P, 3]: principal components of the patch embedding, each scaled to 0…1; "
    "`position_similarity` float32 [h·w, h·w]: cosine similarity of the position embeddings (class token dropped; of "
    "the first layer's table where layers have their own), raster order; "
    "`attention_distance` float32 [depth, heads]: mean distance in pixels of the input; "
    "`rollout` float32 [M, h, w]: attention of what the classifier reads (class token, mean of the patches, or both) "
    "on each patch, not normalised; attention pooling weighs the patches; "
    "`images` uint8 [M, H, W, 3]: the images of the rollout, as the model sees them; "
    "`head_maps` float16 [M', layers, heads, h, w]: what single heads attend to, of the first M' images: all M where "
    "there are at most eight maps an image, otherwise two; "
    "`painted_images`, `painted_seen`, `painted` uint8 [M, H, W, 3]: (trained without labels) images, what the model "
    "sees of them, and what it paints into the holes",
    "pictures.npz": "(with `--neighbours`) the images and their neighbours",
}
