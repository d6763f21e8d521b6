"""What a person gives to be labelled: files, folders, patterns, and DATA, one after another as one source."""

import glob
import hashlib
import os
import re
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitrail.core import object_store
from vitrail.core.errors import BadInput
from vitrail.data.catalog.catalog import NAMED
from vitrail.data.decode import image
from vitrail.data.decode.image import BrokenImage
from vitrail.data.open.names import open_data
from vitrail.data.quality.content_hash import content_hash
from vitrail.data.sources.arrow import ArrowSource
from vitrail.data.sources.base import Example, FileSource, Source, binary
from vitrail.data.sources.huggingface import PREFIX
from vitrail.data.sources.layouts import expand, parquet_splits, shards_by_split
from vitrail.data.sources.manifest import SUFFIXES as MANIFESTS
from vitrail.data.sources.parquet import ParquetSource, has_images, read_schema
from vitrail.data.sources.split_names import SPLITS
from vitrail.data.sources.subset import Subset
from vitrail.data.sources.webdataset import TarSource

_SHARDS = (".parquet", ".tar", ".arrow")
_PATTERN = re.compile(r"[*?{\[]")


class Images(Source):
    """Sources one after another, without classes: every label is 0. A broken image has a key as well."""

    def __init__(self, sources: Sequence[Source], start: int = 0):
        self.sources, self.classes = sources, ()
        counts = np.cumsum([len(source) for source in sources])
        self._starts = [0, *(int(count) for count in counts[:-1])]
        self.start, self._stop = start, int(counts[-1]) if len(sources) else 0

    def __len__(self) -> int:
        return self._stop - self.start

    def after(self, start: int) -> "Images":
        """The same but for the first `start`; the others keep their places."""
        return Images(self.sources, start)

    def __getitem__(self, index: int) -> Example:
        place = int(index) + self.start
        which = bisect_right(self._starts, place) - 1
        try:
            example = self.sources[which][place - self._starts[which]]
        except BrokenImage as problem:
            problem.key = problem.key or f"image {place}"
            raise
        return Example(example.image, 0, example.key)

    def identity(self) -> str:
        """A digest of which images these are: `identity.identity`, but that images in object stores are not fetched."""
        digest = hashlib.sha256()
        for source in self.sources:
            if isinstance(source, FileSource) and len(source) and object_store.is_remote(source.place(0)):
                for name in source.names:
                    digest.update(name.as_py() + b"\0")
            else:
                digest.update(content_hash(source).encode())
        return digest.hexdigest()


def open_images(texts: Sequence[str]) -> Images:
    """The images that are named, in the order of the names; a folder stands for all images in it, however deep.

    A name is an image, a folder, a pattern, a file or folder or pattern of shards (labels in it are neither needed nor
    used), or any DATA of `grammar.open_data`; of DATA with splits it is the test split where none is named.

    Raises:
        BadInput: nothing there, or nothing in it.
    """
    found: list[Source | str] = []
    for text in texts:
        found += _open(text)
    sources: list[Source] = []
    files: list[str] = []
    for item in [*found, None]:
        if isinstance(item, str):
            files.append(item)
            continue
        if files:  # a pattern that the shell had expanded is one source
            sources.append(_files("", [os.fsencode(file) for file in files]))
            files = []
        if item is not None:
            _read_once(item)
            sources.append(item)
    return Images(sources)


def _read_once(source: Source) -> None:
    """Row groups that were read are kept for training, which comes back to them; here nobody does."""
    while isinstance(source, Subset):
        source = source.source
    if isinstance(source, ParquetSource):
        source.budget = 0  # it keeps one


def _open(text: str) -> list[Source | str]:
    """Sources, or the names of single images."""
    path = Path(text)
    if object_store.is_remote(text):
        return _remote(text)
    if text.startswith(PREFIX) or (text in NAMED and not path.exists()):
        return [open_data(text, "test")]
    if path.is_dir():
        return [_folder(path, text)]
    if path.exists():
        return [_file(text)]
    if _PATTERN.search(text):
        matches = _matches(text)
        if matches:
            return matches
    if "@" in text or text.split("[")[0] in NAMED:
        return [open_data(text, "test")]
    raise BadInput(f"no such image: {text!r}")


def _file(text: str) -> Source | str:
    suffix = Path(text).suffix.lower()
    if suffix in _SHARDS and not (suffix == ".parquet" and not has_images(read_schema(text))):
        return _shards([text])
    if suffix in (*MANIFESTS, ".parquet", ".json"):
        return open_data(text, "test")
    return text


def _matches(pattern: str) -> list[Source | str]:
    names: list[str] = []
    for part in expand(pattern):
        names += sorted(glob.glob(part, recursive=True))  # noqa: PTH207 - absolute patterns too
    names = [name for name in names if Path(name).is_file()]
    kinds = {Path(name).suffix.lower() for name in names}
    if not kinds & set(_SHARDS):
        return list(names)
    if len(kinds) > 1:
        raise BadInput(f"{pattern!r} matches several kinds of files ({', '.join(sorted(kinds))}); name one")
    return [_shards(names)]


def _shards(files: list[str]) -> Source:
    match Path(files[0]).suffix.lower():
        case ".parquet":
            return ParquetSource(files, labelled=False)
        case ".tar":
            return TarSource(files, labelled=False)
        case _:
            return ArrowSource(files)


def _folder(path: Path, text: str) -> Source:
    parquets, shards = parquet_splits(path), shards_by_split(path)
    if parquets or shards:
        if parquets and not parquets.keys() & SPLITS:
            return _shards([str(file) for files in parquets.values() for file in files])
        if not parquets and "" in shards:
            return _shards(shards[""])
        return open_data(text, "test")
    names = _images_below(os.fsencode(path))
    if not names:
        raise BadInput(f"{path} holds no images (looked for {', '.join(sorted(image.SUFFIXES))})")
    return _files(str(path), names)


def _images_below(root: bytes) -> list[bytes]:
    names = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(b".")]
        for name in files:
            if not name.startswith(b".") and os.fsdecode(os.path.splitext(name)[1]).lower() in image.SUFFIXES:  # noqa: PTH122
                names.append(os.path.relpath(os.path.join(folder, name), root))
    return sorted(names, key=lambda name: name.split(b"/"))


def _files(root: str, names: list[bytes]) -> FileSource:
    return FileSource(root, binary(names), np.broadcast_to(np.int64(0), len(names)), ())


def _remote(text: str) -> list[Source | str]:
    if _PATTERN.search(text) or "@" in text.rpartition("/")[2]:
        return [open_data(text, "test")]
    if object_store.is_file(text):
        if Path(text).suffix.lower() in (*_SHARDS, *MANIFESTS):
            return [open_data(text, "test")]
        return [text]
    names = object_store.below(text)
    if any(name.endswith(_SHARDS) for name in names):
        return [open_data(text, "test")]
    images = [name.encode() for name in names if Path(name).suffix.lower() in image.SUFFIXES]
    if not images:
        raise BadInput(f"{text} holds no images")
    return [_files(text.rstrip("/"), images)]
