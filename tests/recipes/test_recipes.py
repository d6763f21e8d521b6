"""Every recipe says where it comes from, what to expect, and how to run it; and `vitrail recipes` prints it."""

import json
import re
import shlex

import pytest

from vitrail import cli
from vitrail.commands import parsing as reading
from vitrail.commands import training
from vitrail.core.errors import BadInput
from vitrail.recipes.docstring import About, about
from vitrail.recipes.table import RECIPES, chosen, describe, facts, listing

EVERY = chosen(())


@pytest.mark.parametrize(("command", "name"), EVERY, ids=[" ".join(one) for one in EVERY])
def test_every_recipe_has_a_source_an_expectation_and_a_command(command: str, name: str) -> None:
    said = about(RECIPES[command][name])
    assert said.what.endswith(".")
    assert said.source
    # a number with its step, or the plain word that it is not known
    assert re.search(r"\d %.* (steps|epochs)|not known|depends on MODEL", said.expected)
    assert said.command.startswith(f"vitrail {command} {name} ")
    assert "--out " in said.command


@pytest.mark.parametrize(("command", "name"), EVERY, ids=[" ".join(one) for one in EVERY])
def test_the_command_of_every_recipe_is_one_that_the_command_line_reads(command: str, name: str) -> None:
    from vitrail.jobs.finetune.finetune import Finetune
    from vitrail.jobs.pretrain import Pretrain

    recipe = RECIPES[command][name]
    words = shlex.split(about(recipe).command)[3:]
    job = Pretrain if command == "pretrain" else Finetune
    kind, default = reading.options(job, default=recipe(), common=training.CommonTraining)
    options = reading.parse(cli.COMMANDS[command]._replace(name=f"{command} {name}"), kind, words, default)
    assert options.out.parts[0] == "runs"
    assert options.config.train
    assert command == "pretrain" or options.config.init


def test_a_docstring_is_read_back() -> None:
    said = About(
        "What it is.", "A table.", "9 % after 3 steps, on two\n    lines.", "vitrail pretrain it --out runs/it"
    )

    def recipe() -> None: ...

    recipe.__doc__ = said.docstring()
    assert about(recipe) == About("What it is.", "A table.", "9 % after 3 steps, on two lines.", said.command)
    recipe.__doc__ = None
    assert about(recipe) == About("", "", "", "")


def test_one_recipe_whole() -> None:
    text = facts(describe("pretrain", "jft-b16"))
    for part in ("Table 3.", "84.15 %", "517,822 steps of 4,096", "not run here", "vitrail pretrain jft-b16 --train"):
        assert part in text
    # B/16 with its hidden layer of 768: 86.4 M without a classifier
    assert "86,389,248, without the classifier" in text
    assert max(map(len, text.splitlines())) <= 120


def test_a_recipe_that_was_run_here_says_what_it_took() -> None:
    row = describe("pretrain", "digits")
    assert row["proof"]["count"] == 445
    assert f"{row['proof']['accuracy']:.1%}".replace("%", " %") in facts(row)
    assert f"{row['proof']['seconds']:,.0f} s on {row['proof']['processor']}" in facts(row)


def test_the_memory_of_a_batch_is_that_of_what_is_kept_for_it() -> None:
    from vitrail.models.cost import parameters, training_activations
    from vitrail.recipes import pretraining

    config = pretraining("imagenet-b16")
    expected = 16 * parameters(config.model) + 4096 * training_activations(config.model)
    assert describe("pretrain", "imagenet-b16")["memory_gib"] == pytest.approx(expected / 2**30)


def test_a_fine_tuning_has_the_cost_of_its_model() -> None:
    row = describe("finetune", "paper-pets")
    assert row["parameters"] is None
    assert "as --init gives it" in facts(row)


def test_names_of_both_commands_are_told_apart() -> None:
    assert chosen(["digits"]) == [("pretrain", "digits"), ("finetune", "digits")]
    assert chosen(["finetune", "digits"]) == [("finetune", "digits")]
    assert len(listing([describe(*one) for one in EVERY]).splitlines()) == len(EVERY) + 1  # and the grid


@pytest.mark.parametrize(
    "words", [["cifar11"], ["finetune", "cifar11"], ["finetune", "jft-b16"], ["a", "b"], ["a"] * 3]
)
def test_a_name_that_is_not_there(words: list[str]) -> None:
    with pytest.raises(BadInput):
        chosen(words)


def test_the_command_prints_one_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*words: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            cli.main(["recipes", *words])
        assert stopped.value.code == 0
        return capsys.readouterr().out

    assert printed("cifar10").startswith("pretrain cifar10\n")
    assert "\n\nfinetune cifar10\n" in printed("cifar10")
    *lines, grid = printed().splitlines()
    assert len(lines) == len(EVERY)
    assert "augreg-DATA-MODEL-AUGMENTATION-DECAY[-regularised]" in grid
    rows = json.loads(printed("pretrain", "cifar10", "--json"))["recipes"]
    assert [row["recipe"] for row in rows] == ["cifar10"]
    assert {"source", "expected", "run", "memory_gib", "proof"} <= rows[0].keys()
