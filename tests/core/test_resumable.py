"""The same question goes on, another is refused with the difference; a folder is claimed by one process."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from vitrail.core.config import to_json
from vitrail.core.errors import BadInput
from vitrail.core.resumable import claim_folder, refuse_another


@dataclass(frozen=True)
class Question:
    model: str = "a"
    top: int = 1


def test_the_same_question_is_let_through() -> None:
    refuse_another(Path("out"), to_json(Question()), Question(), "out holds another task", "give another --out")
    refuse_another(
        Path("out"), {"top": 1, "paths": ["a"]}, {"top": 1, "paths": ["a"]}, "out holds another task", "go away"
    )


def test_another_is_refused_with_the_difference_and_what_to_do() -> None:
    with pytest.raises(BadInput, match=r"out holds another task \(top: 1 → 2\); give another --out"):
        refuse_another(
            Path("out"), to_json(Question()), Question(top=2), "out holds another task", "give another --out"
        )
    with pytest.raises(BadInput, match=r"another task \(preprocess.size: 224 → 384; which: None → 'b'\)"):
        stored = {"preprocess": {"size": 224}}
        refuse_another(Path("out"), stored, {"preprocess": {"size": 384}, "which": "b"}, "out holds another task", "go")


def test_one_that_cannot_be_read_is_of_another_version() -> None:
    with pytest.raises(BadInput, match=r"out was written by another version of vitrail \(.*'tops'.*'top'.*\); go"):
        refuse_another(Path("out"), {"type": "Question", "tops": 1}, Question(), "out holds another task", "go")


def test_a_claimed_folder_is_cleared_of_leftovers_and_refused_to_others(tmp_path: Path) -> None:
    (tmp_path / ".model.123.tmp").write_text("half")
    with claim_folder(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
        with pytest.raises(BadInput, match="in use by another process"):
            claim_folder(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"file is a file, expected a folder or a new name"):
        claim_folder(tmp_path / "file")
