"""Judging a model on labelled images, by itself or against another one."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitrail.core.device import Machine, Precision
from vitrail.core.errors import BadInput
from vitrail.core.resumable import alone_in
from vitrail.data.open.names import open_data
from vitrail.data.quality.thumbnails import Gallery
from vitrail.data.sources.base import Source
from vitrail.evals.classifier import (
    LoadedClassifier,
    TemperatureFit,
    check_not_calibrated_on,
    check_other_images,
    fit_temperature_on,
    load_classifier,
    with_classes_of,
)
from vitrail.evals.classify import Evaluation
from vitrail.evals.comparison import compare
from vitrail.evals.multi_crop import Crops
from vitrail.evals.predictions import StoredPredictions, is_evaluation, read_predictions
from vitrail.jobs.train_test_overlap import find_overlap, trained_on
from vitrail.records.comparison import Comparison
from vitrail.records.evaluation import EvaluationResult
from vitrail.records.multi_label import MultiLabelSummary
from vitrail.records.record import write_record
from vitrail.weights.bundle import bundle_of, store_temperature, store_thresholds


@dataclass(frozen=True)
class Evaluate:
    """What to judge, on what, and against what."""

    model: str  # MODEL; or a folder that evaluate wrote, to compare it with --against
    data: str | None = None  # DATA to judge it on
    against: str | None = None  # another MODEL, judged on the same images; or a folder that evaluate wrote
    calibrate_on: str | None = None  # DATA to fit a temperature (or thresholds) on; never those that are judged
    store_temperature: bool = False  # keep it (or them) in the bundle: predict uses it
    train: str | None = None  # DATA in which copies of the test images are looked for; none: what the bundle names
    crops: Crops = 1  # views of each image whose probabilities are averaged
    resolutions: tuple[int, ...] = ()  # at which the model is used; none: its own
    precision: Precision = "auto"
    classes: str | None = (
        None  # which is which: FILE of the model's names, imagenet, folders-by-number, folders-by-text
    )


def evaluate(
    config: Evaluate, folder: Path | None = None, machine: Machine | None = None
) -> EvaluationResult | MultiLabelSummary | Comparison:
    """Evaluates; where two folders are given, compares them.

    Where a folder is given, evaluation.json, multilabel.json (several classes an image) or comparison.json is written
    into it, and what became of each image.

    Raises:
        BadInput: a model without a classifier, data with classes that the model does not know, a temperature that
            would be judged on the images that it was fitted on, or models that did not judge the same images.
    """
    if is_evaluation(config.model):
        return _compare_folders(config, folder)
    if config.data is None:
        raise BadInput("give --data DATA to judge the model on; without it --model and --against are evaluations")
    if config.store_temperature:
        _check_storing(config)
    machine = machine or Machine()
    classifier = load_classifier(config.model, config.resolutions, config.crops, config.precision, machine)
    opened = open_data(config.data, "test", multi_label=True)
    if opened.multi_label or classifier.thresholds is not None:
        return _several_classes(config, config.data, classifier, opened, folder, machine)
    classifier, source = with_classes_of(classifier, opened, config.data, config.classes)
    classifier = classifier.ready_for(len(source), machine.runtime)
    fitted = fit_temperature_on(classifier, config.calibrate_on, config.data, source) if config.calibrate_on else None
    evaluation = classifier.judged(source, fitted)
    if fitted:
        check_not_calibrated_on(fitted, evaluation, config.data)
    gallery = Gallery()
    trains = [config.train] if config.train else trained_on(classifier.provenance, len(source))
    workers = machine.workers
    copies = find_overlap(config.data, source, evaluation.outcomes, trains, gallery, workers) if trains else None
    comparison = _against(config, evaluation, machine) if config.against else None
    result = EvaluationResult(
        **vars(evaluation.summary(config.data, config.model)),
        views=classifier.views(),
        assumed=classifier.assumed,
        copies=copies,
        comparison=comparison,
        runtime=classifier.runtime_info(),
    )
    if result.temperature:
        fitted_on = fitted.about if fitted else _carried(classifier)
        result = replace(result, temperature=replace(result.temperature, fitted_on=fitted_on))
    if fitted and config.store_temperature:
        _store(config, fitted, result)
    if folder is not None:
        with alone_in(folder):
            if copies:
                gallery.write(folder / "pictures.npz")
            evaluation.write(folder, config.data, config.model, result)
    return result


def _several_classes(
    config: Evaluate, data: str, classifier: LoadedClassifier, opened: Source, folder: Path | None, machine: Machine
) -> MultiLabelSummary:
    """Of images of several classes each; thresholds are those of the bundle, or chosen on `calibrate_on`."""
    if classifier.thresholds is None:
        raise BadInput(f"the images of {data} have several classes each; {config.model} was trained on images of one")
    for option, usual in (("against", None), ("crops", 1), ("train", None)):
        if getattr(config, option) != usual:
            raise BadInput(f"images of several classes each are judged by themselves, in one view: leave out {option}")
    if len(config.resolutions) > 1:
        raise BadInput("images of several classes each are judged at one resolution: give one")
    classifier, source = with_classes_of(classifier, opened, data, config.classes, multi_label=True)
    classifier = classifier.ready_for(len(source), machine.runtime)
    chosen = classifier.chosen_thresholds()
    if config.calibrate_on:
        other = open_data(config.calibrate_on, "test", multi_label=True)
        same, calibration = with_classes_of(classifier, other, config.calibrate_on, multi_label=True)
        if same.classes != classifier.classes:
            raise BadInput(f"{config.calibrate_on} and {data} are judged over other classes; name the same ones")
        check_other_images(source, calibration, data, config.calibrate_on)
        chosen = classifier.judged_several(calibration).choose_thresholds(config.calibrate_on)
    evaluation = classifier.judged_several(source)
    summary = replace(
        evaluation.summary(data, config.model, chosen),
        views=classifier.views(),
        assumed=classifier.assumed,
        runtime=classifier.runtime_info(),
    )
    if config.store_temperature and chosen:
        if classifier.classes != classifier.models[0].classes:
            raise BadInput(f"{data} has not all classes of {config.model}: thresholds are stored for all")
        about = {"data": chosen.data, "count": chosen.count}
        store_thresholds(bundle_of(config.model), tuple(chosen.values), about)
    if folder is not None:
        with alone_in(folder):
            evaluation.write(folder, summary)
    return summary


def _compare_folders(config: Evaluate, folder: Path | None) -> Comparison:
    others = replace(config, model="", against=None)
    if config.against is None or not is_evaluation(config.against) or others != Evaluate(""):
        raise BadInput(
            f"{config.model} is an evaluation, not a model: give another one to --against and nothing else, or a model "
            "to --model"
        )
    result = compare(read_predictions(config.model), read_predictions(config.against))
    if folder is not None:
        with alone_in(folder):
            write_record(folder / "comparison.json", result)
    return result


def _against(config: Evaluate, evaluation: Evaluation, machine: Machine) -> Comparison:
    assert config.against is not None
    assert config.data is not None
    ours = StoredPredictions(evaluation.outcomes, evaluation.classes, config.model, config.data, evaluation.several)
    if is_evaluation(config.against):
        return compare(ours, read_predictions(config.against))
    other = load_classifier(config.against, config.resolutions, config.crops, config.precision, machine)
    other, source = with_classes_of(other, open_data(config.data, "test"), config.data, config.classes)
    judged = other.ready_for(len(source), machine.runtime).judged(source)
    return compare(
        ours, StoredPredictions(judged.outcomes, judged.classes, config.against, config.data, judged.several)
    )


def _carried(classifier: LoadedClassifier) -> dict[str, Any] | None:
    """What a bundle says its temperature was fitted on."""
    said = classifier.provenance.get("temperature_fitted")
    return said if isinstance(said, dict) else None


def _check_storing(config: Evaluate) -> None:
    if config.calibrate_on is None:
        raise BadInput("--store-temperature stores what is fitted on validation data: give them by --calibrate-on")
    if config.crops != 1 or config.resolutions:
        raise BadInput(
            "a stored temperature is for one view at the model's own resolution: leave out --crops and "
            "--resolutions, or --store-temperature"
        )
    bundle_of(config.model)


def _store(config: Evaluate, fitted: TemperatureFit, result: EvaluationResult) -> None:
    assert result.temperature is not None
    before, after = result.calibration.ece, result.temperature.calibration.ece
    judged = {"judged_on": config.data, "ece_before": before, "ece_after": after}
    store_temperature(bundle_of(config.model), fitted.temperature, {**fitted.about, **judged})
