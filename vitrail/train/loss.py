"""Softmax, logit-adjusted and sigmoid cross-entropy, of classes or soft targets, with or without weights of classes.

B batch · K classes
"""

from dataclasses import dataclass
from math import log
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Softmax:
    """Cross-entropy of one class among K; the mean over the batch."""

    smoothing: float = 0.0  # this share of the target is spread evenly over all classes


@dataclass(frozen=True)
class Sigmoid:
    """K yes-or-no questions: summed over classes, mean over the batch; see `head_bias`."""

    smoothing: float = 0.0
    # Targets above it become 1, all others 0, so every image in a mixture is wholly there. DeiT III: 0; ResNet strikes
    # back (arXiv 2110.00476): 0.2. Both also divide by K, which Adam and LAMB hardly see and a clipped gradient does.
    threshold: float | None = None


@dataclass(frozen=True)
class LogitAdjusted:
    """Softmax cross-entropy of logits + tau · log(share of the class in the training data) (arXiv 2007.07314, eq. 10).

    The classifier itself, without that term, is then right as often as can be in the mean over classes, whatever their
    sizes. With tau 1 it is the balanced softmax of arXiv 2007.10740, too.
    """

    smoothing: float = 0.0
    tau: float = 1.0


LossConfig = Softmax | Sigmoid | LogitAdjusted
Balance = Literal["balanced", "sqrt"]  # a class counts as 1 / its number of examples, or as the root of that


def loss(
    logits: Float[Tensor, "b k"],
    targets: Int64[Tensor, " b"] | Float[Tensor, "b k"],
    config: LossConfig,
    weights: Float[Tensor, " k"] | None = None,
    priors: Float[Tensor, " k"] | None = None,
) -> Float[Tensor, ""]:
    """The loss in nats, in float32 whatever the precision of the logits; the mean over the examples that are given.

    Args:
        targets: classes, or the share of each class, which sum to 1; with the sigmoid loss, also ones and zeros.
        weights: of the classes (`class_weights`). Softmax: an example counts as the mean of the weights of its classes,
            by their shares before smoothing. Sigmoid: each class's question has the weight of the class. Sums are not
            divided by these weights, so the loss of a batch is the mean over its parts.
        priors: log shares of the classes (`class_priors`), for LogitAdjusted.
    """
    logits = logits.float()
    classes = logits.shape[-1]
    if isinstance(config, LogitAdjusted):
        assert priors is not None, "logit adjustment needs the shares of the classes"
        logits, config = logits + config.tau * priors, Softmax(config.smoothing)
    match config:
        case Softmax(smoothing):
            if weights is None:
                return F.cross_entropy(logits, targets, label_smoothing=smoothing)
            nats_B = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
            of_examples_B = weights[targets] if targets.dtype == torch.int64 else (targets * weights).sum(dim=-1)
            return (of_examples_B * nats_B).mean()
        case Sigmoid(smoothing, threshold):
            soft = F.one_hot(targets, classes).float() if targets.dtype == torch.int64 else targets
            soft = soft * (1 - smoothing) + smoothing / classes
            if threshold is not None:
                soft = (soft > threshold).float()
            # not binary_cross_entropy_with_logits: in float32 that is 0.8 % off for each class at a logit of -10
            nats = soft * F.logsigmoid(logits) + (1 - soft) * F.logsigmoid(-logits)
            return -(nats if weights is None else nats * weights).sum() / logits.shape[0]


def class_priors(counts: Int64[np.ndarray, " k"]) -> Float[Tensor, " k"]:
    """The logarithm of each class's share of the training examples; one without examples counts as if it had one."""
    known = np.maximum(counts, 1)
    return torch.from_numpy(np.log(known / known.sum())).float()


def class_weights(counts: Int64[np.ndarray, " k"], kind: Balance) -> Float[Tensor, " k"]:
    """Weights of classes with so many training examples, whose mean over these examples is 1.

    "balanced": all classes count the same in sum; "sqrt": halfway there. A class without examples gets the weight of a
    class with one. Raises ValueError where there are no examples at all.
    """
    if not counts.sum():
        raise ValueError("no examples: there is nothing to weigh")
    weights = np.maximum(counts, 1.0) ** (-1 if kind == "balanced" else -0.5)
    return torch.from_numpy(weights * counts.sum() / (weights * counts).sum()).float()


def head_bias(config: LossConfig, classes: int) -> float:
    """Where the classifier's bias starts: with the sigmoid loss every class is as unlikely as it is, on average."""
    match config:
        case Softmax() | LogitAdjusted():
            return 0.0
        case Sigmoid():
            return -10.0 if classes > 10_000 else -log(classes)  # -10: the official value for 18k and 21k classes
