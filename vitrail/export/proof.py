"""The proof that an export answers as the model does: on fixed inputs, hostile ones, batches, and among neighbours."""

from collections.abc import Iterator

import numpy as np
import torch

from vitrail.data.loader.normalise import normalise, stack
from vitrail.data.transforms.pipeline import eval_transform
from vitrail.export.preprocessing import Preprocessing
from vitrail.export.session import Session
from vitrail.models.build import Model
from vitrail.models.vit import ViT
from vitrail.records.export import ExportPrecision, PixelProof, Proof, ProofRow
from vitrail.runtimes.by_torch import TorchRuntime

BATCHES = (1, 2, 7, 64)
# of an output's largest difference over its largest number; of attention, whose numbers are shares, none is promised
BOUNDS: dict[ExportPrecision, float | None] = {"float32": 1e-4, "bfloat16": 0.06, "float16": 0.01, "int8": None}
# standardised weights and group norms lose more: PyTorch's own bfloat16 moves R50x1's representation by 0.12
CONVOLUTIONAL: dict[ExportPrecision, float | None] = {"bfloat16": 0.25, "float16": 0.05}
SIZES = ((1, 1), (1, 900), (700, 2), (97, 1033), (224, 224), (375, 500), (500, 333), (64, 64))
CPU = torch.device("cpu")


def hostile_images() -> Iterator[tuple[str, np.ndarray]]:
    """Names and uint8 [H, W, 3]."""
    rng = np.random.default_rng(0)
    yield "black", np.zeros((300, 400, 3), np.uint8)
    yield "white", np.full((400, 300, 3), 255, np.uint8)
    for height, width in SIZES:
        yield f"noise, {height} x {width}", rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        ramp = np.add.outer(np.linspace(0, 127, height), np.linspace(0, 128, width))
        yield f"a ramp, {height} x {width}", np.repeat(ramp.astype(np.uint8)[..., None], 3, axis=2)


class Differences:
    """The largest and the mean difference of one output, and the largest number."""

    def __init__(self) -> None:
        self.largest, self.total, self.count, self.scale = 0.0, 0.0, 0, 0.0

    def add(self, found: np.ndarray, wanted: np.ndarray) -> None:
        """Another pair; what is no number, or has another shape, differs infinitely."""
        if found.shape != wanted.shape or not np.isfinite(found).all():
            self.largest = self.total = float("inf")
            self.count += 1
            return
        apart = np.abs(found.astype(np.float64) - wanted)
        self.largest = max(self.largest, float(apart.max()))
        self.total, self.count = self.total + float(apart.sum()), self.count + apart.size
        self.scale = max(self.scale, float(np.abs(wanted).max()))

    def row(self, inputs: str, output: str, bound: float | None) -> ProofRow:
        """What was found."""
        relative = self.largest / max(self.scale, 1e-30)
        return ProofRow(
            inputs=inputs,
            output=output,
            largest=_finite(self.largest),
            mean=_finite(self.total / max(1, self.count)),
            relative=_finite(relative),
            bound=bound,
        )


def _finite(value: float) -> float:
    return value if np.isfinite(value) else 1e30


def prove(model: Model, from_images: Session, from_pixels: Session, precision: ExportPrecision) -> Proof:
    """Compares an export with the model in float32.

    Args:
        from_images: the graph that takes uint8 [B, H, W, 3]; from_pixels: the one that takes normalised images.
    """
    exact = TorchRuntime(model, "float32")
    rows = _hostile(model, exact, from_images, bound_of(model, precision, whole_images=True))
    rows += _batches(model, exact, from_pixels, bound_of(model, precision))
    return Proof(rows=rows, batches=BATCHES, neighbours=_neighbours(model, from_pixels), pixels=compare_pixels(model))


def is_plain(model: Model) -> bool:
    """Whether it has no ResNet: neither is one nor begins with one."""
    return isinstance(model, ViT) and model.config.backbone is None


