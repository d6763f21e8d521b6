"""The words after options: of the kind and the number that each option takes, or a sentence that says what it takes."""

from collections.abc import Iterator, Sequence

from vitrail.commands.listing import Option
from vitrail.core.errors import BadInput, nearest


def check_values(args: Sequence[str], rows: Sequence[Option], title: str) -> None:
    """Raises BadInput for the first option of `rows` whose words are too few, no numbers, or none of its choices.

    Options that are not in `rows` are left to others.
    """
    known = {row.name: row for row in rows}
    unnamed = [row for row in rows if not row.name.startswith("--")]
    given, free = set(), list[str]()
    for name, words in _by_option(args):
        given.add(name)
        if name in known:
            free += words[_check_words(known[name], words) :]
        elif not name:
            free += words
    if free and not unnamed:
        raise BadInput(f"{free[0]!r} belongs to no option of {title}")
    for row, word in zip(unnamed, free, strict=False):
        _check(row.name, word, row.values or "TEXT")
    lacking = [row for row in unnamed[len(free) :] if row.default is None]
    lacking += [row for row in rows if row.default is None and row not in unnamed and row.name not in given]
    if lacking:
        raise BadInput(f"{title} needs {lacking[0].name} {lacking[0].values}".rstrip())


def _check_words(row: Option, words: Sequence[str]) -> int:
    """How many of the words behind an option belong to it: "N ...", "X X", "N|N N", "adam|sgd"; nothing for a flag."""
    if row.values.endswith("..."):
        kinds = [row.values.removesuffix(" ...")] * len(words)
    else:
        several = " " in row.values  # then "|" stands between numbers of words
        ways = [way.split() for way in (row.values.split("|") if several else [row.values])]
        kinds = max((way for way in ways if len(way) <= len(words)), key=len, default=[])
        if not kinds and row.values:
            least = min(map(len, ways))
            raise BadInput(f"{row.name} needs {'a value' if least == 1 else f'{least} values'}: {row.values}")
    for word, kind in zip(words, kinds, strict=False):
        _check(row.name, word, kind)
    return len(kinds)


def _by_option(args: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The options with the words behind them; "" for those before the first."""
    name, words = "", list[str]()
    for arg in args:
        if arg.startswith("--") or (arg.startswith("-") and not _number(arg, float)):
            yield name, words
            name, equals, value = arg.partition("=")
            name, words = name.replace("_", "-"), [value] if equals else []
        else:
            words.append(arg)
    yield name, words


def _check(name: str, word: str, kind: str) -> None:
    """`kind` as `listing` says it: "N", "X", "TEXT", "PATH", "adam|sgd", "N|all"."""
    kinds = kind.split("|")
    numbers = {"N": int, "X": float}
    if word == "None" or word in kinds or {"TEXT", "PATH", "VALUE", "NAME"} & set(kinds):
        return
    if any(_number(word, numbers[one]) for one in kinds if one in numbers):
        return
    names = [one for one in kinds if one not in numbers]
    number = "a whole number" if "N" in kinds else "a number" if "X" in kinds else ""
    if number and names:
        raise BadInput(f"{name} is {word!r}, expected {number} or {' or '.join(names)}")
    raise BadInput(f"{name} is {word!r}" + (f", expected {number}" if number else nearest(word, names)))


def _number(word: str, kind: type[int] | type[float]) -> bool:
    try:
        kind(word)
    except ValueError:
        return False
    return True
