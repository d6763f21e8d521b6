"""Run folders at addresses: what a kill between two writes, a store that fails, and a second run leave."""

import itertools
import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.fake_store import FakeStore
from vitrail.core import mirror, snapshot, uploader
from vitrail.core.digests import sealed
from vitrail.core.errors import BadInput, Interrupted, Unreachable
from vitrail.core.mirror import mirrored
from vitrail.core.snapshot import take_snapshot
from vitrail.core.stored_folder import StoredFolder

AT = "memory://bucket/runs/a"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    monkeypatch.setattr(mirror, "PAUSE", 0.0)
    return FakeStore(monkeypatch)


@pytest.fixture
def on_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """From now on this process is on another machine, with a cache of its own."""

    def move(name: str) -> None:
        monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / name))

    move("first")
    return move


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What people are told."""
    lines: list[str] = []
    for module in (mirror, uploader):
        monkeypatch.setattr(module, "say", lines.append)
    return lines


def contents(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in snapshot.files_of(folder)}


def checkpoint(folder: Path, step: int) -> dict[str, str]:
    """What a run has after some steps: a new checkpoint, a file that grows, one that is replaced; the oldest goes."""
    new = folder / "checkpoints" / f"step-{step:08d}"
    new.mkdir(parents=True, exist_ok=True)
    (new / "part-0-of-1.safetensors").write_text(f"weights of step {step}")
    (new / "state.json").write_text(f"step {step}")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(f"{step}\n")
    best = folder / "best.new"
    best.write_text(f"best of step {step}")
    best.replace(folder / "best.json")
    (folder / "config.json").write_text("asked")
    old = folder / "checkpoints" / f"step-{step - 2:08d}"
    if old.exists():
        for file in old.iterdir():
            file.unlink()
        old.rmdir()
    return contents(folder)


def finish(folder: Path) -> dict[str, str]:
    (folder / "bundle").mkdir()
    (folder / "bundle/config.json").write_text("model")
    (folder / "result.json").write_text("done")
    return contents(folder)


def upload() -> None:
    """As the thread does it after a checkpoint, but now."""
    opened = mirror._open[-1]
    opened._uploader.upload(opened.folder)


def run(steps: int, first: int = 1) -> list[dict[str, str]]:
    """A whole run; what its folder held at each upload."""
    states: list[dict[str, str]] = []
    with mirrored(AT) as folder:
        for step in range(first, first + steps):
            states.append(checkpoint(folder, step))
            upload()
        states.append(finish(folder))
    return states


def test_a_path_is_itself(tmp_path: Path) -> None:
    with mirrored(tmp_path / "a") as folder:
        assert folder == tmp_path / "a"
    assert not folder.exists()


def test_a_kill_between_any_two_writes_leaves_the_state_before_or_the_new_one(
    store: FakeStore, on_machine: Callable[[str], None]
) -> None:
    states = [{}, *run(4)]
    changes = list(store.changes)
    assert len(changes) > 30
    seen = []
    for kill in range(1, len(changes) + 1):
        store.become(changes[:kill])
        on_machine(f"after {kill}")
        with suppress(Interrupted), mirrored(AT) as folder:
            found = contents(folder) if folder.exists() else {}
            raise Interrupted(15)
        assert found in states, f"after {changes[kill - 1].name}"
        seen.append(states.index(found))
    assert seen == sorted(seen), "never back"
    assert set(seen) == set(range(len(states)))


def test_after_any_kill_another_machine_ends_with_the_same_objects(
    store: FakeStore, on_machine: Callable[[str], None]
) -> None:
    last = run(4)[-1]
    changes, whole = list(store.changes), store.names()
    for kill in range(1, len(changes)):
        store.become(changes[:kill])
        on_machine(f"after {kill}")
        with mirrored(AT) as folder:
            done = len((folder / "metrics.jsonl").read_text().split()) if (folder / "metrics.jsonl").exists() else 0
            for step in range(done + 1, 5):
                checkpoint(folder, step)
                upload()
            if not (folder / "result.json").exists():
                finish(folder)
        on_machine(f"reader after {kill}")
        with mirrored(AT) as folder:
            assert contents(folder) == last
        assert store.names() == whole, "and nothing is left over"


def test_a_finished_run_lies_there_under_the_names_of_its_files(
    store: FakeStore, on_machine: Callable[[str], None]
) -> None:
    last = run(2)[-1]
    plain = {name: store.system.cat(f"/bucket/runs/a/{name}").decode() for name in last if "checkpoints" not in name}
    assert plain == {name: text for name, text in last.items() if "checkpoints" not in name}
    with mirrored(AT) as folder:
        (folder / "metrics.jsonl").write_text("made anew")
    assert store.system.cat("/bucket/runs/a/metrics.jsonl") == b"made anew"
    assert not [name for name in store.names("/bucket/runs/a/metrics") if not name.endswith("metrics.jsonl")]


def test_no_object_is_written_over_while_something_names_it(
    store: FakeStore, on_machine: Callable[[str], None]
) -> None:
    """But for mirror.json, which is small and appears whole."""

    def check(name: str) -> None:
        manifest = store.system.store.get("/bucket/runs/a/mirror.json")
        if manifest is not None and not name.endswith("mirror.json"):
            said = json.loads(manifest.getvalue())["files"].values()
            assert name.removeprefix("/bucket/runs/a/") not in {file["object"] for file in said}

    store.before_change = check
    run(3)
    with mirrored(AT) as folder:
        checkpoint(folder, 4)
        upload()
    with mirrored(AT) as folder:
        (folder / "metrics.jsonl").write_text("made anew")


def test_the_thread_uploads_after_each_checkpoint_and_the_newest_counts(
    store: FakeStore, on_machine: Callable[[str], None]
) -> None:
    with mirrored(AT) as folder:
        for step in range(1, 6):
            want = checkpoint(folder, step)
            mirror.saved(folder / "trials")
        mirror.saved(Path("elsewhere"))
        until(lambda: named(store) == want.keys())
        assert not [name for name in store.names() if "00000002" in name], "what a checkpoint replaced is removed"
        seen = list(store.changes)
    store.become(seen)
    on_machine("second")
    with mirrored(AT) as folder:
        assert contents(folder) == want


def test_a_store_that_fails_does_not_end_the_run_and_the_next_checkpoint_tries_again(
    store: FakeStore, on_machine: Callable[[str], None], said: list[str]
) -> None:
    with mirrored(AT) as folder:
        for step in (1, 2):
            with store.away():
                checkpoint(folder, step)
                mirror.saved(folder)
                until(lambda: not any(mirror._open[-1]._snapshots.iterdir()))
        want = checkpoint(folder, 3)
        mirror.saved(folder)
        until(lambda: named(store) == want.keys())
        until(lambda: said[-1].endswith("is up to date again"))
    failing = [line for line in said if "no route to the store" in line]
    assert len(failing) == 1, "it is said once"
    assert failing[0].startswith(f"not uploaded to {AT}: {AT}/mirror.json: ConnectionError")
    assert "the run goes on, and tries again after each checkpoint" in failing[0]


def test_a_last_upload_that_fails_is_an_error_and_the_same_command_does_it(
    store: FakeStore, on_machine: Callable[[str], None]
) -> None:
    with (
        pytest.raises(
            Unreachable, match=r"first/runs/.*/a is whole, but .* not be uploaded to memory://bucket/runs/a .*no r"
        ),
        mirrored(AT) as folder,
    ):
        checkpoint(folder, 1)
        upload()
        want = finish(folder)
        store.allowed = 2
    store.allowed = None
    changes = len(store.changes)
    with mirrored(AT) as again:
        assert contents(again) == want, "what was not uploaded is still here"
    assert len(store.changes) > changes
    on_machine("second")
    with mirrored(AT) as there:
        assert contents(there) == want


def test_a_store_that_does_not_answer_at_the_start_may_be_tried_again(
    store: FakeStore, on_machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it fails: the reading of `mirror.json`, the list of what is there, the first write."""

    def away(*_: object, **__: object) -> None:
        raise ConnectionError("no route to the store")

    with store.away(), pytest.raises(Unreachable, match=f"{AT}/mirror.json: ConnectionError"), mirrored(AT):
        pass
    with monkeypatch.context() as patch, pytest.raises(Unreachable, match=f"{AT}: ConnectionError"):
        patch.setattr(MemoryFileSystem, "find", away)
        with mirrored(AT):
            pass
    store.before_change = away
    with pytest.raises(Unreachable, match=f"{AT}/mirror.json: ConnectionError"), mirrored(AT):
        pass
    store.before_change = lambda name: None
    with mirrored(AT) as folder:
        checkpoint(folder, 1)


