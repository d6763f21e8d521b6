"""`train`: a model that one has, by the loop that `vitrail pretrain` and `vitrail finetune` run."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from vitrail.api.data import load_data
from vitrail.api.models import preprocess_of
from vitrail.core.device import Machine, choose_device
from vitrail.core.dist import joined
from vitrail.core.errors import BadInput
from vitrail.core.run import RunFolder
from vitrail.data.open.names import require_classes
from vitrail.data.sources.base import Source
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.jobs.data_identity import check_same_data
from vitrail.jobs.training import run_training
from vitrail.jobs.training_data import check_keep_best, same_classes
from vitrail.models.build import Model, ModelConfig
from vitrail.models.vit import ViTConfig
from vitrail.records.read_run import Run, read_run
from vitrail.train.callbacks import Callback
from vitrail.train.config import TrainConfig, check_training
from vitrail.train.fixed_order import prepare_fixed_order
from vitrail.weights.load import attach
from vitrail.weights.tensors import read_safetensors


@dataclass(frozen=True)
class Train(TrainConfig):
    """A run of `train`, as config.json has it: what is asked for, and the model."""

    model: ModelConfig = ViTConfig()
    preprocess: Preprocess = Preprocess()


def train(
    model: Model,
    data: str | Path | Source,
    config: TrainConfig,
    folder: str | Path,
    *,
    validation: str | Path | Source | None = None,
    test: str | Path | Source | None = None,
    callbacks: Sequence[Callback] = (),
    machine: Machine | None = None,
) -> Run:
    """Trains all weights of `model` in a run folder, or continues there; the model holds the final weights afterwards.

    A run that goes on takes the weights of its last checkpoint, whatever those of `model` are. Reports, `load` and
    `Predictor` read the folder like that of any run.

    Args:
        model: of `create_model` or `load`, with as many classes as the data; it is moved to the device.
        data: the training images, DATA or a source, in place of `config.train`.
        config: steps, batch, optimiser, ...: a TrainConfig, or a config of `recipe` or `Pretrain`, of which the model
            does not count.
        validation, test: in place of those of `config`. Their classes are among those of `data`.
        callbacks: called besides our own, before checkpoints are saved.

    Returns:
        The run, as `read_run` reads it: `result.accuracy`, `metrics()`, `predictions()`.

    Raises:
        BadInput: data, classes, numbers or a folder that cannot be used.
        Interrupted: after a signal, once the run is saved.
    """
    machine = machine or Machine()
    source = load_data(data)
    require_classes(source, str(data))
    count, classes = len(source.classes), model.config.num_classes
    if classes != count:
        raise BadInput(
            f"the model has {classes} classes, the training data have {count}: make it with num_classes={count}"
        )
    held_out: list[Source | None] = []
    names: dict[str, str | None] = {"train": str(data)}
    for key, asked in {"validation": validation, "test": test}.items():
        asked = getattr(config, key) if asked is None else asked
        held_out.append(None if asked is None else same_classes(load_data(asked, "test"), source, str(asked)))
        names[key] = None if asked is None else str(asked)
    preprocess = replace(preprocess_of(model), resolution=model.config.resolution)
    shared = {field.name: getattr(config, field.name) for field in fields(TrainConfig)}
    whole = Train(**shared | names, model=model.config, preprocess=preprocess)
    check_training(whole)
    check_keep_best(whole, held_out[0], machine)
    prepare_fixed_order(whole, machine)
    with joined(choose_device(machine.device)), RunFolder(Path(folder), "train", whole) as run:
        if run.state != "finished":
            parts = source, held_out[0], held_out[1]
            check_same_data(run, parts, accept=machine.accept_changed_data)
            about = {"job": "train"}
            run_training(whole, run, model, preprocess, parts, machine, about, callbacks=callbacks)
    model.load_state_dict(read_safetensors(Path(folder) / "bundle/model.safetensors"))
    attach(model, preprocess, source.classes).eval()
    return read_run(folder)
