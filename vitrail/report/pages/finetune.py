"""Fine-tuning by the protocol: how the rate was chosen, the final runs; and several choices of what is trained."""

from collections.abc import Sequence
from urllib.parse import quote

from vitrail.core import numbers
from vitrail.findings import finetune as findings
from vitrail.records.finetune import CHOSEN_BY
from vitrail.report.blocks import Chart, Facts, Section, Table, Text, paragraphs
from vitrail.report.charts.intervals import Bar, bar_chart
from vitrail.report.charts.lines import guessing, interval_line, line_chart
from vitrail.report.folder import Folder, Json, objects, texts
from vitrail.report.page import page
from vitrail.report.pages import evaluation
from vitrail.report.pages.run import environment, transplant
from vitrail.report.sections import doubtful_labels


def transfer_page(folder: Folder) -> str:
    """The page of a folder with transfer.json."""
    content, result = folder.json("transfer.json") or {}, folder.json("result.json")
    plan = (folder.json("plan.json") or {}).get("plan") or {}
    config = folder.json("config.json") or {}
    inner = config.get("config")
    data = inner.get("train") if isinstance(inner, dict) else None
    runs = objects(content.get("runs"))
    first = folder.within(runs[0].get("folder")) if runs else None
    tested = folder.within("evaluation") or (first.within("evaluation") if first else None)
    sections = [
        _tried(content) if config.get("recipe") == "auto" else _choice(content, plan),
        _finals(runs, result),
        evaluation.section(tested, title=f"Evaluation of seed {runs[0].get('seed')}") if tested and runs else None,
        doubtful_labels.section(folder),
        transplant(first) if first else None,
        _plan(plan, result),
        environment(first, config) if first else None,
    ]
    title = f"Fine-tuning on {data or folder.path.resolve().name}"
    kind = f"Fine-tuning by the protocol in folder {folder.path.resolve().name}"
    return page(title, transfer_summary(folder), sections, kind=kind, problems=folder.problems)


def transfer_summary(folder: Folder) -> str:
    """The accuracy with its uncertainty and how the rate was chosen, or how far an unfinished one has come."""
    content, result = folder.json("transfer.json") or {}, folder.json("result.json")
    plan = (folder.json("plan.json") or {}).get("plan") or {}
    trials, runs = objects(content.get("trials")), objects(content.get("runs"))
    if result is None and "candidates" in plan:
        done, wanted = max(0, len(trials) - 1), len(plan["candidates"] or ())
        return f"Unfinished: {done} of {wanted} trials, {len(runs)} of 1 final runs."
    if result is None:
        rates, seeds = len(plan.get("rates") or ()), len(plan.get("seeds") or ())
        return f"Unfinished: {len(trials)} of {rates if rates > 1 else 0} trials, {len(runs)} of {seeds} final runs."
    said = evaluation.headline(result) or "Finished; there was no test set."
    if len(runs) > 1 and numbers.known(result.get("spread")):
        said = said.replace("Accuracy", f"Mean accuracy of {len(runs)} runs").replace(
            "95 % interval", "95 % interval over runs"
        )
        said += f" Their standard deviation is {numbers.points(result['spread'])}."
    chosen = content.get("chosen")
    if isinstance(chosen, dict) and chosen.get("name"):
        said += " " + findings.chosen_of(chosen, trials)
    elif isinstance(chosen, dict):
        said += (
            f" The learning rate {chosen['learning_rate']:g} was chosen from {len(trials)} on "
            f"{numbers.count(chosen.get('count'))} held-out training images."
        )
    return said


def parts_of(folder: Folder) -> list[Folder]:
    """The runs inside, whose pages the page links to."""
    content = folder.json("transfer.json") or folder.json("tunings.json") or {}
    rows = [row for name in ("trials", "runs", "rows") for row in objects(content.get(name))]
    return [part for part in (folder.within(row.get("folder")) for row in rows) if part is not None]


