"""What is kept of each image while a classifier is judged, and the pictures of its worst mistakes."""

import hashlib
import io
import json
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vitrail.data.batches import Batch
from vitrail.evals.outcomes import Outcomes

MISTAKES = 24  # how many are kept with their images


class Wrong(NamedTuple):
    """An image that was not recognised: uint8 [3, H, W]."""

    row: dict[str, Any]
    image: np.ndarray


class Tally:
    """Collects a row an image, batch by batch; `temperature` adds calibrated columns, `digests` one of the pixels."""

    def __init__(self, classes: tuple[str, ...], *, temperature: float | None = None, digests: bool = False):
        self.classes, self.temperature, self.digests = classes, temperature, digests
        self.keys: list[str] = []
        self.columns: dict[str, list[np.ndarray]] = {}
        self.worst: list[Wrong] = []

    def add(self, batch: Batch, logits: Tensor) -> None:
        """A batch and its logits [B, K], both on the CPU."""
        confidence, predicted = logits.softmax(dim=-1).max(dim=-1)
        self.keys += batch.keys
        found = {
            "labels": batch.labels,
            "predicted": predicted,
            "confidence": confidence,
            "loss": F.cross_entropy(logits, batch.labels, reduction="none"),
        }
        if len(self.classes) > 5:
            found["top5"] = (logits.topk(5).indices == batch.labels[:, None]).any(dim=-1)
        if self.temperature is not None:
            scaled = logits / self.temperature
            found["calibrated"] = scaled.softmax(dim=-1).amax(dim=-1)
            found["calibrated_loss"] = F.cross_entropy(scaled, batch.labels, reduction="none")
        for name, values in found.items():
            self.columns.setdefault(name, []).append(values.numpy())
        if self.digests:
            self.columns.setdefault("digest", []).append(digests_of(batch.images))
        wrong = torch.nonzero(predicted != batch.labels).flatten()
        for i in wrong[confidence[wrong].argsort(descending=True)][:MISTAKES].tolist():
            row = {
                "key": batch.keys[i],
                "label": self.classes[int(batch.labels[i])],
                "predicted": self.classes[int(predicted[i])],
                "confidence": float(confidence[i]),
            }
            self.worst.append(Wrong(row, batch.images[i].numpy().copy()))
        self._keep_the_worst()

    def outcomes(self) -> Outcomes:
        """All rows in the order of their keys, the same for any number of processes."""
        order = np.argsort(np.array(self.keys, dtype=object), kind="stable")
        columns = {name: np.concatenate(parts)[order] for name, parts in self.columns.items()}
        return Outcomes([self.keys[i] for i in order.tolist()], **columns)

    def join(self, data: bytes) -> None:
        """Adds what another process packed."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            texts = json.loads(arrays["texts"].tobytes())
            self.keys += texts["keys"]
            for name in texts["columns"]:
                self.columns.setdefault(name, []).append(arrays[name])
            self.worst += [Wrong(row, image) for row, image in zip(texts["rows"], arrays["images"], strict=True)]
        self._keep_the_worst()

    def pack(self) -> bytes:
        """For another process; no pickle."""
        texts = {"keys": self.keys, "columns": list(self.columns), "rows": [wrong.row for wrong in self.worst]}
        columns: dict[str, Any] = {name: np.concatenate(parts) for name, parts in self.columns.items()}
        images = np.stack([wrong.image for wrong in self.worst]) if self.worst else np.zeros(0)
        buffer = io.BytesIO()
        np.savez(buffer, texts=np.frombuffer(json.dumps(texts).encode(), np.uint8), images=images, **columns)
        return buffer.getvalue()

    def _keep_the_worst(self) -> None:
        """The most confident first; the name breaks ties."""
        severity = sorted(self.worst, key=lambda wrong: (wrong.row["confidence"], wrong.row["key"]), reverse=True)
        self.worst = severity[:MISTAKES]


def digests_of(images: Tensor) -> np.ndarray:
    """uint64 [B]: of the pixels of each image; equal ones are, in practice, one picture."""
    hashed = (hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest() for image in images.numpy())
    return np.array([int.from_bytes(digest) for digest in hashed], np.uint64)
