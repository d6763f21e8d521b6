"""What people mark as wrong, kept for the next fine-tuning: images, and a manifest that is DATA. Off by default.

DIR/manifest.jsonl     {"image": "images/….jpg", "label": "dog", "model": …, "version": …, "time": …}
    images/SHA256.jpg  as they were sent
"""

import hashlib
import json
import threading
import time
from pathlib import Path
from typing import Any

from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_path, write_text_atomic
from vitrail.data.decode.image import HEAD, kind_of
from vitrail.serve.http.limits import Refused
from vitrail.serve.http.served import Served

IMAGES = 10_000  # kept at most
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif"}


class Feedback:
    """A folder of corrections, bounded in bytes and in images.

    Raises:
        BadInput: a folder that holds something else.
    """

    def __init__(self, folder: Path, most_bytes: int):
        self.folder, self.most_bytes = folder, most_bytes
        self._lock = threading.Lock()
        self._rows: dict[str, dict[str, Any]] = {}
        self._manifest = folder / "manifest.jsonl"
        if folder.is_dir() and any(folder.iterdir()) and not self._manifest.exists():
            raise BadInput(f"--collect {folder} holds other files; give a new or an empty folder")
        if self._manifest.exists():
            try:
                rows = [json.loads(line) for line in self._manifest.read_text(encoding="utf-8").splitlines()]
                self._rows = {row["image"]: row for row in rows}
            except (ValueError, TypeError, KeyError):
                raise BadInput(f"{self._manifest} is no manifest of corrections") from None
        self._bytes = sum(file.stat().st_size for file in (folder / "images").glob("*")) if self._rows else 0

    def keep(self, served: Served, data: bytes, label: str) -> None:
        """An image that can be read, and its right label; of one that was kept already, the label is changed.

        Raises:
            Refused: a label that is no class of the model, or the folder is full.
        """
        if label not in served.classes:
            raise Refused(400, f"{label[:60]!r} is no class of {served.name}", "bad option")
        suffix = _SUFFIXES.get(kind_of(data[:HEAD]), ".img")
        name = f"images/{hashlib.sha256(data).hexdigest()}{suffix}"
        row = {"image": name, "label": label, "model": served.name, "version": served.version, "time": int(time.time())}
        with self._lock:
            if name not in self._rows:
                if len(self._rows) >= IMAGES or self._bytes + len(data) > self.most_bytes:
                    raise Refused(507, "the folder of corrections is full", "collect")
                with atomic_path(self.folder / name) as temporary:
                    temporary.write_bytes(data)
                self._bytes += len(data)
            rows = {**self._rows, name: row}
            text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows.values())
            write_text_atomic(self._manifest, text)
            self._rows = rows