def bound_of(model: Model, precision: ExportPrecision, whole_images: bool = False) -> float | None:
    """What is promised of a model: more where it is, or begins with, a ResNet; None where nothing is.

    Args:
        whole_images: with preprocessing, where a pixel may fall to the other side of a half.
    """
    plain = is_plain(model)
    bound = BOUNDS[precision] if plain else CONVOLUTIONAL.get(precision, BOUNDS[precision])
    # one such pixel moves what a ResNet with random weights says by 0.02
    return max(bound, 0.02 if plain else 0.05) if whole_images and bound is not None else bound


def broken_promises(proof: Proof) -> list[str]:
    """A sentence for each output that is further away than its bound."""
    return [
        f"{row.output} of {row.inputs} differs by {row.relative:.2g} of its largest number, more than {row.bound:g}"
        for row in proof.rows
        if row.bound is not None and not row.relative <= row.bound
    ]


def _wanted(model: Model, exact: TorchRuntime, pixels: torch.Tensor) -> dict[str, np.ndarray]:
    output = exact(pixels)
    probabilities = (output.logits / (model.temperature or 1.0)).softmax(dim=-1)
    named = {"logits": output.logits, "representation": output.representation, "probabilities": probabilities}
    return {name: values.numpy() for name, values in named.items()}


def _hostile(model: Model, exact: TorchRuntime, session: Session, bound: float | None) -> list[ProofRow]:
    found: dict[str, Differences] = {}
    for _, image in hostile_images():
        view = eval_transform(image, model.preprocess)
        wanted = _wanted(model, exact, normalise(stack([view]), model.preprocess, CPU))
        for name, values in session(image[None]).items():
            if name in wanted:
                found.setdefault(name, Differences()).add(values, wanted[name])
    return [apart.row("whole images", name, bound) for name, apart in found.items()]


def _batches(model: Model, exact: TorchRuntime, session: Session, bound: float | None) -> list[ProofRow]:
    rows = []
    for count in BATCHES:
        found: dict[str, Differences] = {}
        pixels = _noise(model, count)
        wanted = _wanted(model, exact, pixels)
        for name, values in session(pixels.numpy()).items():
            if name in wanted:
                found.setdefault(name, Differences()).add(values, wanted[name])
        rows += [apart.row(f"batches of {count}", name, bound) for name, apart in found.items()]
    return rows


def _noise(model: Model, count: int) -> torch.Tensor:
    """The first rows of one and the same sequence: grey, black, white, then noise."""
    config, generator = model.config, torch.Generator().manual_seed(0)
    shape = (config.channels, *config.resolution)
    noise = torch.rand(max(BATCHES), *shape, generator=generator) * 2 - 1
    noise[:3] = torch.tensor([0.0, -1.0, 1.0])[:, None, None, None]
    return noise.roll(-3, 0)[:count]


def _neighbours(model: Model, session: Session) -> float:
    pixels = _noise(model, 7).numpy()
    together = session(pixels)["representation"]
    alone = np.concatenate([session(pixels[i : i + 1])["representation"] for i in range(len(pixels))])
    return _finite(float(np.abs(together - alone).max() / max(float(np.abs(alone).max()), 1e-30)))


def compare_pixels(model: Model, images: int = 64) -> PixelProof:
    """The view in the graph against vitrail's own, on noise of many sizes and on the hostile images."""
    rng = np.random.default_rng(1)
    some = [image for _, image in hostile_images()]
    for _ in range(images - len(some)):
        height, width = rng.integers(20, 600, 2)
        coarse = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
        some.append(np.repeat(np.repeat(coarse, 8, 0), 8, 1)[:height, :width])
    preprocessing = Preprocessing(model.preprocess)
    apart = Differences()
    differing = 0
    for image in some:
        with torch.inference_mode():
            found = preprocessing.view(torch.from_numpy(image[None]))[0].numpy()
        wanted = eval_transform(image, model.preprocess).transpose(2, 0, 1).astype(np.float32)
        apart.add(found, wanted)
        differing += int((found != wanted).sum())
    return PixelProof(
        images=len(some),
        largest=apart.largest,
        mean=apart.total / apart.count,
        differing=differing / apart.count,
    )
