"""Two that write to one folder: the second waits, and all files are those of one of them."""

import threading
import time
from pathlib import Path

import pytest

from vitrail.core.errors import BadInput
from vitrail.core.locks import try_lock
from vitrail.core.resumable import alone_in


def test_the_second_waits_for_the_first(tmp_path: Path) -> None:
    folder, order, inside = tmp_path / "out", [], threading.Event()

    def first() -> None:
        with alone_in(folder):
            inside.set()
            time.sleep(0.3)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(10)
    assert try_lock(folder / ".lock") is None
    with alone_in(folder):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_it_is_let_go_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), alone_in(tmp_path):
        raise ZeroDivisionError
    lock = try_lock(tmp_path / ".lock")
    assert lock is not None
    lock.release()


def test_a_file_is_no_folder_and_none_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="is a file"), alone_in(tmp_path / "file"):
        pass
    with alone_in(None):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("job", ["evaluate", "linear", "inspect", "data check"])
def test_every_job_that_writes_several_files_waits(job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each asks for the folder by `alone_in`; here it is refused."""
    from tests.jobs.finetune.test_sweep import model_bundle, pictures
    from vitrail.jobs import data_check, evaluate, inspect, linear_probe

    class Asked(Exception):
        pass

    def refusing(_: Path) -> None:
        raise Asked

    photos, model, out = str(pictures(tmp_path / "photos", 12, seed=0)), model_bundle(tmp_path), tmp_path / "out"
    others = str(pictures(tmp_path / "others", 3, seed=1))
    jobs = {
        "evaluate": (evaluate, lambda: evaluate.evaluate(evaluate.Evaluate(model, f"{two}"), out)),
        "linear": (
            linear_probe,
            lambda: linear_probe.linear(linear_probe.Linear(model, photos, others, shots=(5,)), out),
        ),
        "inspect": (inspect, lambda: inspect.inspect(inspect.Inspect(model, images=photos), out)),
        "data check": (data_check, lambda: data_check.check(data_check.Check(photos), out)),
    }
    two = pictures(tmp_path / "two", 3, seed=0)
    (two / "class-0").rename(two / "x")
    (two / "class-1").rename(two / "y")
    for file in (two / "class-2").iterdir():
        file.unlink()
    (two / "class-2").rmdir()
    module, run = jobs[job]
    monkeypatch.setattr(module, "alone_in", refusing)
    with pytest.raises(Asked):
        run()
    assert not out.exists()
