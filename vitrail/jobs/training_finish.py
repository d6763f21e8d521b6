"""The end of a training run: final evaluation, bundle, inspection, result."""

from importlib.metadata import version
from typing import Any

from vitrail.core import dist
from vitrail.data.sources.base import Source
from vitrail.evals.classify import Evaluation
from vitrail.evals.multi_label import MultiLabelEvaluation, evaluate_multi_label
from vitrail.jobs.inspect import look_inside
from vitrail.jobs.training_data import usual_thresholds
from vitrail.jobs.training_job import TrainingJob
from vitrail.jobs.unlabelled_training import NAMES, parts_of
from vitrail.models.build import Model
from vitrail.models.cost import multiply_adds, parameters
from vitrail.models.objective import Learner, TrainedModel, encoder_of
from vitrail.models.objective_cost import flops_of
from vitrail.records.multi_label import Thresholds
from vitrail.records.record import as_json, load_record, parse_record
from vitrail.records.run import ObjectiveResult, RunResult
from vitrail.train.parallel import whole_model
from vitrail.train.step import TrainState
from vitrail.weights.bundle import save_bundle


def finish(job: TrainingJob, state: TrainState, work: dict[str, Any], inside: bool) -> RunResult:
    """Final evaluation, bundle, inspection, result: each whole, so a kill here repeats little.

    Args:
        work: the number of trained parameters, and the share of a whole step's arithmetic that their training takes.
        inside: whether the model is inspected.
    """
    run, (train, validation, test) = job.run, job.data
    held_out, name = test or validation, job.config.test or job.config.validation or ""
    judged, said = _judge(job, state, held_out)
    trained = whole_model(state.model)
    model = encoder_of(trained)
    if not run.writes:
        dist.barrier()  # until the first process has written everything
        return load_record(RunResult, run.path / "result.json")
    bundle = run.path / "bundle"
    about = {**job.provenance, "trained_on": job.config.train, "steps": state.step, "vitrail": version("vitrail")}
    chosen = _thresholds(job, model)
    if chosen:
        about["thresholds_chosen"] = {"data": chosen.data, "count": chosen.count}
    thresholds = tuple(chosen.values) if chosen else usual_thresholds(train)
    digest = save_bundle(
        bundle, model, job.preprocess, train.classes, about, thresholds=thresholds, trained_with=parts_of(trained)
    )
    if isinstance(judged, MultiLabelEvaluation):
        judged.write(run.path / "evaluation", judged.summary(name, str(bundle), chosen))
        said["mean_average_precision"] = judged.mean_average_precision
    elif judged is not None:
        judged.write(run.path / "evaluation", name, str(bundle))
    if held_out is not None and inside and not held_out.multi_label:  # what is drawn there names one class
        look_inside(model, job.preprocess, train.classes, held_out, run.path / "inspection", name=str(bundle))
    result = _result(job, state, trained, work, judged, said, digest)
    run.finish(as_json(result))
    dist.barrier()
    return result


def _judge(
    job: TrainingJob, state: TrainState, held_out: Source | None
) -> tuple[Evaluation | MultiLabelEvaluation | None, dict[str, Any]]:
    """The evaluation of the final weights, or of the best ones, which `state` has then; and what the result says of it.

    A model that learned without labels has no evaluation, only numbers of its objective.
    """
    if held_out is None:
        return None, {}
    if isinstance(state.model, Learner):
        about = {"name": NAMES[type(state.model.objective).__name__], **job.judge(state.model, held_out)}
        return None, {"objective": parse_record(ObjectiveResult, about)}
    last = job.evaluate(state.model, held_out, "final evaluation")
    if job.config.keep != "best":
        return last, {}
    best = job.keep_best(encoder_of(state.model))
    best.restore(encoder_of(state.model))
    said = {"last_accuracy": last.accuracy, "best_step": best.step}
    return job.evaluate(encoder_of(state.model), held_out, "the best weights"), said


def _result(
    job: TrainingJob,
    state: TrainState,
    trained: TrainedModel,
    work: dict[str, Any],
    judged: Evaluation | MultiLabelEvaluation | None,
    said: dict[str, Any],
    digest: str,
) -> RunResult:
    """What result.json says: work, speed and memory of the run, and what it has reached."""
    rows = [row for row in job.run.metrics() if row["kind"] == "train"]
    images = (state.step - len(state.skipped)) * job.config.batch
    flops = round(flops_of(trained) * work["share"])
    rate, processes = images / state.seconds, dist.world().size
    config = encoder_of(trained).config
    return RunResult(
        job=job.provenance["job"],
        steps=state.step,
        images=images,
        seconds=state.seconds,
        images_per_second=rate,
        waiting=state.data_wait_seconds / state.seconds,
        processes=processes,
        parameters=parameters(config),
        trained_parameters=work["trained_parameters"],
        macs_per_image=multiply_adds(config),
        training_flops_per_image=flops,
        total_flops=flops * images,
        flops_share=flops * rate / (job.device.peak_flops * processes),
        memory_gib=max((row["memory_gib"] for row in rows if row.get("memory_gib")), default=None),
        loss=rows[-1]["loss"] if rows else None,
        accuracy=judged.accuracy if judged else None,
        interval=judged.interval if judged else None,
        count=judged.count if judged else None,
        broken=state.broken.rows(),
        skipped=state.skipped,
        restarts=state.restarts,
        weights_sha256=digest,
        **said,
    )


def _thresholds(job: TrainingJob, model: Model) -> Thresholds | None:
    """The thresholds of the classes by the validation images, where there are any."""
    validation = job.data[1]
    if validation is None or not validation.multi_label:
        return None
    seen = evaluate_multi_label(
        model, validation, job.preprocess, dtype=job.device.dtype, workers=job.machine.workers, title="thresholds"
    )
    return seen.choose_thresholds(job.config.validation or f"held-out images of {job.config.train}")
