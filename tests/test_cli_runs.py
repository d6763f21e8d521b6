"""What the command line says of a run: the verdict on its time, and the report without torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vitrail.cli import main
from vitrail.commands.parsing import PROOFS


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_pretrain_ends_with_where_the_time_went(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "pretrain",
        "digits",
        "--steps",
        "60",
        "--log-every",
        "10",
        "--workers",
        "0",
        "--out",
        str(tmp_path / "a"),
    ]
    command += ["--schedule.warmup", "5"]
    text = printed(capsys, *command)
    result = json.loads(printed(capsys, *command, "--json"))  # the finished run is shown again
    verdict = result["verdict"]
    assert verdict["bound"] in ("waiting", "copying", "communicating", "computing")
    assert verdict["said"] in text.splitlines()
    assert "-bound: " in verdict["said"] or "Bound by" in verdict["said"]
    page = (tmp_path / "a/report.html").read_text()
    assert "This run has other options than the proof: steps: 400 → 60" in page  # drawn over the recipe's proof


def test_the_command_line_finds_the_proofs_of_the_recipes() -> None:
    from vitrail.recipes import reference_run

    assert reference_run.PROOFS == PROOFS


def test_a_report_with_proofs_starts_without_torch(digits_run: Path) -> None:
    program = (
        "import sys; from vitrail.cli import main\n"
        f"try: main(['report', {str(digits_run)!r}])\nexcept SystemExit as end: assert not end.code\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 0
    assert "Against the recipe's proof" in (digits_run / "report.html").read_text().replace("&#39;", "'")
