"""`pretrain auto`: a law that finds what it was made from, plans that spend what they may, a look in the mirror."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitrail.cli import main
from vitrail.core.config import from_json
from vitrail.core.device import Machine
from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.data.open.names import open_data
from vitrail.jobs.forecast.forecast import Forecast
from vitrail.jobs.pretrain import Pretrain
from vitrail.jobs.pretrain_auto import auto, pilot, plan
from vitrail.jobs.pretrain_auto.auto import pretrain_auto
from vitrail.jobs.pretrain_auto.config import AutoPretrain, Facts, look_at, run_of, vit_of
from vitrail.jobs.pretrain_auto.law import Carried, Law, LawRun, accuracy_at, fit_law, log_odds, shipped_law
from vitrail.jobs.pretrain_auto.pilot import Mirrored
from vitrail.jobs.pretrain_auto.plan import Cost, depth_in_time, foretold, mirrors, share_of_half, step_flops
from vitrail.records.auto import HalfPilot, PilotResult

CPU = Machine("cpu", 0)
FACTS = Facts(images=50_000, classes=10, side=32, square=True)
DEPTHS, COMPUTE = (2, 3, 4, 6, 8), (5e12, 1.5e13, 4.5e13)
P, Q, B, K = -8.0, 0.3, 0.35, 0.4  # the best depth is exp(P + Q ln C): 2.2 to 4.2 over COMPUTE


def runs_of(noise: float, seed: int = 0) -> list[LawRun]:
    rng = np.random.default_rng(seed)
    made = []
    for flops in COMPUTE:
        for depth in DEPTHS:
            odds = -14 + B * np.log(flops) - K * (np.log(depth) - P - Q * np.log(flops)) ** 2
            made.append(LawRun(depth=depth, flops=flops, accuracy=accuracy_at(odds + noise * rng.normal(), 200)))
    return made


@pytest.fixture
def law() -> Law:
    return fit_law(runs_of(0.0), 200)


def test_log_odds_are_those_above_chance_and_come_back() -> None:
    assert log_odds(0.55, 10) == pytest.approx(0.0)
    assert log_odds(0.1, 10) == log_odds(0.02, 10) < -9  # no better than chance, and finite
    assert accuracy_at(log_odds(0.73, 10), 10) == pytest.approx(0.73)


def test_the_law_finds_what_its_runs_were_made_from(law: Law) -> None:
    assert law.numbers == pytest.approx([-14, B, K, P, Q], rel=1e-6)
    assert law.best_depth(3e13) == pytest.approx(np.exp(P + Q * np.log(3e13)))
    assert law.compute_of(law.best_depth(3e13)) == pytest.approx(3e13)
    gain, error = law.gain(4, 4.5e13, (4, 5e12))
    assert gain == pytest.approx(law.odds(4, 4.5e13) - law.odds(4, 5e12))
    assert error < 1e-6


def test_more_compute_never_costs_accuracy(law: Law) -> None:
    reached = [law.odds(2, flops) for flops in np.geomspace(1e11, 1e18, 50)]
    assert (np.diff(reached) >= 0).all()
    assert reached[-1] == reached[-2] > reached[10]


def test_the_error_of_a_gain_is_that_of_laws_from_other_draws() -> None:
    laws = [fit_law(runs_of(0.05, seed), 200) for seed in range(60)]
    gains = [one.gain(4, 1e14, (4, 6e12)) for one in laws]
    assert np.mean([error for _, error in gains]) == pytest.approx(np.std([gain for gain, _ in gains]), rel=0.35)


def test_runs_without_a_best_depth_or_too_few_are_refused() -> None:
    hollow = [replace(run, accuracy=accuracy_at(0.2 * np.log(run.depth) ** 2 - 2, 200)) for run in runs_of(0.0)]
    with pytest.raises(BadInput, match="no best depth"):
        fit_law(hollow, 200)
    with pytest.raises(BadInput, match="there are 5 runs"):
        fit_law(runs_of(0.0)[:5], 200)


def test_the_law_that_ships_is_that_of_its_study() -> None:
    found, runs = shipped_law()
    assert found.depths[0] >= 2
    assert found.numbers[1] > 0  # compute buys accuracy
    for run in runs.runs:  # and the law is near its own runs
        assert abs(found.odds(run.depth, run.flops) - log_odds(run.accuracy, runs.classes)) < 5 * found.deviation
    shown = read_json(Path(__file__).parents[2] / "docs/studies/compute.json")
    (measure,) = (one["name"] for one in shown["measures"])
    assert [(run.depth, run.flops, run.accuracy) for run in runs.runs] == [
        (row["at"]["depth"], row["total_flops"], row["values"][measure]["mean"]) for row in shown["rows"]
    ]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (AutoPretrain("digits"), "give one of --budget, --flops and --depth"),
        (AutoPretrain("digits", budget="1m", depth=2), "not budget and depth"),
        (AutoPretrain("digits", budget="soon"), "a time of 'soon'"),
        (AutoPretrain("digits", flops=-1.0), "flops is -1"),
        (AutoPretrain("digits", depth=99), "depth is 99"),
        (AutoPretrain("", budget="1m"), "--train DATA"),
    ],
)
def test_a_question_that_means_nothing_is_refused(asked: AutoPretrain, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        asked.check()


def test_sizes_go_with_the_depth_and_the_patches_with_the_images() -> None:
    for side, patch in ((8, 1), (28, 4), (32, 4), (64, 8), (500, 8)):
        model = vit_of(6, FACTS._replace(side=side))
        assert (model.patch, model.tokens, model.width, model.heads) == (patch, 64, 192, 6)
        model.check()
    few, many = (run_of(AutoPretrain("digits"), FACTS, 4, steps, True) for steps in (1000, 20_000))
    assert few.mixing.mixup == 0
    assert many.mixing.mixup > 0


@pytest.mark.parametrize("power", [0.3, 0.6, 0.9])
def test_the_depth_reaches_most_of_what_it_computes_in_the_time(law: Law, power: float) -> None:
    asked = []

    def cost(depth: int) -> Cost:
        asked.append(depth)
        return Cost(step_flops(depth, FACTS) / (2e10 * depth**power), 10.0)

    def reached(depth: int, seconds: float) -> float:
        steps = (seconds - 10.0) / (step_flops(depth, FACTS) / (2e10 * depth**power))
        return law.odds(depth, steps * step_flops(depth, FACTS)) if steps >= plan.FEWEST else -np.inf

    for seconds in (60.0, 300.0, 1500.0, 20_000.0):
        asked.clear()
        found = depth_in_time(law, FACTS, seconds, 8, cost)
        assert reached(found, seconds) >= max(reached(depth, seconds) for depth in range(2, 25)) - 0.05
        assert len(asked) == len(set(asked)) <= 5  # each takes ten seconds


def test_what_is_foretold_is_the_share_of_the_gain_that_other_data_had(law: Law) -> None:
    pilot = PilotResult(
        depth=4, steps=100, flops=3e12, seconds=1.0, slower=1.0, accuracy=0.4, mirrored=0.39, count=5000
    )
    gain, _ = law.gain(4, 4.8e13, (4, 3e12))

    def told(*shares: float) -> tuple[float, tuple[float, float] | None]:
        carried = [Carried(data=f"{share}", gain=0.5, reached=0.5 * share, half=None) for share in shares]
        return foretold(law, carried, pilot, 4, 4.8e13, 10)

    expected, narrow = told(0.8, 0.8, 0.8)
    assert log_odds(expected, 10) == pytest.approx(log_odds(0.4, 10) + 0.8 * gain)
    _, wide = told(0.6, 0.8, 1.0)
    assert narrow is not None
    assert wide is not None
    assert wide[0] < narrow[0] < expected < narrow[1] < wide[1]
    # of normal shares the next one is inside in 95 % of cases
    rng, inside = np.random.default_rng(0), 0
    for _ in range(400):
        drawn = 0.8 * np.exp(rng.normal(0, 0.3, 6))
        _, found = told(*drawn[:5])
        assert found is not None
        inside += found[0] <= accuracy_at(log_odds(0.4, 10) + drawn[5] * gain, 10) <= found[1]
    assert 0.93 <= inside / 400 <= 0.995
    assert told(0.8)[1] is None
    assert log_odds(told()[0], 10) == pytest.approx(log_odds(0.4, 10) + gain)


def test_what_compute_buys_on_the_data_is_told_by_half_a_pilot(law: Law) -> None:
    """Data on which twice the compute gains three times what the law says go on so, as far as others did."""
    half = HalfPilot(steps=50, flops=1.5e12, accuracy=0.2)
    pilot = PilotResult(
        depth=4, steps=100, flops=3e12, seconds=1.0, slower=1.0, accuracy=0.4, mirrored=0.39, count=5000, half=half
    )
    gain, _ = law.gain(4, 4.8e13, (4, 3e12))
    own = share_of_half(law, pilot, 10)
    assert own is not None
    first, _ = law.gain(4, 3e12, (4, 1.5e12))
    assert own * first == pytest.approx(log_odds(0.4, 10) - log_odds(0.2, 10))
    # all others kept 0.7 of the share that they had; one of them was not asked, and says nothing
    kept = [Carried(data=f"{half}", gain=1.0, reached=0.7 * half, half=half) for half in (0.5, 1.0, 3.0)]
    kept.append(Carried(data="?", gain=1.0, reached=9.0, half=None))
    expected, narrow = foretold(law, kept, pilot, 4, 4.8e13, 10)
    assert log_odds(expected, 10) == pytest.approx(log_odds(0.4, 10) + 0.7 * own * gain)
    spread, wide = foretold(law, kept, replace(pilot, half=None), 4, 4.8e13, 10)
    assert narrow is not None
    assert wide is not None
    assert log_odds(narrow[1], 10) - log_odds(narrow[0], 10) < 0.3 * (log_odds(wide[1], 10) - log_odds(wide[0], 10))
    # few held-out images say less
    _, few = foretold(law, kept, replace(pilot, count=200), 4, 4.8e13, 10)
    assert few is not None
    assert few[0] < narrow[0] < narrow[1] < few[1]
    # nothing gained: as without it
    nothing = replace(pilot, half=replace(half, accuracy=0.41))
    assert share_of_half(law, nothing, 10) is None
    assert foretold(law, kept, nothing, 4, 4.8e13, 10) == (spread, wide)


def test_mirrored_images_are_mirrored_and_judge_whether_they_may_be() -> None:
    source = open_data("digits", "train")
    seen = Mirrored(source)[3].image
    assert isinstance(seen, np.ndarray)
    assert (seen[:, ::-1] == source[3].image).all()
    pilot = PilotResult(depth=2, steps=9, flops=1.0, seconds=1.0, slower=1.0, accuracy=0.6, mirrored=0.58, count=1000)
    assert mirrors(pilot, 10)
    assert not mirrors(replace(pilot, mirrored=0.3), 10)
    assert not mirrors(replace(pilot, accuracy=0.11, mirrored=0.11), 10)  # it has not learned what could be lost


def test_compute_is_spent_and_the_plan_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], law: Law
) -> None:
    monkeypatch.setattr(auto, "shipped_law", lambda: (law, replace(shipped_law()[1], carried=())))
    monkeypatch.setattr(plan, "FEWEST", 4)
    monkeypatch.setattr(auto, "FEWEST", 4)
    monkeypatch.setattr(pilot, "LEAST", 1)
    facts = look_at(open_data("digits", "train"))
    flops = 40 * step_flops(2, facts)
    words = ["pretrain", "auto", "digits", "--test", "digits@test", "--flops", str(flops), "--workers", "0"]
    with pytest.raises(SystemExit) as planned:
        main([*words, "--out", str(tmp_path / "a"), "--plan", "--device", "cpu"])
    assert planned.value.code == 0
    made = read_json(tmp_path / "a/plan.json")
    assert not (tmp_path / "a/result.json").exists()
    assert made["pilot"]["flops"] + made["flops"] == pytest.approx(flops, rel=0.05)
    assert made["pilot"]["count"] > 80
    assert made["pilot"]["half"]["steps"] == made["pilot"]["steps"] // 2
    assert made["pilot"]["half"]["accuracy"] == read_json(tmp_path / "a/pilot/half/result.json")["accuracy"]
    capsys.readouterr()
    with pytest.raises(SystemExit) as trained:
        main([*words, "--out", str(tmp_path / "a"), "--json", "--device", "cpu"])
    assert trained.value.code == 0
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == made["steps"]
    assert result["plan"]["depth"] == made["depth"] == 2
    config = from_json(Pretrain, read_json(tmp_path / "a/config.json")["config"])
    assert config == from_json(Pretrain, made["config"])
    told = read_json(tmp_path / "a/foretold.json")
    assert (told["expected"], told["reached"]) == (made["expected"], result["accuracy"])
    with pytest.raises(BadInput, match="planned with other options"):
        pretrain_auto(AutoPretrain("digits", "digits@test", flops=2 * flops), tmp_path / "a", CPU)


def test_a_time_is_kept_by_what_a_step_takes_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, law: Law) -> None:
    facts = look_at(open_data("digits", "train"))

    def known(config: Pretrain, model: Any, **_: Any) -> Forecast:
        step = step_flops(model.depth, facts) / 1e11
        return Forecast(
            seconds=0.0, start_seconds=3.0, seconds_per_step=step, training_seconds=0.0, evaluation_seconds=2.0,
            finish_seconds=1.0, memory_gib=1.0, total_flops=0.0, data="its own", measured="whole",
        )  # fmt: skip

    slow = PilotResult(depth=2, steps=60, flops=1e11, seconds=1.0, slower=2.0, accuracy=0.5, mirrored=0.1, count=200)
    monkeypatch.setattr(auto, "shipped_law", lambda: (law, replace(shipped_law()[1], carried=())))
    monkeypatch.setattr(auto, "forecast", known)
    monkeypatch.setattr(auto, "run_pilot", lambda *_: slow)
    made, result = pretrain_auto(AutoPretrain("digits", budget="40s"), tmp_path / "a", CPU, only_plan=True)
    assert result is None
    each = 2.0 * step_flops(made.depth, facts) / 1e11  # twice as long as was measured, by the pilot
    assert made.steps * each + 6.0 <= 0.93 * 40
    assert made.steps * each + 6.0 > 0.8 * 40
    assert not from_json(Pretrain, made.config).augment.flip
    with pytest.raises(BadInput, match="give at least"):
        pretrain_auto(AutoPretrain("digits", budget="2s"), tmp_path / "b", CPU, only_plan=True)


def test_images_of_several_sizes_are_looked_at(tmp_path: Path) -> None:
    from PIL import Image

    for i, size in enumerate([(40, 30), (50, 20), (60, 25)]):
        place = tmp_path / f"train/{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (i, 9, 9)).save(place / f"{i}.png")
    facts = look_at(open_data(str(tmp_path), "train"))
    assert (facts.images, facts.classes, facts.side, facts.square) == (3, 2, 25, False)


def test_a_folder_of_something_else_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match=r"other files \(config.json\) and no plan"):
        pretrain_auto(AutoPretrain("digits", flops=1e12), tmp_path, CPU)
    assert [place.name for place in tmp_path.iterdir()] == ["config.json"]
    with pytest.raises(BadInput, match="is a file"):
        pretrain_auto(AutoPretrain("digits", flops=1e12), tmp_path / "config.json", CPU)


def test_a_plan_that_was_stopped_goes_on_with_its_pilot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, law: Law
) -> None:
    monkeypatch.setattr(auto, "shipped_law", lambda: (law, replace(shipped_law()[1], carried=())))
    monkeypatch.setattr(plan, "FEWEST", 4)
    monkeypatch.setattr(auto, "FEWEST", 4)
    asked = AutoPretrain("digits", flops=60 * step_flops(2, look_at(open_data("digits", "train"))))
    whole, _ = pretrain_auto(asked, tmp_path, CPU, only_plan=True)
    (tmp_path / "plan.json").unlink()  # as after a kill, which here comes with another measured speed
    monkeypatch.setattr(auto, "PILOT", 1 / 10)
    again, _ = pretrain_auto(asked, tmp_path, CPU, only_plan=True)
    assert whole.pilot is not None
    assert again.pilot is not None
    assert again.pilot.steps == whole.pilot.steps
    assert again.config == whole.config


@pytest.mark.parametrize("each", [1.04e9, 4.4e9, 9.96e9])
def test_the_compute_that_is_asked_for_is_enough(each: float) -> None:
    with pytest.raises(BadInput, match="too few: give") as refused:
        plan.steps_for(1e9, each)
    assert plan.steps_for(float(str(refused.value).split()[-1]), each) >= plan.FEWEST
