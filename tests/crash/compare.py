"""What a finished folder holds, without what no two runs have alike: times, speeds, memory, the number of restarts."""

import hashlib
import json
from pathlib import Path
from typing import Any

VOLATILE = set(
    "seconds images_per_second waiting waited memory_gib flops_share restarts started command communicating copying "
    "session measuring_seconds peak_flops cold_start speed seconds_per_step judge_seconds wall digest".split()
)
CACHE = "cache"  # where it may be missing, as it can be made again


def contents(root: Path) -> dict[str, str]:
    """For each file below `root` a digest of what must be alike; folders are there by their names."""
    return {str(p.relative_to(root)): _digest(p) for p in sorted(root.rglob("*")) if not _of_one_process(p)}


def _of_one_process(path: Path) -> bool:
    """TensorBoard's files are named by the time and the process; each start of a run adds one."""
    return path.name.startswith("events.out.tfevents.")


def _has_times(path: Path) -> bool:
    """What people read and nothing else, with times in it: a page, the card of an export."""
    return path.suffix == ".html" or (path.name == "README.md" and (path.parent / "export.json").exists())


def difference(ours: dict[str, str], theirs: dict[str, str]) -> str:
    """What is missing, too much or other, in a line; empty where nothing is."""
    parts = {
        "missing": sorted(theirs.keys() - ours.keys()),
        "left over": sorted(ours.keys() - theirs.keys()),
        "other": sorted(k for k in ours.keys() & theirs.keys() if ours[k] != theirs[k]),
    }
    parts["missing"] = [name for name in parts["missing"] if name.split("/")[0] != CACHE]
    return "; ".join(f"{what}: {', '.join(names[:5])}" for what, names in parts.items() if names)


def _digest(path: Path) -> str:
    if path.is_dir():
        return "folder"
    if _has_times(path):
        return "page" if path.stat().st_size else "empty page"
    data = path.read_bytes()
    if path.suffix == ".json":
        data = _dump(_stable(json.loads(data)))
    elif path.suffix == ".jsonl":
        data = b"\n".join(_dump(_stable(json.loads(line))) for line in data.splitlines())
    return hashlib.sha256(data).hexdigest()[:16]


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        timed = {"start", "step"} if "wall" in value else set[str]()  # seconds, in what `finetune auto` plans by
        return {k: _stable(v) for k, v in value.items() if k not in VOLATILE | timed}
    return [_stable(v) for v in value] if isinstance(value, list) else value


def _dump(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