def tunings_page(folder: Folder) -> str:
    """The page of a folder with tunings.json: a row for each choice of what is trained."""
    content = folder.json("tunings.json") or {}
    rows = objects(content.get("rows"))
    known = [row for row in rows if numbers.known(row.get("accuracy"))]
    wanted = texts(content.get("wanted"))
    lead = findings.comparison(known) or f"{len(rows)} of {len(wanted)} choices are finished."
    if len(rows) < len(wanted):
        lead = f"Unfinished, {len(rows)} of {len(wanted)}. {lead}"
    bars = [
        Bar(str(row.get("name")), row["accuracy"], numbers.ends(row.get("interval")), _trained(row)) for row in known
    ]
    head = ["trained", "#accuracy", "#95 % interval", "#rate", "#parameters trained", "#training time", "#memory"]
    blocks = [
        Text("All start from the same model and learn from the same images; each has its own learning rate."),
        Chart(bar_chart(bars, title=lead) if bars else None, "Accuracy on the test images with its 95 % interval."),
        Table(head, [_tuning(row) for row in rows], links=_links(rows)),
        Facts([(name, content.get(key)) for name, key in _ABOUT]),
    ]
    title = f"What to train on {content.get('train') or folder.path.resolve().name}"
    kind = f"Comparison in folder {folder.path.resolve().name}"
    return page(title, lead, [Section("Results", "results", blocks)], kind=kind, problems=folder.problems)


def _choice(content: Json, plan: Json) -> Section | None:
    """Accuracy on held-out images over the learning rate."""
    trials, chosen = objects(content.get("trials")), content.get("chosen")
    if not trials:
        return None
    judged = sorted(
        (row for row in trials if numbers.known(row.get("accuracy"))), key=lambda row: float(row["learning_rate"])
    )
    failed = [row for row in trials if row.get("failed")]
    sentences = []
    best = None
    if isinstance(chosen, dict):
        best = trials.index(next(row for row in trials if row.get("folder") == chosen.get("folder")))
        sentences.append(findings.choice(chosen, judged))
    sentences += [f"The rate {row['learning_rate']:g} failed: {row['failed']}" for row in failed]
    drawing = None
    if len(judged) > 1:
        line = interval_line("", judged, "learning_rate", "accuracy")
        said = ", ".join(f"{numbers.percent(y)} at {x:g}" for x, y in zip(line.x, line.y, strict=True))
        drawing = line_chart(
            [line],
            title=f"Accuracy on held-out images over the learning rate: {said}.",
            x_label="learning rate",
            y_label="accuracy on held-out images",
            percent=True,
            log_x=True,
            x_ticks=line.x,
            references=[guess for guess in guessing(plan.get("classes")) if min(line.y) < 3 * guess.value],
        )
    rows = [
        (
            f"{row['learning_rate']:g}",
            "failed" if row.get("failed") else numbers.percent(row.get("accuracy")),
            numbers.interval(row.get("interval")),
            numbers.plain(row.get("loss")),
            numbers.duration(row.get("seconds")),
        )
        for row in trials
    ]
    head = ["#learning rate", "#held-out accuracy", "#95 % interval", "#held-out loss", "#training time"]
    blocks = [
        *paragraphs(sentences),
        Chart(drawing, "With 95 % intervals. Test images play no part here."),
        Table(head, rows, strong=best, links=_links(trials)),
        Facts([("Rule", content.get("rule"))]),
    ]
    return Section("The choice of the learning rate", "choice", blocks)


def _tried(content: Json) -> Section | None:
    """What `finetune auto` tried, on held-out images."""
    trials, chosen = objects(content.get("trials")), content.get("chosen") or {}
    if not trials:
        return None
    measure = findings.measure(trials[0])
    others = [key for key, name in CHOSEN_BY.items() if name == measure]
    rows = [
        (
            str(row.get("name")),
            *[numbers.percent(row.get(key)) for key in others],
            "failed" if row.get("failed") else numbers.percent(row.get("accuracy")),
            numbers.interval(row.get("interval")),
            numbers.plain(row.get("loss")),
            numbers.duration(row.get("wall")),
        )
        for row in trials
    ]
    best = next((i for i, row in enumerate(trials) if row.get("name") == chosen.get("name")), None)
    head = [
        "tried",
        *["#mAP" if measure == "mean average precision" else f"#{measure}" for _ in others],
        "#held-out accuracy",
        "#95 % interval",
        "#held-out loss",
        "#time",
    ]
    sentences = [findings.chosen_of(chosen, trials)] if chosen else []
    sentences += [f"{row['name']} failed: {row['failed']}" for row in trials if row.get("failed")]
    sentences += [f"{row['name']} was cut short: it was {row['cut']}." for row in trials if row.get("cut")]
    table = Table(head, rows, strong=best, links=_links(trials))
    return Section("What was tried", "choice", [*paragraphs(sentences), table, Facts([("Rule", content.get("rule"))])])


