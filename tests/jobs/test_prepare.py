"""`vitrail data prepare`: the same files however it ran, was stopped and went on; nothing mixed, nothing torn."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.core.test_pool import processes_of
from tests.data.pictures import encoded, folder_of_images, noise
from tests.fake_ray import FakeRay
from vitrail.cli import main
from vitrail.core.errors import BadInput, Interrupted
from vitrail.core.resumable import claim_folder
from vitrail.data.decode import image
from vitrail.data.open.names import open_data
from vitrail.data.shards import progress, write
from vitrail.data.shards.encode import Form, Jpeg, Png
from vitrail.data.shards.write import ShardBytes, ShardCount
from vitrail.jobs import prepare as job
from vitrail.jobs.prepare import Prepare, prepare, prepare_config
from vitrail.records.record import as_json

TIMES = {"seconds"}  # what of prepared.json differs between two runs


def photos_in(root: Path, each: int = 7, size: int = 40) -> Path:
    """Two classes, two splits, JPEGs, of which one is cut off and one is no image."""
    for split, count in (("train", each), ("val", 2)):
        for label, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = noise(size, size + i, 1000 * label + i)
                (root / split / name / f"{i}.jpg").write_bytes(encoded(pixels, "JPEG"))
    broken = root / "train" / "cat" / "2.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    (root / "train" / "dog" / "1.jpg").write_bytes(b"<html>404</html>")
    return root


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photos_in(tmp_path / "photos")


def files_of(folder: Path) -> dict[str, Any]:
    """The bytes of all files, prepared.json without its times."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
            if path.name == "prepared.json":
                found[str(path.relative_to(folder))] = {
                    key: value for key, value in json.loads(path.read_text()).items() if key not in TIMES
                }
    return found


