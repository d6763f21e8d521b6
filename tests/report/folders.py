"""Made-up folders as docs/files.md describes them, with numbers that a test can find again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HOSTILE = "<script>alert(1)</script>"


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def pictures(count: int, size: int = 16, seed: int = 0) -> np.ndarray:
    """Smooth blobs, uint8 [count, size, size, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    centres = rng.uniform(0.2, 0.8, (count, 2))
    blobs = np.exp(-20 * ((y - centres[:, :1, None]) ** 2 + (x - centres[:, 1:, None]) ** 2))
    return np.rint(255 * blobs[..., None] * rng.uniform(0.4, 1, (count, 1, 1, 3))).astype(np.uint8)


def evaluation(
    folder: Path, classes: Sequence[str], *, accuracy: float = 0.9, images: np.ndarray | None = None
) -> None:
    each, size = 50, len(classes)
    rng = np.random.default_rng(1)
    confusion = np.zeros((size, size), int)
    for row in range(size):
        right = int(np.clip(rng.binomial(each, accuracy), 0, each))
        confusion[row, row] = right
        for _ in range(each - right):
            confusion[row, (row + rng.integers(1, size)) % size] += 1
    count, correct = int(confusion.sum()), int(confusion.trace())
    share = correct / count
    bins = [
        {
            "low": b / 10,
            "high": (b + 1) / 10,
            "count": 10 * b * b,
            "confidence": b / 10 + 0.06,
            "accuracy": b / 10 + 0.01,
        }
        for b in range(10)
    ]
    wrong = pictures(8) if images is None else images[:8]
    mistakes = [
        {
            "key": f"test/{i}.png",
            "label": classes[i % size],
            "predicted": classes[(i + 1) % size],
            "confidence": 0.98 - i / 50,
        }
        for i in range(len(wrong))
    ]
    write(
        folder / "evaluation.json",
        {
            "data": "digits@test",
            "model": "bundle",
            "count": count,
            "correct": correct,
            "accuracy": share,
            "interval": [share - 0.02, share + 0.015],
            "top5": 0.991 if size > 5 else None,
            "loss": 0.312,
            "balanced_accuracy": share,
            "classes": list(classes),
            "confusion": confusion.tolist(),
            "per_class": [
                {
                    "name": name,
                    "count": each,
                    "correct": int(confusion[i, i]),
                    "accuracy": confusion[i, i] / each,
                    "interval": [max(0, confusion[i, i] / each - 0.09), min(1, confusion[i, i] / each + 0.06)],
                }
                for i, name in enumerate(classes)
            ],
            "calibration": {"ece": 0.0512, "bins": bins},
            "mistakes": mistakes,
            "broken": [{"key": f"bad/{HOSTILE}.jpg", "reason": "cannot identify image file"}],
            "seconds": 1.2,
            "images_per_second": 812.0,
        },
    )
    np.savez(folder / "mistakes.npz", images=wrong)


def inspection(folder: Path, images: np.ndarray | None = None, *, grid: int = 8, patch: int = 4) -> None:
    rng = np.random.default_rng(2)
    y, x = np.mgrid[0:grid, 0:grid].reshape(2, -1)
    distance = np.hypot(y[:, None] - y, x[:, None] - x)
    shown = pictures(6, grid * patch) if images is None else images[:6]
    write(
        folder / "inspection.json",
        {
            "model": "pretrain/bundle",
            "resolution": [grid * patch, grid * patch],
            "patch": patch,
            "grid": [grid, grid],
            "depth": 6,
            "heads": 4,
            "class_token": True,
            "images": [
                {"key": f"{i}", "label": str(i), "predicted": str(i), "confidence": 0.9} for i in range(len(shown))
            ],
            "filters_variance": (0.4 * 0.6 ** np.arange(28)).tolist(),
            "distance_images": 32,
        },
    )
    weights = np.exp(-0.1 * ((np.arange(grid)[:, None] - 4) ** 2 + (np.arange(grid) - 3) ** 2)) + 0.05
    np.savez(
        folder / "arrays.npz",
        filters=rng.uniform(0, 1, (28, patch, patch, 3)).astype(np.float32),
        position_similarity=(1.3 * np.exp(-distance / 2.5) - 0.3).astype(np.float32),
        attention_distance=(rng.uniform(3, 10, (6, 4)) + np.arange(6)[:, None]).astype(np.float32),
        rollout=np.stack([np.roll(weights, i, axis=1) for i in range(len(shown))]).astype(np.float32),
        images=shown,
    )


def metrics(folder: Path, *, steps: int, best: float, tail: str = "") -> None:
    rng = np.random.default_rng(3)
    rows: list[dict[str, Any]] = []
    for step in range(5, steps + 1, 5):
        learned = 1 - np.exp(-3 * step / steps)
        rows.append(
            {
                "kind": "train",
                "step": step,
                "epoch": step / 50,
                "loss": 2.3 * (1 - 0.9 * learned) + rng.normal(0, 0.05),
                "accuracy": float(np.clip(0.1 + (best - 0.08) * learned + rng.normal(0, 0.03), 0, 1)),
                "learning_rate": 1e-3 * min(step / 50, 1 - (step - 50) / steps),
                "gradient_norm": 0.8,
                "images_per_second": 812.0,
                "waiting": 0.02,
                "copying": 0.001,
                "communicating": None,
                "flops_share": 0.41,
                "memory_gib": 1.5,
                "seconds": step / 10,
                "session": 0,
            }
        )
        if step % 50 == 0:
            accuracy = float(0.1 + (best - 0.1) * learned)
            rows.append(
                {"kind": "validation", "step": step, "accuracy": accuracy, "loss": 1.0, "count": 500, "seconds": 1.0}
            )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + tail, encoding="utf-8")


