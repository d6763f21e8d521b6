"""Few-shot ridge regression against scikit-learn's Ridge: the same features, float64, in turns.

    python benchmarks/fewshot.py [--classes 1000] [--shots 10] [--width 768] [--test 5000] [--rounds 9] [--out FILE]

Both sides start from raw float64 features and end with the accuracy on the test images. What scikit-learn is given is
what people write: standardised features, targets of -1 and 1, `Ridge(alpha=1024)` with an unregularised intercept (the
constant feature of 100 is all but that) by its Cholesky solver, which is what it chooses for dense features. `fit` is
the time until the weights are known, for scikit-learn without the standardisation and without making the targets.
Prints the median over the rounds of (theirs / ours) with its range, and exits with 1 where one is below 1.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from vitrail.core.device import processor_name
from vitrail.core.pool import usable_cores
from vitrail.evals.fewshot import RIDGE, few_shot_fits


class Data:
    """Classes are directions in noise, hard enough that accuracies tell two methods apart."""

    def __init__(self, classes: int, shots: int, width: int, test: int):
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(classes, width))
        self.classes, self.labels = classes, np.repeat(np.arange(classes), shots)
        self.test_labels = rng.integers(0, classes, test)
        self.train = centres[self.labels] + 5 * rng.normal(size=(len(self.labels), width))
        self.test = centres[self.test_labels] + 5 * rng.normal(size=(test, width))


Result = tuple[float, float, float]  # seconds until the weights are known, seconds in all, accuracy


def ours(data: Data) -> Result:
    start = time.perf_counter()
    (fit,) = few_shot_fits(data.train, data.labels, data.classes, (RIDGE,))
    fitted = time.perf_counter()
    accuracy = (fit.scores(data.test).argmax(axis=1) == data.test_labels).mean()
    return fitted - start, time.perf_counter() - start, float(accuracy)


def theirs(data: Data) -> Result:
    start = time.perf_counter()
    scaler = StandardScaler()
    x = scaler.fit_transform(data.train)
    y = np.full((len(x), data.classes), -1.0)
    y[np.arange(len(x)), data.labels] = 1
    before = time.perf_counter()
    model = Ridge(alpha=RIDGE, solver="cholesky").fit(x, y)
    fitted = time.perf_counter()
    accuracy = (model.predict(scaler.transform(data.test)).argmax(axis=1) == data.test_labels).mean()
    return fitted - before, time.perf_counter() - start, float(accuracy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in (("classes", 1000), ("shots", 10), ("width", 768), ("test", 5000), ("rounds", 9)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    data = Data(options.classes, options.shots, options.width, options.test)
    sides: dict[str, Callable[[Data], Result]] = {"ours": ours, "theirs": theirs}
    for side in sides.values():
        side(data)  # threads have started, memory is there
    seen: dict[str, list[Result]] = {"ours": [], "theirs": []}
    for turn in range(options.rounds):
        for name in sorted(sides, reverse=bool(turn % 2)):
            seen[name].append(sides[name](data))
    lines = [
        f"{processor_name()}, {usable_cores()} cores, numpy {np.__version__}",
        f"{options.classes:,} classes x {options.shots} shots x {options.width} features, float64, ridge {RIDGE:g}",
        f"{'':>12} {'ours, s':>8} {'theirs, s':>9} {'ratio':>6}  range",
    ]
    slower = False
    for column, what in enumerate(("fit", "all")):
        mine, other = ([result[column] for result in seen[name]] for name in ("ours", "theirs"))
        ratios = [b / a for a, b in zip(mine, other, strict=True)]
        middle = statistics.median(ratios)
        slower |= middle < 1
        lines.append(
            f"{what:>12} {statistics.median(mine):>8.3f} {statistics.median(other):>9.3f} {middle:>6.2f}  "
            f"{min(ratios):.2f} to {max(ratios):.2f}"
        )
    lines.append(f"accuracy {seen['ours'][0][2]:.4f} and {seen['theirs'][0][2]:.4f} (wanted: ratios of at least 1)")
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")
    raise SystemExit(int(slower or seen["ours"][0][2] != seen["theirs"][0][2]))


if __name__ == "__main__":
    main()
