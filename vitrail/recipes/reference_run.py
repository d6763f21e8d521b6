"""A recipe's proof: the curve and the result of the run by which it was tried here, kept beside the recipe.

python -m vitrail.recipes.reference_run RUN writes proofs/{job}-{recipe}.json from a finished run folder.
"""

import json
import re
import sys
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import NoReturn

from vitrail.core.config import departures, to_json
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json, write_text_atomic
from vitrail.core.run import read_metrics
from vitrail.recipes import finetuning, pretraining
from vitrail.records.record import as_json, load_record
from vitrail.records.reference_run import Curve, On, Proof

PROOFS = Path(__file__).parent / "proofs"
POINTS = 200  # of a curve, at most


def proof(job: str, recipe: str, folder: Path = PROOFS) -> Proof | None:
    """The proof of a recipe; None where it was not run here. Raises BadInput for a damaged file."""
    path = folder / f"{job}-{recipe}.json"
    return load_record(Proof, path) if path.is_file() else None


def write_proof(run: Path, folder: Path = PROOFS) -> Path:
    """Makes the proof of a recipe from a finished run of it, and returns its path.

    What core.experiment leaves aside may be other than in the recipe; a log of 200 rows or more gives the finest curve.

    Raises:
        BadInput: the run is not finished, not by a recipe, or of other options than the recipe's.
    """
    made = from_run(run)
    path = folder / f"{made.job}-{made.recipe}.json"
    write_text_atomic(path, as_text(made))
    return path


def from_run(run: Path) -> Proof:
    """The proof that a run folder holds; raises BadInput like `write_proof`."""
    run = Path(run)
    if not (run / "config.json").is_file():
        raise BadInput(f"{run} holds no run; expected a folder that vitrail pretrain or vitrail finetune wrote")
    if not (run / "result.json").is_file():
        raise BadInput(f"{run} is not finished; the command that began it goes on with it")
    stored, result = read_json(run / "config.json"), read_json(run / "result.json")
    environment = read_json(run / "environment.json")
    job, recipe = stored["job"], stored["recipe"]
    if not recipe:
        raise BadInput(f"{run} was not made by a recipe; a proof is of a run of vitrail pretrain RECIPE")
    of_recipe = to_json(pretraining(recipe) if job == "pretrain" else finetuning(recipe))
    other = departures(of_recipe, stored["config"])
    if other:
        raise BadInput(f"{run} has other options than the recipe {recipe!r} ({'; '.join(other)}); run it as it is")
    rows = read_metrics(run / "metrics.jsonl")
    return Proof(
        recipe=recipe,
        job=job,
        config=stored["config"],
        machine=On(*(environment[key] for key in ("processor", "device", "precision", "threads"))),
        vitrail=environment["vitrail"],
        date=environment["started"][:10],
        seconds=round(result["seconds"], 1),
        accuracy=result["accuracy"],
        interval=tuple(result["interval"]) if result["interval"] else None,
        count=result["count"],
        weights_sha256=result["weights_sha256"],
        curve=Curve(
            train=thinned([(row["step"], row["loss"]) for row in rows if row["kind"] == "train"]),
            validation=tuple(
                (row["step"], _short(row["loss"]), _short(row["accuracy"]))
                for row in rows
                if row["kind"] == "validation" and row.get("accuracy") is not None  # mae names nothing
            ),
        ),
    )


def thinned(rows: Sequence[tuple[int, float]], points: int = POINTS) -> tuple[tuple[int, float], ...]:
    """At most so many (step, mean loss since the point before): neighbours are averaged, by their steps.

    Raises BadInput where a loss is no number.
    """
    if not all(isfinite(loss) for _, loss in rows):
        raise BadInput("the loss became no number in this run; it proves nothing")
    size = -(-len(rows) // points) or 1
    kept, begun = [], 0
    for i in range(0, len(rows), size):
        total, before = 0.0, begun
        for step, loss in rows[i : i + size]:
            total, before = total + loss * (step - before), step
        kept.append((before, _short(total / (before - begun))))
        begun = before
    return tuple(kept)


def as_text(made: Proof) -> str:
    """The JSON file: one line a point of a curve, no names of types but in the config."""
    plain = as_json(made)
    text = json.dumps(plain, indent=1, allow_nan=False, ensure_ascii=False)
    text = re.sub(r"\[\s+([-+\d.eE,\s]+?)\s+\]", lambda match: f"[{' '.join(match[1].split())}]", text)
    assert json.loads(text) == plain
    return text + "\n"


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Exits with 0, or with 2 and a sentence for bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if len(given) != 1 or given[0].startswith("-"):
            raise BadInput(
                "usage: python -m vitrail.recipes.reference_run RUN, where RUN is the folder of a finished run"
            )
        print(write_proof(Path(given[0])))
    except BadInput as problem:
        print(f"vitrail: {problem}", file=sys.stderr)
        raise SystemExit(2) from None
    raise SystemExit(0)


if __name__ == "__main__":
    main()
