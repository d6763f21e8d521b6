"""An objective on images that nobody learns from: its loss and counts, and what the model paints into the holes."""

from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange, repeat
from torch import Tensor

from vitrail.core import dist
from vitrail.core.progress import progress
from vitrail.core.seeds import torch_seed
from vitrail.core.watchdog import beat
from vitrail.data.loader.batch import Batch
from vitrail.data.loader.loader import eval_loader
from vitrail.data.loader.normalise import normalise
from vitrail.data.sources.base import Source
from vitrail.data.sources.subset import Subset
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.mae import MAE, MaskedAutoencoder, pixels_of
from vitrail.models.masked_patches import COLOURS, Corruption, colour_of
from vitrail.models.objective import Learner
from vitrail.models.vit import chosen
from vitrail.train.loss import Softmax
from vitrail.train.objective import Part, inputs, loss_of, summary

BATCH = 64  # images of a pass; the masks do not depend on it
GREY = 128  # what is not seen


def judge_objective(
    model: Learner,
    source: Source,
    preprocess: Preprocess,
    *,
    seed: int,
    dtype: torch.dtype,
    workers: int | None = 0,
    title: str = "evaluating",
    together: bool = True,
) -> dict[str, float]:
    """Loss, what the objective counts, and the `count` of images, by all processes together; the same in each.

    Not `together`: by this process alone. The masks are the same at every evaluation: keyed by (seed, example).
    """
    key, here = _key(seed), dist.world() if together else dist.World()
    workers = 0 if len(source) < 4096 and workers is None else workers
    loader = eval_loader(source, preprocess, batch=BATCH * here.size, workers=workers, rank=here.rank, world=here.size)
    was_training = model.training
    total = torch.zeros(2, dtype=torch.float64)
    sums: dict[str, Tensor] = {}
    model.eval()
    try:
        with progress(title, len(loader)) as bar, torch.inference_mode():
            for batch in loader:
                beat()
                bar.advance()
                own = batch if len(batch.labels) else _blank(preprocess)  # every process calls the model
                part, given, output = _passed(model, own, preprocess, key, dtype)
                found = loss_of(model, output, given, part, Softmax(), None)
                count = len(batch.labels)
                if count or not sums:
                    weight = float(bool(count))
                    total += torch.tensor([float(found.mean) * count, count], dtype=torch.float64)
                    for name, value in found.sums.items():
                        more = value.detach().double().cpu() * weight
                        sums[name] = sums[name] + more if name in sums else more
    finally:
        model.train(was_training)
    if here.size > 1:
        total, sums = dist.summed(total), {name: dist.summed(value) for name, value in sums.items()}
    images = max(1, int(total[1]))
    return {**summary(sums, images), "loss": float(total[0]) / images, "count": int(total[1])}


class Painting(NamedTuple):
    """Pictures uint8 [S, H, W, 3]: the images, what the model saw of them, and with what it painted."""

    images: np.ndarray
    seen: np.ndarray
    painted: np.ndarray


def paint(
    model: Learner, source: Source, preprocess: Preprocess, *, seed: int, dtype: torch.dtype, count: int = 8
) -> Painting:
    """The first images of a source with their masks of the evaluation; every process may call it, and gets the same.

    Predicted colours fill their patches, pixels are put where they belong; what the model saw stays as it is. MAE's
    normalised patches are given the mean and the deviation of the true ones, as in its paper: contrast is not judged.
    """
    was_training = model.training
    model.eval()
    first = Subset(source, np.arange(min(count, len(source))))
    (batch,) = eval_loader(first, preprocess, batch=count)
    with torch.inference_mode():
        part, given, output = _passed(model, batch, preprocess, _key(seed), dtype)
        h, w = model.config.grid
        patch = model.config.patch
        pixels = part.pixels[:, :, : h * patch, : w * patch]
        if isinstance(model, MaskedAutoencoder):
            places, painted = _pixels_of_mae(model.objective, output, part, given[1], preprocess, patch)
            shown = _in_patches(pixels, patch)
            seen = shown.scatter(1, _wide(places, shown), GREY)
        else:
            corruption = Corruption(*given[1:])
            places, painted = corruption.places, _of_patches(model.objective.target, output, patch)
            shown = _in_patches(pixels, patch)
            seen = torch.where(corruption.masked[:, :, None], GREY, chosen(shown, corruption.source))
        result = shown.scatter(1, _wide(places, shown), painted.to(shown.dtype))
        whole = [_as_pictures(rows, (h, w), patch) for rows in (shown, seen, result)]
    model.train(was_training)
    return Painting(*whole)


def _key(seed: int) -> int:
    return torch_seed(seed, "masks of evaluation")


def _passed(
    model: Learner, batch: Batch, preprocess: Preprocess, key: int, dtype: torch.dtype
) -> tuple[Part, tuple[Tensor, ...], Tensor]:
    device = next(model.parameters()).device
    images, pixels = normalise(batch.images, preprocess, device), batch.images.to(device)
    part = Part(images, pixels, batch.labels, batch.labels, torch.zeros_like(batch.indices), batch.indices)
    given = inputs(model, part, key)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        output = model(*given)
    return part, given, output.float()


def _blank(preprocess: Preprocess) -> Batch:
    return Batch.of(torch.zeros(1, 3, *preprocess.resolution, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))


def _in_patches(pixels: Tensor, patch: int) -> Tensor:
    """[B, N, row column channel]"""
    return rearrange(pixels, "b c (h p) (w q) -> b (h w) (p q c)", p=patch, q=patch)


def _wide(places: Tensor, rows: Tensor) -> Tensor:
    return places[:, :, None].expand(-1, -1, rows.shape[2])


def _as_pictures(rows: Tensor, grid: tuple[int, int], patch: int) -> np.ndarray:
    pictures = rearrange(rows, "b (h w) (p q c) -> b (h p) (w q) c", h=grid[0], p=patch, q=patch)
    found: np.ndarray = pictures.to(torch.uint8).cpu().numpy()
    return found


def _of_patches(target: str, output: Tensor, patch: int) -> Tensor:
    """Predicted pixels [B, M, row column channel] from 0 to 255."""
    if target == "pixels":
        pixels = rearrange(output, "b m (c p q) -> b m (p q c)", p=patch, q=patch)
        return ((pixels + 1) * 127.5).clamp(0, 255)
    colours = colour_of(output.unflatten(2, (-1, COLOURS)).argmax(dim=-1))  # [B, M, 1 or 16, 3]
    side = round(colours.shape[2] ** 0.5)
    each = patch // side
    return repeat(colours, "b m (h w) c -> b m (h p w q c)", h=side, p=each, q=each)


def _pixels_of_mae(
    objective: MAE, output: Tensor, part: Part, order: Tensor, preprocess: Preprocess, patch: int
) -> tuple[Tensor, Tensor]:
    places = order[:, objective.visible(order.shape[1]) :]
    numbers, true = chosen(output, places), chosen(pixels_of(part.images, patch), places)
    if objective.normalised:
        deviation = (true.var(dim=-1, keepdim=True) + 1e-6).sqrt()
        numbers = numbers * deviation + true.mean(dim=-1, keepdim=True)
    mean, std = (numbers.new_tensor(values) for values in (preprocess.mean, preprocess.std))
    colours = numbers.unflatten(2, (-1, len(mean))) * std + mean
    colours = colours.expand(-1, -1, -1, 3)  # a model of grey images paints grey
    return places, (colours * 255).clamp(0, 255).flatten(2)
