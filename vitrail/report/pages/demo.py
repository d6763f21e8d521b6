"""The page of the demo: the whole story of a Vision Transformer, told to somebody who has never seen one."""

from collections.abc import Sequence
from urllib.parse import quote

import numpy as np

from vitrail.core import numbers
from vitrail.core.text import listed
from vitrail.report.blocks import Block, Chart, Images, Links, Part, Section, Table, Text, Tile, paragraphs
from vitrail.report.charts.images import cut_into_patches, picture
from vitrail.report.charts.lines import Line, line_chart
from vitrail.report.folder import Folder, Json, texts
from vitrail.report.page import page
from vitrail.report.pages import evaluation, inspection, linear_probe
from vitrail.report.pages.run import cost_facts, environment, final_accuracy
from vitrail.report.sections import training_curves

EXAMPLES = 18
READING = (
    "It cuts the image into patches, like the panes of a stained-glass window. Each patch becomes a list of numbers,"
    " as a word does in a language model. In each layer every patch looks at all others and takes from them what it"
    " needs."
)
LOOKING_INSIDE = "What has the model learned? Four views into it."


def parts_of(folder: Folder) -> list[Folder]:
    """The folders of runs and evaluations that demo.json names and that exist inside the demo's folder."""
    content = folder.json("demo.json") or {}
    runs = content.get("runs")
    names = [*(runs.values() if isinstance(runs, dict) else ()), content.get("linear"), content.get("inspection")]
    return [part for part in (folder.within(name) for name in names) if part is not None]


def demo_page(folder: Folder) -> str:
    """The whole page, top-down; chapters whose folders are missing are left out."""
    content = folder.json("demo.json") or {}
    named = content.get("runs")
    runs: Json = named if isinstance(named, dict) else {}
    pretrain, finetune, scratch = (folder.within(runs.get(name)) for name in ("pretrain", "finetune", "scratch"))
    few, inspected = folder.within(content.get("linear")), folder.within(content.get("inspection"))
    anatomy = (inspected.json("inspection.json") or {}) if inspected else {}
    tuned = (finetune.within("final/seed-0") or finetune) if finetune else None
    tested = tuned.within("evaluation") if tuned else None
    chapters = [
        _images(folder, content, anatomy),
        _pretraining(pretrain, texts(content.get("seen"))),
        _few_shot(few, texts(content.get("unseen"))),
        _finetuning(finetune, tested, scratch, texts(content.get("unseen"))),
        inspection.section(inspected, title="Looking inside", opening=LOOKING_INSIDE) if inspected else None,
        _mistakes(tested) if tested else None,
        _cost({"Pre-training": pretrain, "Fine-tuning": finetune, "From scratch": scratch}, content),
        environment(pretrain, {}, title="Machine and command") if pretrain else None,
        _more(folder),
    ]
    numbered = [chapter for chapter in chapters if chapter]
    sections = [Section(f"{i}. {one.title}", one.anchor, one.blocks) for i, one in enumerate(numbered, start=1)]
    title = str(content.get("title") or "A Vision Transformer, from the start")
    return page(title, _lead(content, finetune, scratch), sections, kind="vitrail demo", problems=folder.problems)


def compare(finetuned: Json, scratch: Json, *, same_steps: bool) -> str:
    """Fine-tuning against training from scratch, by their final accuracies; says so where pre-training did not help."""
    ours, theirs = finetuned["accuracy"], scratch["accuracy"]
    steps = f" after the same {numbers.count(finetuned['steps'])} steps" if same_steps else ""
    said = (
        f"The fine-tuned model is right on {numbers.percent(ours)} of the test images,"
        f" the one from scratch on {numbers.percent(theirs)}{steps}"
    )
    if abs(ours - theirs) < 0.0005:
        return f"{said}: no difference. Pre-training did not help here."
    overlap = numbers.overlap(finetuned.get("interval"), scratch.get("interval"))
    because = {
        True: "The 95 % intervals overlap, so this may be chance.",
        False: "The 95 % intervals do not overlap, so this is more than chance.",
        None: "The intervals are not known.",
    }[overlap]
    if ours > theirs:
        return f"{said}: {numbers.points(ours - theirs)} more for pre-training. {because}"
    return f"{said}: pre-training did not help here, it cost {numbers.points(ours - theirs)}. {because}"


