"""The end of `finetune auto`: the bundle with its temperature or thresholds, the test images once, the result."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from vitrail.core.device import choose_device, choose_precision
from vitrail.core.run import RunFolder
from vitrail.data.loader.batch import Broken
from vitrail.data.sources.base import Source
from vitrail.evals.classify import Evaluation, judge
from vitrail.evals.fewshot import Linear
from vitrail.evals.inference import run_inference
from vitrail.evals.multi_label import MultiLabelEvaluation, judge_multi_label
from vitrail.jobs.finetune.auto_trials import AutoRun, thresholds_of
from vitrail.jobs.finetune.linear_judge import divided
from vitrail.jobs.finetune.run import classifier_of, set_classifier
from vitrail.jobs.training_data import usual_thresholds
from vitrail.models.build import Model
from vitrail.models.cost import multiply_adds, parameters
from vitrail.models.resnet import ResNetConfig
from vitrail.records.finetune import FinalRun, FinetuneResult, Sweep, Trial
from vitrail.records.multi_label import Thresholds
from vitrail.records.record import as_json, write_record
from vitrail.records.run import RunResult
from vitrail.train.trainable import HeadOnly, make_trainable, trained_parameters
from vitrail.weights.bundle import RESAMPLED, save_bundle

RULE = (
    "the highest accuracy on the held-out images, of what has a lower loss there than the linear judge and no lower "
    "accuracy; among equal ones the lower loss; the judge is the model where there is nothing such. In place of the "
    "accuracy stands its mean over the classes, where these are to count alike, and of several classes an image the "
    "mean average precision"
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


def finish_auto(outcome: Outcome, auto: AutoRun, test: Source | None) -> FinetuneResult:
    """Writes the bundle, judges the test images, where there are any, and writes the result."""
    config, run, classes, start = auto.config, auto.run, auto.train.classes, auto.start
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
    thresholds = thresholds_of(auto, chosen) if auto.train.multi_label else None
    if temperature is not None:
        about["temperature_fitted"] = {"data": f"held-out images of {config.train}", "count": chosen.count}
    if thresholds is not None:
        about["thresholds_chosen"] = {"data": f"held-out images of {config.train}", "count": thresholds.count}
    if auto.balanced is not None and chosen.adjustment:
        about["logits_adjusted"] = chosen.adjustment
        lower(model, chosen.adjustment * (temperature or 1.0) * auto.balanced)
    if auto.train.multi_label:  # probabilities of such a model have no temperature: its classifier is divided by it
        set_classifier(model, divided(classifier_of(model.state_dict()), temperature or 1.0))
        temperature = None
    values = tuple(thresholds.values) if thresholds else usual_thresholds(auto.train)
    digest = save_bundle(run.path / "bundle", model, model.preprocess, classes, about, temperature, values)
    tested = _test(outcome, auto, test, temperature, thresholds) if test is not None else None
    result = _result(outcome, tested, model, digest)
    note(run, outcome.trials, chosen, result.runs)
    run.finish(as_json(result))
    return result


def lower(model: Model, by: Float64[np.ndarray, " k"]) -> None:
    """Takes a number from the logits of each class, for good."""
    head = classifier_of(model.state_dict())
    set_classifier(model, Linear(head.weights, head.bias - by))


def note(run: RunFolder, trials: Sequence[Trial], chosen: Trial | None, runs: Sequence[FinalRun]) -> None:
    """transfer.json: what is known so far."""
    write_record(run.path / "transfer.json", Sweep(rule=RULE, trials=trials, chosen=chosen, runs=runs))


def _test(
    outcome: Outcome, auto: AutoRun, test: Source, temperature: float | None, thresholds: Thresholds | None
) -> Evaluation | MultiLabelEvaluation:
    """Judges the test images, and writes what comes of it."""
    config, machine, model = auto.config, auto.machine, outcome.model
    device = choose_device(machine.device)
    dtype, broken, view = choose_precision(config.precision, device), Broken(len(test)), model.preprocess
    parts = run_inference(
        model.to(device).eval(), test, view, broken=broken, dtype=dtype, workers=machine.workers, title="test"
    )
    outputs = ((part.batch, part.logits) for part in parts)
    where, data, bundle = auto.run.path / "evaluation", config.test or "", str(auto.run.path / "bundle")
    if test.multi_label:
        several = judge_multi_label(outputs, test, broken, view.resolution)
        several.write(where, several.summary(data, bundle, thresholds))
        return several
    found = judge(outputs, test, broken, view.resolution, temperature=temperature)
    found.write(where, data, bundle)
    return found


def _result(
    outcome: Outcome, tested: Evaluation | MultiLabelEvaluation | None, model: Model, digest: str
) -> FinetuneResult:
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
        mean_average_precision=tested.mean_average_precision if isinstance(tested, MultiLabelEvaluation) else None,
        balanced_accuracy=None if chosen.adjustment is None else _balanced(tested),
    )


def _balanced(tested: Evaluation | MultiLabelEvaluation | None) -> float | None:
    """The mean over the classes that have a test image."""
    if not isinstance(tested, Evaluation):
        return None
    there = tested.counts > 0
    return float((tested.rights[there] / tested.counts[there]).mean())
