"""What a container may still take: files that were read do not count, since they can be dropped again."""

from pathlib import Path

from vitrail.core.device import _control_group


def test_the_cache_of_files_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("16000\n")
    (tmp_path / "memory.current").write_text("15500\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 9000\nactive_file 6000\n")
    assert _control_group(tmp_path) == 15500


def test_no_limit_and_no_container(tmp_path: Path) -> None:
    assert _control_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    assert _control_group(tmp_path) is None
