"""The training images most like an image, by what the classifier reads: why a model may have said what it did."""

import base64
import io
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image

from vitrail.core.cache import cache_folder
from vitrail.data.decode.image import BrokenImage, to_pixels
from vitrail.data.open.names import open_data
from vitrail.data.transforms.pipeline import eval_transform
from vitrail.evals.feature_cache import stored_features
from vitrail.evals.knn import nearest
from vitrail.serve.predictor import Predictor

SIDE = 112  # pixels of a picture, at most


class Neighbours:
    """Features of DATA by one model: read from the cache folder, or made there the first time.

    Raises:
        BadInput: data that are not there, or cannot be read.
    """

    def __init__(self, predictor: Predictor, data: str, workers: int | None = None):
        self.preprocess, self.source = predictor.model.preprocess, open_data(data, "train")
        self.features = stored_features(
            predictor.model,
            self.source,
            self.preprocess,
            cache_folder() / "features",
            workers=workers,
            runtime=predictor.runtime,
        )

    def of(self, representation: Float32[np.ndarray, " d"], count: int) -> list[dict[str, Any]]:
        """The `count` nearest, each with its name, label, cosine and a small picture."""
        found = nearest(self.features.values, representation[None], count)
        return [
            self._row(int(self.features.places[row]), float(cosine))
            for row, cosine in zip(found.places[0], found.cosines[0], strict=True)
        ]

    def _row(self, place: int, cosine: float) -> dict[str, Any]:
        example = self.source[place]
        label = self.source.classes[example.label] if 0 <= example.label < len(self.source.classes) else ""
        try:
            picture = Image.fromarray(eval_transform(to_pixels(example.image), self.preprocess))
        except BrokenImage:  # since its features were made
            picture = Image.new("RGB", (1, 1))
        picture.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=85)
        uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
        return {"key": example.key, "label": label, "similarity": cosine, "picture": uri}
