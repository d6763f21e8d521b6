"""A speedrun's clock counts all, its test images are judged once, its seeds are made once, its bar is a t-test's."""

import json
import os
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import ttest_1samp

import vitrail
from vitrail.cli import main
from vitrail.core.config import to_json
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput, Interrupted
from vitrail.core.files import read_json, write_json
from vitrail.jobs.forecast.forecast import Forecast
from vitrail.jobs.speedrun import attempt as child
from vitrail.jobs.speedrun import plan as planning
from vitrail.jobs.speedrun.rules import check_rules
from vitrail.jobs.speedrun.speedrun import commit_of_package, speedrun
from vitrail.jobs.speedrun.verdict import verdict
from vitrail.models.head import AveragePool
from vitrail.models.mae import MAE
from vitrail.models.resnet import Stages
from vitrail.models.variants import variant
from vitrail.recipes import pretraining, speedruns
from vitrail.recipes.speedruns import TRACKS, find, recipe_of
from vitrail.records.record import as_json
from vitrail.records.speedrun import Attempt, Caches, Track

TRACK = Track(
    name="digits-10", data="digits", test="digits@test", device="cpu", bar=0.1, seconds=600.0, recipe="digits"
)
SHORT = replace(
    pretraining("digits"),
    validation=None,
    steps=2,
    batch=16,
    schedule=replace(pretraining("digits").schedule, warmup=1),
)
CPU = Machine("cpu", 0)

# A process that trains nothing: the accuracy is the seed's, and what it was told is kept beside it.
STAND_IN = """
import json, os, sys
from pathlib import Path
told = json.loads(sys.stdin.read())
folder, seed = Path(told["folder"]), told["config"]["seed"]
if seed == int(os.environ.get("BROKEN_SEED", -1)):
    sys.exit("vitrail: the seed is broken")
folder.mkdir(parents=True)
(folder / "told.json").write_text(json.dumps({**told, "compiled_in": os.environ["TORCHINDUCTOR_CACHE_DIR"]}))
(folder / "attempt.json").write_text(json.dumps({**ATTEMPT, "seed": seed, "accuracy": 0.5 + 0.01 * seed}))
"""


def attempt(seed: int = 0, **changed: Any) -> Attempt:
    made = Attempt(
        seed=seed,
        accuracy=0.5,
        interval=(0.4, 0.6),
        count=445,
        seconds=100.0,
        starting=5.0,
        preparing=5.0,
        training=80.0,
        judging=10.0,
        steps=2,
        parameters=1000,
        total_flops=10**9,
        weights_sha256="f" * 64,
        caches=Caches(folder="warm"),
        load=0.5,
        processor="a processor",
        device="cpu",
        cores=2,
        threads=2,
        precision="float32",
        compiled="nothing",
        vitrail="0.1.0",
        torch="2.13.0",
        python="3.11.2",
        commit="c" * 40,
        changed=False,
        started="2026-11-29T08:00:00+00:00",
    )
    return replace(made, **changed)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    text = STAND_IN.replace("ATTEMPT", repr(as_json(attempt())))
    monkeypatch.setattr(child, "PROGRAM", text)


def test_seeds_are_trained_and_judged_once_and_an_interrupted_one_starts_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "another/vitrail"
    elsewhere.mkdir(parents=True)
    (elsewhere / "__init__.py").write_text("raise SystemExit('this is another package')\n")
    monkeypatch.chdir(elsewhere.parent)
    tmp_path /= "out"
    made = speedrun(TRACK, SHORT, tmp_path, CPU, seeds=1)
    one = made.attempts[0]
    assert one.accuracy == read_json(tmp_path / "seed-0/evaluation/evaluation.json")["accuracy"]
    assert one.count == 445
    trained = read_json(tmp_path / "seed-0/result.json")
    assert trained["accuracy"] is None, "the training never sees the test images"
    assert (one.weights_sha256, one.total_flops) == (trained["weights_sha256"], trained["total_flops"])
    assert one.seconds == pytest.approx(one.starting + one.preparing + one.training + one.judging)
    assert min(one.starting, one.training, one.judging) > 0
    assert one.cores <= 2
    assert made.starts == {"0": 1}
    # the first seed is finished; the second was killed once it had a checkpoint, and its next start is a slow one
    kept = (tmp_path / "seed-0/attempt.json").stat().st_mtime_ns
    write_json(tmp_path / "seed-1/checkpoints/step-00000001/state.json", {})
    write_json(tmp_path / "speedrun.json", as_json(replace(made, starts={"0": 1, "1": 1})))
    monkeypatch.setattr(child, "PROGRAM", f"import time\ntime.sleep(1.5)\n{child.PROGRAM}")
    both = speedrun(TRACK, SHORT, tmp_path, CPU, seeds=2)
    assert (tmp_path / "seed-0/attempt.json").stat().st_mtime_ns == kept
    assert both.starts == {"0": 1, "1": 2}
    assert both.attempts[1].starting > 1.5
    assert both.attempts[1].seconds > 1.5 + both.attempts[1].training
    assert read_json(tmp_path / "seed-1/result.json")["restarts"] == 0
    assert both.attempts[0].weights_sha256 != both.attempts[1].weights_sha256, "another seed is another model"
    assert both.asked == (1, 2)


