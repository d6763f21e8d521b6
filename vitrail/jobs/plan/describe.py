"""A plan in words, several in a table, and what is assumed."""

from collections.abc import Sequence
from dataclasses import fields

from vitrail.core.numbers import count, duration, percent, plain
from vitrail.core.text import ordinary_spaces, table
from vitrail.jobs.plan.hardware import GIB, Hardware
from vitrail.jobs.plan.memory import Memory
from vitrail.jobs.plan.plan import BETWEEN_FAILURES, Limit, Plan, Surroundings

KINDS = {
    "weights": "weights, in float32: they are the master weights",
    "gradients": "gradients",
    "optimizer": "state of the optimizer",
    "average": "averaged weights",
    "copies": "copies of weights: in bfloat16, or gathered from other accelerators",
    "batch": "pixels of this step and the next",
    "activations": "activations",
    "moment": "what lives only for a moment",
    "reserved": "context, libraries, buffers",
}


def memory_rows(memory: Memory) -> list[tuple[str, float]]:
    """(kind of content, bytes), without what is not there."""
    rows = [(KINDS[field.name], getattr(memory, field.name)) for field in fields(memory)]
    return [(name, size) for name, size in rows if size]


def spread(made: Plan) -> str:
    """How the run is spread over its accelerators."""
    ways = {
        "replicated": "a whole model on each",
        "hybrid": f"weights in {made.shards} parts, {made.devices // made.shards} times",
        "sharded": f"weights in {made.shards} parts",
    }
    return "" if made.devices == 1 else f" --sharding {made.sharding} ({ways[made.sharding]})"


def facts(made: Plan, around: Surroundings, title: str) -> str:
    """A plan, whole."""
    step, hardware = made.step, made.hardware
    number = f"{made.devices:,} x {hardware.name}" + ("" if made.nodes == 1 else f" in {made.nodes} machines")
    passes = "" if made.micro_batch == made.images else f" in passes of {made.micro_batch}"
    lines = [f"{title} on {number}{spread(made)}{', --recompute' if made.recompute else ''}"]
    most = "" if made.fuller == 0 else "at most "
    lines.append(
        f"{most}{made.images:,} images a step on each{passes}; a data sheet's figures, nothing here is measured"
    )
    lines += uneven(made)
    if not made.fits:
        lines += ["", "This does not fit into memory. Smaller: more accelerators with --sharding sharded, --recompute"]
    rows = [[name, f"{size / GIB:.2f} GiB"] for name, size in memory_rows(made.memory)]
    rows.append(["all", f"{made.memory.total / GIB:.2f} of {hardware.memory / GIB:.1f} GiB"])
    lines += ["", "memory of each", *_indented(table(rows, "<>"))]
    parts = [
        ("products with weights", step.products),
        ("attention", step.attention),
        ("norms, activations, residuals through memory", step.streaming),
        ("update of the weights, casts and copies of them", step.update),
        (f"sums over processes, {_ms(step.communication)} in all, that nothing hides", step.exposed),
    ]
    waits = step.seconds - step.computing - step.exposed
    parts += [("waiting for the host, which queues it all", waits)] if waits > 0 else []
    rows = [[name, _ms(seconds), percent(seconds / step.seconds, 0)] for name, seconds in parts]
    rows.append(["a step", _ms(step.seconds), ""])
    lines += ["", "time of a step", *_indented(table(rows, "<>>"))]
    whole = [
        ("speed", f"{count(made.images_per_second)} images/s, {percent(made.of_peak)} of the data sheet's peak"),
        ("length", f"{made.steps:,} steps, {duration(made.seconds)}, {count(made.device_hours)} hours of accelerators"),
        ("left out", "the start, evaluations, and waiting for images"),
        ("failures", f"{plain(made.failures, 2)} expected, at one in {BETWEEN_FAILURES:,.0f} hours of accelerators"),
        ("loader", f"{plain(made.cores, 2)} cores for each, at {1000 * around.image_seconds:.2g} ms an image"),
        (
            "checkpoint",
            f"{made.checkpoint_bytes / GIB:.2f} GiB, training stands still for {duration(made.checkpoint_pause)}, "
            f"written after {duration(made.checkpoint_writing)}",
        ),
    ]
    lines += ["", *(f"{name:<11} {text}" for name, text in whole)]
    lines += ["", "what fails first: needed, of what there is", *_indented(_limits(made.limits))]
    return ordinary_spaces("\n".join(lines))


