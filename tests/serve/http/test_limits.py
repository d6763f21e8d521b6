"""Too much is refused by name, and what is refused costs nothing that lasts; strangers are kept out."""

import io
import os
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.data.pictures import encoded, noise
from tests.serve.http.conftest import SERVE, Running, serving
from vitrail.core.errors import BadInput
from vitrail.serve.http.life import Life
from vitrail.serve.http.limits import Limits

TIGHT = Limits(
    image_mb=0.05, request_mb=0.2, images=4, megapixels=1.0, queue=8, header_seconds=1.0, seconds=2.0, connections=30
)


@pytest.fixture(scope="module")
def tight(tiny: Path) -> Running:  # type: ignore[misc]
    with serving(replace(SERVE, models=(str(tiny),), limits=TIGHT)) as client:
        yield client  # type: ignore[misc]


def test_large_requests_images_and_pictures_are_refused(tight: Running) -> None:
    small = encoded(noise(9, 9))
    for answer, status, sentence in [
        (tight.post("/predict", content=b"x" * 300_000), 413, "the request is larger than the 0.2 MiB allowed"),
        (tight.post("/predict", content=(b"x" * 50_000 for _ in range(6))), 413, "the request is larger"),
        (tight.post("/predict", content=b"x" * 60_000), 422, "larger than the 0.05 MiB allowed"),
        (tight.post("/predict", files=[("f", small)] * 5), 400, "the form cannot be read: Too many files"),
        (tight.post("/predict", json={"images": [""] * 5}), 413, "5 images; at most 4 are taken in a request"),
        (
            tight.post("/predict", content=bomb(2000, 1000)),
            422,
            "2000 x 1000 pixels are more than the 1,000,000 allowed",
        ),
    ]:
        assert answer.status_code == status
        assert sentence in answer.json()["error"]
    assert tight.post("/predict", content=small).status_code == 200
    assert tight.life.service.pending == 0
    assert tight.life.service.held.bytes == 0


def bomb(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_full_queue_says_when_to_come_again(tight: Running) -> None:
    service = tight.life.service
    service.pending += 8
    try:
        answer = tight.post("/predict", content=encoded(noise(9, 9)))
    finally:
        service.pending -= 8
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1


def test_who_is_slow_is_cut_and_others_are_answered_meanwhile(tight: Running) -> None:
    address = ("127.0.0.1", tight.life.port)
    silent = [socket.create_connection(address) for _ in range(10)]
    drip = socket.create_connection(address)
    drip.sendall(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nx")
    half = socket.create_connection(address)
    half.sendall(b"GET /models HTTP/1.1\r\nhost: local")
    assert tight.post("/predict", content=encoded(noise(9, 9))).status_code == 200
    for connection in [*silent, half]:
        connection.settimeout(5)
        assert _ended(connection)
    drip.settimeout(5)
    assert b" 408 " in drip.recv(1000)
    drip.close()


def _ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(10) == b""
    except ConnectionResetError:
        return True
    finally:
        connection.close()


def test_silent_connections_give_way_to_new_ones(tight: Running) -> None:
    silent = [socket.create_connection(("127.0.0.1", tight.life.port)) for _ in range(60)]
    assert tight.get("/models").status_code == 200
    for connection in silent:
        connection.close()


def test_huge_headers_are_refused(tight: Running) -> None:
    assert tight.get("/models", headers={"x-a": "a" * 100_000}).status_code in (400, 431)
    assert tight.get("/models").status_code == 200


def test_pages_of_other_sites_may_not_ask(server: Running) -> None:
    assert server.get("/models", headers={"origin": "http://evil.example"}).status_code == 403
    assert server.get("/models", headers={"host": "evil.example"}).status_code == 421
    own = f"127.0.0.1:{server.life.port}"
    answer = server.get("/models", headers={"origin": f"http://{own}"})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_a_token_is_asked_for(tiny: Path) -> None:
    token = "a secret of some length"
    with serving(replace(SERVE, models=(str(tiny),), token=token, names=("example.com",))) as client:
        assert client.get("/models").status_code == 200
        passed_on = {"host": "example.com", "origin": "https://example.com"}  # by a proxy
        assert client.get("/models", headers=passed_on).status_code == 200
        for said in ("", "Bearer", "Bearer wrong", "Basic " + token, f"Bearer {token}x"):
            answer = client.get("/models", headers={"authorization": said})
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert client.post("/predict", content=b"", headers={"authorization": ""}).status_code == 401


def test_a_decoder_may_die_and_no_request_is_lost(server: Running) -> None:
    decoders = server.life.service.decoders
    good = encoded(noise(40, 40))
    for _ in range(3):
        (pid,) = decoders.pids
        os.kill(pid, signal.SIGKILL)
        assert server.post("/predict", content=good).status_code == 200
        assert decoders.pids != [pid]


def test_a_decoder_that_takes_too_long_or_too_much_is_replaced(tiny: Path) -> None:
    limits = Limits(decode_seconds=0.5, decode_gib=0.15)
    with serving(replace(SERVE, models=(str(tiny),), limits=limits)) as client:
        good = encoded(noise(40, 40))
        assert client.post("/predict", content=good).status_code == 200
        (pid,) = client.life.service.decoders.pids
        os.kill(pid, signal.SIGSTOP)
        start = time.monotonic()
        answer = client.post("/predict", content=good)
        assert time.monotonic() - start < 5
        assert (answer.status_code, answer.json()["error"]) == (
            422,
            "image: decoding takes longer than the 0.5 s allowed",
        )
        answer = client.post("/predict", content=encoded(Image.new("RGB", (7900, 7900)), "PNG"))
        assert answer.status_code == 422
        assert client.post("/predict", content=good).status_code == 200


def test_what_cannot_be_served_is_refused(tiny: Path, tmp_path: Path, server: Running) -> None:
    for config, sentence in [
        (replace(SERVE), "nothing to serve: give a MODEL"),
        (replace(SERVE, models=(str(tiny), str(tiny))), "two models are called 'tiny'"),
        (replace(SERVE, models=(str(tiny),), limits=Limits(queue=0)), "--queue 0: expected more than 0"),
        (replace(SERVE, models=(str(tiny),), port=server.life.port), "cannot listen at 127.0.0.1"),
    ]:
        with pytest.raises(BadInput, match=sentence):
            Life(config)
    with pytest.raises(BadInput, match="no such model"):
        Life(replace(SERVE, models=(str(tmp_path / "none"),))).run()
