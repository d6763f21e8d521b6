"""Hostile uploads harm nobody: mutated files, bombs, broken forms, broken HTTP; healthy requests beside them answer."""

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.data.hostile import mutated, originals
from tests.data.pictures import encoded, noise
from tests.serve.http.conftest import Running
from tests.serve.http.test_limits import bomb
from vitrail.serve.predictor import Predictor

# Minutes on two cores: run by `make test-all`.
pytestmark = pytest.mark.slow

GOOD = encoded(noise(30, 40), "JPEG")
ALLOWED = {200, 400, 408, 413, 415, 422, 429, 431}


def healthy(server: Running, stop: threading.Event, seconds: list[float], wrong: list[str]) -> None:
    with httpx.Client(base_url=server.base_url, timeout=60) as client:
        while not stop.is_set():
            start = time.perf_counter()
            answer = client.post("/predict", content=GOOD)
            seconds.append(time.perf_counter() - start)
            if answer.status_code != 200:
                wrong.append(answer.text)
            time.sleep(0.01)


def attack(server: Running, count: int, seed: int, wrong: list[str]) -> None:
    rng = np.random.default_rng(seed)
    files = [*originals(), GOOD]
    with httpx.Client(base_url=server.base_url, timeout=60) as client:
        for i, data in enumerate(mutated(files, count, seed)):
            match i % 5:
                case 0 | 1 | 2:
                    answer = client.post("/predict", content=data)
                case 3:  # a form, itself mutated
                    body = (
                        b"--b\r\nContent-Disposition: form-data; name=f; filename=x\r\n\r\n" + data + b"\r\n--b--\r\n"
                    )
                    (changed,) = mutated([body], 1, int(rng.integers(1 << 30)))
                    answer = client.post(
                        "/predict", content=changed, headers={"content-type": "multipart/form-data; boundary=b"}
                    )
                case _:
                    headers = {"inference-header-content-length": str(rng.integers(0, 2 * len(data) + 1))}
                    answer = client.post("/v2/models/tiny/infer", content=data, headers=headers)
            if answer.status_code not in ALLOWED:
                wrong.append(f"{answer.status_code} {answer.text}")


def memory_mib() -> float:
    """Of this process, in which the server runs."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def tiresome(server: Running, count: int) -> None:
    """Headers without end, and connections that are half open or hardly speak."""
    kept: list[socket.socket] = []
    for i in range(count):
        connection = socket.create_connection(("127.0.0.1", server.life.port), timeout=30)
        with suppress(OSError):  # cut already
            if i % 4 == 0:
                connection.sendall(b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 200_000 + b"\r\n\r\n")
            elif i % 4 == 1:
                connection.sendall(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nabc")
        kept.append(connection)
        if len(kept) > 100:
            kept.pop(0).close()  # in the middle
        time.sleep(0.01)
    for connection in kept:
        connection.close()


def nonsense(server: Running, count: int, wrong: list[str]) -> None:
    """What is no HTTP: a connection that is cut, and the server goes on."""
    rng = np.random.default_rng(0)
    head = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n" + b"x" * 100
    for data in mutated([head], count, 1):
        with socket.create_connection(("127.0.0.1", server.life.port), timeout=30) as connection:
            connection.sendall(data)
            if rng.random() < 0.2:
                continue  # gone without a word
            connection.shutdown(socket.SHUT_WR)
            try:
                while connection.recv(65536):
                    pass
            except ConnectionResetError:
                pass
            except TimeoutError:
                wrong.append(f"no answer to {data!r}")


def besieged(server: Running, count: int) -> tuple[list[float], list[str]]:
    """Seconds of the healthy requests beside `count` hostile ones, and what went wrong."""
    stop, seconds, wrong = threading.Event(), list[float](), list[str]()
    beside = threading.Thread(target=healthy, args=(server, stop, seconds, wrong))
    beside.start()
    hostile = [
        threading.Thread(target=attack, args=(server, count // 2, 1, wrong)),
        threading.Thread(target=nonsense, args=(server, count // 4, wrong)),
        threading.Thread(target=attack, args=(server, count // 4, 2, wrong)),
        threading.Thread(target=tiresome, args=(server, count // 10)),
    ]
    for thread in hostile:
        thread.start()
    for thread in hostile:
        thread.join()
    stop.set()
    beside.join()
    return seconds, wrong


def test_hostile_uploads_harm_nobody(server: Running, tiny: Path) -> None:
    _, wrong = besieged(server, 160)
    assert wrong == []
    assert server.post("/predict", content=bomb(20_000, 20_000)).status_code == 422
    (row,) = server.post("/predict?top=4", content=GOOD).json()["predictions"]
    expected = Predictor(tiny, device="cpu").predict(GOOD, top=4)
    assert [(one["name"], one["probability"]) for one in row["labels"]] == [tuple(label) for label in expected]
    assert server.life.service.pending == 0
    assert server.life.service.held.bytes == 0


@pytest.mark.slow
def test_ten_thousand_hostile_uploads(server: Running) -> None:
    quiet: list[float] = []
    stop = threading.Event()
    clients = [threading.Thread(target=healthy, args=(server, stop, quiet, [])) for _ in range(4)]  # the same load
    for thread in clients:
        thread.start()
    time.sleep(10)
    stop.set()
    for thread in clients:
        thread.join()
    warm = memory_mib()
    seconds, wrong = besieged(server, 10_000)
    assert wrong == []
    assert memory_mib() < warm + 150
    before, beside = np.percentile(quiet, 99), np.percentile(seconds, 99)
    print(
        f"p99 of healthy requests: {1000 * before:.0f} ms among themselves, {1000 * beside:.0f} ms beside hostile ones"
    )
    assert beside < 2 * max(before, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("count", [100_000])
def test_shuffled_batches_change_no_bit_of_many_requests(server: Running, tiny: Path, count: int) -> None:
    files = [encoded(noise(10 + i % 7, 12 + i % 5, seed=i)) for i in range(64)]
    alone = [[tuple(label) for label in labels] for labels in Predictor(tiny, device="cpu").predict(files, top=4)]
    wrong: list[Any] = []

    def client(seed: int) -> None:
        rng = np.random.default_rng(seed)
        with httpx.Client(base_url=server.base_url, timeout=60) as own:
            for i in rng.integers(0, len(files), count // 8).tolist():
                (row,) = own.post("/predict?top=4", content=files[i]).json()["predictions"]
                if [(label["name"], label["probability"]) for label in row["labels"]] != alone[i]:
                    wrong.append(i)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
    held: list[float] = []
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        held.append(memory_mib())
        time.sleep(1)
    assert not wrong
    late = held[len(held) // 2 :]  # once all is warm
    print(f"memory after {count:,} requests: {held[-1]:.0f} MiB, at most {max(late) - min(late):.0f} more than before")
    assert max(late) - min(late) < 50