def _links(rows: Sequence[Json]) -> list[str]:
    """The page of each row's run; none where there is none, or where it failed."""
    return [
        "" if row.get("failed") or not row.get("folder") else f"{quote(str(row.get('folder')))}/report.html"
        for row in rows
    ]


def _finals(runs: Sequence[Json], result: Json | None) -> Section | None:
    if not runs:
        return None
    known = [row for row in runs if numbers.known(row.get("accuracy"))]
    drawing = None
    if len(known) > 1:
        bars = [Bar(f"seed {row.get('seed')}", row["accuracy"], numbers.ends(row.get("interval"))) for row in known]
        drawing = bar_chart(bars, title=f"Test accuracy of {len(known)} final runs.")
    rows = [
        (
            str(row.get("seed")),
            numbers.percent(row.get("accuracy"), 2),
            numbers.interval(row.get("interval")),
            numbers.duration(row.get("seconds")),
            numbers.gib(row.get("memory_gib")),
        )
        for row in runs
    ]
    sentences = ["Trained on all training images, and tested once."]
    if not runs[0].get("folder"):
        sentences = ["The linear judge, fitted on the features of all training images, and tested once."]
    elif str(runs[0]["folder"]).startswith("trials/"):
        sentences = ["The trial as it is: there was no time to go on with the held-out images. Tested once."]
    if result and len(known) > 1 and numbers.known(result.get("spread")):
        sentences.append(
            f"Mean {numbers.percent(result['accuracy'], 2)} with a standard deviation of "
            f"{numbers.points(result['spread'])} over {len(known)} seeds."
        )
    chart = Chart(drawing, "Whiskers are 95 % intervals of each run for its test images.")
    table = Table(["#seed", "#test accuracy", "#95 % interval", "#training time", "#memory"], rows, links=_links(runs))
    return Section("Final runs", "final", [*paragraphs(sentences), chart, table])


def _plan(plan: Json, result: Json | None) -> Section | None:
    if not plan:
        return None
    taken = result or {}
    pairs = [
        ("Steps of a run", numbers.count(plan.get("steps"))),
        ("Images a step", numbers.count(plan.get("batch"))),
        ("Warm-up steps", numbers.count(plan.get("warmup"))),
        ("Training images", numbers.count(plan.get("train_images"))),
        ("Held out for the choice", numbers.count(plan.get("judged_images"))),
        ("Test images", numbers.count(plan.get("test_images"))),
        ("Time that was planned", numbers.duration(plan.get("seconds"))),
        ("Training time that it took", numbers.duration(taken.get("seconds"))),
        ("Memory that was planned", numbers.gib(plan.get("memory_gib"))),
        ("Memory that it took", numbers.gib(taken.get("memory_gib"))),
    ]
    said = [sentence[:1].upper() + sentence[1:] + "." for sentence in texts(plan.get("why"))]
    return Section("The plan", "plan", [*paragraphs(said), Facts(pairs)])


_ABOUT = (("Learned from", "train"), ("Tested on", "test"), ("Started from", "init"))


def _tuning(row: Json) -> tuple[str, ...]:
    rate = row.get("learning_rate")
    return (
        str(row.get("name")),
        numbers.percent(row.get("accuracy")),
        numbers.interval(row.get("interval")),
        f"{rate:g}" if numbers.known(rate) else numbers.UNKNOWN,
        numbers.count(row.get("trained_parameters")),
        numbers.duration(row.get("seconds")),
        numbers.gib(row.get("memory_gib")),
    )


def _trained(row: Json) -> str:
    trained = row.get("trained_parameters")
    return f"({numbers.quantity(trained)} trained)" if numbers.known(trained) else ""
