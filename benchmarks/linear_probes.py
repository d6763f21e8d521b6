"""Logistic regression and k-NN against scikit-learn's, on float32 features that lie in a file: time and memory.

    python benchmarks/linear_probes.py [--images 20000] [--width 768] [--classes 100] [--test 2000] [--out FILE]

In turns, each from the mapped file to its result. scikit-learn has what people write: StandardScaler and
LogisticRegression(C=1), which minimises the same; NearestNeighbors(metric="cosine", algorithm="brute"). Memory is the
peak of what numpy allocates, without the pages of the file. `agree`: equal answers on the test images.
"""

import argparse
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from vitrail.core.device import processor_name, usable_cores
from vitrail.evals.knn import nearest
from vitrail.evals.logistic import fit_logistic

NEIGHBOURS = 20


def measured(work: Callable[[], np.ndarray]) -> tuple[float, float, np.ndarray]:
    """Seconds, MiB, and the answers."""
    tracemalloc.start()
    start = time.perf_counter()
    answers = work()
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return seconds, peak, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 20_000), ("width", 768), ("classes", 100), ("test", 2000), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(options.classes, options.width)).astype(np.float32)
    labels, truth = (np.arange(n) % options.classes for n in (options.images, options.test))

    def drawn(labels: np.ndarray) -> np.ndarray:
        return centres[labels] + 5 * rng.normal(size=(len(labels), options.width)).astype(np.float32)

    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "train.npy"), drawn(labels))
        train, test = np.load(Path(folder, "train.npy"), mmap_mode="r"), drawn(truth)

        def logistic() -> np.ndarray:
            return fit_logistic(train, labels, options.classes, 1.0).scores(test).argmax(axis=1)

        def sklearn_logistic() -> np.ndarray:
            scaler = StandardScaler().fit(train)
            fit = LogisticRegression(C=1.0, tol=1e-5, max_iter=1000).fit(scaler.transform(train), labels)
            return fit.predict(scaler.transform(test))

        def knn() -> np.ndarray:
            return nearest(train, test, NEIGHBOURS).places

        def sklearn_knn() -> np.ndarray:
            fit = NearestNeighbors(n_neighbors=NEIGHBOURS, metric="cosine", algorithm="brute").fit(train)
            return fit.kneighbors(test, return_distance=False)

        shape = (
            f"{options.images:,} images x {options.width} features, {options.classes} classes, {options.test:,} asked"
        )
        lines = [
            f"{processor_name()}, {usable_cores()} cores, numpy {np.__version__}",
            f"{shape}; medians of {options.rounds} rounds",
            f"{'':>10} {'ours, s':>9} {'theirs, s':>9} {'ratio':>6} {'ours, MiB':>10} {'theirs, MiB':>11} {'agree':>7}",
        ]
        for name, ours, theirs in (("logistic", logistic, sklearn_logistic), ("k-NN", knn, sklearn_knn)):
            pairs = [(measured(ours), measured(theirs)) for _ in range(options.rounds)]
            seconds = [statistics.median(pair[i][0] for pair in pairs) for i in (0, 1)]
            memory = [max(pair[i][1] for pair in pairs) for i in (0, 1)]
            agree = (pairs[0][0][2] == pairs[0][1][2]).mean()
            ratio = statistics.median(pair[1][0] / pair[0][0] for pair in pairs)
            cells = f"{seconds[0]:9.2f} {seconds[1]:9.2f} {ratio:6.2f} {memory[0]:10.0f} {memory[1]:11.0f}"
            lines.append(f"{name:>10} {cells} {agree:7.2%}")
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