def test_a_store_that_refuses_is_bad_input(
    store: FakeStore, on_machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(MemoryFileSystem, "find", forbidden)
    said = f"{AT} cannot be read: {AT}: PermissionError: Access Denied"
    with pytest.raises(BadInput, match=said) as refused, mirrored(AT):
        pass
    assert not isinstance(refused.value, Unreachable)


def test_an_address_of_no_store_is_named_as_it_was_given(on_machine: Callable[[str], None]) -> None:
    said = "^nothing://bucket/a cannot be opened: Protocol not known"
    with pytest.raises(BadInput, match=said), mirrored("nothing://bucket/a/"):
        pass


def test_a_run_that_was_stopped_is_uploaded_and_keeps_its_own_error(
    store: FakeStore, on_machine: Callable[[str], None], said: list[str]
) -> None:
    with pytest.raises(Interrupted), mirrored(AT) as folder:
        want = checkpoint(folder, 1)
        raise Interrupted(15)
    on_machine("second")
    with pytest.raises(Interrupted), mirrored(AT) as folder:
        assert contents(folder) == want
        checkpoint(folder, 2)
        store.allowed = 0
        raise Interrupted(15)
    assert "second/runs/" in said[-1]
    assert "could not be uploaded" in said[-1]


def test_of_two_runs_at_one_address_the_first_stops(store: FakeStore, on_machine: Callable[[str], None]) -> None:
    with pytest.raises(BadInput, match=f"another run has written to {AT} .* this one stops"), mirrored(AT) as folder:
        checkpoint(folder, 1)
        upload()
        on_machine("second")
        with mirrored(AT) as other:
            want = checkpoint(other, 2)
            upload()
            checkpoint(folder, 2)
            (folder / "metrics.jsonl").write_text("of the first")
            until_raised(lambda: mirror._open[0].changed())
            want = finish(other)
    on_machine("third")
    with mirrored(AT) as folder:
        assert contents(folder) == want


def test_two_runs_of_one_machine_are_told_apart_by_a_lock(
    store: FakeStore, on_machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PATIENCE", 0.0)
    with mirrored(AT), pytest.raises(BadInput, match="is in use by another process"), mirrored(AT + "/"):
        pass


def test_a_local_folder_that_is_older_than_the_store_is_not_gone_on_from(
    store: FakeStore, on_machine: Callable[[str], None], tmp_path: Path
) -> None:
    """A cache that came back from a backup, or of a machine that was away meanwhile."""
    with suppress(Interrupted), mirrored(AT) as folder:
        checkpoint(folder, 1)
        raise Interrupted(15)
    (tmp_path / "backup").mkdir()
    (tmp_path / "first").rename(tmp_path / "backup" / "first")
    on_machine("second")
    with suppress(Interrupted), mirrored(AT) as folder:
        want = checkpoint(folder, 2)
        raise Interrupted(15)
    (tmp_path / "backup" / "first").rename(tmp_path / "first")
    on_machine("first")
    with mirrored(AT) as folder:
        assert contents(folder) == want


def test_nor_from_one_that_is_older_in_the_same_start(
    store: FakeStore, on_machine: Callable[[str], None], tmp_path: Path
) -> None:
    """A disk that came back as it was amid the run."""
    with suppress(Interrupted), mirrored(AT) as folder:
        checkpoint(folder, 1)
        upload()
        shutil.copytree(tmp_path / "first", tmp_path / "second")
        want = checkpoint(folder, 2)
        upload()
        raise Interrupted(15)
    on_machine("second")
    with mirrored(AT) as folder:
        assert contents(folder) == want


def test_what_this_folder_uploaded_last_is_not_fetched_again(
    store: FakeStore, on_machine: Callable[[str], None], said: list[str]
) -> None:
    with suppress(Interrupted), mirrored(AT) as folder:
        checkpoint(folder, 1)
        upload()
        store.allowed = 0
        checkpoint(folder, 2)
        raise Interrupted(15)
    store.allowed = None
    with mirrored(AT) as folder:
        assert (folder / "checkpoints/step-00000002").exists()
    assert not [line for line in said if "fetching" in line]


def test_a_kill_around_the_write_of_a_state_leaves_this_folder_ahead(
    store: FakeStore, on_machine: Callable[[str], None], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right after it, amid a run and at its start, where it has written its token and no more; and right before."""
    write = uploader.write_folder

    def killed(address: str, state: StoredFolder) -> None:
        write(address, state)
        raise Interrupted(9)

    def killed_before(address: str, state: StoredFolder) -> None:
        raise Interrupted(9)

    with suppress(Interrupted), mirrored(AT) as folder:
        checkpoint(folder, 1)
        monkeypatch.setattr(uploader, "write_folder", killed)
        upload()
    for kill in (killed, killed_before, killed, killed_before):
        monkeypatch.setattr(uploader, "write_folder", kill)
        with suppress(Interrupted), mirrored(AT):
            pass
    monkeypatch.setattr(uploader, "write_folder", write)
    with mirrored(AT):
        pass
    assert not [line for line in said if "fetching" in line]


def test_what_a_killed_upload_left_is_removed_and_nothing_else(
    store: FakeStore, on_machine: Callable[[str], None]
) -> None:
    with suppress(Interrupted), mirrored(AT) as folder:
        checkpoint(folder, 1)
        upload()
        checkpoint(folder, 2)
        store.allowed = 2
        raise Interrupted(15)
    store.allowed = None
    store.system.pipe("/bucket/runs/a/notes.txt", b"a person's")
    on_machine("second")
    with mirrored(AT) as folder:
        pass
    assert len(store.names()) == len(named(store)) + 2
    assert "/bucket/runs/a/notes.txt" in store.names()


def test_a_place_that_holds_something_else_is_refused(store: FakeStore, on_machine: Callable[[str], None]) -> None:
    store.system.pipe("/bucket/runs/a/photo.jpg", b"x")
    with pytest.raises(BadInput, match="holds other objects and no run"), mirrored(AT):
        pass
    assert store.names() == ["/bucket/runs/a/photo.jpg"]


def test_a_run_that_was_removed_from_the_store_is_not_brought_back_unasked(
    store: FakeStore, on_machine: Callable[[str], None]
) -> None:
    run(1)
    store.system.store.clear()
    said = r"does not hold the run any more that .*remove that folder to begin anew"
    with pytest.raises(BadInput, match=said), mirrored(AT):
        pass


@pytest.mark.parametrize("damage", ["missing", "other bytes"])
def test_a_store_that_lost_an_object_is_said_not_to_be_whole(
    store: FakeStore, on_machine: Callable[[str], None], damage: str
) -> None:
    run(1)
    name = next(name for name in store.names() if "part-0" in name)
    if damage == "missing":
        del store.system.store[name]
    else:
        store.system.pipe(name, b"weights of step X")
    on_machine("second")
    with pytest.raises(BadInput, match=f"{AT} is not whole: .*part-0"), mirrored(AT):
        pass


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a//b", ".lock", "a/../../b", ""])
def test_names_that_lie_elsewhere_are_refused(
    store: FakeStore, on_machine: Callable[[str], None], name: str, tmp_path: Path
) -> None:
    store.system.pipe("/bucket/runs/a/x", b"y")
    file = {"object": "x", "size": 1, "sha256": "0" * 64}
    said = sealed({"format": 1, "owner": "o", "count": 1, "files": {name: file}})
    store.system.pipe("/bucket/runs/a/mirror.json", json.dumps(said).encode())
    with pytest.raises(BadInput, match=f"{AT}/mirror.json cannot be read: it names"), mirrored(AT):
        pass


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"format": 2}', b'{"format": 1, "digest": "0"}'])
def test_a_damaged_mirror_json_is_said_to_be_it(
    store: FakeStore, on_machine: Callable[[str], None], data: bytes
) -> None:
    store.system.pipe("/bucket/runs/a/mirror.json", data)
    with pytest.raises(BadInput, match=f"{AT}/mirror.json cannot be read"), mirrored(AT):
        pass


def test_other_processes_get_the_folder_and_leave_the_store_alone(
    store: FakeStore, on_machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with mirrored(AT) as first:
        pass
    before = list(store.changes)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with mirrored(AT) as folder:
        mirror.saved(folder)
    assert folder == first
    assert store.changes == before


def test_a_snapshot_is_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files, of which both are replaced after the first was taken: once, and then all the time."""
    take, count, times = snapshot._take, itertools.count(1), 1

    def write(number: int) -> None:
        for name in ("a.safetensors", "z.json"):
            (tmp_path / name).write_text(str(number))
            (tmp_path / name).replace(tmp_path / "folder" / name)

    def disturbed(file: Path, to: Path) -> None:
        take(file, to)
        if (number := next(count)) <= times:
            write(number)

    (tmp_path / "folder").mkdir()
    write(0)
    monkeypatch.setattr(snapshot, "_take", disturbed)
    take_snapshot(tmp_path / "folder", tmp_path / "taken")
    assert contents(tmp_path / "taken") == {"a.safetensors": "1", "z.json": "1"}
    times = 1_000_000
    with pytest.raises(OSError, match="folder changes all the time"):
        take_snapshot(tmp_path / "folder", tmp_path / "taken")


def test_a_snapshot_keeps_what_is_removed_and_does_not_grow(tmp_path: Path) -> None:
    checkpoint(tmp_path / "run", 1)
    (tmp_path / "run" / ".lock").touch()
    take_snapshot(tmp_path / "run", tmp_path / "taken")
    for step in (2, 3, 4):
        checkpoint(tmp_path / "run", step)
    assert contents(tmp_path / "taken")["metrics.jsonl"] == "1\n"
    assert contents(tmp_path / "taken")["checkpoints/step-00000001/part-0-of-1.safetensors"] == "weights of step 1"
    assert not (tmp_path / "taken" / ".lock").exists()
    file = "checkpoints/step-00000004/part-0-of-1.safetensors"
    take_snapshot(tmp_path / "run", tmp_path / "taken")
    assert (tmp_path / "taken" / file).samefile(tmp_path / "run" / file), "weights take no place twice"


def named(store: FakeStore) -> set[str]:
    """The files that mirror.json names."""
    data = store.system.store.get("/bucket/runs/a/mirror.json")
    return set() if data is None else set(json.loads(data.getvalue())["files"])


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def until_raised(action: Callable[[], None]) -> None:
    """Does it until it raises, which is let through."""
    for _ in range(1000):
        action()
        time.sleep(0.05)
