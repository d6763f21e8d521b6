"""A server takes new versions without losing a request, refuses bad ones, and ends when it is told to."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.data.pictures import encoded, noise
from tests.serve.http.conftest import SERVE, Running, save_tiny, serving
from vitrail.core.errors import BadInput
from vitrail.serve.http import life as life_module
from vitrail.serve.http.served import name_of

# Minutes on two cores: run by `make test-all`.
pytestmark = pytest.mark.slow


class Load:
    """Clients that ask all the time; `wrong` holds what was no good answer."""

    def __init__(self, client: Running, clients: int = 4):
        self.client, self.wrong, self.versions, self.done = client, list[str](), set[str](), 0
        self._stop = threading.Event()
        self._data = encoded(noise(30, 40))
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        with httpx.Client(base_url=self.client.base_url, timeout=60) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post("/predict", content=self._data)
                except httpx.HTTPError as problem:
                    self.wrong.append(repr(problem))
                    continue
                if answer.status_code == 200:
                    self.versions.add(answer.json()["version"])
                    self.done += 1
                else:
                    self.wrong.append(answer.text)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def until(happened: object, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not happened():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_new_version_takes_over_and_no_request_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life_module, "LOOK", 0.2)
    save_tiny(tmp_path / "models" / "pets", seed=1)
    with serving(replace(SERVE, watch=tmp_path / "models")) as client, Load(client) as load:
        first = client.get("/models/pets").json()["version"]
        save_tiny(tmp_path / "models" / "pets", seed=2)
        until(lambda: client.get("/models/pets").json()["version"] != first)
        (tmp_path / "models" / "pets" / "model.safetensors").write_bytes(b"broken")  # refused; the old one goes on
        until(lambda: 'result="refused"' in client.get("/metrics").text)
        save_tiny(tmp_path / "models" / "birds", seed=3)  # another model
        until(lambda: client.get("/models/birds").status_code == 200)
        until(lambda: len(load.versions) == 2)
        assert client.get("/models/pets").json()["version"] in load.versions - {first}
    assert not load.wrong
    assert load.done > 10


@pytest.mark.slow
def test_twenty_reloads_and_kills_of_a_decoder_lose_nothing(tmp_path: Path) -> None:
    source = save_tiny(tmp_path / "pets", seed=1)
    with serving(replace(SERVE, models=(str(source),))) as client, Load(client) as load:
        loop = client.life.loop
        assert loop is not None
        for seed in range(20):
            save_tiny(source, seed=seed)
            loop.call_soon_threadsafe(client.life.reload)
            for pid in client.life.service.decoders.pids:
                os.kill(pid, signal.SIGKILL)
            until(
                lambda seed=seed: (
                    f'vitrail_reloads_total{{model="pets",result="done"}} {seed + 1}' in client.get("/metrics").text
                )
            )
    assert not load.wrong
    assert len(load.versions) > 10


def test_a_server_that_is_killed_refuses_connections_and_starts_again(tiny: Path) -> None:
    """What clients see is a connection that ends or is refused, and good answers; never a half one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "vitrail",
        "serve",
        str(tiny),
        "--port",
        str(port),
        "--runtime",
        "torch",
        "--quiet",
    ]
    url, seen, stop, done = f"http://127.0.0.1:{port}", set[str](), threading.Event(), [0]

    def ask() -> None:
        while not stop.is_set():
            try:
                answer = httpx.post(f"{url}/predict", content=encoded(noise(30, 40)), timeout=60)
                seen.add(f"{answer.status_code} {len(answer.json().get('predictions', []))}")
                done[0] += answer.status_code == 200
            except httpx.HTTPError as problem:
                seen.add(type(problem).__name__)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for thread in clients:
        thread.start()
    for _ in range(3):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        before = done[0]
        until(lambda before=before: done[0] > before + 5, 60)
        process.kill()
        process.wait()
    stop.set()
    for thread in clients:
        thread.join()
    assert "200 1" in seen
    assert seen <= {"200 1", "503 0", "ConnectError", "ReadError", "RemoteProtocolError", "WriteError"}


def test_a_server_listens_before_it_is_ready(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    real = life_module.load_served

    def slow(*args: object) -> object:
        go.wait(20)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(life_module, "load_served", slow)
    with serving(replace(SERVE, models=(str(tiny),)), ready=False) as client:
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == 503
        answer = client.post("/predict", content=encoded(noise(9, 9)))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        go.set()
        until(lambda: client.get("/v2/health/ready").status_code == 200)
        assert client.post("/predict", content=encoded(noise(9, 9))).status_code == 200


def test_outputs_that_changed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))
    source = save_tiny(tmp_path / "pets", seed=5)
    for recorded in (False, True):
        with serving(replace(SERVE, models=(str(source),))) as client:
            assert client.get("/models/pets").json()["outputs_recorded"] is recorded
    file = tmp_path / "cache" / "served-outputs.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(dict.fromkeys(kept, "another")))
    with pytest.raises(BadInput, match="does not reproduce the outputs that it had"):
        life_module.Life(replace(SERVE, models=(str(source),))).run()


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vitrail", "serve", *arguments, "--port", str(port), "--runtime", "torch"]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield started, port
    finally:
        started.kill()
        started.communicate()


def test_sigterm_drains_and_ends_well(tiny: Path) -> None:
    with process(str(tiny)) as (started, port):
        base = f"http://127.0.0.1:{port}"
        until(lambda: _status(f"{base}/v2/health/ready") == 200, 60)
        assert "vitrail" in httpx.get(base).text
        with socket.create_connection(("127.0.0.1", port)) as slow:  # a request that is half sent when the signal comes
            data = encoded(noise(9, 9))
            head = f"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(data)}\r\n\r\n".encode()
            slow.sendall(head + data[:10])
            time.sleep(0.3)
            started.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            slow.sendall(data[10:])
            slow.settimeout(20)
            assert b" 200 " in slow.recv(1000)
        _, told = started.communicate(timeout=30)
        assert started.returncode == 0
        lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
        assert lines[-1]["path"] == "/predict"
        assert lines[-1].keys() == {"time", "request", "method", "path", "status", "images", "seconds"}


def _status(url: str) -> int:
    try:
        return httpx.get(url).status_code
    except httpx.HTTPError:
        return 0


@pytest.mark.parametrize(
    ("source", "name"),
    [("runs/photos", "photos"), ("runs/photos/bundle", "photos"), ("hf://owner/name@main", "name"), ("a/", "a")],
)
def test_a_model_is_served_under_the_name_of_its_folder(source: str, name: str) -> None:
    assert name_of(source) == name
