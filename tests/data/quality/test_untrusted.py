"""Images that nobody vouches for: the same answers from a process with limits, and another one where it dies."""

import io
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.data.decode.image import BrokenImage
from vitrail.data.quality.scan import Looked, look
from vitrail.data.quality.untrusted import Guard, _read
from vitrail.jobs.data_check import Check, check


def encoded(kind: str, mode: str = "RGB", seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 20, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, kind)
    return out.getvalue()


def fatal(data: bytes) -> Looked:
    """What a decoder with a hole may do, by the first word of the bytes."""
    match data:
        case b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        case b"slow":
            time.sleep(60)
        case b"big":
            np.ones(2**28)
        case b"write":
            Path(os.environ["WRITTEN"]).write_bytes(b"something")
    return look(data)


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    made = Guard(seconds=20.0, gib=0.5, looking=fatal)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WRITTEN", str(tmp_path_factory.mktemp("guard") / "written"))
        yield made
    made.close()


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGB"), ("JPEG", "CMYK"), ("WEBP", "RGB"), ("TIFF", "L")])
def test_it_sees_what_is_seen_here(guard: Guard, kind: str, mode: str) -> None:
    data = encoded(kind, mode)
    theirs, ours = guard(data), look(data)
    assert theirs[:3] == ours[:3]
    np.testing.assert_array_equal(theirs.pixels, ours.pixels)


def test_a_broken_image_has_its_sentence(guard: Guard) -> None:
    data = encoded("PNG")[:60]
    with pytest.raises(BrokenImage) as here:
        look(data)
    with pytest.raises(BrokenImage, match=r".") as there:
        guard(data)
    assert str(there.value) == str(here.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"die", "the decoder crashes on it"), (b"big", "more than the 0.5 GiB"), (b"write", "the decoder crashes on it")],
)
def test_what_it_does_to_the_process_is_no_harm(guard: Guard, data: bytes, said: str) -> None:
    with pytest.raises(BrokenImage, match=said):
        guard(data)
    written = Path(os.environ["WRITTEN"])
    assert not written.exists() or not written.read_bytes()
    assert guard(encoded("PNG")).kind == "PNG", "there is another process"


def test_what_takes_too_long_is_left() -> None:
    guard, started = Guard(seconds=0.5, looking=fatal), time.perf_counter()
    guard(encoded("PNG"))
    started = time.perf_counter()
    with pytest.raises(BrokenImage, match="longer than the 0.5 s allowed"):
        guard(b"slow")
    assert time.perf_counter() - started < 20
    guard.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x80\x04.",
        b"[]\n",
        b'{"kind": "PNG", "mode": "RGB", "turn": 1, "size": [2, 2]}\n123',
        b'{"kind": "PNG", "mode": "RGB", "turn": 1, "size": [-1, 1]}\n123',
        b'{"kind": "PNG", "mode": "RGB", "turn": 1, "size": [999999, 999999]}\n',
        b'{"kind": "PNG"}\n',
    ],
)
def test_an_answer_that_means_nothing_is_a_broken_image(answer: bytes) -> None:
    with pytest.raises(BrokenImage, match="means nothing"):
        _read(answer)


def test_the_check_finds_the_same(tmp_path: Path) -> None:
    for label in ("ant", "bee"):
        for i in range(4):
            file = tmp_path / "photos" / label / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encoded("PNG", seed=i))  # the same in both classes
    (tmp_path / "photos" / "bee" / "broken.png").write_bytes(encoded("PNG")[:60])
    data = str(tmp_path / "photos")
    check(Check(data), tmp_path / "plain")
    check(Check(data, untrusted=True), tmp_path / "guarded")
    plain, guarded = (read_json(tmp_path / name / "check.json") for name in ("plain", "guarded"))
    assert {finding["kind"] for finding in plain["findings"]} >= {"unreadable"}
    assert {**guarded, "seconds": 0} == {**plain, "seconds": 0}
    assert (tmp_path / "guarded/findings.csv").read_bytes() == (tmp_path / "plain/findings.csv").read_bytes()
    with np.load(tmp_path / "plain/pictures.npz") as ours, np.load(tmp_path / "guarded/pictures.npz") as theirs:
        assert ours.files == theirs.files
        assert ours.files
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours.files)
    with pytest.raises(BadInput, match="leave out --model"):
        check(Check(data, model="any", untrusted=True))