def test_each_seed_is_told_alike_and_compiles_into_a_folder_of_its_own(tmp_path: Path, stand_in: None) -> None:
    made = speedrun(TRACK, SHORT, tmp_path, CPU, seeds=3, command=["vitrail", "speedrun", "digits"])
    assert [one.accuracy for one in made.attempts] == [0.5, 0.51, 0.52]
    told = [read_json(tmp_path / f"seed-{seed}/told.json") for seed in range(3)]
    assert [one["config"]["seed"] for one in told] == [0, 1, 2]
    assert len({one["compiled_in"] for one in told}) == 3
    assert not any(Path(one["compiled_in"]).exists() for one in told)
    assert all(len(one["cores"]) <= 2 and one["argv"] == ["vitrail", "speedrun", "digits"] for one in told)
    assert {one["begun"] < time.monotonic() for one in told} == {True}
    assert {one["path"] for one in told} == {str(Path(vitrail.__file__).parent.parent)}, "the same code as ours"
    assert made.finding.startswith("Not decided: 3 seeds gave 51.00 % on the mean")


def test_a_seed_that_fails_ends_the_command_and_is_counted(
    tmp_path: Path, stand_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN_SEED", "1")
    with pytest.raises(BadInput, match="seed 1 failed"):
        speedrun(TRACK, SHORT, tmp_path, CPU, seeds=3)
    monkeypatch.delenv("BROKEN_SEED")
    made = speedrun(TRACK, SHORT, tmp_path, CPU, seeds=3)
    assert made.starts == {"0": 1, "1": 2, "2": 1}
    assert [one.seed for one in made.attempts] == [0, 1, 2]
    assert made.asked == (3,)
    assert speedrun(TRACK, SHORT, tmp_path, CPU, seeds=4).asked == (3, 4), "it is said that more were asked for later"
    assert speedrun(TRACK, SHORT, tmp_path, CPU, seeds=2).asked == (3, 4)


def test_a_signal_ends_the_process_of_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    original = subprocess.Popen

    class Watched(original):  # type: ignore[misc, valid-type]
        def __init__(self, *args: object, **kwargs: object):
            super().__init__(*args, **kwargs)
            if "stdin" in kwargs:
                started.append(self)
                threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()

    monkeypatch.setattr(child, "PROGRAM", "import time; time.sleep(60)")
    monkeypatch.setattr(subprocess, "Popen", Watched)
    begun = time.monotonic()
    with pytest.raises(Interrupted):
        speedrun(TRACK, SHORT, tmp_path, CPU, seeds=1)
    assert time.monotonic() - begun < 45
    assert len(started) == 1
    assert started[0].poll() is not None
    assert read_json(tmp_path / "speedrun.json")["starts"] == {"0": 1}


def test_another_track_config_or_device_is_refused(tmp_path: Path, stand_in: None) -> None:
    speedrun(TRACK, SHORT, tmp_path / "a", CPU, seeds=1)
    with pytest.raises(BadInput, match=r"another config \(steps: 2 → 3\)"):
        speedrun(TRACK, replace(SHORT, steps=3), tmp_path / "a", CPU, seeds=1)
    with pytest.raises(BadInput, match=r"another track \(bar: 0.1 → 0.2\)"):
        speedrun(replace(TRACK, bar=0.2), SHORT, tmp_path / "a", CPU, seeds=1)
    with pytest.raises(BadInput, match="is a track of one GPU"):
        speedrun(replace(TRACK, device="cuda"), SHORT, tmp_path / "b", CPU, seeds=1)
    (tmp_path / "c").mkdir()
    (tmp_path / "c/notes.txt").touch()
    with pytest.raises(BadInput, match="holds other files and no speedrun"):
        speedrun(TRACK, SHORT, tmp_path / "c", CPU, seeds=1)
    with pytest.raises(BadInput, match="--seeds is 0"):
        speedrun(TRACK, SHORT, tmp_path / "b", CPU, seeds=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train": "digits@test"}, "learns from digits@train"),
        ({"train": "scattered-digits@train"}, "learns from digits@train"),
        ({"validation": "digits@test"}, "judges nothing while it trains"),
        ({"test": "digits@test"}, "judges nothing while it trains"),
        ({"keep": "best"}, "chooses no weights"),
        ({"seed": 3}, "seeds of a speedrun are 0, 1, 2"),
        ({"init": "a-model"}, "trains a new model"),
        ({"objective": MAE()}, "trains a new model"),
        ({"model": variant("R26x1")}, "plain Vision Transformer"),
        ({"model": replace(variant("Ti/16"), backbone=Stages())}, "plain Vision Transformer"),
        ({"model": replace(variant("Ti/16"), pool=AveragePool(), axial=True)}, "plain Vision Transformer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_the_rules_refuse(change: dict[str, Any], said: str) -> None:
    check_rules(TRACK, SHORT)
    check_rules(TRACK, replace(SHORT, train="digits@train[:90%]"))
    with pytest.raises(BadInput, match=said):
        check_rules(TRACK, replace(SHORT, **change))


def seeds_of(*accuracies: float, **changed: Any) -> list[Attempt]:
    return [attempt(seed, accuracy=accuracy, **changed) for seed, accuracy in enumerate(accuracies)]


BAR = replace(TRACK, bar=0.8, seconds=100.0)


def test_the_bar_is_reached_by_a_one_sided_t_test() -> None:
    values = (0.809, 0.812, 0.806, 0.811, 0.805)
    made = verdict(BAR, {}, seeds_of(*values))
    assert made.p == pytest.approx(ttest_1samp(values, 0.8, alternative="greater").pvalue)
    assert made.reached
    assert made.finding.startswith("Reached: 5 seeds gave 80.86 % on the mean (95 % interval")
    close = (0.809, 0.795, 0.806, 0.811, 0.798)  # above on the mean, which may be chance
    made = verdict(BAR, {}, seeds_of(*close))
    assert made.mean is not None
    assert made.mean > 0.8
    assert made.p == pytest.approx(ttest_1samp(close, 0.8, alternative="greater").pvalue)
    assert not made.reached
    assert not made.undecided
    assert "not shown to be above 80.0 %" in made.finding
    below = verdict(BAR, {}, seeds_of(0.709, 0.712, 0.706, 0.711, 0.705))
    assert below.p is not None
    assert below.p > 0.99, "one-sided: far below is not far above"


def test_one_seed_beyond_the_limit_is_too_slow() -> None:
    fast = seeds_of(0.809, 0.812, 0.806, 0.811, 0.805)
    late = [*fast[:4], replace(fast[4], seconds=100.5)]
    assert verdict(BAR, {}, fast).reached
    made = verdict(BAR, {}, late)
    assert not made.reached
    assert made.slowest == 100.5
    assert len(made.attempts) == 5, "it counts as it is"
    assert "1 beyond the limit of 1 min 40 s" in made.finding


@pytest.mark.parametrize(
    ("attempts", "asked", "said"),
    [
        ((), 5, "0 of 5 seeds are made"),
        (seeds_of(0.81, 0.82, 0.83, 0.82), 4, "4 of 5 seeds are made"),
        (seeds_of(0.81, 0.82, 0.83, 0.82, 0.81), 8, "5 of 8 seeds are made"),
        (seeds_of(0.81, 0.81, 0.81, 0.81, 0.81), 5, "the same accuracy"),
        ([*seeds_of(0.81, 0.82, 0.83, 0.82), attempt(4, accuracy=0.81, processor="b")], 5, "2 different machines"),
        ([*seeds_of(0.81, 0.82, 0.83, 0.82), attempt(4, accuracy=0.81, commit="d" * 40)], 5, "2 different versions"),
        (seeds_of(0.81, 0.82, 0.83, 0.82, 0.81, cores=8), 5, "could use 8 cores, the track is of 2"),
    ],
    ids=["none", "four", "fewer than asked for", "all alike", "machines", "versions", "cores"],
)
def test_what_does_not_decide(attempts: list[Attempt], asked: int, said: str) -> None:
    made = verdict(BAR, {}, attempts, asked=(asked,))
    assert not made.reached
    assert any(said in reason for reason in made.undecided)
    assert made.finding.startswith("Not decided")
    assert said in made.finding


@pytest.mark.parametrize("track", TRACKS, ids=lambda track: track.name)
def test_every_track_has_a_recipe_that_keeps_its_rules(track: Track) -> None:
    check_rules(track, recipe_of(track))
    assert find(track.name, None) == track
    assert 0 < track.bar < 1


def test_a_data_set_names_its_track_where_it_has_one() -> None:
    assert find("cifar10", "cpu").name == "cifar10-80"
    with pytest.raises(BadInput, match=r"cifar10 has 2 tracks with --device cuda; name one: cifar10-90 \("):
        find("cifar10", "cuda")
    with pytest.raises(BadInput, match=r"cifar100 has no tracks with --device cpu; name one: cifar100-73.8"):
        find("cifar100", "cpu")
    with pytest.raises(BadInput, match="did you mean 'cifar10"):
        find("cifar1O", "cpu")


def test_the_commit_is_that_of_the_package_and_of_nobody_elses_checkout(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        names = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", str(tmp_path), *names, *words], check=True, capture_output=True)

    package = tmp_path / "environment/package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    assert commit_of_package(package) == (None, False)
    (tmp_path / "own.txt").touch()
    git("init", "-q")
    git("add", "own.txt")
    git("commit", "-qm", "a")
    assert commit_of_package(package) == (None, False), "installed within somebody's checkout"
    git("add", ".")
    git("commit", "-qm", "b")
    commit, changed = commit_of_package(package)
    assert commit is not None
    assert len(commit) == 40
    assert not changed
    (package / "__init__.py").write_text("a = 1\n")
    assert commit_of_package(package) == (commit, True)


@pytest.fixture
def digits_track(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speedruns, "TRACKS", (TRACK,))


def said(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["speedrun", *words])
    assert ended.value.code == code
    return capsys.readouterr().out


def test_the_command_makes_seeds_and_says_what_is_not_the_tracks_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stand_in: None, digits_track: None
) -> None:
    words = ["digits", "--device", "cpu", "--seeds", "5", "--out", str(tmp_path / "a")]
    told = json.loads(said(capsys, 0, *words, "--optimizer.lr", "0.1", "--json"))
    assert told["changes"] == ["optimizer.lr: 0.002 → 0.1"]
    assert told["reached"]
    assert "by another recipe than the track's (optimizer.lr: 0.002 → 0.1)" in told["finding"]
    page = (tmp_path / "a/report.html").read_text(encoding="utf-8")
    assert "Another recipe than the track&#39;s, digits: optimizer.lr: 0.002 → 0.1." in page
    words[-1] = str(tmp_path / "b")
    own = said(capsys, 0, *words)
    assert "Reached: 5 seeds gave 52.00 %" in own
    assert read_json(tmp_path / "b/speedrun.json")["changes"] == []
    words[4] = "1"
    words[-1] = str(tmp_path / "c")
    assert "Not decided" in said(capsys, 1, *words)


def test_the_plan_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stand_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = []

    def known(_: Any, model: Any, **__: Any) -> Forecast:
        classes.append(model.num_classes)
        return Forecast(90.0, 2.0, 1.0, 80.0, 2.0, 1.0, 0.5, 1e9, "its own", "whole")

    monkeypatch.setattr(planning, "forecast", known)
    speedrun(TRACK, SHORT, tmp_path, CPU, seeds=2)
    found = planning.plan(TRACK, SHORT, tmp_path, CPU, 5)
    assert classes == [10]
    assert (found["done"], found["todo"]) == ([0, 1], [2, 3, 4])
    assert found["seconds"] == 90.0
    text = planning.plan_text(found)
    assert "above 10.0 % of digits@test within 10 min" in text
    assert "1 min 30 s, by a short measurement" in text
    with pytest.raises(BadInput, match="another config"):
        planning.plan(TRACK, replace(SHORT, steps=3), tmp_path, CPU, 5)
    elsewhere = said(capsys, 0, "cifar10-94", "--device", "cpu", "--plan")
    assert "this is not one GPU, so that nothing is measured" in elsewhere


def test_the_list_has_every_track(capsys: pytest.CaptureFixture[str]) -> None:
    listed = said(capsys, 0, "--list")
    assert all(track.name in listed for track in TRACKS)
    assert [row["name"] for row in json.loads(said(capsys, 0, "--list", "--json"))["tracks"]] == [
        track.name for track in TRACKS
    ]
    assert to_json(recipe_of(TRACKS[0]))["test"] is None
