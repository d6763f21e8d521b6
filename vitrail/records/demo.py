"""A demo (`vitrail demo`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitrail.records.record import Files, Record


@dataclass(frozen=True, kw_only=True)
class DemoResult(Record):
    """The folders of the story, within that of the demo."""

    title: str
    seconds: float
    seen: Sequence[str]  # names of the classes in pre-training
    unseen: Sequence[str]
    runs: Mapping[str, str]  # "pretrain", "finetune", "scratch" -> folder of the run
    linear: str  # folder of the few-shot evaluation
    inspection: str
    examples: str  # file


FILES: Files = {
    "demo.json": DemoResult,
    "examples.npz": "`images` uint8 [M, H, W, 3] and `labels` (array of strings, no objects) of the data",
}
