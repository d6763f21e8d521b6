"""A model that answers: loaded, warm, and shown to give the outputs that it gave before."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitrail.core.cache import cache_folder
from vitrail.core.device import RuntimeChoice
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json, write_json
from vitrail.core.object_store import is_remote
from vitrail.models.vit import ViT
from vitrail.runtimes.same_bits import SameBits
from vitrail.serve.http.batcher import Batcher
from vitrail.serve.http.card import card
from vitrail.serve.http.limits import Limits
from vitrail.serve.http.neighbours import Neighbours
from vitrail.serve.predictor import Predictor
from vitrail.weights.digest import digest_of
from vitrail.weights.stored_model import model_version

PROBE = 4  # pictures of noise whose outputs are recorded

Report = Callable[..., None]


class Served:
    """A model under its name. Requests hold it while they use it, so that a new version loses none of them."""

    def __init__(
        self,
        name: str,
        source: str,
        predictors: Sequence[Predictor],
        limits: Limits,
        seen: Report,
        neighbours: str | None = None,
    ):
        self.name, self.source, self.signature = name, source, signature_of(source)
        self.predictor = predictors[0]
        self.model, self.classes = self.predictor.model, self.predictor.classes
        self.version = digest_of(self.model)[:16]
        self.recorded = _reproduce(self, predictors)
        self.card = card(source, self.model)
        self.neighbours = Neighbours(self.predictor, neighbours) if neighbours is not None else None
        self.batcher = Batcher(predictors, limits.wait_ms / 1000, seen)
        self._users, self._unused = 0, asyncio.Event()

    @contextmanager
    def used(self) -> Iterator["Served"]:
        """While a request needs it."""
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def retire(self) -> None:
        """Ends it once nobody uses it any more."""
        while self._users:
            self._unused.clear()
            await self._unused.wait()
        await asyncio.to_thread(self.batcher.close)

    def about(self) -> dict[str, Any]:
        """What `GET /models` says of it."""
        runtime = self.predictor.runtime
        return {
            "name": self.name,
            "version": self.version,
            "classes": list(self.classes),
            "resolution": list(self.model.preprocess.resolution),
            "representation": self.model.config.representation_width,
            "runtime": runtime.name,
            "precision": runtime.precision,
            "batches": list(runtime.shapes),
            "temperature": self.model.temperature,
            "several": self.model.thresholds is not None,
            "outputs_recorded": self.recorded,
            "attention": isinstance(self.model, ViT),
            "neighbours": self.neighbours is not None,
            "card": self.card,
        }


def load_served(
    name: str,
    source: str,
    devices: Sequence[str],
    runtime: RuntimeChoice,
    limits: Limits,
    seen: Report,
    neighbours: str | None = None,
) -> Served:
    """Loads and warms a model: some seconds.

    Raises:
        BadInput: it cannot be loaded, or does not reproduce its outputs.
    """
    predictors = [Predictor(source, device, features=True, runtime=runtime) for device in devices]
    return Served(name, source, predictors, limits, seen, neighbours)


def name_of(source: str) -> str:
    """Under which a model is served: the last part of its path that is a name of its own."""
    path = Path(source.partition("@")[0].rstrip("/"))
    return (
        path.parent.name if path.name == "bundle" and path.parent.name else path.stem if path.is_file() else path.name
    )


def signature_of(source: str) -> tuple[tuple[str, int, int], ...]:
    """Of the files of a model: another one says that they were changed. Of an address the store is asked."""
    if is_remote(source):
        version = model_version(source)
        return ((version, 0, 0),) if version else ()
    path = Path(source)
    if not (path / "model.safetensors").exists() and (path / "bundle").is_dir():
        path = path / "bundle"
    files = [path] if path.is_file() else sorted(path.glob("*")) if path.is_dir() else []
    found = []
    for file in files:
        with suppress(OSError):
            about = file.stat()
            found.append((file.name, about.st_mtime_ns, about.st_size))
    return tuple(found)


def _reproduce(served: Served, predictors: Sequence[Predictor]) -> bool:
    """Whether outputs were recorded before; where not, they are now, after a second pass that must agree.

    Raises:
        BadInput: other outputs than the recorded ones, or than those of a second pass.
    """
    file = cache_folder() / "served-outputs.json"
    model = served.model
    seen = f"{model.preprocess}, temperature {model.temperature}, thresholds {model.thresholds}"
    key = f"{served.version}, {seen}, {served.predictor.runtime.key}"
    known = _read(file)
    height, width = model.preprocess.resolution
    pictures = np.random.default_rng(0).integers(0, 256, (PROBE, 3, height, width), dtype=np.uint8)
    views = torch.from_numpy(pictures)
    digests = _digests(predictors, views, trusted=key in known)  # what was recorded had been compared with PyTorch's
    if key in known and digests != {known[key]}:  # of another runtime, where they disagreed
        digests = _digests(predictors, views, trusted=False)
    if len(digests) > 1:
        raise BadInput(f"{served.source}: two passes over the same images differ; take another --runtime")
    (found,) = digests
    if known.get(key, found) != found:
        raise BadInput(
            f"{served.source} does not reproduce the outputs that it had on this machine before ({file}): a library, "
            "the processor or memory gives other numbers; if that is known and right, remove the file"
        )
    if key in known:
        return True
    with suppress(OSError):
        write_json(file, known | {key: found})
    return False


def _digests(predictors: Sequence[Predictor], views: torch.Tensor, trusted: bool) -> set[str]:
    """Of two passes of each, one with the images in another order."""
    found = set()
    for predictor in predictors:
        runtime: SameBits = predictor.runtime
        runtime.trust(trusted)
        runtime.try_shapes()
        found |= {_digest(predictor, views), _digest(predictor, views.flip(0), turned=True)}
    return found


def _digest(predictor: Predictor, views: torch.Tensor, turned: bool = False) -> str:
    outputs = predictor.judge(views)
    digest = hashlib.sha256()
    for values in outputs:
        digest.update((values.flip(0) if turned else values).contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(file: Path) -> dict[str, Any]:
    try:
        known = read_json(file)
    except (OSError, BadInput):
        return {}
    return known if isinstance(known, dict) else {}
