"""The training labels that the linear judge doubts most: confident learning on what it held out, with thumbnails.

OUT/doubtful.json and OUT/doubtful.npz; the page shows them. Nothing is fitted for it, and nothing is left out.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import softmax

from vitrail.data.quality.thumbnails import Gallery
from vitrail.data.sources.base import Source
from vitrail.evals.confident_learning import label_errors
from vitrail.evals.features import Features
from vitrail.jobs.finetune.held_out import Fold
from vitrail.jobs.finetune.linear_judge import LinearJudge
from vitrail.records.finetune import DoubtfulLabel, DoubtfulLabels
from vitrail.records.record import write_record

SHOWN = 10


def note_doubtful(frozen: Features, source: Source, folds: Sequence[Fold], judge: LinearJudge, folder: Path) -> None:
    """Writes them, once; `frozen` are the features of `source`, of which `folds` are the places."""
    if not folds or (folder / "doubtful.json").exists():
        return
    held = np.concatenate([fold.held for fold in folds])
    pairs = zip(judge.folds, folds, strict=True)
    shares = np.concatenate([softmax(fit.scores(frozen.values[fold.held]), axis=1) for fit, fold in pairs])
    labels = frozen.labels[held]
    found = label_errors(labels, shares)
    gallery, rows = Gallery(), []
    for place, rather in list(zip(found.places.tolist(), found.rather.tolist(), strict=True))[:SHOWN]:
        index = int(held[place])
        rows.append(
            DoubtfulLabel(
                key=source[index].key,
                index=int(frozen.places[index]),
                label=source.classes[int(labels[place])],
                probability=float(shares[place, labels[place]]),
                rather=source.classes[rather],
                rather_probability=float(shares[place, rather]),
                picture=gallery.add("train", source, index),
            )
        )
    gallery.write(folder / "doubtful.npz")
    result = DoubtfulLabels(judged=len(held), count=len(found.places), rows=rows)
    write_record(folder / "doubtful.json", result)