def run(
    folder: Path,
    *,
    job: str = "pretrain",
    classes: Sequence[str] = ("0", "1", "2", "3", "4", "5"),
    accuracy: float = 0.9,
    finished: bool = True,
    images: np.ndarray | None = None,
) -> None:
    """A run of 500 steps; an unfinished one stopped after 300 and wrote no result."""
    config = {"train": "digits@train", "steps": 500, "schedule": {"warmup": 50}, "seed": 0}
    write(folder / "config.json", {"format": 1, "job": job, "recipe": "digits", "config": config})
    write(
        folder / "environment.json",
        {
            "vitrail": "0.1.0",
            "python": "3.11.9",
            "torch": "2.13.0",
            "platform": "Linux-6.1-x86_64",
            "processor": "A processor with a long name @ 2.10 GHz",
            "cores": 2,
            "threads": 2,
            "workers": 1,
            "device": "cpu",
            "precision": "bfloat16",
            "memory_gib": 7.75,
            "peak_flops": 2.5e11,
            "command": ["vitrail", job, "digits", "--out", "runs/my run; rm"],
            "started": "2026-11-23T10:00:00+00:00",
        },
    )
    metrics(folder, steps=500 if finished else 300, best=accuracy)
    if not finished:
        return
    evaluation(folder / "evaluation", classes, accuracy=accuracy, images=images)
    final = json.loads((folder / "evaluation/evaluation.json").read_text())
    write(
        folder / "result.json",
        {
            "job": job,
            "steps": 500,
            "images": 64000,
            "seconds": 95.0,
            "images_per_second": 673.7,
            "waiting": 0.021,
            "parameters": 1234567,
            "macs_per_image": 8.1e7,
            "training_flops_per_image": 4.86e8,
            "total_flops": 3.11e13,
            "flops_share": 0.41,
            "loss": 0.21,
            "accuracy": final["accuracy"],
            "interval": final["interval"],
            "count": final["count"],
            "broken": [],
            "restarts": 1,
            "weights_sha256": "0" * 64,
        },
    )
    if job == "finetune":
        rows = [
            {"name": f"blocks.{i}.attn.qkv.weight", "action": "taken", "from": [576, 192], "to": [576, 192]}
            for i in range(6)
        ]
        rows += [
            {"name": "pos_embed", "action": "resampled", "from": [1, 50, 192], "to": [1, 65, 192]},
            {"name": "head.weight", "action": "new", "from": None, "to": [4, 192]},
            {"name": "pre_logits.weight", "action": "left out", "from": [192, 192], "to": None},
        ]
        write(folder / "transplant.json", {"source": "pretrain/bundle", "rows": rows})