def test_all_splits_are_prepared_and_are_data(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = prepare(Prepare(str(photos), 32, Png(), shards=ShardCount(5)), out, workers=0)
    assert [part.split for part in result] == ["train", "val"]
    train = open_data(f"{out}@train")
    assert train.classes == ("cat", "dog")
    assert train.labels.tolist() == [0] * 6 + [1] * 6
    original = open_data(f"{photos}@train")
    kept = [i for i in range(14) if i not in (2, 8)]
    for row, index in enumerate(kept):
        stored, mine = original[index], train[row]
        assert mine.key == str(Path(stored.key).relative_to(photos))
        assert isinstance(mine.image, bytes)
        assert image.decode(mine.image).shape[:2] == (32, round((40 + index % 7) * 32 / 40))
    assert len(open_data(f"{out}@val")) == 4
    assert sorted(p.name for p in (out / "train").iterdir()) == [
        "README.md",
        "prepared.json",
        *[f"shard-{i:05d}-of-00003.arrow" for i in range(3)],
    ]


def test_what_was_dropped_is_counted_and_named(photos: Path, tmp_path: Path) -> None:
    (train,) = prepare(Prepare(f"{photos}@train", 32, shards=ShardCount(5)), tmp_path / "out", workers=0)
    assert as_json(train) == json.loads((tmp_path / "out" / "train" / "prepared.json").read_text())
    assert (train.count, train.counts, train.classes) == (12, (6, 6), ("cat", "dog"))
    assert [(row.key, row.row) for row in train.dropped] == [("train/cat/2.jpg", 2), ("train/dog/1.jpg", 8)]
    assert [shard.count for shard in train.shards] == [4, 4, 4]
    assert train.encoding == {"type": "Jpeg", "quality": 90}
    card = (tmp_path / "out" / "train" / "README.md").read_text()
    assert "12 images of 2 classes" in card
    assert "- `train/dog/1.jpg`: not an image of a known format" in card


def test_tar_shards_are_data_too(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    config = Prepare(str(photos), 32, container="tar", shards=ShardCount(10))
    prepare(config, out, workers=0)
    assert json.loads((out / "val" / "classes.json").read_text()) == ["cat", "dog"]
    prepare(replace(config, container="arrow"), tmp_path / "arrow", workers=0)
    tar, arrow = (open_data(f"{folder}@train") for folder in (out, tmp_path / "arrow"))
    assert (tar.classes, tar.labels.tolist()) == (arrow.classes, arrow.labels.tolist())
    assert [tar[i].image for i in range(len(tar))] == [arrow[i].image for i in range(len(arrow))]


def test_the_number_of_workers_changes_no_byte(photos: Path, tmp_path: Path) -> None:
    config = Prepare(str(photos), 32, shards=ShardCount(3))
    for workers in (0, 1, 2):
        prepare(config, tmp_path / str(workers), workers=workers)
    assert files_of(tmp_path / "0") == files_of(tmp_path / "1") == files_of(tmp_path / "2")
    assert sum(name.endswith(".arrow") for name in files_of(tmp_path / "2")) == 5 + 2


def test_a_shard_by_itself_is_the_shard_of_the_whole(photos: Path, tmp_path: Path) -> None:
    prepare(Prepare(f"{photos}@train", 32, shards=ShardCount(5)), tmp_path / "out", workers=2)
    name = write.shard_name(1, 3, "arrow")
    form = Form(32, root=str(photos))
    write.prepare_shard(open_data(f"{photos}@train"), range(5, 10), tmp_path / name, form)
    assert (tmp_path / name).read_bytes() == (tmp_path / "out" / "train" / name).read_bytes()


def test_where_the_data_lie_changes_no_shard(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = prepare(Prepare(f"{photos}@train", 32), tmp_path / "a", workers=0)
    monkeypatch.chdir(photos)
    (near,) = prepare(Prepare("./@train", 32), tmp_path / "b", workers=0)
    assert whole.shards == near.shards


# ---- Stopped and started again


class Unlucky(Exception):
    pass


@pytest.mark.parametrize("step", ["write_shard", "write_json", "write_text_atomic"])
@pytest.mark.parametrize("call", range(4))
def test_stopped_after_any_step_it_goes_on_to_the_same_files(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, call: int
) -> None:
    config = Prepare(str(photos), 32, container="tar", shards=ShardCount(5))
    prepare(config, tmp_path / "whole", workers=0)
    home = job if step == "write_shard" else progress
    real, calls = getattr(home, step), []

    def stopping(*args: Any) -> Any:
        result = real(*args)
        calls.append(step)
        if len(calls) > call:
            raise Unlucky
        return result

    with monkeypatch.context() as patch:
        patch.setattr(home, step, stopping)
        for _ in range(3):
            try:
                prepare(config, tmp_path / "out", workers=0)
            except Unlucky:
                continue
    prepare(config, tmp_path / "out", workers=0)
    assert calls
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def command(data: Path, out: Path, *more: str) -> list[str]:
    job = [sys.executable, "-m", "vitrail", "data", "prepare", str(data), str(out)]
    return [*job, "--side", "64", "--shard-images", "8", *more]


def survive(data: Path, folder: Path, kills: int, seed: int, workers: int) -> tuple[int, int]:
    """Prepares, killed again and again at random moments, then undisturbed. Returns kills and shards seen half-way."""
    rng = random.Random(seed)
    asked = command(data, folder, "--workers", str(workers))
    killed, seen = 0, set[int]()
    for _ in range(kills):
        process = subprocess.Popen(
            asked, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        begun = len(list(folder.rglob("*.arrow")))
        end = time.monotonic() + 60
        wanted = begun + rng.choice([0, 0, 1, 2])
        while process.poll() is None and time.monotonic() < end:  # into the work: start-up takes longer than all of it
            if (folder / ".preparing").exists() and len(list(folder.rglob("*.arrow"))) >= wanted:
                break
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            break  # it had ended
        killed += 1
        seen.add(len(list(folder.rglob("*.arrow"))))
        while processes_of(process.pid):  # workers end with their parent
            assert time.monotonic() < end, "workers outlive their parent"
            time.sleep(0.01)
    done = subprocess.run(asked, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr  # two images are broken
    return killed, len(seen)


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_random_moments_it_ends_with_the_same_files(tmp_path: Path, workers: int) -> None:
    data = photos_in(tmp_path / "photos", each=100, size=120)
    subprocess.run(command(data / "train", tmp_path / "whole", "--workers", "1"), capture_output=True, timeout=120)
    killed, _ = survive(data / "train", tmp_path / "out", 3, workers, workers)
    assert killed
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


@pytest.mark.slow
def test_thirty_kills_cost_nothing_but_time(tmp_path: Path) -> None:
    data = photos_in(tmp_path / "photos", each=400, size=120)
    subprocess.run(command(data / "train", tmp_path / "whole", "--workers", "1"), capture_output=True, timeout=120)
    killed, seen = survive(data / "train", tmp_path / "out", 30, 5, 2)
    print(f"{killed} kills, {seen} different numbers of shards seen after them")
    assert killed >= 20
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_a_signal_says_that_the_same_command_goes_on(tmp_path: Path) -> None:
    data = photos_in(tmp_path / "photos", each=400, size=120)
    process = subprocess.Popen(
        command(data / "train", tmp_path / "out", "--workers", "2"), stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list(tmp_path.rglob("out/*.arrow")):
        time.sleep(0.005)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert "the same command goes on from here" in said
    assert not list((tmp_path / "out").glob(".*.tmp*"))
    assert not (tmp_path / "out" / "prepared.json").exists()


def test_a_finished_preparation_is_not_repeated(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Prepare(str(photos), 32)
    first = prepare(config, tmp_path / "out", workers=0)
    monkeypatch.setattr(job, "write_shard", None)
    assert prepare(config, tmp_path / "out", workers=0) == first


@pytest.mark.parametrize("damage", ["removed", "cut"])
def test_a_shard_that_was_lost_is_made_again(photos: Path, tmp_path: Path, damage: str) -> None:
    config = Prepare(str(photos), 32, shards=ShardCount(5))
    prepare(config, tmp_path / "out", workers=0)
    whole = files_of(tmp_path / "out")
    shard = tmp_path / "out" / "train" / write.shard_name(1, 3, "arrow")
    shard.unlink() if damage == "removed" else os.truncate(shard, 100)
    prepare(config, tmp_path / "out", workers=0)
    assert files_of(tmp_path / "out") == whole


# ---- Refused


@pytest.mark.parametrize("unfinished", [False, True])
def test_another_preparation_is_refused_with_the_difference(
    photos: Path, tmp_path: Path, unfinished: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = Prepare(str(photos), 32), tmp_path / "out"
    with monkeypatch.context() as patch:
        if unfinished:
            patch.setattr(job, "write_shard", lambda *_: (_ for _ in ()).throw(Unlucky))
        try:
            prepare(config, out, workers=0)
        except Unlucky:
            assert unfinished
    before = files_of(out)
    with pytest.raises(BadInput, match=r"another preparation \(side: 32 → 48\); give another OUT"):
        prepare(replace(config, side=48), out, workers=0)
    with pytest.raises(BadInput, match=r"encoding.quality: 90 → 80"):
        prepare(replace(config, encoding=Jpeg(80)), out, workers=0)
    with pytest.raises(BadInput, match=r"data: .*@train.* → .*@train\[:50%\]"):
        prepare(replace(config, data=f"{photos}@train[:50%]"), out, workers=0)
    other = photos_in(tmp_path / "other")
    with pytest.raises(BadInput, match=r"data: '.*photos.*' → '.*other.*'"):
        prepare(replace(config, data=str(other)), out, workers=0)
    with pytest.raises(BadInput, match=r"another preparation \(data: "):
        prepare(replace(config, data=str(other / "val")), out, workers=0)  # of no splits
    assert files_of(out) == before


def test_splits_may_be_prepared_one_by_one_in_one_form(photos: Path, tmp_path: Path) -> None:
    config = Prepare(str(photos), 32)
    prepare(config, tmp_path / "whole", workers=0)
    for split in ("val", "train"):
        prepare(replace(config, data=f"{photos}@{split}"), tmp_path / "out", workers=0)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")
    with pytest.raises(BadInput, match=r"side: 32 → 48"):
        prepare(replace(config, data=f"{photos}@train", side=48), tmp_path / "out", workers=0)


def test_a_folder_of_other_files_is_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("mine")
    with pytest.raises(BadInput, match="holds other files and no preparation"):
        prepare(Prepare(str(photos)), tmp_path / "home", workers=0)
    with pytest.raises(BadInput, match="is a file, expected a folder"):
        prepare(Prepare(str(photos)), tmp_path / "home" / "thesis.tex", workers=0)
    with pytest.raises(BadInput, match="lies in .*, where it would be taken for data"):
        prepare(Prepare(str(photos)), photos / "prepared", workers=0)
    assert not (photos / "prepared").exists()


def test_two_at_once_are_refused(photos: Path, tmp_path: Path) -> None:
    with claim_folder(tmp_path / "out"), pytest.raises(BadInput, match="in use by another process"):
        prepare(Prepare(str(photos)), tmp_path / "out", workers=0)


def test_data_that_changed_meanwhile_are_refused(photos: Path, tmp_path: Path) -> None:
    prepare(Prepare(str(photos)), tmp_path / "out", workers=0)
    (photos / "train" / "cat" / "new.jpg").write_bytes(encoded(noise(8, 8), "JPEG"))
    with pytest.raises(BadInput, match="has changed since .* was begun: 14 images then, 15 now"):
        prepare(Prepare(str(photos)), tmp_path / "out", workers=0)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (Prepare("x", side=0), "side is 0"),
        (Prepare("x", encoding=Jpeg(101)), "quality is 101, expected 1 to 100"),
        (Prepare("x", shards=ShardCount(0)), "size of a shard is 0"),
        (Prepare("x", shards=ShardBytes(-1)), "size of a shard is -1"),
        (Prepare("nowhere-at-all"), "nowhere-at-all"),
    ],
)
def test_bad_options_get_a_sentence(config: Prepare, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        prepare(config, tmp_path / "out", workers=0)
    assert not (tmp_path / "out").exists()


def test_options_that_contradict_each_other_get_a_sentence() -> None:
    with pytest.raises(BadInput, match="png is lossless"):
        prepare_config("x", encoding="png", quality=80)
    with pytest.raises(BadInput, match="give one of the two"):
        prepare_config("x", shard_mib=5, shard_images=5)


def test_data_of_which_nothing_is_readable_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "1.jpg").write_bytes(b"no")
    with pytest.raises(BadInput, match=r"none of the 2 images .* can be read \(a/1.jpg: not an image"):
        prepare(Prepare(str(tmp_path / "data")), tmp_path / "out", workers=0)
    assert not (tmp_path / "out" / "prepared.json").exists()


def test_a_full_disk_gets_a_sentence_and_tears_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Prepare(f"{photos}@train", 32, shards=ShardCount(5))
    prepare(config, tmp_path / "whole", workers=0)
    real, written = write._write_arrow, []

    def full(path: Path, *args: Any) -> None:
        if len(written) == 2:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        real(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(write, "_write_arrow", full)
        with pytest.raises(BadInput, match=r"the disk of .* is full .* after 2 of 3 shards, which are whole"):
            prepare(config, tmp_path / "out", workers=0)
    names = [p.name for p in (tmp_path / "out" / "train").iterdir() if p.is_file()]
    assert sorted(names) == [write.shard_name(i, 3, "arrow") for i in range(2)]
    prepare(config, tmp_path / "out", workers=0)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_a_signal_in_the_middle_leaves_whole_shards(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Prepare(f"{photos}@train", 32, shards=ShardCount(5))
    prepare(config, tmp_path / "whole", workers=0)
    real = write._write_arrow

    def stopped(path: Path, *args: Any) -> None:
        real(path, *args)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(write, "_write_arrow", stopped)
        with pytest.raises(Interrupted, match="SIGTERM"):
            prepare(config, tmp_path / "out", workers=0)
    assert [p.name for p in (tmp_path / "out" / "train").iterdir() if p.is_file()] == [write.shard_name(0, 3, "arrow")]
    prepare(config, tmp_path / "out", workers=0)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


# ---- The command line


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["data", "prepare", *args])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, capsys.readouterr().out


def test_the_exit_code_says_whether_anything_was_dropped(photos: Path, tmp_path: Path, capsys) -> None:
    code, text = run(capsys, str(photos), str(tmp_path / "out"), "--side", "32", "--workers", "1")
    assert code == 1
    assert "train/dog/1.jpg: not an image of a known format" in text
    clean = folder_of_images(tmp_path / "clean", {"a": 3, "b": 2})
    code, text = run(capsys, str(clean), str(tmp_path / "png"), "--encoding", "png", "--workers", "1", "--json")
    assert code == 0
    result = json.loads(text)
    assert result["folder"] == str(tmp_path / "png")
    assert result["prepared"][0]["count"] == result["prepared"][0]["copied"] == 5
    assert run(capsys, str(clean), str(tmp_path / "png"), "--encoding", "webp")[0] == 2


def test_no_process_of_it_imports_torch() -> None:
    program = "import sys, vitrail.cli, vitrail.jobs.prepare; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


# ---- Ray


def test_ray_writes_the_same_files(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    config = Prepare(str(photos), 32, shards=ShardCount(3))
    prepare(config, tmp_path / "ray", cluster="ray")
    prepare(config, tmp_path / "here", workers=0)
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "here")
    assert not fake.started
    assert fake.most == 2  # no more tasks wait than there is work for


def test_ray_that_is_missing_gets_a_sentence(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInput, match=r"pip install 'vitrail\[cluster\]'"):
        prepare(Prepare(str(photos)), tmp_path / "out", cluster="ray")
