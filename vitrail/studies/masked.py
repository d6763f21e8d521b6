"""Section 4.6: what is learned without labels, by which targets, against labels and against none (appendix B.1.2)?"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vitrail.core.figures import Dots, Figure, Panel, dot
from vitrail.data.transforms.pipeline import Augment, PadCrop, SquareResize, WholeImage
from vitrail.jobs.finetune.finetune import Finetune
from vitrail.jobs.pretrain import Pretrain
from vitrail.models.mae import MAE
from vitrail.models.masked_patches import MaskedPatches
from vitrail.models.objective import Labels
from vitrail.recipes import finetuning, pretraining
from vitrail.studies import setups
from vitrail.studies.engine.findings import differs, unfinished
from vitrail.studies.engine.results import Results
from vitrail.studies.engine.runs import FewShot, Run, Scale, Tuned
from vitrail.studies.engine.study import Study
from vitrail.train.optim import Adam
from vitrail.train.schedule import Cosine

MASKED, SCRATCH, SUPERVISED = "mean colour", "scratch", "supervised"

# What differs of the base, masked patch prediction as published. Scratch has the few labels that fine-tuning has, and
# as many steps on them before it as the others pre-train: the compute of all is equal.
OBJECTIVES: dict[str, Any] = {
    "small colours": MaskedPatches(target="small-colours"),
    "pixels": MaskedPatches(target="pixels"),
    "15 % corrupted": MaskedPatches(share=0.15),
}
LIGHT = MAE(decoder_width=64, decoder_depth=1, decoder_heads=2, decoder_mlp=128)
SHORTER = 10  # times, for the run that shows what more steps bring


def masked(scale: Scale) -> Study:
    """The targets and shares of the appendix, MAE, a tenth of the steps; supervised and from scratch."""
    base, few_labels, target, tuned = _at(scale)
    learned = replace(base, objective=MaskedPatches())
    runs = [Run(MASKED, learned)]
    runs += [Run(name, replace(base, objective=objective)) for name, objective in OBJECTIVES.items()]
    warmup = max(1, base.schedule.warmup // SHORTER)
    shorter = replace(learned, steps=base.steps // SHORTER, schedule=replace(base.schedule, warmup=warmup))
    runs.append(Run(f"a {_ordinal(SHORTER)} of the steps", shorter))
    runs.append(Run("MAE", replace(base, objective=MAE() if scale == "paper" else LIGHT)))
    labelled = replace(base, objective=Labels())
    runs.append(Run(SUPERVISED, labelled))
    runs.append(Run(SCRATCH, replace(labelled, train=few_labels)))
    return Study(
        name="masked",
        question="What is learned without labels, and by which targets?",
        source="Section 4.6, appendix B.1.2",
        scale=scale,
        runs=tuple(runs),
        measures=(target, Tuned(tuned)),
        finding=finding,
        figures=figures,
        paper="Masked patch prediction is 2 points above training from scratch and 4 below supervised pre-training "
        "(79.9 % on ImageNet, ViT-B/16 fine-tuned); the mean colour is best in few-shot accuracy, all pixels slightly "
        "worse, 15 % slightly worse; little is gained after a tenth of the steps. MAE is not of the paper.",
        remarks=REMARKS[scale],
        seeds=1 if scale == "paper" else 2,
    )


def _ordinal(number: int) -> str:
    return {10: "tenth"}.get(number, f"1/{number}")


REMARKS: dict[Scale, tuple[str, ...]] = {
    "smoke": ("Scattered digits, seconds of training: what is seen is the machinery, not the paper's question.",),
    "small": (
        "Pre-trained on half of Tiny-ImageNet without its labels, fine-tuned on a tenth of it with them. From scratch: "
        "as many steps as the others pre-train, on the tenth, and then the same fine-tuning.",
        "One rate for every objective, that of the supervised runs of the other studies.",
        setups.SMALL_REMARK,
    ),
    "paper": ("The labels' runs have the steps and the rate of the masked ones, for equal compute.",),
}


def _at(scale: Scale) -> tuple[Pretrain, str, FewShot, Finetune]:
    """The base without its objective, the few labelled images, the target of few shots, and the fine-tuning."""
    match scale:
        case "smoke":
            _, model = setups.SMOKE_MODELS["ViT-64/4"]
            few = "scattered-digits@seen-train[:600]"
            tuned = _tuning(few, "scattered-digits@seen-test", 24, 60, Augment(crop=WholeImage(), flip=False))
            return setups.scattered_digits(model), few, setups.SCATTERED_DIGITS, tuned
        case "small":
            few = "tiny-imagenet@train[:10%]"
            tuned = _tuning(few, "tiny-imagenet@validation", 32, 400, Augment(crop=PadCrop(padding=4)))
            _, model = setups.SMALL_MODELS["ViT-96/4"]
            return setups.tiny_imagenet(model), few, setups.CIFAR10, tuned
        case "paper":
            return pretraining("masked-b16"), "imagenet@train", setups.IMAGENET, finetuning("paper-imagenet")


def _tuning(train: str, test: str, side: int, steps: int, augment: Augment) -> Finetune:
    return Finetune(
        train=train,
        test=test,
        resolution=side,
        steps=steps,
        batch=64,
        resize=SquareResize(),
        augment=augment,
        resident=True,
        optimizer=Adam(lr=1e-3, weight_decay=0.1, betas=(0.9, 0.99)),
        schedule=Cosine(warmup=steps // 10),
        evaluate_every=steps,
        save_every=steps,
    )


def finding(results: Results) -> str:
    """The published objective against scratch and against labels; then the others against it."""
    if not results.complete:
        return unfinished(results)
    measure = results.measures[-1].names[0]

    def gap(name: str, other: str) -> str:
        contrast = results.contrast({name: 1.0, other: -1.0}, measure)
        assert contrast is not None
        return differs(contrast, "above", "below")

    others = [row.run.name for row in results.rows if row.run.name not in (MASKED, SCRATCH, SUPERVISED)]
    listed = "; ".join(f"{name} {gap(name, MASKED)}" for name in others)
    return (
        f"Fine-tuned, masked patch prediction is {gap(MASKED, SCRATCH)} training from scratch and "
        f"{gap(MASKED, SUPERVISED)} supervised pre-training. Against the mean colour: {listed}."
    )


def figures(results: Results) -> Sequence[Figure]:
    """All runs beside each other, for every measure."""
    drawn: list[Figure] = []
    for measure in results.measure_names:
        dots = [dot(row.run.name, results.value(row, measure), _group(row.run.name)) for row in results.has(measure)]
        if dots:
            drawn.append(Dots(f"{measure} accuracy", f"{measure} accuracy", [Panel("these runs", dots)]))
    return drawn


def _group(name: str) -> str:
    return "labels" if name in (SUPERVISED, SCRATCH) else "no labels"
