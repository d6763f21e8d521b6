"""What is left out, and why: every reason counted, the first few of each named, however many there are."""

NAMED = 3  # of each reason
REASONS = 20  # that are told apart; a hostile file could make up any number of them


class Skipped:
    """Counts things by the reason for which they are left out."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.first: dict[str, list[str]] = {}

    def add(self, reason: str, name: str, count: int = 1) -> None:
        """`count` things are left out for `reason`; `name` is what a person knows the first of them by."""
        if reason not in self.counts and len(self.counts) >= REASONS:
            reason = "left out for other reasons"
        if not count:
            return
        self.counts[reason] = self.counts.get(reason, 0) + count
        names = self.first.setdefault(reason, [])
        if len(names) < NAMED:
            names.append(name if len(name) <= 200 else name[:200] + "…")

    def update(self, other: "Skipped") -> None:
        """Adds what another has counted."""
        for reason, count in other.counts.items():
            names = other.first[reason]
            for i, name in enumerate(names):
                self.add(reason, name, count - len(names) + 1 if i == 0 else 1)

    def __len__(self) -> int:
        return sum(self.counts.values())

    def lines(self) -> list[str]:
        """Each reason: `3 with an absolute name ('/etc/a', '/etc/b', …)`."""
        return [
            f"{count:,} {reason} ({', '.join(self.first[reason])}{', …' if count > len(self.first[reason]) else ''})"
            for reason, count in self.counts.items()
        ]

    def __str__(self) -> str:
        return "; ".join(self.lines())
