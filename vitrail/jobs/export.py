"""A model written for another runtime, with the proof that it answers the same: whole, or nothing under its name."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image

from vitrail.core.config import to_json
from vitrail.core.device import processor_name
from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_folder, write_text_atomic
from vitrail.core.progress import say
from vitrail.core.temporary import refuse_existing, writing_alone
from vitrail.export.card import predict_text, readme
from vitrail.export.graph import Output, check_outputs
from vitrail.export.instructions import instructions
from vitrail.export.proof import broken_promises, hostile_images, prove
from vitrail.export.speed import noise, speeds
from vitrail.export.targets import write_target
from vitrail.models.build import Model
from vitrail.models.vit import ViT
from vitrail.records.export import ExportInfo, ExportPrecision, Target
from vitrail.records.record import write_record
from vitrail.weights.digest import digest_of
from vitrail.weights.load import load

FORMAT = 1
PACKAGES: dict[Target, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("openvino",),
    "pt2": (),
    "triton": ("onnx", "onnxscript", "onnxruntime"),
    "web": ("onnx", "onnxscript", "onnxruntime"),
}


@dataclass(frozen=True)
class Export:
    """What is exported, and what it must be like."""

    model: str
    to: Target = "onnx"
    precision: ExportPrecision = "float32"
    outputs: tuple[Output, ...] = ()  # none: probabilities and representation
    resolution: int | None = None
    check: str | None = None  # labelled DATA on which both are judged
    calibrate_on: str | None = None  # DATA for the ranges of int8; none: --check's training images
    most_lost: float = 0.5  # points of accuracy on --check; above it nothing is written

    def check_config(self) -> None:
        """Raises BadInput for what does not go together, or is not installed."""
        missing = [name for name in PACKAGES[self.to] if not find_spec(name)]
        if self.precision == "int8":
            missing += [name for name in ("onnx", "onnxscript", "onnxruntime") if not find_spec(name)]
        if missing:
            raise BadInput(f"--to {self.to} needs {', '.join(dict.fromkeys(missing))}: pip install 'vitrail[export]'")
        if self.precision == "bfloat16" and self.to in ("onnx", "triton", "web"):
            raise BadInput(
                f"--to {self.to} --precision bfloat16: ONNX Runtime has no products in bfloat16 on processors; take "
                "--to openvino for them, or float16 for a smaller file"
            )
        if self.precision == "int8" and self.to == "pt2":
            raise BadInput("--to pt2 has no int8; take --to onnx or --to openvino")
        if self.precision == "int8" and not (self.calibrate_on or self.check):
            raise BadInput("int8 needs images that tell the ranges of activations: give --check or --calibrate-on DATA")


class ExportFailed(Exception):
    """The export is written, and is not as near to the model as was promised; it has been removed."""


def export(config: Export, out: Path, finish: Callable[[Path], object] | None = None) -> ExportInfo:
    """Exports, and proves it.

    Args:
        finish: puts something more into the folder, before it has its name.

    Raises:
        BadInput: an output that the model does not have, a library that is missing, a folder that exists.
        ExportFailed: it differs by more than its precision promises, or loses more than `most_lost` on the data.
    """
    config.check_config()
    refuse_existing(out)
    started = time.perf_counter()
    model = load(config.model, resolution=config.resolution)
    wanted = config.outputs
    if config.to == "web" and not wanted:
        wanted = ("probabilities", "attention") if isinstance(model, ViT) else ("probabilities",)
    outputs = check_outputs(model, wanted, config.model)
    if config.to == "web" and "probabilities" not in outputs:
        raise BadInput("--to web labels photographs: probabilities must be among --outputs")
    with _sentences(config, out), writing_alone(out), atomic_folder(out) as folder:
        info = _written(config, model, outputs, folder, started)
        write_record(folder / "export.json", info)
        write_text_atomic(folder / "README.md", readme(info))
        info = replace(info, cold_start=_cold_start(config.to, folder), seconds=time.perf_counter() - started)
        write_record(folder / "export.json", info)
        if finish is not None:
            finish(folder)
    return info


def _written(config: Export, model: Model, outputs: tuple[Output, ...], folder: Path, started: float) -> ExportInfo:
    ranges = None
    if config.precision == "int8":
        from vitrail.export.int8 import calibration_images

        named = config.calibrate_on or str(config.check).partition("@")[0] + "@train"
        ranges = named, calibration_images(model, named)
    with say_while("writing the graphs"):
        written = write_target(config.to, config.precision, model, outputs, folder, ranges)
    notes = list(written.notes)
    (folder / "predict.py").write_text(predict_text(config.to), encoding="utf-8")
    with say_while("comparing with the model"):
        proof = prove(model, written.from_images, written.from_pixels, config.precision)
    problems = broken_promises(proof)
    speed = speeds(
        f"{config.to}, {config.precision}",
        written.from_pixels,
        noise(model.config.channels, model.config.resolution),
        seconds=0.5,
    )
    check = None
    if config.check is not None:
        from vitrail.export.data_check import check_on_data

        check = check_on_data(model, written.from_images, config.check, config.most_lost)
        if check.lost * 100 > config.most_lost:
            low, high = (100 * end for end in check.interval)
            problems.append(
                f"{100 * check.lost:.2f} points of accuracy are lost on {check.count:,} images of {check.data} (95 % "
                f"interval {low:.2f} to {high:.2f}), more than --most-lost {config.most_lost:g}"
            )
    if problems:
        raise ExportFailed("; ".join(problems))
    if config.to == "triton":
        from vitrail.export.to_triton import write_triton

        shapes: dict[str, tuple[int, ...]] = {name: shape_of(model, name) for name in outputs}
        write_triton(folder, _name(config.model), shapes)
    if config.to == "web":
        from vitrail.export.to_web import write_web

        write_web(folder, model, _name(config.model))
    return ExportInfo(
        format=FORMAT,
        target=config.to,
        model=config.model,
        weights=digest_of(model)[:16],
        precision=config.precision,
        outputs=outputs,
        classes=tuple(model.classes) if model.config.num_classes else (),
        resolution=model.config.resolution,
        preprocess=to_json(model.preprocess),
        temperature=model.temperature,
        versions={name: version(name) for name in ("torch", *PACKAGES[config.to])},
        files={str(path.relative_to(folder)): _sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()},
        machine=processor_name(),
        instructions=instructions(),
        threads=torch.get_num_threads(),
        proof=proof,
        check=check,
        quantisation=written.quantisation,
        speed=speed,
        notes=notes,
        seconds=time.perf_counter() - started,
    )


def shape_of(model: Model, output: Output) -> tuple[int, ...]:
    """Without the batch."""
    config = model.config
    match output:
        case "attention":
            return config.grid
        case "representation":
            return (config.representation_width,)
        case _:
            return (config.num_classes,)


@contextmanager
def say_while(what: str) -> Iterator[None]:
    """Says what takes a while, and how long it took."""
    start = time.perf_counter()
    yield
    say(f"{what}: {time.perf_counter() - start:.1f} s")


@contextmanager
def _sentences(config: Export, out: Path) -> Iterator[None]:
    """What goes wrong while it is written, in a sentence; the folder is gone by then."""
    try:
        yield
    except (BadInput, ExportFailed):
        raise
    except OSError as problem:
        raise BadInput(f"{out} could not be written, and nothing of it is left: {problem}") from None
    except Exception as problem:  # of exporters and runtimes, of many kinds: an operation that they lack
        first = next((line.strip() for line in str(problem).splitlines() if line.strip()), type(problem).__name__)
        raise BadInput(
            f"{config.model} cannot be exported to {config.to}, nothing is written: {first[:300]}"
        ) from problem


def _cold_start(target: Target, folder: Path) -> float | None:
    """Seconds of predict.py for one image in a new process that cannot import vitrail; it must answer."""
    if target == "triton":
        return None
    folder = folder.resolve()  # it is where predict.py runs
    image = folder / ".start.png"
    Image.fromarray(dict(hostile_images())["a ramp, 375 x 500"]).save(image)
    hidden = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, folder / "predict.py", image], cwd=folder, env=hidden, capture_output=True, text=True
    )
    seconds = time.perf_counter() - start
    image.unlink()
    if done.returncode or ": " not in done.stdout:
        raise ExportFailed(f"predict.py does not run: {(done.stderr or done.stdout).strip()[-300:]}")
    return seconds


def _name(model: str) -> str:
    """A name for a folder."""
    text = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(model).name).strip("-")
    return text or "model"


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def summary(info: ExportInfo, out: Path) -> str:
    """For people: a line for each kind of input and output, and what was found on the data."""
    lines = [f"{out}: {info.target}, {info.precision}, outputs {', '.join(info.outputs)}"]
    for output in dict.fromkeys(row.output for row in info.proof.rows):
        rows = [row for row in info.proof.rows if row.output == output]
        worst = max(rows, key=lambda row: row.relative)
        lines.append(
            f"  {output:<14} differs by {worst.largest:.2g} at most, {worst.relative:.2g} of the largest number "
            f"({worst.inputs}), {max(row.mean for row in rows):.2g} on the mean"
        )
    pixels = info.proof.pixels
    lines.append(f"  batches of {', '.join(map(str, info.proof.batches))}; among others {info.proof.neighbours:.2g}")
    lines.append(f"  pixels differ by {pixels.mean:.2g} of 255 on the mean, {pixels.largest:g} at most")
    if (check := info.check) is not None:
        low, high = (-100 * end for end in reversed(check.interval))
        lines.append(
            f"  {check.data}: the same answer for {check.agreement:.2%} of {check.count:,} images, accuracy "
            f"{-100 * check.lost:+.2f} points (95 % interval {low:+.2f} to {high:+.2f}), calibration error "
            f"{check.ece_model:.2%} before, {check.ece_export:.2%} after"
        )
    if info.cold_start is not None:
        lines.append(f"  predict.py labels one image in {info.cold_start:.1f} s, start included")
    return "\n".join([*lines, *info.notes])
