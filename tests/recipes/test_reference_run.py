"""Proofs: made from a finished run, read back, and those in the package still of their recipes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vitrail.core.config import departures, from_json, to_json
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.jobs.finetune.finetune import Finetune
from vitrail.jobs.pretrain import Pretrain, pretrain
from vitrail.recipes import finetuning, pretraining
from vitrail.recipes.reference_run import PROOFS, as_text, proof, thinned, write_proof
from vitrail.records.reference_run import Proof

KEPT = sorted(PROOFS.glob("*.json"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe digits as it is, another seed, a row of the log for each step (about ten seconds)."""
    folder = tmp_path_factory.mktemp("proof") / "run"
    pretrain(replace(pretraining("digits"), seed=5, log_every=1), folder, Machine(workers=0), "digits")
    return folder


@pytest.mark.slow
def test_a_run_becomes_a_proof_that_is_read_back(run: Path, tmp_path: Path) -> None:
    assert write_proof(run, tmp_path) == tmp_path / "pretrain-digits.json"
    made = proof("pretrain", "digits", tmp_path)
    assert isinstance(made, Proof)
    result = json.loads((run / "result.json").read_text())
    assert (made.accuracy, made.count) == (result["accuracy"], 445)
    assert made.interval == tuple(result["interval"])
    assert made.weights_sha256 == result["weights_sha256"]
    assert made.config["seed"] == 5
    assert len(made.curve.train) == 200
    assert [step for step, *_ in made.curve.validation] == [100, 200, 300, 400]
    assert made.machine.device == "cpu"


@pytest.mark.parametrize(("recipe", "accuracy"), [("mae-b16", None), ("masked-b16", 0.25)])
def test_a_run_without_labels_becomes_one_too(recipe: str, accuracy: float | None, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    rows: list[dict[str, object]] = [{"kind": "train", "step": 1, "loss": 2.0}]
    rows.append({"kind": "validation", "step": 1, "loss": 2.5} | ({"accuracy": accuracy} if accuracy else {}))
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    config = to_json(pretraining(recipe))
    (run / "config.json").write_text(json.dumps({"job": "pretrain", "recipe": recipe, "config": config}))
    machine = {"processor": "x", "device": "cpu", "precision": "float32", "threads": 1}
    began = {"vitrail": "1", "started": "2026-01-01T00:00:00"}
    (run / "environment.json").write_text(json.dumps(machine | began))
    said = {"seconds": 1.0, "accuracy": None, "interval": None, "count": None, "weights_sha256": "0"}
    (run / "result.json").write_text(json.dumps(said))
    write_proof(run, tmp_path)
    made = proof("pretrain", recipe, tmp_path)
    assert made is not None
    assert made.accuracy is None
    assert made.curve.validation == (((1, 2.5, accuracy),) if accuracy else ())


@pytest.mark.slow
def test_the_file_is_as_the_docs_say(run: Path, tmp_path: Path) -> None:
    content = json.loads(write_proof(run, tmp_path).read_text())
    assert list(content) == (
        "recipe job config machine vitrail date seconds accuracy interval count weights_sha256 curve".split()
    )
    assert list(content["machine"]) == ["processor", "device", "precision", "threads"]
    assert list(content["curve"]) == ["train", "validation"]
    assert content["curve"]["train"][-1][0] == 400


@pytest.mark.slow
def test_a_new_run_with_another_seed_is_on_course(run: Path) -> None:
    """The proof in the package against a run of today: the report of a user."""
    from vitrail.report.index import make

    text = make(run, PROOFS).read_text().replace("\u00a0", " ")
    assert "On course: at 1, 5, 20 and 100 % of training the loss is where the proof&#39;s was." in text


def test_thinning_keeps_the_mean_and_the_end() -> None:
    rows = [(10 * (i + 1), float(i % 7)) for i in range(1001)]
    kept = thinned(rows, 200)
    assert len(kept) <= 200
    assert kept[-1][0] == 10010
    before, total = 0, 0.0
    for step, loss in kept:
        total, before = total + loss * (step - before), step
    assert total / 10010 == pytest.approx(sum(loss for _, loss in rows) / 1001, rel=1e-4)  # five digits are written
    assert thinned([(5, 1.0), (7, 2.0)]) == ((5, 1.0), (7, 2.0))
    assert thinned([]) == ()


def test_a_broken_loss_proves_nothing() -> None:
    with pytest.raises(BadInput, match="no number"):
        thinned([(5, 1.0), (10, float("nan"))])


@pytest.mark.slow
def test_what_is_no_proof_is_refused(run: Path, tmp_path: Path) -> None:
    def changed(name: str, **content: object) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file in ("config.json", "environment.json", "metrics.jsonl", "result.json"):
            (folder / file).write_text((run / file).read_text())
        stored = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(stored | content))
        return folder

    config = json.loads((run / "config.json").read_text())["config"]
    with pytest.raises(BadInput, match="not made by a recipe"):
        write_proof(changed("nameless", recipe=None), tmp_path)
    with pytest.raises(BadInput, match=r"other options than the recipe 'digits' \(batch: 64 → 32\)"):
        write_proof(changed("other", config=config | {"batch": 32}), tmp_path)
    unfinished = changed("unfinished")
    (unfinished / "result.json").unlink()
    with pytest.raises(BadInput, match="not finished"):
        write_proof(unfinished, tmp_path)
    with pytest.raises(BadInput, match="holds no run"):
        write_proof(tmp_path / "nowhere", tmp_path)
    assert not list(tmp_path.glob("*.json"))


def test_a_recipe_that_was_not_run_has_none(tmp_path: Path) -> None:
    assert proof("pretrain", "jft-h14") is None
    (tmp_path / "pretrain-digits.json").write_text("{}")
    with pytest.raises(BadInput, match="lacks the key 'recipe'"):
        proof("pretrain", "digits", tmp_path)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_the_proofs_kept_are_of_the_recipes_as_they_are_now(path: Path) -> None:
    """A recipe that changes needs a new run, or its proof is to go."""
    content = json.loads(path.read_text())
    job, name = content["job"], content["recipe"]
    assert path.stem == f"{job}-{name}"
    kept = proof(job, name)
    assert kept is not None
    assert as_text(kept) == path.read_text()
    recipe = pretraining(name) if job == "pretrain" else finetuning(name)
    assert departures(to_json(recipe), kept.config) == []
    assert from_json(Pretrain if job == "pretrain" else Finetune, kept.config).train == recipe.train
    assert 10 <= len(kept.curve.train) <= 200
    assert kept.curve.train[-1][0] == recipe.steps


def test_there_are_proofs() -> None:
    assert {"pretrain-digits", "pretrain-scattered-digits", "finetune-digits"} <= {path.stem for path in KEPT}


def test_the_command_says_what_it_needs(tmp_path: Path) -> None:
    def command(*words: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "vitrail.recipes.reference_run", *words]
        return subprocess.run(program, capture_output=True, text=True, timeout=60)

    assert "usage: python -m vitrail.recipes.reference_run RUN" in command().stderr
    done = command(str(tmp_path))
    assert done.returncode == 2
    assert "holds no run" in done.stderr
    assert "Traceback" not in done.stderr
