"""Options of other libraries, answered with ours: timm, transformers, big_vision, lightly, Keras, DeiT and MAE."""

from collections.abc import Collection

from vitrail.core.errors import BadInput, nearest

# Theirs, without dashes -> ours; of several the first that the command has.
OPTIONS: dict[str, str] = {
    "lr": "optimizer.lr", "learning-rate": "optimizer.lr", "base-lr": "optimizer.lr", "blr": "optimizer.lr",
    "wd": "optimizer.weight-decay", "weight-decay": "optimizer.weight-decay", "momentum": "optimizer.momentum",
    "opt": "optimizer", "optim": "optimizer", "opt-eps": "optimizer.eps optimizer.adam-eps",
    "opt-betas": "optimizer.betas optimizer.adam-betas",
    "beta1": "optimizer.betas optimizer.adam-betas",
    "adam-beta1": "optimizer.betas optimizer.adam-betas", "layer-decay": "optimizer.layer-decay",
    "sched": "schedule", "lr-scheduler-type": "schedule", "scheduler": "schedule",
    "warmup": "schedule.warmup", "warmup-steps": "schedule.warmup", "warmup-epochs": "schedule.warmup",
    "warmup-ratio": "schedule.warmup",
    "batch-size": "batch", "b": "batch", "bs": "batch", "per-device-train-batch-size": "batch",
    "batch-size-per-device": "batch", "gradient-accumulation-steps": "micro-batch", "grad-accum-steps": "micro-batch",
    "num-train-epochs": "epochs", "total-epochs": "epochs", "num-epochs": "epochs", "max-epochs": "epochs",
    "max-steps": "steps", "total-steps": "steps", "num-steps": "steps",
    "img-size": "resolution model.resolution", "image-size": "resolution model.resolution",
    "input-size": "resolution model.resolution", "res": "resolution model.resolution",
    "resolution": "model.resolution", "size": "resolution model.resolution",
    "patch-size": "patch model.patch", "patch": "model.patch",
    "drop": "model.dropout", "dropout": "model.dropout", "drop-path": "model.drop-path",
    "drop-path-rate": "model.drop-path", "pool": "model.pool", "gp": "model.pool", "global-pool": "model.pool",
    "position": "model.position", "depth": "model.depth", "width": "model.width", "heads": "model.heads",
    "smoothing": "loss.smoothing", "label-smoothing": "loss.smoothing", "label-smoothing-factor": "loss.smoothing",
    "bce-loss": "loss", "criterion": "loss",
    "mixup": "mixing.mixup", "mixup-alpha": "mixing.mixup", "cutmix": "mixing.cutmix", "cutmix-alpha": "mixing.cutmix",
    "mixup-prob": "mixing.probability", "mixup-switch-prob": "mixing.switch",
    "aa": "augment.randaugment", "auto-augment": "augment.randaugment", "randaugment": "augment.randaugment",
    "reprob": "augment.erasing", "color-jitter": "augment.jitter", "hflip": "augment.flip", "crop": "augment.crop",
    "crop-pct": "resize.share", "repeated-aug": "sampling.repeats", "aug-repeats": "sampling.repeats",
    "clip-grad": "clip", "grad-clip-norm": "clip", "max-grad-norm": "clip", "gradient-clip-val": "clip",
    "model-ema": "average", "model-ema-decay": "average", "ema-decay": "average",
    "arch": "model init", "a": "model init", "model-name": "model init", "backbone": "model init",
    "model": "init", "model-name-or-path": "init model", "checkpoint": "init model", "initial-checkpoint": "init",
    "finetune": "init", "model-init": "init", "load": "init model", "weights": "init model",
    "data-path": "train data", "data-dir": "train data", "dataset": "train data", "data": "train",
    "train-dir": "train", "train-data": "train", "train-split": "train", "dataset-name": "train data",
    "val": "validation", "val-split": "validation", "validation-dir": "validation", "eval-data": "test",
    "validation-split": "held-out validation", "test-data": "test",
    "output": "out", "output-dir": "out", "workdir": "out", "log-dir": "out", "save-dir": "out", "work-dir": "out",
    "o": "out", "num-workers": "workers", "j": "workers", "dataloader-num-workers": "workers", "gpus": "device",
    "gpu": "device", "accelerator": "device", "amp": "precision", "fp16": "precision", "bf16": "precision",
    "mixed-precision": "precision", "dtype": "precision", "grad-checkpointing": "recompute",
    "gradient-checkpointing": "recompute", "torchcompile": "compile", "log-interval": "log-every",
    "logging-steps": "log-every", "log-training-steps": "log-every", "eval-steps": "evaluate-every",
    "eval-every": "evaluate-every", "val-interval": "evaluate-every", "save-steps": "save-every",
    "ckpt-steps": "save-every", "checkpoint-every": "save-every", "report-to": "track", "log-wandb": "track",
    "use-wandb": "track", "freeze": "tune", "linear-probe": "tune", "lora": "tune", "lora-r": "tune",
    "topk": "top", "top-k": "top", "bs-eval": "batch",
}  # fmt: skip

# What has no option here.
SENTENCES = {
    "num-classes": "--num-classes is not needed: the classes are those of the training data",
    "nb-classes": "--nb-classes is not needed: the classes are those of the training data",
    "pretrained": "--pretrained: trained weights are the start of `vitrail finetune RECIPE --init MODEL`, "
    "and `vitrail pretrain` starts from new ones",
    "resume": "--resume is not needed: the same command with the same --out goes on from its last checkpoint",
    "resume-from-checkpoint": "--resume-from-checkpoint is not needed: the same command with the same --out goes on "
    "from its last checkpoint",
    "eval": "--eval is a command here: `vitrail evaluate --model RUN --data DATA`",
    "evaluate": "--evaluate is a command here: `vitrail evaluate --model RUN --data DATA`",
    "do-train": "--do-train is not needed: `vitrail pretrain` and `vitrail finetune` train",
    "do-eval": "--do-eval is not needed: --validation is judged while training, --test at its end",
    "overwrite-output-dir": "a run is never overwritten: give another --out",
}


def check_known(args: list[str], known: Collection[str]) -> None:
    """Raises BadInput for the first option that is not in `known` ("--out", ...), with what to write instead."""
    for arg in args:
        if not arg.startswith("-") or _is_number(arg):
            continue
        given = arg.split("=", 1)[0]
        name = given.lstrip("-").replace("_", "-")
        if given in ("-h", "--help") or (f"--{name}" in known and given.startswith("--")):
            continue
        if f"--{name.replace('no-', '', 1)}" in known and "no-" in name:
            continue
        for ours in OPTIONS.get(name, "").split():
            if f"--{ours}" in known:
                raise BadInput(f"{given} is --{ours} here")
        if name in SENTENCES:
            raise BadInput(SENTENCES[name])
        if given.startswith("--"):
            raise BadInput(f"unknown option {given}{_nearest(f'--{name}', known)}")


def _nearest(name: str, known: Collection[str]) -> str:
    """By the whole name, or by what comes after the last dot."""
    ends = [option for option in known if option.rpartition(".")[2] == name.lstrip("-")]
    return f"; did you mean {ends[0]!r}?" if ends else nearest(name, known)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
