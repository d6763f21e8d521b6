"""Writing a checkpoint: our shards against torch.distributed.checkpoint's safetensors storage, in turns.

    python benchmarks/checkpoint.py [--rounds 7]

S/16 with Adam (22 million parameters, 251 MiB), saved as training does it: copies first, then a thread writes them
while the main thread multiplies small matrices. Printed are medians: the copies, the seconds until all is written, the
longest time and the sum of all times above 10 ms in which the main thread did not get on, the memory beyond the copies.
Then three files hold the rows of a tensor, and one of them is lost: who notices?
"""

import argparse
import json
import logging
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter

from vitrail.core.device import peak_memory_gib, processor_name, reset_peak_memory
from vitrail.core.dist import World
from vitrail.core.errors import BadInput
from vitrail.models.build import build
from vitrail.models.variants import variant
from vitrail.train.sharded import Rows, ShardFiles, snapshot, write_shard

Write = Callable[[dict[str, Tensor], dict[str, Rows], Path], None]
CPU = torch.device("cpu")


def ours(copies: dict[str, Tensor], rows: dict[str, Rows], folder: Path) -> None:
    write_shard(folder / "part-0-of-1.safetensors", copies, rows)


def theirs(copies: dict[str, Tensor], rows: dict[str, Rows], folder: Path) -> None:
    dcp.save(copies, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True), no_dist=True)


def measure(write: Write, state: dict[str, Tensor]) -> tuple[float, ...]:
    """Seconds of the copies and of writing, longest gap, gaps above 10 ms in all; MiB."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        copies, rows = snapshot(state, World())
        copying = time.perf_counter() - begun
        reset_peak_memory(CPU)
        before = peak_memory_gib(CPU)
        thread = threading.Thread(target=write, args=(copies, rows, Path(folder)))
        begun = last = time.perf_counter()
        thread.start()
        x, gaps = torch.randn(64, 64), []
        while thread.is_alive():
            x = (x @ x).tanh_()
            now = time.perf_counter()
            gaps.append(now - last)
            last = now
        memory = (peak_memory_gib(CPU) - before) * 1024
        return copying, last - begun, max(gaps), sum(gap for gap in gaps if gap > 0.01), memory


def lost_file(folder: Path, lost: int) -> tuple[str, str]:
    """What both say of a tensor of 7 rows in three files, one of which is lost."""
    whole = torch.arange(14.0).view(7, 2)
    answers, cuts = [], ((0, 3), (3, 5), (5, 7))
    for name in ("ours", "theirs"):
        (folder / name).mkdir(parents=True)
        files = [folder / name / f"{i}.safetensors" for i in range(3) if i != lost]
        for file in files:
            start, stop = cuts[int(file.stem)]
            piece = {"w": whole[start:stop].contiguous()}
            if name == "ours":
                write_shard(file, piece, {"w": Rows(start, stop - start, (7, 2))})
            else:
                save_file(piece, file, {"DCP_SHARDING_INFO": json.dumps({"w": {"saved_offsets": [start, 0]}})})
        target = torch.full((7, 2), -1.0)
        try:
            if name == "ours":
                ShardFiles(files).read_into("w", target)
            else:
                dcp.load({"w": target}, storage_reader=HuggingFaceStorageReader(str(folder / name)), no_dist=True)
            answers.append("equal" if torch.equal(target, whole) else f"silently wrong: {target[:, 0].tolist()}")
        except (BadInput, dcp.CheckpointException) as problem:
            answers.append(f"refused ({type(problem).__name__})")
    return answers[0], answers[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    model = build(replace(variant("S/16"), num_classes=1000))
    state = {f"{k}.{name}": t.detach().clone() for k in ("model", "m", "v") for name, t in model.state_dict().items()}
    size = sum(t.numel() * t.element_size() for t in state.values()) / 2**20
    print(f"{processor_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}; {size:.0f} MiB")
    writers: dict[str, Write] = {"ours": ours, "theirs": theirs}
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in writers}
    for write in writers.values():
        measure(write, state)  # what is imported and allocated at first
    for i in range(options.rounds):
        for name in sorted(writers, reverse=bool(i % 2)):
            found[name].append(measure(writers[name], state))
    for name, rows in found.items():
        copying, writing, longest, gaps, memory = (statistics.median(column) for column in zip(*rows, strict=True))
        print(
            f"{name}: copies {copying:.2f} s, written after {writing:.2f} s, main thread held up for {longest:.3f} s "
            f"at once and {gaps:.2f} s in all, {memory:.0f} MiB more"
        )
    with tempfile.TemporaryDirectory() as folder:
        for lost in range(3):
            answers = lost_file(Path(folder) / str(lost), lost)
            print(f"file {lost} of 3 lost: ours {answers[0]}, theirs {answers[1]}")


if __name__ == "__main__":
    main()
