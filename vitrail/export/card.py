"""The texts of an exported folder: README.md, and predict.py, which needs no vitrail."""

from pathlib import Path

from vitrail.core import numbers
from vitrail.records.export import ExportInfo, Target

TEMPLATES = Path(__file__).parent / "templates"
NEEDS: dict[Target, str] = {
    "onnx": "onnxruntime pillow numpy",
    "openvino": "openvino pillow numpy",
    "pt2": "torch pillow numpy",
    "triton": "tritonclient[http] pillow numpy",
    "web": "onnxruntime pillow numpy",
}
PACKAGE: dict[Target, str] = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "pt2": "torch",
    "triton": "onnxruntime",
    "web": "onnxruntime",
}
FILES: dict[Target, str] = {
    "onnx": "`model.onnx` takes `images`, uint8 [batch, height, width, 3] of any size; `model-float.onnx` takes "
    "`pixels`, float32 [batch, channels, y, x], normalised. Both read `weights.bin`, which must lie beside them.",
    "openvino": "`preprocess.xml` takes `images`, uint8 [batch, height, width, 3] of any size, and gives `pixels`; "
    "`model.xml` takes these. They are two so that the first is always computed in float32: compile it with "
    "INFERENCE_PRECISION_HINT f32.",
    "pt2": "`model.pt2` takes uint8 [batch, height, width, 3] of any size, `model-float.pt2` float32 [batch, channels, "
    "y, x], normalised (`torch.export.load(file).module()`).",
    "triton": "A model repository: `tritonserver --model-repository=THIS_FOLDER`, with the ONNX Runtime back end. "
    "`images` is uint8 [batch, height, width, 3]; all of a request have one size.",
    "web": "Serve the folder (`python -m http.server`) and open it: a photograph that is dropped on the page is "
    "labelled in the browser and goes nowhere. `predict.py` does the same in Python.",
}


def predict_text(target: Target) -> str:
    """The program that labels images."""
    name = "onnx" if target == "web" else target
    return (TEMPLATES / f"predict_{name}.txt").read_text(encoding="utf-8").replace("PIXELS\n", pixels_text())


def pixels_text() -> str:
    """The function of that program that reads an image file, as `vitrail.data.decode.image.decode` does."""
    return (TEMPLATES / "pixels.txt").read_text(encoding="utf-8")


def readme(info: ExportInfo) -> str:
    """README.md: what is needed, what goes in and comes out, and how near it is to the model."""
    height, width = info.resolution
    package = PACKAGE[info.target]
    worst = max((row.relative for row in info.proof.rows), default=0.0)
    lines = [
        f"# {Path(info.model).name}, exported to {info.target} in {info.precision}",
        "",
        f"    pip install {NEEDS[info.target]}",
        "    python predict.py IMAGE...",
        "",
        f"Made with {package} {info.versions.get(package, '')} and PyTorch {info.versions['torch']}; the same or a "
        f"later version of {package} should read it. Nothing else is needed: no vitrail, no network. Copy the folder.",
        "",
        FILES[info.target],
        "",
        "Images must be upright, RGB, what is transparent laid on black (`predict.py` does that). Inside, they are "
        f"resized and cut to {height} x {width} pixels and normalised, as {info.preprocess} says.",
        "",
        f"Out come {', '.join(f'`{name}`' for name in info.outputs)}, float32."
        + (" `probabilities` [batch, classes] are of `classes` in export.json, in that order." if info.classes else ""),
        "",
        "## How near it is",
        "",
        f"The largest difference from the model in float32, over the largest number: {worst:.2g}; batches of "
        f"{', '.join(map(str, info.proof.batches))} were tried. The view differs from vitrail's by "
        f"{info.proof.pixels.mean:.2g} of 255 on the mean, and by {info.proof.pixels.largest:g} at most.",
    ]
    if info.check is not None:
        low, high = info.check.interval
        lines += [
            "",
            f"On {info.check.count:,} images of {info.check.data} it gives the same answer for "
            f"{info.check.agreement:.2%}; accuracy changes by {-100 * info.check.lost:+.2f} points (95 % interval "
            f"{-100 * high:+.2f} to {-100 * low:+.2f}).",
        ]
    if info.speed:
        rows = [f"| {row.name} | {row.batch} | {numbers.plain(row.images_per_second)} |" for row in info.speed]
        lines += [
            "",
            f"## Speed on {info.machine}, {info.threads} threads",
            "",
            "| | batch | images/s |",
            "|---|---|---|",
        ]
        lines += rows
    lines += ["", *info.notes]
    return "\n".join(lines).rstrip() + "\n"
