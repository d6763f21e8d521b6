"""Several choices of the trained weights compared: a fine-tuning with each, and one table of them."""

import re
from dataclasses import replace
from pathlib import Path

from vitrail.core.choices import members
from vitrail.core.config import to_json
from vitrail.core.device import Machine
from vitrail.core.dist import launched
from vitrail.core.errors import BadInput
from vitrail.core.progress import say
from vitrail.jobs.finetune.finetune import Finetune, finetune
from vitrail.jobs.finetune.run import check_start
from vitrail.records.finetune import FinetuneResult, TuningComparison, TuningRow
from vitrail.records.record import write_record
from vitrail.records.run import RunResult
from vitrail.train.trainable import HeadOnly, LastBlocks, LayerDecay, Lora, Tuned, Whole
from vitrail.weights.load import read_pretrained

EVERY = ("head", "blocks-2", "lora-8", "decay-0.75", "whole")
FORMS = "whole, head, blocks-COUNT, decay-RATE, lora-RANK or lora-RANK-ALPHA"


def parse_trainable(name: str) -> Tuned:
    """Parse "whole", "head", "blocks-2", "decay-0.75", "lora-8" or "lora-8-32"; alpha is twice the rank.

    Raises:
        BadInput: none of these.
    """
    kinds = members(Tuned)
    match = re.fullmatch(rf"({'|'.join(kinds)})(?:-(\d+(?:\.\d+)?))?(?:-(\d+(?:\.\d+)?))?", name)
    word, first, second = match.groups() if match else ("", None, None)
    kind = kinds.get(word)
    if kind in (Whole, HeadOnly) and first is None:
        return kind()
    if kind is LastBlocks and first and first.isdigit() and second is None:
        return LastBlocks(int(first))
    if kind is LayerDecay and first and second is None:
        return LayerDecay(float(first))
    if kind is Lora and first and first.isdigit():
        return Lora(int(first), float(second) if second else 2.0 * int(first))
    raise BadInput(f"{name!r} names nothing to train; expected {FORMS}, such as lora-8")


def compare(
    config: Finetune, names: tuple[str, ...], folder: Path, machine: Machine | None = None, recipe: str | None = None
) -> TuningComparison:
    """Fine-tunes with each of `names` in a sub-folder of that name, and writes tunings.json (docs/files.md).

    All start from the same model and see the same images; each has its own sweep. What is finished is not repeated.

    Raises:
        BadInput: a name that is none, or what `finetune` refuses.
    """
    tunings = {name: parse_trainable(name) for name in names or EVERY}
    if (folder / "config.json").exists():
        raise BadInput(f"--out {folder} holds a run; a comparison wants a new folder, with a run for each choice in it")
    check_start(config)
    start = read_pretrained(config.init, resolution=config.resolution)
    table = TuningComparison(job="compare", train=config.train, test=config.test, init=config.init, rows=())
    for number, (name, tuned) in enumerate(tunings.items(), start=1):
        say(f"{number}/{len(tunings)}  {name}")
        result = finetune(replace(config, tuned=tuned), folder / name, machine, recipe, start)
        table = replace(table, rows=(*table.rows, _row(name, tuned, config, result)))
        if launched().first:
            write_record(folder / "tunings.json", replace(table, format=1, job=None, wanted=tuple(tunings)))
    return table


def _row(name: str, tuned: Tuned, config: Finetune, result: RunResult | FinetuneResult) -> TuningRow:
    protocol = result if isinstance(result, FinetuneResult) else None
    return TuningRow(
        name=name,
        tuned=to_json(tuned),
        folder=name,
        learning_rate=protocol.learning_rate if protocol else config.optimizer.lr,
        runs=len(protocol.runs) if protocol else 1,
        accuracy=result.accuracy,
        interval=result.interval,
        spread=protocol.spread if protocol else None,
        count=result.count,
        seconds=result.seconds,
        memory_gib=result.memory_gib,
        parameters=result.parameters,
        trained_parameters=result.trained_parameters,
        images_per_second=result.images_per_second,
    )