def _lead(content: Json, finetune: Folder | None, scratch: Folder | None) -> str:
    took = f" in {numbers.duration(content['seconds'])}" if numbers.known(content.get("seconds")) else ""
    lead = f"A model that reads pictures as words: taught, tested and opened up{took}."
    ours, theirs = _final(finetune) or {}, _final(scratch) or {}
    if numbers.known(ours.get("accuracy")) and numbers.known(theirs.get("accuracy")):
        lead += (
            f" In the end the pre-trained model reached {numbers.percent(ours['accuracy'])} accuracy,"
            f" the same model without pre-training {numbers.percent(theirs['accuracy'])}."
        )
    return lead


def _images(folder: Folder, content: Json, anatomy: Json) -> Section | None:
    arrays = folder.arrays(str(content.get("examples") or "examples.npz"))
    images, labels = arrays.get("images"), arrays.get("labels", np.array([], dtype=str))
    if images is None or images.ndim != 4 or not len(images):
        return None
    names = [str(label) for label in labels] + [""] * len(images)
    # A few of each class rather than the first ones, which may all be of one.
    order = np.linspace(0, len(images) - 1, min(EXAMPLES, len(images))).astype(int)
    examples = [Tile([picture(images[i], f"Example of {names[i] or 'the data'}", width=104)], names[i]) for i in order]
    seen, unseen = texts(content.get("seen")), texts(content.get("unseen"))
    size = f"{images.shape[2]} pixels wide and {images.shape[1]} high"
    said = [f"These are some of the images, as the model sees them. Each is {size}."]
    if seen and unseen:
        said.append(
            f"The classes are split in two. The model first learns {_words(seen)}."
            f" It does not see {_words(unseen)} until later: those show what it can carry over to something new."
        )
    grid = anatomy.get("grid")
    cut: list[Block] = []
    if isinstance(grid, list) and len(grid) == 2 and images.shape[1] >= grid[0] > 0 and images.shape[2] >= grid[1] > 0:
        pieces = cut_into_patches(images[order[0]], (grid[0], grid[1]))
        alt = f"An image cut into {grid[0]} by {grid[1]} patches with gaps between them"
        answer = "An extra word that belongs to no patch gathers what is needed for the answer."
        if not anatomy.get("class_token"):
            answer = "Together they give the answer."
        shown = Images([[Tile([picture(pieces, alt, width=224)])]])
        cut = [Text(f"{READING} {answer}"), Text(inspection.anatomy(anatomy)), shown]
    reading = Part("How a Vision Transformer reads an image", cut)
    return Section("The images", "images", [*paragraphs(said), Images([examples]), reading])


def _pretraining(run: Folder | None, seen: Sequence[str]) -> Section | None:
    if run is None:
        return None
    train, validation = training_curves.metrics(run)
    training = training_curves.section(train, validation)
    end = _final(run) or {}
    said = [
        "At first the model knows nothing: its numbers are random. It is shown images of"
        f" {_words(seen) or 'the seen classes'} with their names, again and again."
        " Each time its numbers are changed a little, so that the right name becomes likelier. This is pre-training."
    ]
    if numbers.known(end.get("accuracy")):
        said.append(f"Then it was tested on images that it had not been shown. {_named(end)}{_chance(len(seen))}")
    else:
        said.append("Pre-training is not finished yet.")
    lines = [
        line
        for line in (_training_line(train), training_curves.validation_line(validation, "validation", colour=1))
        if line
    ]
    drawing = (
        line_chart(
            lines,
            title="Accuracy of pre-training over the steps, on training and validation images.",
            x_label="step",
            y_label="accuracy",
            percent=True,
        )
        if lines and training
        else None
    )
    note = "Accuracy while it learns. The band is a 95 % interval: how far chance could move the line."
    return Section("Pre-training", "pre-training", [*paragraphs(said), Chart(drawing, note)])


def _training_line(train: Sequence[Json]) -> Line | None:
    lines = [line for line in training_curves.lines(train, [], "accuracy") if line.name]
    return lines[0] if lines else None


def _few_shot(few: Folder | None, unseen: Sequence[str]) -> Section | None:
    if few is None:
        return None
    new = f"the unseen classes, {_words(unseen)}," if unseen else "new classes"
    opening = [
        f"Does what it learned help with something new? The model is now frozen, and describes images of {new}"
        " in numbers. A simple linear classifier learns the new names from a handful of described images.",
        "For comparison the same is done with a model that was never trained, and with the bare pixels.",
    ]
    return linear_probe.section(few, title="A few examples of something new", opening=opening)