def uneven(made: Plan) -> list[str]:
    """What it means that the images of a step cannot be shared evenly, where they cannot."""
    if made.fuller == 0:
        return []
    less = made.images - 1
    batch = less * made.devices + made.fuller
    parts = f"parts of {made.images:,} ({made.fuller:,} of them) and {less:,} ({made.devices - made.fuller:,})"
    near = " or ".join(f"{made.devices * images:,}" for images in (less, made.images) if images)
    return [
        f"{batch:,} images are shared by {made.devices:,} in {parts}: the largest decide how long a step is,",
        f"the others wait, {percent(made.idle, 2)} of all computing; --batch {near} is shared evenly",
    ]


def comparison(plans: Sequence[Plan]) -> list[str]:
    """A line a plan."""
    head = ["accelerators", "spread", "images", "a pass", "memory", "a step", "images/s", "of peak"]
    head += ["sums", "time", "hours", "cores", "first"]
    return table([head, *(_row(made) for made in plans)], "><>>>>>>>>>><")


def _row(made: Plan) -> list[str]:
    exposed = made.step.exposed / made.step.seconds
    return [
        f"{made.devices:,}",
        ("alone" if made.devices == 1 else made.sharding) + (", recompute" if made.recompute else ""),
        f"{made.images:,}" if made.fuller == 0 else f"{made.images - 1:,} or {made.images:,}",
        f"{made.micro_batch:,}" if made.fits else "-",
        f"{made.memory.total / GIB:.1f} GiB",
        _ms(made.step.seconds),
        count(made.images_per_second),
        percent(made.of_peak),
        percent(exposed, 0),
        duration(made.seconds),
        count(made.device_hours),
        plain(made.cores, 2),
        f"{made.first.name} {plain(made.first.share, 2)}",
    ]


def assumptions(hardware: Hardware, around: Surroundings) -> list[str]:
    """What is assumed, a line each."""
    h, a = hardware, around
    reading, writing = a.reading / 1e9, a.writing / 1e9
    return [
        f"{h.name}: {h.peak / 1e12:,.0f} TFLOP/s in bfloat16, {h.peak32 / 1e12:,.0f} in float32, "
        f"{h.memory / GIB:.1f} GiB at {h.bandwidth / 1e12:.2f} TB/s; {h.node} in a machine,",
        f"joined at {h.link / 1e9:,.0f} GB/s each way, machines at {h.network / 1e9:,.3g} GB/s for each accelerator",
        f"products of width D with N rows reach {h.products:.2g} D / (D + {h.half:.0f}) N / (N + {h.rows:.0f}) "
        f"of the peak, attention {h.attention:.2g},",
        f"all else {h.streamed:.2g} of the memory's bandwidth, sums {h.joined:.2g} of links; "
        "these run beside the backward pass",
        f"the host queues a step in {1000 * h.host_step:.2g} ms and {1000 * h.host_layer:.2g} a layer and pass; "
        f"{h.reserved / GIB:.2g} GiB are reserved",
        f"{a.cores} cores for each accelerator, {1000 * a.image_seconds:.2g} ms of a core and "
        f"{a.image_bytes / 1000:.0f} kB an image, {reading:.2g} GB/s read and {writing:.2g} written by each machine",
    ]


def _limits(limits: Sequence[Limit]) -> list[str]:
    return table([[limit.name, plain(limit.share, 2), limit.said] for limit in limits], "<><")


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.1f} ms"
