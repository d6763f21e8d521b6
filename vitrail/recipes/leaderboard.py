"""The leaderboard of speedruns: docs/speedruns/*.json, and their table in docs/speedrun.md.

python -m vitrail.recipes.leaderboard          writes the tables of the page anew
python -m vitrail.recipes.leaderboard RUN      first takes the speedrun.json of a finished speedrun as an entry
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from vitrail.core.errors import BadInput
from vitrail.core.files import write_text_atomic
from vitrail.core.numbers import duration, interval, percent, plain, quantity
from vitrail.core.text import ordinary_spaces
from vitrail.recipes.speedruns import TRACKS
from vitrail.records.record import load_record, write_record
from vitrail.records.speedrun import SpeedrunResult

DOCS = Path(__file__).parent.parent.parent / "docs"
BEGIN, END = "<!-- leaderboard -->\n", "<!-- end of leaderboard -->\n"
WHERE = {"cpu": "two cores", "cuda": "one GPU"}


def add(run: Path, docs: Path = DOCS) -> Path:
    """Copies the record of a speedrun to the entries, and returns its path.

    Raises:
        BadInput: a speedrun that does not decide, of code that nobody can look up, or of no track.
    """
    file = run / "speedrun.json"
    if not file.is_file():
        raise BadInput(f"{run} holds no speedrun.json; expected the --out of vitrail speedrun")
    made = load_record(SpeedrunResult, file)
    if made.track not in TRACKS:
        raise BadInput(f"{run} is of the track {made.track.name}, which this version has not, or not so")
    if made.undecided:
        raise BadInput(f"{run} does not decide: {'; '.join(made.undecided)}")
    first = made.attempts[0]
    if first.commit is None or first.changed:
        lack = "files of the package were other than in its commit" if first.changed else "no commit is known"
        raise BadInput(f"{run}: {lack}; an entry is made from a clean checkout, so that everybody can run the same")
    entry = docs / "speedruns" / f"{made.track.name}-{first.started[:10]}-{first.commit[:7]}.json"
    if entry.exists() and load_record(SpeedrunResult, entry) != made:
        raise BadInput(f"{entry} exists already, of another speedrun; remove it, or keep it under another name")
    write_record(entry, made)
    return entry


def tables(docs: Path = DOCS) -> str:
    """The table of the tracks, and that of the entries of each."""
    head = ["track", "test images", "on", "above", "within", "recipe"]
    rows = [
        [f"`{t.name}`", f"`{t.test}`", WHERE[t.device], percent(t.bar), duration(t.seconds), f"`{t.recipe}`"]
        for t in TRACKS
    ]
    lines = [*_markdown(head, rows), ""]
    found = [(file, load_record(SpeedrunResult, file)) for file in sorted((docs / "speedruns").glob("*.json"))]
    if not found:
        return ordinary_spaces("\n".join([*lines, "There are no entries yet.", ""]))
    head = ["track", "reached", "mean accuracy", "p", "mean time", "slowest", "seeds", "parameters", "FLOP"]
    head += ["recipe", "machine", "commit", "date", "record"]
    order = [track.name for track in TRACKS]
    found.sort(key=lambda one: (order.index(one[1].track.name), not one[1].reached, one[1].seconds))
    return ordinary_spaces("\n".join([*lines, *_markdown(head, [_row(*one) for one in found]), ""]))


def _row(file: Path, made: SpeedrunResult) -> list[str]:
    first = made.attempts[0]
    recipe = f"`{made.track.recipe}`" + (f", but {'; '.join(made.changes)}" if made.changes else "")
    machine = f"{first.processor}, {first.cores} cores, {first.precision}, torch {first.torch}"
    if first.compiled not in (None, "nothing"):
        machine += f", compiled: {first.compiled}"
    return [
        f"`{made.track.name}`",
        "yes" if made.reached else "no",
        f"{percent(made.mean, 2)} ({interval(made.interval)})",
        plain(made.p, 2),
        duration(made.seconds),
        duration(made.slowest),
        str(len(made.attempts)),
        quantity(first.parameters),
        quantity(first.total_flops),
        recipe.replace("|", "\\|"),
        machine,
        (first.commit or "")[:7],
        first.started[:10],
        f"[json](speedruns/{file.name})",
    ]


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def page(docs: Path = DOCS) -> str:
    """docs/speedrun.md with its tables made anew."""
    text = (docs / "speedrun.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + tables(docs) + END + rest.partition(END)[2]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Exits with 0, or with 2 and a sentence for bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if not (DOCS / "speedrun.md").is_file():
            raise BadInput("the leaderboard lies in docs/ of a checkout, and this package lies in none")
        if len(given) > 1 or any(word.startswith("-") for word in given):
            raise BadInput("usage: python -m vitrail.recipes.leaderboard [RUN], where RUN is the --out of a speedrun")
        for run in given:
            print(add(Path(run)))
        write_text_atomic(DOCS / "speedrun.md", page())
    except BadInput as problem:
        print(f"vitrail: {problem}", file=sys.stderr)
        raise SystemExit(2) from None
    raise SystemExit(0)


if __name__ == "__main__":
    main()