def _finetuning(
    finetune: Folder | None, tested: Folder | None, scratch: Folder | None, unseen: Sequence[str]
) -> Section | None:
    if finetune is None and scratch is None:
        return None
    said = [
        f"With more examples all of the model can go on learning.{_task(tested, unseen)} This is fine-tuning."
        " A second model of the same shape starts from random numbers instead and learns from the same images."
    ]
    named = [("fine-tuned", finetune), ("from scratch", scratch)]
    ends = {name: _final(run) or {} for name, run in named if run is not None}
    known = {name: end for name, end in ends.items() if numbers.known(end.get("accuracy"))}
    if len(known) == 2:
        one, other = known["fine-tuned"], known["from scratch"]
        same = numbers.known(one.get("steps")) and one.get("steps") == other.get("steps")
        said.append(compare(one, other, same_steps=same))
        if not same:
            said.append(
                f"The comparison is by time, the choice of the learning rate included:"
                f" {numbers.duration(one.get('seconds'))} against {numbers.duration(other.get('seconds'))}"
                f" ({numbers.count(one.get('steps'))} steps of the final run against"
                f" {numbers.count(other.get('steps'))} from scratch)."
            )
    elif len(known) < len(ends):
        said.append("Not both are finished yet.")
    lines = []
    for colour, (name, run) in enumerate(named):
        line = training_curves.validation_line(training_curves.metrics(run)[1], name, colour=colour) if run else None
        lines += [line] if line else []
    chart = Chart(None)
    if lines:
        drawing = line_chart(
            lines,
            title=f"Validation accuracy over the steps: {' and '.join(line.name for line in lines)}. {said[-1]}",
            x_label="step",
            y_label="validation accuracy",
            percent=True,
        )
        chart = Chart(drawing, "Accuracy on images kept aside, with 95 % intervals.")
    rows = [
        (
            name,
            numbers.percent(end["accuracy"]),
            numbers.interval(end.get("interval")),
            numbers.count(end.get("count")),
            numbers.count(end.get("steps")),
        )
        for name, end in known.items()
    ]
    table = Table(["", "#accuracy", "95 % interval", "#test images", "#steps"], rows)
    return Section("Fine-tuning", "fine-tuning", [*paragraphs(said), chart, table])


def _task(tested: Folder | None, unseen: Sequence[str]) -> str:
    classes = texts((tested.json("evaluation.json") or {}).get("classes")) if tested else []
    new = [name for name in classes if name in unseen]
    if not classes:
        return ""
    share = (
        " all new to it" if len(new) == len(classes) else f" {len(new)} of them new to it" if new else " none new to it"
    )
    return f" Now it is to tell {len(classes)} classes apart,{share}."


def _mistakes(tested: Folder) -> Section | None:
    opening = "No model is always right. This is how the fine-tuned one does, and where it fails."
    return evaluation.section(tested, title="What it gets wrong", anchor="mistakes", opening=opening)


def _cost(runs: dict[str, Folder | None], content: Json) -> Section | None:
    found = {name: run.json("result.json") for name, run in runs.items() if run is not None}
    columns = {name: dict(cost_facts(result)) for name, result in found.items() if result}
    if not columns:
        return None
    facts = [
        fact
        for fact in next(iter(columns.values()))
        if any(column[fact] != numbers.UNKNOWN for column in columns.values())
    ]
    rows = [(fact, *(column[fact] for column in columns.values())) for fact in facts]
    known = numbers.known(content.get("seconds"))
    said = f"Everything on this page took {numbers.duration(content['seconds'])}." if known else ""
    return Section("What it cost", "cost", [Text(said), Table(["", *(f"#{name}" for name in columns)], rows)])


def _more(folder: Folder) -> Section | None:
    names = [part.path.relative_to(folder.path).as_posix() for part in parts_of(folder)]
    links = Links([(name, f"{quote(name)}/report.html") for name in names])
    said = Text("Each part has its own page with all its curves, tables and settings.")
    return Section("More", "more", [said, links]) if links else None


def _final(run: Folder | None) -> Json | None:
    """Accuracy, interval, count and steps of a finished run."""
    result = run.json("result.json") if run else None
    if run is None or result is None:
        return None
    return {
        "steps": result.get("steps"),
        "seconds": result.get("seconds"),
        **{k: final_accuracy(result, run.within("evaluation")).get(k) for k in ("accuracy", "interval", "count")},
    }


def _named(end: Json) -> str:
    images = f"{numbers.count(end['count'])} of them" if numbers.known(end.get("count")) else "them"
    within = numbers.within(end.get("interval"))
    return f"It gave the right name to {numbers.percent(end['accuracy'])} of {images}{within}."


def _chance(classes: int) -> str:
    return f" Guessing would give {numbers.percent(1 / classes)}." if classes > 1 else ""


def _words(names: Sequence[str]) -> str:
    shown = list(names) if len(names) <= 12 else [*names[:10], f"{len(names) - 10} more"]
    return listed(shown)
