"""`hf://owner/name@revision` without a network: the hub's cache is honoured, and what is not in it gets a sentence."""

import json
import os
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch

from vitrail.core.errors import BadInput
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.models.build import build
from vitrail.models.vit import ViTConfig
from vitrail.weights.bundle import save_bundle
from vitrail.weights.convert import convert
from vitrail.weights.hub import fetch
from vitrail.weights.tensors import read_safetensors

CONFIG = ViTConfig(patch=4, width=16, depth=1, heads=2, mlp=32, resolution=(8, 8), num_classes=3)
MAIN, OTHER = "a" * 40, "b" * 40  # commits

# The hub's library reads its environment when it is imported, so each state of it needs a process.
PROGRAM = """
import json, sys
import vitrail
from vitrail.weights.load import read_pretrained
answers = {}
for source in sys.argv[1:]:
    try:
        found = read_pretrained(source)
        answers[source] = [found.provenance["source"], float(found.state["norm.bias"].sum())]
    except vitrail.BadInput as problem:
        answers[source] = str(problem)
print(json.dumps(answers))
"""


def ask(home: Path, *sources: str, **environment: str) -> dict[str, Any]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *sources],
        env={**kept, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def write_model(folder: Path, mark: float) -> None:
    torch.manual_seed(0)
    model = build(CONFIG)
    with torch.no_grad():
        model.norm.bias.fill_(mark)
    save_bundle(folder, model, Preprocess((8, 8)), ("a", "b", "c"), {"source": "a run"})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A cache as the hub's library lays it out: refs to commits, and a snapshot of each."""
    cache = tmp_path / "home" / "hub"
    repository = cache / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(MAIN)
    (repository / "refs" / "v2").write_text(OTHER)
    (repository / "snapshots").mkdir()
    write_model(repository / "snapshots" / MAIN, 1.0)
    write_model(repository / "snapshots" / OTHER, 2.0)

    older = cache / "models--owner--older"
    (older / "refs").mkdir(parents=True)
    (older / "refs" / "main").write_text(MAIN)
    snapshot = older / "snapshots" / MAIN
    snapshot.parent.mkdir()
    convert(repository / "snapshots" / MAIN, snapshot, "timm")
    torch.save(read_safetensors(snapshot / "model.safetensors"), snapshot / "pytorch_model.bin")
    (snapshot / "model.safetensors").unlink()

    partial = cache / "models--owner--partial"
    (partial / "refs").mkdir(parents=True)
    (partial / "refs" / "main").write_text(MAIN)
    (partial / "snapshots" / MAIN).mkdir(parents=True)
    (partial / "snapshots" / MAIN / "config.json").write_text('{"architecture": "vit_tiny_patch16_224"}')
    return tmp_path / "home"


def test_offline_the_cache_is_enough(home: Path) -> None:
    sources = ["hf://owner/name", "hf://owner/name@v2", f"hf://owner/name@{OTHER}", "hf://owner/older"]
    answers = ask(home, *sources, HF_HUB_OFFLINE="1")
    assert answers == dict(
        zip(sources, ([s, 16.0 * n] for s, n in zip(sources, (1, 2, 2, 1), strict=True)), strict=True)
    )


def test_offline_what_is_not_cached_gets_a_sentence(home: Path) -> None:
    sources = ["hf://owner/other", "hf://owner/name@v3", f"hf://owner/name@{'c' * 40}"]
    answers = ask(home, *sources, HF_HUB_OFFLINE="1")
    for source in sources:
        sentence = f"{source} is not in the hub's cache {home / 'hub'}, and HF_HUB_OFFLINE is set, so nothing is"
        assert answers[source].startswith(sentence)
        assert "\n" not in answers[source]


def test_a_snapshot_that_lacks_its_weights_gets_a_sentence(home: Path) -> None:
    answer = ask(home, "hf://owner/partial", HF_HUB_OFFLINE="1")["hf://owner/partial"]
    assert answer.endswith("has a config.json and no weights: model.safetensors is missing")


def test_without_a_network_the_cache_is_enough_and_the_rest_gets_a_sentence(home: Path) -> None:
    """An address at which nobody answers stands for no network."""
    answers = ask(home, "hf://owner/name", "hf://owner/other", HF_ENDPOINT="http://127.0.0.1:9")
    assert answers["hf://owner/name"] == ["hf://owner/name", 16.0]
    sentence = f"hf://owner/other is not in the hub's cache {home / 'hub'}, and it could not be downloaded: "
    assert answers["hf://owner/other"].startswith(sentence)
    assert "give the folder" in answers["hf://owner/other"]


@pytest.mark.parametrize("source", ["hf://", "hf://name", "hf://a/b/c", "hf:///name", "hf://owner/", "hf://@main"])
def test_what_is_no_name_is_refused_before_anything_is_asked(source: str) -> None:
    with pytest.raises(BadInput, match="is no model of the hub: expected hf://owner/name or hf://owner/name@revision"):
        fetch(source)


@pytest.mark.parametrize("source", ["hf://own er/name", "hf://-owner/name", "hf://../name", "hf://owner/na..me"])
def test_names_that_the_hub_does_not_allow(source: str) -> None:
    with pytest.raises(BadInput, match="is no name of the hub"):
        fetch(source)


def test_only_files_that_are_read_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository of training checkpoints is not downloaded for the one file that is a model."""
    import huggingface_hub

    asked: list[list[str]] = []

    def download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    fetch("hf://owner/name")
    first, older = asked
    assert not any(fnmatch("checkpoint-80.pth", pattern) for pattern in first + older)
    for name in ("config.json", "pytorch_model.bin", "model.pth"):
        assert any(fnmatch(name, pattern) for pattern in older)
