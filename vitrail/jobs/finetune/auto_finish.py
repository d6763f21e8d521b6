"""The end of `finetune auto`: the bundle with its temperature, the test images once, the result."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import NamedTuple

from vitrail.core.device import Machine, choose_device, choose_precision
from vitrail.core.run import RunFolder
from vitrail.data.loader.batch import Broken
from vitrail.data.sources.base import Source
from vitrail.evals.classify import Evaluation, judge
from vitrail.evals.inference import run_inference
from vitrail.jobs.finetune.run import Finetune
from vitrail.models.build import Model
from vitrail.models.cost import multiply_adds, parameters
from vitrail.models.resnet import ResNetConfig
from vitrail.records.finetune import FinalRun, FinetuneResult, Sweep, Trial
from vitrail.records.record import as_json, write_record
from vitrail.records.run import RunResult
from vitrail.train.trainable import HeadOnly, make_trainable, trained_parameters
from vitrail.weights.bundle import RESAMPLED, save_bundle
from vitrail.weights.pretrained import PretrainedModel

JUDGE = "linear judge"
RULE = (
    "the highest accuracy on the held-out images, of what has a lower loss there than the linear judge and no lower "
    "accuracy; among equal ones the lower loss; the judge is the model where there is nothing such"
)


class Outcome(NamedTuple):
    """What was tried, what was chosen, and the model."""

    trials: list[Trial]
    chosen: Trial
    result: RunResult | None  # of the final run, or the trial; None: the linear judge is the model
    folder: str | None  # where that run lies
    failed: str | None  # why the final run has no model
    model: Model
    steps: int  # that made it, with those of a trial that it goes on from


def finish_auto(
    outcome: Outcome,
    config: Finetune,
    run: RunFolder,
    classes: tuple[str, ...],
    test: Source | None,
    machine: Machine,
    start: PretrainedModel,
) -> FinetuneResult:
    """Writes the bundle, judges the test images, where there are any, and writes the result."""
    model, chosen, final = outcome.model, outcome.chosen, outcome.result
    temperature = None
    if chosen.temperature is not None:  # the linear judge is divided by its own already
        temperature = 1.0 if final is None else chosen.temperature
    about = {
        "job": "finetune",
        "recipe": "auto",
        "init": config.init,
        "init_trained_on": start.provenance.get("trained_on") or start.provenance.get("source"),
        **({} if isinstance(model.config, ResNetConfig) else {RESAMPLED: start.interpolation}),
        "trained_on": config.train,
        "chosen": chosen.name,
        "steps": outcome.steps,
        "vitrail": version("vitrail"),
    }
    if temperature is not None:
        about["temperature_fitted"] = {"data": f"held-out images of {config.train}", "count": chosen.count}
    bundle = run.path / "bundle"
    digest = save_bundle(bundle, model, model.preprocess, classes, about, temperature)
    tested = _test(model, test, config, machine, temperature) if test is not None else None
    if tested is not None:
        tested.write(run.path / "evaluation", config.test or "", str(bundle))
    result = _result(outcome, tested, model, digest)
    note(run, outcome.trials, chosen, result.runs)
    run.finish(as_json(result))
    return result


def note(run: RunFolder, trials: Sequence[Trial], chosen: Trial | None, runs: Sequence[FinalRun]) -> None:
    """transfer.json: what is known so far."""
    write_record(run.path / "transfer.json", Sweep(rule=RULE, trials=trials, chosen=chosen, runs=runs))


def _test(model: Model, test: Source, config: Finetune, machine: Machine, temperature: float | None) -> Evaluation:
    device = choose_device(machine.device)
    dtype, broken, view = choose_precision(config.precision, device), Broken(len(test)), model.preprocess
    parts = run_inference(
        model.to(device).eval(), test, view, broken=broken, dtype=dtype, workers=machine.workers, title="test"
    )
    outputs = ((part.batch, part.logits) for part in parts)
    return judge(outputs, test, broken, view.resolution, temperature=temperature)


def _result(outcome: Outcome, tested: Evaluation | None, model: Model, digest: str) -> FinetuneResult:
    """The keys of a fine-tuning by the protocol."""
    chosen, final = outcome.chosen, outcome.result
    if final is None:
        make_trainable(model, HeadOnly())
    accuracy, interval = (tested.accuracy, tested.interval) if tested else (None, None)
    count = tested.count if tested else None
    seconds, restarts = (final.seconds, final.restarts) if final else (0.0, 0)
    memory_gib, images_per_second = (final.memory_gib, final.images_per_second) if final else (None, None)
    run = FinalRun(
        folder=outcome.folder,
        learning_rate=chosen.learning_rate,
        seed=0,
        accuracy=accuracy,
        interval=interval,
        count=count,
        seconds=seconds,
        memory_gib=memory_gib,
        images_per_second=images_per_second,
        weights_sha256=digest,
        restarts=restarts,
    )
    return FinetuneResult(
        job="finetune",
        recipe="auto",
        steps=outcome.steps,
        images=final.images if final else 0,
        parameters=parameters(model.config),
        trained_parameters=final.trained_parameters if final else trained_parameters(model),
        macs_per_image=multiply_adds(model.config),
        training_flops_per_image=final.training_flops_per_image if final else 0,
        accuracy=accuracy,
        interval=interval,
        spread=None,
        count=count,
        seconds=sum(one.wall or 0.0 for one in outcome.trials) + (seconds if outcome.folder != chosen.folder else 0.0),
        images_per_second=images_per_second,
        memory_gib=memory_gib,
        learning_rate=chosen.learning_rate,
        rule=RULE,
        chosen=chosen,
        failed=outcome.failed,
        trials=outcome.trials,
        runs=[run],
        broken=tested.broken.rows() if tested else [],
        restarts=restarts,
        weights_sha256=digest,
    )
