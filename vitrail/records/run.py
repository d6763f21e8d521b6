"""A run (`vitrail pretrain`, `vitrail finetune`).

One folder a run. A run that has a `result.json` is finished; started again, an unfinished one goes on exactly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vitrail.core.estimate import Interval
from vitrail.records.images import UnreadableImage
from vitrail.records.record import Files, Record, optional


@dataclass(frozen=True, kw_only=True)
class RunConfig(Record):
    """What was asked for: the whole resolved config."""

    format: int = 1
    job: str  # "pretrain", "finetune", "suite", "speed"
    recipe: str | None = None  # name of the recipe that it started from
    config: Mapping[str, Any]  # every option; alternatives name their type under "type"
    columns: Mapping[str, str] | None = optional()  # (with --columns) "image", "label", "split" -> columns of tables


@dataclass(frozen=True, kw_only=True)
class DataPart(Record):
    """The images of one part."""

    count: int
    classes: Mapping[str, int]  # name -> images
    digest: str  # of the names of the images and their labels


@dataclass(frozen=True, kw_only=True)
class RunData(Record):
    """The data of the run: started again with other images it is refused."""

    format: int = 1
    parts: Mapping[str, DataPart]  # "train", "validation", "test"


@dataclass(frozen=True, kw_only=True)
class Environment(Record):
    """Versions, machine and command of the last session."""

    vitrail: str  # version
    python: str  # version
    torch: str  # version
    platform: str
    cores: int | None
    command: Sequence[str]  # words of the command line
    started: str  # time in ISO 8601, UTC
    workers: int | None = optional()  # processes that make batches
    processor: str
    threads: int  # of the processor, for one operation
    device: str  # cpu, cuda:0
    precision: str  # of the matrix products: float32, bfloat16, float16
    memory_gib: float | None  # memory of the device, GiB
    peak_flops: float | None = optional()  # measured rate of matrix products, FLOP/s
    attention: str | None = optional()  # kernel in training: fused (PyTorch's), products, mixed; null for a ResNet
    compiled: str | None = optional()  # what torch.compile makes in training: nothing, layers, CUDA graphs


@dataclass(frozen=True, kw_only=True)
class TrainRow(Record):
    """A line of metrics.jsonl about training: means since the last such line."""

    kind: Literal["train"] = "train"
    step: int  # updates so far
    epoch: float  # passes over the training images so far
    loss: float  # mean over the images, nats
    accuracy: float | None = None  # of the training images, as they are augmented; of masked patches, of their colours
    neighbours: float | None = optional()  # (masked patches) share of colours that those of the neighbours let expect
    majority: float | None = optional()  # (masked patches) share of the most frequent colour
    learning_rate: float  # of the last step
    gradient_norm: float  # of the last step, before clipping
    images_per_second: float
    waiting: float  # share of the time that waits for batches
    copying: float  # share of the time that copies batches to the device
    communicating: float | None = None  # share of the time that gradients are summed; null where it is not measured
    flops_share: float | None = None  # of the measured peak
    memory_gib: float | None = None  # most held so far, GiB
    seconds: float  # of training, over all sessions
    session: int  # how often the run had been started again


@dataclass(frozen=True, kw_only=True)
class ValidationRow(Record):
    """A line of metrics.jsonl about the validation images."""

    kind: Literal["validation"] = "validation"
    step: int
    accuracy: float | None = None  # of masked patches, of their colours
    neighbours: float | None = optional()  # (masked patches) share of colours that those of the neighbours let expect
    majority: float | None = optional()  # (masked patches) share of the most frequent colour
    loss: float  # mean cross-entropy, nats; of pixels, the mean of squared differences
    count: int  # images
    mean_average_precision: float | None = optional()  # (several classes an image)
    seconds: float  # of training, over all sessions


@dataclass(frozen=True, kw_only=True)
class ObjectiveResult(Record):
    """An objective without labels, on the images of the final evaluation."""

    name: str  # masked-patches, mae
    loss: float
    accuracy: float | None = optional()  # of the colours of masked patches
    neighbours: float | None = optional()  # what the colours of the neighbours let expect
    majority: float | None = optional()  # what the most frequent colour reaches
    count: int  # images


@dataclass(frozen=True, kw_only=True)
class RunResult(Record):
    """What a run reached; written last."""

    job: str  # pretrain, finetune
    steps: int  # updates
    images: int  # seen in training, repeats counted
    seconds: float  # of training, over all sessions
    images_per_second: float
    waiting: float  # share of the time that waited for batches
    processes: int = 1
    parameters: int
    trained_parameters: int
    macs_per_image: int  # multiply-adds of a forward pass
    training_flops_per_image: int  # without what is frozen
    total_flops: int
    flops_share: float  # of the measured peak of all devices
    memory_gib: float | None  # most held, GiB
    loss: float | None  # of the last training row
    accuracy: float | None  # of the final evaluation; null where there was none
    interval: Interval | None  # of the accuracy
    count: int | None  # images of the final evaluation
    broken: Sequence[UnreadableImage]  # training images that could not be read
    skipped: Sequence[int] = ()  # steps whose batch broke the training and was left out
    restarts: int
    weights_sha256: str
    objective: ObjectiveResult | None = optional()  # (without labels) of the final evaluation
    last_accuracy: float | None = optional()  # (of the best weights kept) of the last weights
    mean_average_precision: float | None = optional()  # (several classes an image) of the final evaluation
    best_step: int | None = optional()  # (of the best weights kept) after how many steps they were


@dataclass(frozen=True, kw_only=True)
class FailedBatch(Record):
    """A batch that broke the training and is left out since."""

    step: int
    reason: str
    images: Sequence[str]  # keys
    weights: Mapping[str, float | str]  # name of a weight -> its norm; one that is not finite as text


@dataclass(frozen=True, kw_only=True)
class MicroBatch(Record):
    """Only after a step that ran out of memory."""

    micro_batch: int  # images in a forward pass from then on


@dataclass(frozen=True, kw_only=True)
class CheckpointState(Record):
    """The numbers of a checkpoint."""

    step: int
    seconds: float  # of training
    waited: float  # seconds for batches
    restarts: int
    micro_batch: int | None
    broken: Mapping[str, str]  # key of an image -> why it cannot be read
    skipped: Sequence[int]  # steps whose batch is left out
    stopped: bool = False  # whether patience ended the training
    losses: Sequence[float]  # of the latest steps, to notice one that jumps
    format: int
    parts: int  # files of weights
    sha256: Sequence[str] | None = optional()  # of each of these files
    digest: str | None = optional()  # of all else in this file


@dataclass(frozen=True, kw_only=True)
class MovedTensor(Record):
    """What became of one tensor of the model that fine-tuning started from."""

    from_: Sequence[int] | None  # its shape there; null for a new one
    to: Sequence[int] | None  # its shape in the new model; null for one that is left out
    name: str
    action: Literal["taken", "resampled", "new", "left out"]


@dataclass(frozen=True, kw_only=True)
class Transplant(Record):
    """(fine-tuning) What was taken, resampled, new and left out."""

    source: str  # MODEL that it started from
    rows: Sequence[MovedTensor]


FILES: Files = {
    "config.json": RunConfig,
    "data.json": RunData,
    "environment.json": Environment,
    "metrics.jsonl": (TrainRow, ValidationRow),
    "tensorboard/": "(where TensorBoard is installed) event files of the numbers of `metrics.jsonl`, as `train/loss`; "
    "each session of a run adds a file, which takes back the steps that it does again",
    "trackers.json": '(with `--track`) `{"trackio": id, "wandb": id}`: as what these know the run; the files of wandb '
    "lie in `wandb/`",
    "checkpoints/step-00001000/state.json": CheckpointState,
    "checkpoints/step-00001000/part-0-of-1.safetensors": "the weights and the state of the optimiser, of each process",
    "failures/step-00000123/batch.json": FailedBatch,
    "micro_batch.json": MicroBatch,
    "transplant.json": Transplant,
    "best/": "(where the best weights are kept) the bundle of the best validation accuracy so far, with `step` and "
    "`validation_accuracy` in its provenance",
    "painted/images.npz": "(without labels) `images` and `seen`, uint8 [S, H, W, 3]: images, and what the model sees",
    "painted/step-00000500.npz": "`painted`, uint8 [S, H, W, 3]: what it painted into the holes, at each evaluation",
    "bundle/": "the model",
    "evaluation/": "the final evaluation; where the best weights are kept, of these",
    "inspection/": "an inspection of the model on the images of the final evaluation",
    "result.json": RunResult,
    "report.html": "the page",
}
