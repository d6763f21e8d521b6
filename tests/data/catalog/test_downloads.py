"""Downloads from a server on this machine: verified, resumed, unpacked whole or not at all."""

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from vitrail.core.errors import BadInput
from vitrail.data.catalog.downloads import Archive, fetch


class Server:
    """Serves `files`; notes the ranges that it is asked for, and cuts off answers after `most` bytes."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.most: int | None = None
        self.ranges = True
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name, wanted = self.path.lstrip("/"), self.headers.get("Range")
                server.asked.append((name, wanted))
                if name not in server.files:
                    self.send_error(404)
                    return
                data, start = server.files[name], 0
                if wanted and server.ranges:
                    start = int(wanted.removeprefix("bytes=").rstrip("-"))
                    if start >= len(data):
                        self.send_error(416)
                        return
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                self.wfile.write(data[start : None if server.most is None else start + server.most])

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever)
        self.thread.start()

    def archive(self, name: str, md5: str | None = None) -> Archive:
        url = f"http://127.0.0.1:{self.http.server_port}/{name}"
        return Archive(url, md5 or hashlib.md5(self.files[name]).hexdigest())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Server()
    yield made
    made.http.shutdown()
    made.thread.join()
    made.http.server_close()


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_archives_and_plain_files_are_put_together(server: Server, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("in/two.txt", b"2")
    server.files = {"a.tar.gz": tar_of({"one.txt": b"1"}), "b.zip": buffer.getvalue(), "labels.mat": b"3"}
    fetch(tuple(server.archive(name) for name in server.files), tmp_path / "set")
    assert below(tmp_path / "set") == {"one.txt": b"1", "in/two.txt": b"2", "labels.mat": b"3"}
    assert sorted(p.name for p in tmp_path.iterdir()) == [".set.lock", "set"]
    asked = len(server.asked)
    fetch(tuple(server.archive(name) for name in server.files), tmp_path / "set")
    assert len(server.asked) == asked


def test_a_download_that_was_cut_off_goes_on(server: Server, tmp_path: Path) -> None:
    server.files = {"x.bin": bytes(range(256)) * 40}
    server.most = 4000
    with pytest.raises(BadInput, match="was cut off at 4,000 of 10,240 bytes; the same command goes on"):
        fetch((server.archive("x.bin"),), tmp_path / "set")
    assert not (tmp_path / "set").exists()
    server.most = None
    fetch((server.archive("x.bin"),), tmp_path / "set")
    assert (tmp_path / "set/x.bin").read_bytes() == server.files["x.bin"]
    assert server.asked[-1] == ("x.bin", "bytes=4000-")


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.files = {"x.bin": b"0123456789"}
    (tmp_path / ".set.x.bin.part").write_bytes(b"01234")
    server.ranges = False
    fetch((server.archive("x.bin"),), tmp_path / "set")
    assert (tmp_path / "set/x.bin").read_bytes() == b"0123456789"


def test_a_whole_part_is_only_verified(server: Server, tmp_path: Path) -> None:
    server.files = {"x.bin": b"0123456789"}
    (tmp_path / ".set.x.bin.part").write_bytes(b"0123456789")
    fetch((server.archive("x.bin"),), tmp_path / "set")
    assert (tmp_path / "set/x.bin").read_bytes() == b"0123456789"


def test_another_file_than_the_known_one_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    server.files = {"x.tar.gz": tar_of({"a": b"evil"})}
    with pytest.raises(BadInput, match=r"is not the file that is known: its MD5 is [0-9a-f]{32}, expected 000"):
        fetch((server.archive("x.tar.gz", "0" * 32),), tmp_path / "set")
    assert [p.name for p in tmp_path.iterdir()] == [".set.lock"]


@pytest.fixture(params=["this Python", "before 3.11.4"])
def any_python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose tarfile has no filters."""
    if request.param != "this Python":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
        monkeypatch.delattr(tarfile.TarFile, "extractall")


@pytest.mark.usefixtures("any_python")
@pytest.mark.parametrize("name", ["../out.txt", "/tmp/vitrail-absolute.txt"])
def test_nothing_is_unpacked_outside(server: Server, tmp_path: Path, name: str) -> None:
    server.files = {"x.tar.gz": tar_of({"fine.txt": b"1", name: b"evil"})}
    with pytest.raises(BadInput, match="cannot be unpacked") if name.startswith("..") else _nothing():
        fetch((server.archive("x.tar.gz"),), tmp_path / "set")
    assert not (tmp_path / "out.txt").exists()
    assert not Path("/tmp/vitrail-absolute.txt").exists()


@pytest.mark.usefixtures("any_python")
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_what_is_no_file_is_not_unpacked(server: Server, tmp_path: Path, kind: bytes) -> None:
    """A link to what lies outside, through which a later member would be written."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = kind, "../../outside"
        tar.addfile(member)
    server.files = {"x.tar.gz": packed.getvalue()}
    with pytest.raises(BadInput, match="x.tar.gz cannot be unpacked: .*link"):
        fetch((server.archive("x.tar.gz"),), tmp_path / "set")


@pytest.mark.usefixtures("any_python")
def test_folders_of_a_tar_are_made(server: Server, tmp_path: Path) -> None:
    server.files = {"x.tar.gz": tar_of({"a/b/c.txt": b"1", "a/d.txt": b"2"})}
    fetch((server.archive("x.tar.gz"),), tmp_path / "set")
    assert (tmp_path / "set/a/b/c.txt").read_bytes() == b"1"
    assert (tmp_path / "set/a/d.txt").read_bytes() == b"2"


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def test_no_such_file_and_no_server_get_a_sentence(server: Server, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"/none.zip could not be downloaded: HTTP Error 404"):
        fetch((server.archive("none.zip", "0" * 32),), tmp_path / "set")
    server.http.server_close()
    with pytest.raises(BadInput, match="could not be downloaded"):
        fetch((Archive("http://127.0.0.1:9/x.zip", "0" * 32),), tmp_path / "set")
