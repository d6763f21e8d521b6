"""Section 4.6: what is learned without labels, by which targets, against labels and against none (appendix B.1.2)?"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from vitrail.core.figures import Dots, Figure, Panel, dot
from vitrail.core.text import listed
from vitrail.jobs.finetune.finetune import Finetune
from vitrail.jobs.pretrain import Pretrain
from vitrail.models.cost import training_flops
from vitrail.models.head import AveragePool
from vitrail.models.mae import MAE
from vitrail.models.masked_patches import MaskedPatches
from vitrail.models.objective import Labels
from vitrail.models.objective_cost import training_flops_of
from vitrail.models.vit import ViTConfig
from vitrail.recipes import finetuning, pretraining
from vitrail.studies import setups
from vitrail.studies.engine.findings import differs, unfinished
from vitrail.studies.engine.results import Results
from vitrail.studies.engine.runs import FewShot, Run, Scale, Tuned
from vitrail.studies.engine.study import Study
from vitrail.train.schedule import Cosine

MASKED, PAINTED, SUPERVISED, SCRATCH = "mean colour", "MAE", "supervised", "scratch"
UNTRAINED = "one step"  # what the fine-tuning reaches by itself

# What differs of the base, masked patch prediction as published.
OBJECTIVES: dict[str, Any] = {
    "small colours": MaskedPatches(target="small-colours"),
    "pixels": MaskedPatches(target="pixels"),
    "15 % corrupted": MaskedPatches(share=0.15),
}
LIGHT = MAE(decoder_width=64, decoder_depth=1, decoder_heads=2, decoder_mlp=128)
SHORTER, LONGER = 10, 4  # times, for the runs that show what more steps bring


class Setup(NamedTuple):
    """What a scale has: the base without its objective, the judge of frozen features, and the fine-tunings."""

    base: Pretrain
    judge: FewShot
    tuned: tuple[Tuned, ...]


def masked(scale: Scale) -> Study:
    """The targets and shares of the appendix, MAE, fewer and more steps; supervised, from scratch and hardly at all."""
    base, judge, tuned = _at(scale)
    learned = replace(base, objective=MaskedPatches())
    runs = [Run(MASKED, learned)]
    runs += [Run(name, replace(base, objective=objective)) for name, objective in OBJECTIVES.items()]
    runs.append(Run(f"a {_ordinal(SHORTER)} of the steps", _with_steps(learned, base.steps // SHORTER)))
    if scale != "paper":  # whose steps are enough
        runs.append(Run(f"{LONGER} times the steps", _with_steps(learned, base.steps * LONGER)))
    runs.append(Run(PAINTED, _as_costly(replace(base, objective=MAE() if scale == "paper" else LIGHT), base)))
    labelled = replace(base, objective=Labels())
    runs.append(Run(UNTRAINED, _with_steps(labelled, 1)))
    runs.append(Run(SUPERVISED, labelled))
    # as many steps on the labels of a fine-tuning as the others pre-train: as much compute in all
    runs += [Run(_scratch(task), replace(labelled, train=task.config.train, validation=None)) for task in tuned]
    return Study(
        name="masked",
        question="What is learned without labels, and by which targets?",
        source="Section 4.6, appendix B.1.2",
        scale=scale,
        runs=tuple(runs),
        measures=(judge, *tuned),
        finding=finding,
        figures=figures,
        paper="Masked patch prediction is 2 points above training from scratch and 4 below supervised pre-training "
        "(79.9 % on ImageNet, ViT-B/16 fine-tuned); the mean colour is best in few-shot accuracy, all pixels slightly "
        "worse, 15 % slightly worse; little is gained after a tenth of the steps. MAE is not of the paper.",
        remarks=REMARKS[scale],
        effect=0.02,  # section 4.6: above training from scratch
        seeds={"smoke": 2, "small": 3, "paper": 1}[scale],
    )


def _with_steps(config: Pretrain, steps: int) -> Pretrain:
    """The same over so many steps, with the same share of warm-up."""
    warmup = max(1, round(config.schedule.warmup * steps / config.steps))
    return replace(config, steps=steps, schedule=replace(config.schedule, warmup=warmup))


def _as_costly(config: Pretrain, supervised: Pretrain) -> Pretrain:
    """As many steps as have the arithmetic of the supervised run."""
    assert config.model is not None
    step = training_flops_of(config.model, config.objective) / training_flops(config.model)
    return _with_steps(config, round(supervised.steps / step))


def _scratch(task: Tuned) -> str:
    """The run that is trained from scratch on the data of a fine-tuning."""
    return SCRATCH if task.name == Tuned.name else f"{SCRATCH}, {task.name}"


def _ordinal(number: int) -> str:
    return {10: "tenth"}.get(number, f"1/{number}")


REMARKS: dict[Scale, tuple[str, ...]] = {
    "smoke": (
        "Scattered digits, seconds of training: what is seen is the machinery, not the paper's question.",
        "From scratch: as many steps as the others pre-train, on the few labelled images, then the same fine-tuning.",
    ),
    "small": (
        "Pre-trained on half of Tiny-ImageNet without its labels, fine-tuned on a tenth of it with them and on "
        "CIFAR-10, judged frozen on CIFAR-10. From scratch: as many steps as the others pre-train, on the labels of "
        "the fine-tuning, then the same fine-tuning.",
        "MAE has as many steps as make its arithmetic that of the supervised run.",
        "All have average pooling, since MAE gives its class token nothing to learn.",
        setups.SMALL_REMARK,
    ),
    "paper": ("The labels' runs have the steps and the rate of the masked ones, for equal compute.",),
}


def _at(scale: Scale) -> Setup:
    match scale:
        case "smoke":
            _, model = setups.SMOKE_MODELS["ViT-64/4"]
            base = setups.scattered_digits(model)
            few = _tuned(base, "scattered-digits@seen-train[:600]", "scattered-digits@seen-test", 60)
            return Setup(base, setups.SCATTERED_DIGITS, (few,))
        case "small":
            _, model = setups.SMALL_MODELS["ViT-96/4"]
            assert isinstance(model, ViTConfig)
            base = setups.tiny_imagenet(replace(model, pool=AveragePool()))
            tenth = _tuned(
                base, "tiny-imagenet@train[:10%]", "tiny-imagenet@validation", 1000, "a tenth of Tiny-ImageNet"
            )
            other = _tuned(base, "cifar10@train", "cifar10@test", 1000, "CIFAR-10")
            judge = replace(setups.CIFAR10, shots=(10, "all"))
            return Setup(
                base, judge, (replace(tenth, name="a tenth of Tiny-ImageNet"), replace(other, name="CIFAR-10"))
            )
        case "paper":
            return Setup(pretraining("masked-b16"), setups.IMAGENET, (Tuned(finetuning("paper-imagenet")),))
        case _:
            raise ValueError(f"there is no scale {scale}")


def _tuned(base: Pretrain, train: str, test: str, steps: int, name: str = Tuned.name) -> Tuned:
    """Fine-tuning with the images, the batch and the optimiser of the pre-training."""
    assert base.model is not None
    config = Finetune(
        train=train,
        test=test,
        resolution=base.model.resolution[0],
        steps=steps,
        batch=base.batch,
        resize=base.resize,
        augment=base.augment,
        resident=True,
        optimizer=base.optimizer,
        schedule=Cosine(warmup=steps // 10),
        evaluate_every=steps // 2,
        save_every=steps // 2,
    )
    return Tuned(config, name)


def finding(results: Results) -> str:
    """Both objectives against scratch and against labels; then the others against the published one."""
    if not results.complete:
        return unfinished(results)

    def gap(name: str, other: str, measure: str) -> str:
        contrast = results.contrast({name: 1.0, other: -1.0}, measure)
        assert contrast is not None
        return differs(contrast, "above", "below")

    tuned = [measure for measure in results.measures if isinstance(measure, Tuned)]
    names = [row.run.name for row in results.rows]
    others = [name for name in names if name not in {MASKED, PAINTED, SUPERVISED, UNTRAINED, *map(_scratch, tuned)}]
    said = []
    for task in tuned:
        references = {_scratch(task): "training from scratch as long", SUPERVISED: "supervised pre-training"}
        if UNTRAINED in names:
            references |= {UNTRAINED: "fine-tuning alone"}
        parts = [
            f"{spoken} is {listed([f'{gap(name, other, task.name)} {what}' for other, what in references.items()])}"
            for spoken, name in (("masked patch prediction", MASKED), ("MAE", PAINTED))
        ]
        parts.append(f"MAE is {gap(PAINTED, MASKED, task.name)} masked patch prediction")
        parts += [f"{name} is {gap(name, MASKED, task.name)} the mean colour" for name in others]
        said.append(f"{_fine_tuned(task)}: {'; '.join(parts)}.")
    return " ".join(said)


def _fine_tuned(task: Tuned) -> str:
    return "Fine-tuned" if task.name == Tuned.name else f"Fine-tuned on {task.name}"


def figures(results: Results) -> Sequence[Figure]:
    """All runs beside each other, for every measure."""
    drawn: list[Figure] = []
    for measure in results.measure_names:
        dots = [dot(row.run.name, results.value(row, measure), _group(row.run.name)) for row in results.has(measure)]
        if dots:
            drawn.append(Dots(f"{measure} accuracy", f"{measure} accuracy", [Panel("these runs", dots)]))
    return drawn


def _group(name: str) -> str:
    return "labels" if name.startswith((SUPERVISED, SCRATCH, UNTRAINED)) else "no labels"
