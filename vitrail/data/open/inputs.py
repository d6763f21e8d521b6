"""What a person gives to be labelled: files, folders, patterns, and DATA, one after another as one source."""

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
from vitrail.data.decode.image import BrokenImage
from vitrail.data.open.names import detect, open_data
from vitrail.data.sources.base import Example, FileSource, Source
from vitrail.data.sources.detect import matching
from vitrail.data.sources.huggingface import PREFIX
from vitrail.data.sources.layout import SHARDS, unlabelled
from vitrail.data.sources.manifest import SUFFIXES as MANIFESTS
from vitrail.data.sources.parquet import ParquetSource
from vitrail.data.sources.split_names import DataName

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

    def content_hash(self) -> str:
        """As of other sources, but that images in object stores are not fetched."""
        digest = hashlib.sha256()
        for source in self.sources:
            if isinstance(source, FileSource) and len(source) and object_store.is_remote(source.place(0)):
                for name in source.names:
                    digest.update(name.as_py() + b"\0")
            else:
                digest.update(source.content_hash().encode())
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
            sources.append(unlabelled("", [os.fsencode(file) for file in files]))
            files = []
        if item is not None:
            _read_once(item)
            sources.append(item)
    return Images(sources)


def _read_once(source: Source) -> None:
    """Row groups that were read are kept for training, which comes back to them; here nobody does."""
    base = source.base()
    if isinstance(base, ParquetSource):
        base.budget = 0  # it keeps one


def _open(text: str) -> list[Source | str]:
    """Sources, or the names of single images."""
    name, path, remote = DataName.parse(text), Path(text), object_store.is_remote(text)
    if name.split or name.slice:
        return [open_data(text, "test", multi_label=True)]
    if _PATTERN.search(text) and not path.exists() and not remote:
        files = [file for file in matching(text) if Path(file).is_file()]
        if not files:
            raise BadInput(f"no such image: {text!r}")
        if not {Path(file).suffix.lower() for file in files} & set(SHARDS):
            return list(files)
    elif path.is_file() or (remote and object_store.is_file(text)):
        if path.suffix.lower() not in (*SHARDS, *MANIFESTS, ".json"):
            return [text]
    elif not (remote or text.startswith(PREFIX) or text in NAMED or path.exists()):
        raise BadInput(f"no such image: {text!r}")
    return [detect(text).images()]
