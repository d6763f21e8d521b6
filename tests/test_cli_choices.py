"""Every alternative by name on the command line, run for real on the digits; options of others answered with ours."""

import json
from pathlib import Path
from typing import Any

import pytest

from vitrail.cli import main
from vitrail.core.choices import NAMES, choices, choose, members, name_of
from vitrail.core.config import to_json

SHORT = ["--steps", "3", "--batch", "16", "--workers", "0", "--device", "cpu"]


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def trained(folder: Path, *words: str, recipe: tuple[str, ...] = ("digits",), short: list[str] = SHORT) -> Any:
    """The config of a finished run of pretrain with these options."""
    assert call("pretrain", *recipe, *words, *short, "--out", str(folder)) == 0
    assert json.loads((folder / "result.json").read_text())["steps"] >= 1
    return json.loads((folder / "config.json").read_text())["config"]


@pytest.mark.parametrize(
    ("words", "path", "kind"),
    [
        (["--model.position", "relative"], "model.position", "Relative"),
        (["--model.position", "none"], "model.position", "NoPosition"),
        (["--model.position=2d"], "model.position", "Learned2d"),
        (["--model.position", "sincos", "--model.position.learned"], "model.position", "SinCos2d"),
        (["--model.pool", "average"], "model.pool", "AveragePool"),
        (["--model.pool", "token"], "model.pool", "ClassToken"),
        (["--model.pool", "attention"], "model.pool", "AttentionPool"),
        (["--optimizer", "sgd", "--optimizer.momentum", "0.8"], "optimizer", "Momentum"),
        (["--optimizer", "muon", "--optimizer.lr", "0.01", "--optimizer.adam-lr", "1e-3"], "optimizer", "Muon"),
        (["--schedule", "linear"], "schedule", "Linear"),
        (["--schedule", "rsqrt", "--schedule.timescale", "100"], "schedule", "Rsqrt"),
        (["--schedule", "steps"], "schedule", "Steps"),
        (["--loss", "sigmoid"], "loss", "Sigmoid"),
        (["--loss", "logit-adjusted", "--loss.tau", "0.5"], "loss", "LogitAdjusted"),
        (["--model", "R26x1"], "model", "ResNetConfig"),
        (["--model", "Ti/16", "--model.patch", "2"], "model", "ViTConfig"),
        (["--augment.crop", "pad", "--augment.crop.padding", "1"], "augment.crop", "PadCrop"),
        (["--augment.crop", "inception", "--augment.erasing", "on"], "augment.erasing", "RandomErasing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_alternative_by_name_is_trained_and_named(words: list[str], path: str, kind: str, tmp_path: Path) -> None:
    config = trained(tmp_path / "a", *words)
    for name in path.split("."):
        config = config[name]
    assert config["type"] == kind
    page = (tmp_path / "a/report.html").read_text()
    sizes = {
        "ResNetConfig": "ResNet of units 2-2-2-2, width 64",
        "ViTConfig": "ViT of 12 layers, width 192, 3 heads, patch 2",
    }
    if path != "augment.erasing":  # in the whole config alone
        title = (
            path.rpartition(".")[2].replace("position", "position embedding").replace("pool", "pooling").capitalize()
        )
        assert f"<dt>{title}</dt><dd>{sizes.get(kind, NAMES[kind])}" in page


def test_a_named_model_keeps_what_is_not_its_size(tmp_path: Path) -> None:
    model = trained(tmp_path / "a", "--model", "Ti/16", "--model.patch", "2")["model"]
    assert (model["width"], model["depth"], model["heads"], model["patch"]) == (192, 12, 3, 2)
    assert model["resolution"] == [8, 8]
    assert model["pool"]["type"] == "AveragePool"  # of the recipe


def test_the_shared_options_of_alternatives_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = trained(tmp_path / "a", "--optimizer", "sgd", "--schedule", "linear", "--optimizer.weight-decay", "0")
    assert config["optimizer"]["lr"] == 2e-3
    assert config["optimizer"]["momentum"] == 0.9
    assert config["optimizer"]["weight_decay"] == 0
    said = capsys.readouterr().err
    assert "optimizer sgd, with what it was before: lr 0.002\n" in said  # not the decay, which is given
    assert config["schedule"]["warmup"] == 3 * 40 // 400


def test_epochs_become_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = trained(tmp_path / "a", "--epochs", "0.1", short=["--workers", "0"])
    assert config["steps"] == 2  # of 1,352 images in batches of 64
    assert config["schedule"]["warmup"] == 0
    said = capsys.readouterr().err
    assert "0.1 epochs of 1,352 images in batches of 64 are 2 steps" in said
    assert "warm-up of 0 steps in place of 40" in said
    assert call("pretrain", "digits", "--epochs", "1", "--steps", "3", "--out", str(tmp_path / "b")) == 2
    assert call("pretrain", "digits", "--epochs", "0", "--out", str(tmp_path / "b")) == 2


def test_a_warm_up_that_is_given_stays_and_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["pretrain", "digits", "--steps", "3", "--schedule.warmup", "9", "--out", str(tmp_path / "b")]
    assert call(*words) == 2
    assert "a warm-up of 9 steps is longer than the run of 3" in capsys.readouterr().err


def test_a_config_runs_again_with_other_options_on_top(tmp_path: Path) -> None:
    first = trained(tmp_path / "a", "--model.position", "relative", "--seed", "3")
    again = trained(tmp_path / "b", "--config", str(tmp_path / "a/config.json"), recipe=(), short=["--workers", "0"])
    assert again == first
    assert json.loads((tmp_path / "b/config.json").read_text())["recipe"] == "digits"
    weights = [json.loads((tmp_path / n / "result.json").read_text())["weights_sha256"] for n in ("a", "b")]
    assert weights[0] == weights[1]
    changed = trained(tmp_path / "c", f"--config={tmp_path / 'a'}", "--model.position", "none", recipe=())
    assert changed == {**first, "model": {**first["model"], "position": {"type": "NoPosition"}}}


def test_a_config_that_is_printed_is_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("pretrain", "digits", "--print-config", "--schedule", "linear", *SHORT) == 0
    text = capsys.readouterr().out
    assert json.loads(text)["config"]["schedule"]["type"] == "Linear"
    file = tmp_path / "config.json"
    file.write_text(text)
    assert call("pretrain", "--config", str(file), "--print-config") == 0
    assert capsys.readouterr().out == text
    assert call("finetune", "--config", str(file), "--out", str(tmp_path / "x")) == 2
    assert "is of `vitrail pretrain`, this is `vitrail finetune`" in capsys.readouterr().err
    assert call("pretrain", "digits", "--config", str(file), "--out", str(tmp_path / "x")) == 2
    assert call("pretrain", "--config", str(tmp_path / "none.json"), "--out", str(tmp_path / "x")) == 2
    assert not (tmp_path / "x").exists()


def test_fine_tuning_by_name(digits_run: Path, tmp_path: Path) -> None:
    words = ["--init", str(digits_run), "--optimizer", "adam", "--schedule", "rsqrt", "--loss", "sigmoid"]
    words += ["--tuned", "lora", "--tuned.rank", "2", "--epochs", "0.1", "--workers", "0"]
    assert call("finetune", "digits", *words, "--out", str(tmp_path / "a")) == 0
    config = json.loads((tmp_path / "a/config.json").read_text())["config"]
    assert [config[key]["type"] for key in ("optimizer", "schedule", "loss", "tuned")] == [
        "Adam",
        "Rsqrt",
        "Sigmoid",
        "Lora",
    ]
    assert config["tuned"]["rank"] == 2
    assert config["steps"] == 1
    page = (tmp_path / "a/report.html").read_text()
    for shown in ("ViT of 3 layers", "1d: where stem", "average: ", "adam: ", "rsqrt: ", "sigmoid: ", "lora: rank 2"):
        assert shown in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--optimizer sdg", "unknown optimizer 'sdg'; did you mean 'sgd'?"),
        ("--model.position 3d", "unknown model.position '3d'; did you mean '2d'?"),
        ("--model S/x", "unknown model 'S/x'"),
        ("--lr 0.1", "--lr is --optimizer.lr here"),
        ("--learning-rate 0.1", "--learning-rate is --optimizer.lr here"),
        ("--weight-decay=0.1", "--weight-decay is --optimizer.weight-decay here"),
        ("--wd 0.1", "--wd is --optimizer.weight-decay here"),
        ("--batch-size 8", "--batch-size is --batch here"),
        ("-b 8", "-b is --batch here"),
        ("--per_device_train_batch_size 8", "--per_device_train_batch_size is --batch here"),
        ("--num_train_epochs 8", "--num_train_epochs is --epochs here"),
        ("--img-size 32", "--img-size is --model.resolution here"),
        ("--data-path photos", "--data-path is --train here"),
        ("--output_dir x", "--output_dir is --out here"),
        ("--arch vit_base", "--arch is --model here"),
        ("--num-classes 5", "--num-classes is not needed: the classes are those of the training data"),
        ("--pretrained", "vitrail finetune RECIPE --init MODEL"),
        ("--patch 4", "--patch is --model.patch here"),
        ("--stpes 4", "unknown option --stpes; did you mean '--steps'?"),
        ("--learned", "unknown option --learned"),
        ("--model R26x1 --model.pool token", "--model.pool is of another kind of model than resnet"),
    ],
)
def test_a_wrong_option_is_answered_with_ours(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("pretrain", "digits", *words.split(), "--out", "/nowhere/at/all") == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.strip().splitlines()) == 1


def test_a_study_takes_alternatives_for_all_its_runs(capsys: pytest.CaptureFixture[str]) -> None:
    from vitrail.commands.study import Options, _study

    made = _study(Options(name="position"), ["--optimizer", "sgd", "--optimizer.momentum=0.5"])
    assert {run.config.optimizer.momentum for run in made.runs} == {0.5}
    assert call("study", "position", "--lr", "1", "--plan") == 2
    assert "--lr is --optimizer.lr here" in capsys.readouterr().err


def test_help_has_what_most_people_need_and_the_rest_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("pretrain", "digits", "--help", "--optimizer", "sgd") == 0
    short = capsys.readouterr().out
    for shown in ("--optimizer adam|sgd", "--model.position none|1d|2d|relative|sincos", "R50+B/16", "--help-all"):
        assert shown in short
    assert "--optimizer.momentum" not in short
    assert call("pretrain", "digits", "--help-all", "--optimizer", "sgd") == 0
    everything = capsys.readouterr().out
    for shown in ("--optimizer.momentum X", "--augment.crop pad  --augment.crop.padding", "--stall"):
        assert shown in everything


def test_underscores_are_read_as_dashes(tmp_path: Path) -> None:
    words = ["--log_every", "1", "--optimizer.weight_decay", "0.5", "--augment.three_augment"]
    assert trained(tmp_path / "a", *words)["optimizer"]["weight_decay"] == 0.5


def test_every_alternative_has_a_name_of_its_own_and_can_be_chosen() -> None:
    from vitrail.jobs.finetune.run import Finetune
    from vitrail.recipes import FINETUNING, PRETRAINING

    for config in (PRETRAINING["digits"](), FINETUNING["digits"]()):
        for path, there in choices(config).items():
            assert {kind.__name__ for kind in there.values() if kind is not None} <= NAMES.keys()
            for name, kind in there.items():
                chosen = config
                for part in path.split("."):
                    chosen = getattr(chosen, part)
                made = choose(config, path, name)
                for part in path.split("."):
                    made = getattr(made, part)
                assert made is None if kind is None else type(made) is kind
                assert name_of(made) == name_of(to_json(made)) == name
    assert members(Finetune.__dataclass_fields__["seed"].type) == {}


def surface_choices() -> list[tuple[str, str, str]]:
    """(command, option, values) of every option in tests/surface.txt that has choices."""
    found, command = [], ""
    for line in (Path(__file__).parent / "surface.txt").read_text().splitlines():
        if line.startswith("options of "):
            command = line.removeprefix("options of ").removesuffix(":")
        elif (words := line.split()) and command and len(words) == 2 and "|" in words[1] and "TEXT" not in words[1]:
            found.append((command, *words))
    return found


@pytest.mark.parametrize(("command", "option", "values"), surface_choices(), ids=lambda value: value.split("|")[0])
def test_a_choice_that_is_none_gets_one_sentence(
    command: str, option: str, values: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*command.split(), option, "nonsense") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("vitrail: ")
    assert "'nonsense'" in said
    assert any(choice in said for choice in (*values.split("|"), "a whole number"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("study head --scale huge", "--scale is 'huge'; known are: smoke, small, medium, paper"),
        ("demo digts", "STORY is 'digts'; did you mean 'digits'?"),
        ("linear --judge rige", "--judge is 'rige'; did you mean 'ridge'?"),
        ("linear --shots few", "--shots is 'few', expected a whole number or all"),
        ("pretrain digits --steps abc", "--steps is 'abc', expected a whole number"),
        ("pretrain digits --optimizer.lr=fast", "--optimizer.lr is 'fast', expected a number"),
        ("pretrain digits --optimizer.betas 0.9 --out a", "--optimizer.betas needs 2 values: X X"),
        ("pretrain digits --out", "--out needs a value: PATH"),
        ("pretrain digits B/16", "'B/16' belongs to no option of vitrail pretrain digits"),
        ("study head --optimizer.lr fast --plan", "--optimizer.lr is 'fast', expected a number"),
        ("inspect --out a", "vitrail inspect needs --model TEXT"),
        ("convert a --to npz", "vitrail convert needs DESTINATION"),
        ("inspect --model a --resolution", "--resolution needs a value: N|N N"),
        ("inspect --model a --resolution 8 8 8", "'8' belongs to no option of vitrail inspect"),
        ("inspect --model a --query 1", "--query needs 2 values: N N"),
        ("pretrain digits --model.depth None", "vitrail pretrain digits: "),  # as tyro says it
    ],
)
def test_words_that_no_option_takes_get_one_sentence(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vitrail: {said}")
