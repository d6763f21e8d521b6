"""How many planted copies are found, and how many pairs are false; and the copies that lie in the data by themselves.

    python benchmarks/duplicates.py tiny-imagenet@train [--planted 200] [--limit N] [--workers 2] [--cells]

Plants so many copies of each of seven kinds, each of a random image, among the images of DATA and compares all with
all. A pair of a copy with its original counts as found. A pair of a copy with any other image is false, unless that
other is another copy of the same original, or is itself paired with it. `--cells` also says which share of the exact
search's candidates the search by cells finds.
"""

import argparse
import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from vitrail.data.decode import image
from vitrail.data.open.names import open_data
from vitrail.data.quality import phash
from vitrail.data.quality.near_duplicates import ALIKE, DuplicatePairs, find_near_duplicates
from vitrail.data.quality.scan import Scanned, scan
from vitrail.data.quality.similar_pairs import exact, within_cells
from vitrail.data.sources.base import Example, Source


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _crop(picture: Image.Image, share: float) -> Image.Image:
    """So much less at each of the four edges."""
    width, height = picture.size
    x, y = width * share, height * share
    return picture.crop((round(x), round(y), round(width - x), round(height - y)))


def _lit(picture: Image.Image, factor: float) -> Image.Image:
    return picture.point(lambda value: min(255, round(value * factor)))


KINDS: dict[str, Callable[[Image.Image], Image.Image | bytes]] = {
    "re-encoded, quality 40": lambda p: _jpeg(p, 40),
    "resized to 50 %": lambda p: p.resize((p.width // 2, p.height // 2), Image.Resampling.BILINEAR),
    "cropped, 5 % of each edge": lambda p: _crop(p, 0.05),
    "mirrored": lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "greyscale": lambda p: p.convert("L").convert("RGB"),
    "20 % brighter": lambda p: _lit(p, 1.2),
    "20 % darker": lambda p: _lit(p, 0.8),
}


class Planted(Source):
    """Copies, encoded; `originals[i]` is the image of `source` that copy i was made of."""

    def __init__(self, source: Source, count: int, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.originals = rng.choice(len(source), count * len(KINDS), replace=False)
        self.kinds = [kind for kind in KINDS for _ in range(count)]
        self.files, labels = [], []
        for index, kind in zip(self.originals.tolist(), self.kinds, strict=True):
            example = source[index]
            pixels = image.decode(example.image) if isinstance(example.image, bytes) else example.image
            made = KINDS[kind](Image.fromarray(pixels))
            if isinstance(made, Image.Image):
                file = io.BytesIO()
                made.save(file, "PNG", compress_level=1)
                made = file.getvalue()
            self.files.append(made)
            labels.append(example.label)
        self.labels, self.classes = np.array(labels, np.int64), source.classes

    def __getitem__(self, index: int) -> Example:
        return Example(self.files[index], int(self.labels[index]), f"copy {index} of {self.originals[index]}")


def tally(
    copies: DuplicatePairs, originals: np.ndarray, kinds: list[str], count: int
) -> dict[str, tuple[int, int, int]]:
    """For each kind (planted, found, false pairs); the copies follow after `count` images."""
    partners: dict[int, set[int]] = {}
    for pair in copies.near:
        partners.setdefault(pair.first, set()).add(pair.second)
        partners.setdefault(pair.second, set()).add(pair.first)
    rows = {kind: [0, 0, 0] for kind in dict.fromkeys(kinds)}
    for i, (index, kind) in enumerate(zip(originals.tolist(), kinds, strict=True)):
        place, row = count + i, rows[kind]
        row[0] += 1
        if copies.original[place] == copies.original[index]:
            row[1] += 1  # the same pixels: nothing else can be said of the copy by itself
            continue
        mine, origin = partners.get(int(copies.original[place]), set()), int(copies.original[index])
        row[1] += origin in mine
        allowed = {origin} | partners.get(origin, set())
        row[2] += len([other for other in mine if other not in allowed])
    return {kind: (row[0], row[1], row[2]) for kind, row in rows.items()}


def subset(table: Scanned, count: int) -> Scanned:
    """The first rows."""
    return Scanned(**{name: column[:count] for name, column in vars(table).items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--planted", type=int, default=200, help="copies of each kind")
    parser.add_argument("--limit", type=int, default=None, help="images of DATA that are used")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--cells", action="store_true")
    options = parser.parse_args()
    source = open_data(options.data)
    indices = np.arange(min(len(source), options.limit or len(source)))
    start = time.perf_counter()
    table = scan(source, indices, workers=options.workers)
    examined = time.perf_counter() - start
    print(f"{options.data}: {len(table):,} images examined in {examined:.1f} s ({len(table) / examined:,.0f}/s)")
    base = find_near_duplicates([table])
    print(f"by themselves: {len(base.places(range(len(table)))):,} images have a copy; {len(base.near):,} near pairs")
    planted = Planted(source, options.planted)
    start = time.perf_counter()
    copies = find_near_duplicates([table, scan(planted, workers=1)])
    print(f"{len(table) + len(planted):,} images compared in {time.perf_counter() - start:.1f} s\n")
    print(f"{'kind':<28} {'planted':>8} {'found':>8} {'share':>8} {'false pairs':>12}")
    rows = tally(copies, planted.originals, planted.kinds, len(table))
    for kind, (count, found, false) in rows.items():
        print(f"{kind:<28} {count:>8} {found:>8} {found / count:>8.1%} {false:>12}")
    found, false = sum(r[1] for r in rows.values()), sum(r[2] for r in rows.values())
    print(f"\nfalse among the pairs of planted copies: {false} of {found + false} ({false / (found + false):.2%})")
    if options.cells:
        vectors = phash.hashes(table.thumbnail[~phash.flat(table.thumbnail) & table.readable])
        seconds = []
        pairs = []
        for search in (exact, within_cells):
            start = time.perf_counter()
            result = search(vectors, ALIKE, even=phash.EVEN, alone=len(vectors))
            seconds.append(time.perf_counter() - start)
            pairs.append(set(zip(result.first.tolist(), result.second.tolist(), strict=True)))
        share = len(pairs[0] & pairs[1]) / max(1, len(pairs[0]))
        print(f"candidates: exact {len(pairs[0]):,} in {seconds[0]:.1f} s; by cells {share:.1%} in {seconds[1]:.1f} s")


if __name__ == "__main__":
    main()
