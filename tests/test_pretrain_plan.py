"""`vitrail pretrain RECIPE --plan` shows what `vitrail plan` shows of the same options, and starts nothing."""

import json
from pathlib import Path

import pytest

from vitrail.cli import main


def call(*args: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(args))
    return int(end.value.code or 0)


RUN = ("imagenet21k-b16", "--batch", "4098", "--model", "L/16")
THERE = ("--kind", "h200", "--gpus", "6", "--network", "25")


@pytest.mark.parametrize("shown", [(), ("--json",)])
def test_it_is_the_plan_of_this_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shown: tuple[str, ...]
) -> None:
    out = tmp_path / "run"
    assert call("pretrain", *RUN, "--out", str(out), "--sharding", "sharded", *THERE, "--plan", *shown) == 0
    mine = capsys.readouterr().out
    assert call("plan", *RUN, *THERE, "--sharding", "sharded", "--recompute", "False", *shown) == 0
    assert mine == capsys.readouterr().out
    assert "6 x H200" in mine or json.loads(mine)["plans"][0]["devices"] == 6
    assert not out.exists()


def test_what_is_not_said_is_that_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Replicated and without recomputation, as the run would be; as many GPUs as torchrun started processes."""
    monkeypatch.setenv("WORLD_SIZE", "16")
    monkeypatch.setenv("RANK", "0")
    assert call("pretrain", "jft-l16-14", "--plan") == 0
    assert "on 16 x H100 SXM in 2 machines --sharding replicated" in capsys.readouterr().out
    monkeypatch.setenv("RANK", "3")
    assert call("pretrain", "jft-l16-14", "--plan") == 0
    assert capsys.readouterr().out == ""


def test_epochs_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("pretrain", "digits", "--epochs", "2", "--batch", "64", "--plan", "--json") == 0
    assert json.loads(capsys.readouterr().out)["plans"][0]["steps"] == 42


def test_the_exit_code_says_that_it_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("pretrain", "jft-h14", "--plan", "--memory", "8") == 1
    assert "does not fit" in capsys.readouterr().out


def test_without_it_an_option_of_a_plan_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("pretrain", "digits", "--kind", "h100") == 2
    assert "--kind" in capsys.readouterr().err