def proof(folder: Path, *, config: Any = None, scale: float = 1.0, accuracy: float = 0.9, steps: int = 500) -> Path:
    """The proof of `run`'s recipe in a folder of proofs, its losses multiplied by `scale`."""
    made = folder / "made"
    metrics(made, steps=steps, best=accuracy)
    rows = [json.loads(line) for line in (made / "metrics.jsonl").read_text().splitlines()]
    content = {
        "recipe": "digits",
        "job": "pretrain",
        "config": config or {"train": "digits@train", "steps": steps, "schedule": {"warmup": 50}, "seed": 7},
        "machine": {"processor": "A slow processor", "device": "cpu", "precision": "float32", "threads": 2},
        "vitrail": "0.1.0",
        "date": "2026-11-23",
        "seconds": 95.0,
        "accuracy": accuracy,
        "interval": [accuracy - 0.02, accuracy + 0.02],
        "count": 300,
        "weights_sha256": "0" * 64,
        "curve": {
            "train": [[row["step"], scale * row["loss"]] for row in rows if row["kind"] == "train"],
            "validation": [[r["step"], r["loss"], r["accuracy"]] for r in rows if r["kind"] == "validation"],
        },
    }
    write(folder / "pretrain-digits.json", content)
    return folder


def linear(folder: Path, *, helps: bool = True) -> None:
    means = {
        "pre-trained": [0.62, 0.81, 0.88, 0.93],
        "random ViT": [0.40, 0.58, 0.66, 0.74],
        "raw pixels": [0.45, 0.66, 0.75, 0.84],
    }
    if not helps:
        means["pre-trained"] = [0.30, 0.40, 0.50, 0.60]
    rows = [
        {
            "features": name,
            "shots": shots,
            "accuracies": [mean - 0.01, mean, mean + 0.01],
            "mean": mean,
            "interval": [mean - 0.06 / shots**0.5, mean + 0.06 / shots**0.5],
        }
        for name, values in means.items()
        for shots, mean in zip((1, 5, 10, 25), values, strict=True)
    ]
    content = {"train": "digits@train", "test": "digits@test", "ridge": 1024, "classes": 4, "count": 720, "rows": rows}
    write(folder / "linear.json", content)


def demo(
    folder: Path, *, helps: bool = True, images: np.ndarray | None = None, labels: Sequence[str] | None = None
) -> None:
    """The folder of `vitrail demo`: pre-training on six classes, transfer to four others."""
    unseen = ["6", "7", "8", "9"]
    run(folder / "pretrain", accuracy=0.95, images=images)
    run(folder / "finetune", job="finetune", classes=unseen, accuracy=0.96 if helps else 0.70, images=images)
    run(folder / "scratch", job="finetune", classes=unseen, accuracy=0.80, images=images)
    linear(folder / "linear", helps=helps)
    inspection(folder / "inspection", images)
    examples = pictures(18, 32) if images is None else images
    np.savez(
        folder / "examples.npz", images=examples, labels=np.array(labels or [str(i % 10) for i in range(len(examples))])
    )
    write(
        folder / "demo.json",
        {
            "title": "Handwritten digits, scattered",
            "seconds": 104.2,
            "seen": ["0", "1", "2", "3", "4", "5"],
            "unseen": unseen,
            "runs": {"pretrain": "pretrain", "finetune": "finetune", "scratch": "scratch"},
            "linear": "linear",
            "inspection": "inspection",
            "examples": "examples.npz",
        },
    )
