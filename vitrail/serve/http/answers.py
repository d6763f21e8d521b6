"""What is told of an image, as JSON: labels, and whatever else was asked for."""

import base64
import io
import json
from typing import Any

import numpy as np
from PIL import Image
from starlette.responses import Response

from vitrail.analysis.look import look
from vitrail.data.decode.image import BrokenImage
from vitrail.data.loader.normalise import normalise, stack
from vitrail.models.vit import ViT
from vitrail.serve.http.limits import Refused
from vitrail.serve.http.request import Asked
from vitrail.serve.http.served import Served
from vitrail.serve.http.service import Labelled

BRIGHT = 0.1
DARK = 0.25  # of the brightness that is left of a patch that nothing reads


def as_row(served: Served, key: str, found: Labelled | BrokenImage, asked: Asked) -> dict[str, Any]:
    """One image's part of the answer."""
    if isinstance(found, BrokenImage):
        return {"key": key, "error": str(found), "status": 422}
    probabilities = found.answer.probabilities
    row: dict[str, Any] = {"key": key}
    if served.classes:
        labels = [label._asdict() for label in served.predictor.labels(probabilities, asked.top)]
        row |= {"labels": labels, "sure": bool(labels) and labels[0]["probability"] >= asked.abstain_below}
        if asked.all_probabilities:
            row["all_probabilities"] = probabilities.tolist()
    if asked.representation:
        row["representation"] = found.answer.representation.tolist()
    if asked.attention:
        row["attention"] = _attention(served, found.view)
    if asked.neighbours and served.neighbours is not None:
        row["neighbours"] = served.neighbours.of(found.answer.representation.numpy(), asked.neighbours)
    return row


def check_asked(served: Served, asked: Asked) -> None:
    """Raises Refused for what this model cannot tell."""
    if asked.attention and not isinstance(served.model, ViT):
        raise Refused(400, f"{served.name} has no attention: it is no Vision Transformer", "bad option")
    if asked.neighbours and served.neighbours is None:
        raise Refused(400, "the server was not started with --neighbours DATA", "bad option")


def _attention(served: Served, view: np.ndarray) -> dict[str, Any]:
    """Rollout: how much of each patch reaches what the classifier reads; and the picture, darker where little does."""
    assert isinstance(served.model, ViT)
    predictor = served.predictor
    images = normalise(stack([view]), served.model.preprocess, predictor.device)
    seen = look(served.model, images).rollout[0].cpu()
    return {"grid": seen.tolist(), "overlay": _png(_dimmed(view, seen.numpy()))}


def _dimmed(view: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Figure 6: the picture times its map, enlarged smoothly, scaled so that BRIGHT of the patches are as they are."""
    height, width = view.shape[:2]
    most = float(np.quantile(grid, 1 - BRIGHT))  # a single patch is often far above all others
    map_ = Image.fromarray((grid / max(most, 1e-12)).clip(0, 1).astype(np.float32))
    share = np.asarray(map_.resize((width, height), Image.Resampling.BILINEAR))[..., None]
    return np.rint(view * (DARK + (1 - DARK) * share.clip(0, 1))).astype(np.uint8)


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def as_json(value: Any, status: int = 200) -> Response:
    """A response."""
    return Response(json.dumps(value, ensure_ascii=False, allow_nan=False), status, media_type="application/json")
