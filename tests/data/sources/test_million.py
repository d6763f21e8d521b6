"""A million images: opened in a second once indexed, the first batch within five, in less than 1 GiB."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tests.data.pictures import encoded, folder_of_images, noise
from vitrail.data.open.names import open_data
from vitrail.data.sources import image_folder, tar_index
from vitrail.data.sources.base import Source, binary
from vitrail.data.sources.image_folder import FolderSource, Listing
from vitrail.data.sources.skipped import Skipped
from vitrail.data.sources.tar_samples import TarSamples

MILLION = 1_000_000
CLASSES = [f"n{i:08d}" for i in range(1000)]

# In a process of its own: the memory is the whole of it, torch included.
FIRST_BATCH = """
import json, os, sys, time, torch
from pathlib import Path
from vitrail.core.device import peak_memory_gib
from vitrail.data.loader.loader import train_loader
from vitrail.data.open.names import open_data, require_classes
from vitrail.data.transforms.pipeline import Augment, Preprocess
start = time.perf_counter()
source = open_data(sys.argv[1])
require_classes(source, sys.argv[1])
opened = time.perf_counter() - start
batches = train_loader(
    source, Augment(), Preprocess((32, 32)), batch=64, seed=0, start=0, stop=3, workers=int(sys.argv[2])
)
running = iter(batches)
first = next(running)
seconds = time.perf_counter() - start
me, all_pages = os.getpid(), 0
for process in [me, *map(int, Path(f"/proc/{me}/task/{me}/children").read_text().split())]:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    all_pages += int(next(line for line in lines if line.startswith("Pss:")).split()[1])  # shared ones count once
peak = max(all_pages, peak_memory_gib(torch.device('cpu')) * 2**20)
measured = {"opened": opened, "seconds": seconds, "GiB": peak / 2**20}
print(json.dumps({"count": len(source), "n": len(first.labels), **measured}))
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.parametrize(("text", "workers"), [("", 0), ("", 2), ("", 4), ("@[:90%]", 0)])
def test_a_manifest_of_a_million_rows(tmp_path: Path, text: str, workers: int) -> None:
    folder_of_images(tmp_path, {"a": 100}, size=40)
    with open(tmp_path / "list.csv", "w") as file:
        file.write("path,label\n")
        file.writelines(f"{tmp_path}/./a/{i % 100}.png,{CLASSES[i // 1000]}\n" for i in range(MILLION))
    command = [sys.executable, "-c", FIRST_BATCH, f"{tmp_path}/list.csv{text}", str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    measured = json.loads(done.stdout)
    print(measured)
    assert measured["count"] == (MILLION if not text else 900_000)
    assert measured["n"] == 64
    assert measured["seconds"] < 5  # measured: 0.2 to 0.6 (1.7 on a busy machine)
    assert measured["GiB"] < 1  # measured: 0.6, of which torch alone is 0.26


def opened(text: str, kind: str) -> Source:
    start = time.perf_counter()
    source = open_data(text)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    size = len(pickle.dumps(source, protocol=5))
    print(
        f"{kind}: opened in {seconds:.2f} s; pickled in {time.perf_counter() - start:.2f} s to {size / 2**20:.0f} MiB"
    )
    assert seconds < 1
    assert len(source) == MILLION
    return source


@pytest.mark.slow
def test_a_folder_that_is_indexed(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for name in CLASSES:
        (root / name).mkdir(parents=True)
    (root / CLASSES[7] / "0000007.jpg").write_bytes(b"seven")
    names = binary([f"{CLASSES[i // 1000]}/{i % 1000:07d}.jpg".encode() for i in range(MILLION)])
    folders: list[tuple[bytes, int]] = []
    image_folder._walk(root, folders)
    for memory in (tmp_path / "cache/folders",):
        listing = Listing(tuple(CLASSES), np.full(1000, 1000), names)
        import hashlib

        name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]
        image_folder._remember(listing, folders, memory / f"{name}.arrow")
    source = opened(str(root), "folder")
    assert isinstance(source, FolderSource)
    assert source[7007].image == b"seven"


@pytest.mark.slow
def test_tar_shards_that_are_indexed(tmp_path: Path) -> None:
    for shard in range(1000):
        path = tmp_path / f"shard-{shard:06d}.tar"
        path.write_bytes(b"x" * 4096)
        keys = pa.array([f"{i:06d}.jpg" for i in range(1000)], type=pa.large_string())
        labels = pa.array([str(i) for i in range(1000)], type=pa.large_string())
        places = pa.array(np.arange(1000))
        made = TarSamples(keys, places, pa.array(np.full(1000, 5)), labels, Skipped())
        tar_index._write(path.with_name(f"{path.name}.index"), made, tar_index._stamp(path.stat()))
    source = opened(str(tmp_path), "tar")
    assert source[999_999].image == b"xxxxx"


@pytest.mark.slow
def test_arrow_and_parquet(tmp_path: Path) -> None:
    image = encoded(noise(1, 1))
    metadata = {b"vitrail": json.dumps({"format": 1, "classes": CLASSES}).encode()}
    schema = pa.schema([("image", pa.large_binary()), ("label", pa.int32()), ("key", pa.string())], metadata)
    (tmp_path / "arrow").mkdir()
    for shard in range(10):
        with pa.ipc.new_file(f"{tmp_path}/arrow/shard-{shard:05d}-of-00010.arrow", schema) as writer:
            for start in range(0, 100_000, 250):
                row = [
                    [image] * 250,
                    [i % 1000 for i in range(start, start + 250)],
                    [f"{shard}/{i}" for i in range(250)],
                ]
                writer.write_batch(pa.record_batch(row, schema=schema))
    assert opened(f"{tmp_path}/arrow", "Arrow")[999_999].image == image
    (tmp_path / "parquet").mkdir()
    table = pa.table({"image": [{"bytes": image, "path": "x"}] * 100_000, "label": [i % 1000 for i in range(100_000)]})
    for shard in range(10):
        parquet.write_table(table, f"{tmp_path}/parquet/train-{shard:05d}-of-00010.parquet", row_group_size=1000)
    assert opened(f"{tmp_path}/parquet", "parquet")[999_999].image == image
