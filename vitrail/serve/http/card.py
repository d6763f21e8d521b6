"""What people should know of a model before they believe it: where it comes from, how often it is right, where not."""

from pathlib import Path
from typing import Any

from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.core.numbers import measured, percent
from vitrail.models.build import Model
from vitrail.models.cost import parameters

WORST = 5  # classes that are named
SURE = 0.5  # from which an answer is given, where no evaluation promises anything
PROMISE = 0.95  # share of right answers, by the evaluation's thresholds


def card(source: str, model: Model) -> dict[str, Any]:
    """For the page and for `GET /models`."""
    height, width = model.preprocess.resolution
    facts: dict[str, str] = {
        "parameters": f"{parameters(model.config):,}",
        "resolution": f"{height} x {width}",
        "classes": f"{len(model.classes or ()):,}",
    }
    told: dict[str, Any] = {"sure_from": SURE}
    for folder in _folders(source):
        config = _read(folder / "config.json")
        said = config.get("provenance") if "model" in config else None
        if isinstance(said, dict):
            facts |= {key: _without_path(value) for key, value in said.items() if isinstance(value, str | int | float)}
        evaluation = _read(folder / "evaluation.json") or _read(folder / "evaluation" / "evaluation.json")
        if evaluation and "accuracy" not in told:
            told |= _evaluated(evaluation)
    return {"facts": facts, **told}


def _folders(source: str) -> list[Path]:
    path = Path(source)
    found = [path, path / "bundle"] if path.is_dir() else []
    return [path.parent, *found] if path.name == "bundle" else found


def _read(path: Path) -> dict[str, Any]:
    try:
        said = read_json(path) if path.is_file() else None
    except (BadInput, OSError):
        said = None
    return said if isinstance(said, dict) else {}


def _evaluated(said: dict[str, Any]) -> dict[str, Any]:
    """Of an evaluation.json; what it lacks is left out."""
    share, data = measured(said.get("accuracy"), said.get("interval")), _without_path(said.get("data", "its test data"))
    found: dict[str, Any] = {"accuracy": f"Right for {share} of {said.get('count', 0):,} images of {data}."}
    classes = [one for one in said.get("per_class") or [] if isinstance(one, dict) and one.get("accuracy") is not None]
    worst = sorted(classes, key=lambda one: one["accuracy"])[:WORST]
    found["worst"] = [
        {key: one.get(key) for key in ("name", "accuracy", "count")} for one in worst if one["accuracy"] < 1
    ]
    for one in (said.get("abstention") or {}).get("answered") or []:
        if one.get("target") == PROMISE and one.get("confidence") is not None:
            found["sure_from"] = one["confidence"]
            found["accuracy"] += (
                f" From {percent(one['confidence'])} on, {percent(PROMISE, 0)} of its answers were right."
            )
    return found


def _without_path(value: object) -> str:
    """Folders of the server are nobody's business."""
    text = str(value)[:200]
    return text.rstrip("/").rpartition("/")[2] if text.startswith(("/", "~")) else text
