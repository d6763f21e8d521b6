"""Softmax and sigmoid cross-entropy, for class numbers or for soft targets."""

from dataclasses import dataclass
from math import log

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


LossConfig = Softmax | Sigmoid


def loss(
    logits: Float[Tensor, "b k"], targets: Int64[Tensor, " b"] | Float[Tensor, "b k"], config: LossConfig
) -> Float[Tensor, ""]:
    """The loss in nats, in float32 whatever the precision of the logits."""
    logits = logits.float()
    match config:
        case Softmax(smoothing):
            return F.cross_entropy(logits, targets, label_smoothing=smoothing)
        case Sigmoid(smoothing):
            classes = logits.shape[-1]
            soft = F.one_hot(targets, classes).float() if targets.dtype == torch.int64 else targets
            soft = soft * (1 - smoothing) + smoothing / classes
            # not binary_cross_entropy_with_logits: in float32 that is 0.8 % off for each class at a logit of -10
            nats = soft * F.logsigmoid(logits) + (1 - soft) * F.logsigmoid(-logits)
            return -nats.sum() / logits.shape[0]


def head_bias(config: LossConfig, classes: int) -> float:
    """Where the classifier's bias starts: with the sigmoid loss every class is as unlikely as it is, on average."""
    match config:
        case Softmax():
            return 0.0
        case Sigmoid():
            return -10.0 if classes > 10_000 else -log(classes)  # -10: the official value for 18k and 21k classes
