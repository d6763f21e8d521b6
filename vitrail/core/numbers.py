"""Numbers as a person reads them: shares as per cent, seconds as minutes, FLOPs with a prefix; unknown is a dash."""

import math

Number = float | int  # JSON makes no difference between 95 and 95.0
UNKNOWN = "–"
_SPACE = "\u00a0"  # between a number and its unit, so that a line never breaks there


def known(value: object) -> bool:
    """True where `value` is a finite number (a measurement that failed is null, a diverged loss is NaN)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def percent(share: Number | None, digits: int = 1) -> str:
    """0.934 -> "93.4 %"."""
    return f"{100 * share:.{digits}f}{_SPACE}%" if known(share) else UNKNOWN  # type: ignore[operator]


def interval(bounds: object) -> str:
    """[0.92, 0.95] -> "92.0–95.0 %", or a dash when there is no interval."""
    pair = ends(bounds)
    return f"{100 * pair[0]:.1f}–{100 * pair[1]:.1f}{_SPACE}%" if pair else UNKNOWN


def measured(share: Number | None, bounds: object) -> str:
    """0.934, [0.92, 0.95] -> "93.4 % (92.0–95.0 %)"; the share alone where there is no interval."""
    return percent(share) + (f" ({interval(bounds)})" if known(share) and ends(bounds) else "")


def within(bounds: object) -> str:
    """[0.92, 0.95] -> " (95 % interval 92.0–95.0 %)", to go on in a sentence; empty where there is no interval."""
    return f" (95 % interval {interval(bounds)})" if ends(bounds) else ""


def ends(bounds: object) -> tuple[float, float] | None:
    """The two finite ends of an interval read from JSON, or None."""
    if isinstance(bounds, list | tuple) and len(bounds) == 2 and all(known(end) for end in bounds):
        return float(bounds[0]), float(bounds[1])
    return None


def overlap(first: object, second: object) -> bool | None:
    """Whether two intervals read from JSON have a value in common; None where one of them is not known."""
    one, other = ends(first), ends(second)
    return one[0] <= other[1] and other[0] <= one[1] if one and other else None


def points(difference: Number) -> str:
    """A difference of two shares in percentage points, without its sign: 0.034 -> "3.4 points"."""
    return f"{abs(100 * difference):.1f}{_SPACE}points"


def count(number: Number | None) -> str:
    """12345 -> "12,345"."""
    return f"{number:,.0f}" if known(number) else UNKNOWN


def plain(number: Number | None, digits: int = 3) -> str:
    """A number to a few significant digits: 1.0684 -> "1.07", 1024 -> "1,024", never 1e+03."""
    if known(number) and abs(number) >= 1000:  # type: ignore[arg-type]
        return count(number)
    return f"{number:#.{digits}g}".rstrip(".") if known(number) else UNKNOWN


def gib(number: Number | None) -> str:
    """1.5 -> "1.50 GiB"."""
    return f"{number:.2f} GiB" if known(number) else UNKNOWN


def duration(seconds: Number | None) -> str:
    """90 -> "1 min 30 s"."""
    if not known(seconds):
        return UNKNOWN
    assert seconds is not None
    if seconds < 10:
        return f"{seconds:.1f}{_SPACE}s"
    whole = round(seconds)
    days, hours, minutes, rest = whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next(i for i, (number, _) in enumerate(parts) if number)
    return " ".join(f"{number}{_SPACE}{unit}" for number, unit in parts[first : first + 2] if number)


def quantity(number: Number | None, unit: str = "") -> str:
    """A large number with a prefix: quantity(1.23e9, "FLOP") -> "1.23 GFLOP"."""
    if not known(number):
        return UNKNOWN
    assert number is not None
    power = min(6, max(0, int(math.log10(abs(number)) // 3))) if number else 0
    scaled = number / 1000**power
    digits = 0 if power == 0 and float(number).is_integer() else max(0, 2 - int(math.log10(max(abs(scaled), 1))))
    return f"{scaled:.{digits}f}{_SPACE}{['', 'k', 'M', 'G', 'T', 'P', 'E'][power]}{unit}".rstrip(_SPACE)
