"""`vitrail serve` against LitServe: the same model, runtime, images and clients on the same cores, in turns.

    python benchmarks/serve.py MODEL IMAGES --litserve PYTHON [--clients 1 8 64] [--seconds 12] [--rounds 3]

PYTHON imports vitrail and litserve. Of each server: requests/s, the median and the 99th percentile
of a request, and the memory of all its processes (proportional set size) at the end. Beside them the rate of the bare
forward pass: the runtime alone, on images that are ready, at the best of its batch shapes. The time of processors that
a request takes depends less than the rates on what else the machine does.

    python benchmarks/serve.py MODEL IMAGES --soak 1200 --clients 8     # vitrail alone; memory every minute
    python benchmarks/serve.py MODEL IMAGES --restarts 5                # seconds from a start after a kill to readiness
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

LITSERVE = """
import sys
import litserve
import torch
from vitrail.data.decode import image
from vitrail.data.loader.normalise import stack
from vitrail.data.transforms.pipeline import eval_transform
from vitrail.serve.predictor import Predictor

class Labels(litserve.LitAPI):
    def setup(self, device):
        self.predictor = Predictor(sys.argv[1], device="cpu", runtime=sys.argv[2])
        self.predictor.runtime.try_shapes()

    def decode_request(self, request):
        return eval_transform(image.decode(request["file"].file.read()), self.predictor.model.preprocess)

    def batch(self, inputs):
        return stack(inputs)

    def predict(self, views):
        return self.predictor.judge(views).probabilities if views.ndim == 4 else None

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        shares, places = output.topk(5)
        classes = self.predictor.classes
        return {"labels": [{"name": classes[i], "probability": p} for i, p in zip(places.tolist(), shares.tolist())]}

if __name__ == "__main__":
    api = Labels(max_batch_size=int(sys.argv[4]), batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(sys.argv[5]), timeout=120)
    server.run(host="127.0.0.1", port=int(sys.argv[3]), generate_client_file=False, log_level="error")
"""

FORWARD = """
import json, sys, time
import torch
from vitrail.serve.predictor import Predictor
predictor = Predictor(sys.argv[1], device="cpu", runtime=sys.argv[2])
runtime, config = predictor.runtime, predictor.model.config
runtime.try_shapes()
rates, cpu = {}, {}
for shape in runtime.shapes:
    pixels = torch.rand(shape, config.channels, *config.resolution)
    runtime(pixels)
    start, count, used = time.perf_counter(), 0, time.process_time()
    while time.perf_counter() - start < float(sys.argv[3]):
        runtime(pixels)
        count += shape
    rates[shape] = count / (time.perf_counter() - start)
    cpu[shape] = (time.process_time() - used) / count
print(json.dumps({"runtime": runtime.name, "precision": runtime.precision, "rates": rates, "cpu": cpu}))
"""


def request(path: str, data: bytes) -> bytes:
    """A form with one file, as a browser sends it."""
    bound = b"----vitrail"
    body = b'--%s\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n' % bound
    body += b"Content-Type: image/jpeg\r\n\r\n%s\r\n--%s--\r\n" % (data, bound)
    kind = b"multipart/form-data; boundary=" + bound
    head = b"POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: %s\r\n" % (path.encode(), kind)
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


async def client(port: int, requests: list[bytes], first: int, until: float, seconds: list[float]) -> None:
    """One connection that asks again as soon as it is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    at = first
    while time.perf_counter() < until:
        start = time.perf_counter()
        writer.write(requests[at % len(requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        if b" 200 " not in head[:20]:
            raise SystemExit(f"{head.decode()}{body.decode()[:500]}")
        seconds.append(time.perf_counter() - start)
        at += 7
    writer.close()


async def load(port: int, requests: list[bytes], clients: int, duration: float) -> tuple[float, list[float]]:
    """Requests/s of so many clients, and the seconds of each request."""
    seconds: list[float] = []
    start = time.perf_counter()
    await asyncio.gather(*(client(port, requests, 13 * i, start + duration, seconds) for i in range(clients)))
    return len(seconds) / (time.perf_counter() - start), seconds


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for name in [entry.name for entry in Path("/proc").iterdir()]:
        if name.isdigit():
            try:
                text = Path(f"/proc/{name}/stat").read_text()
                children.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(name))
            except OSError:
                continue
    found, waiting = list[int](), [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def memory(pid: int) -> float:
    """MiB of a process and all below it; what they share is counted once."""
    total = 0
    for one in tree(pid):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (OSError, StopIteration):
            continue
    return total / 1024


def cpu(pid: int) -> float:
    """Seconds of processors that a process and all below it took so far."""
    total = 0
    for one in tree(pid):
        try:
            numbers = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += int(numbers[11]) + int(numbers[12])
        except OSError:
            continue
    return total / os.sysconf("SC_CLK_TCK")


class Server:
    """One of the two, on a free port, once it answers."""

    def __init__(self, command: list[str], path: str, requests: list[bytes]):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [str(self.port) if part == "PORT" else part for part in command]
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        begun = time.perf_counter()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, start_new_session=True)
        self.requests = [request(path, data) for data in requests]
        while True:
            try:
                asyncio.run(load(self.port, self.requests, 1, 0.5))
                break
            except (OSError, SystemExit, asyncio.IncompleteReadError):
                if self.process.poll() is not None:
                    self.log.seek(0)
                    raise SystemExit(self.log.read().decode()[-3000:]) from None
                time.sleep(0.2)
        self.ready = time.perf_counter() - begun

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


def soak(server: Server, clients: int, seconds: float) -> None:
    """Memory while it works."""
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        rate, taken = asyncio.run(load(server.port, server.requests, clients, min(60, seconds)))
        p50, p99 = np.percentile(taken, [50, 99]) * 1000
        now = (time.perf_counter() - start) / 60
        held = memory(server.process.pid)
        print(f"minute {now:4.0f}: {rate:6.1f}/s, p50 {p50:5.0f} ms, p99 {p99:5.0f} ms, {held:6.0f} MiB", flush=True)


def restarts(command: list[str], count: int) -> None:
    """Seconds from the start of the command to readiness, and of processors; the first start may convert."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(port) if part == "PORT" else part for part in command]
    for number in range(count + 1):
        begun = time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=1)
                break
            except OSError:
                time.sleep(0.01)
        taken, used = time.perf_counter() - begun, cpu(process.pid)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        print(f"start {number}: ready after {taken:.2f} s, {used:.2f} s of processors", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("images", type=Path)
    parser.add_argument("--litserve", help="an interpreter that has litserve")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--batch", type=int, default=16, help="LitServe's max_batch_size")
    parser.add_argument("--workers", type=int, default=1, help="LitServe's workers_per_device")
    parser.add_argument("--soak", type=float, default=0)
    parser.add_argument("--restarts", type=int, default=0)
    options = parser.parse_args()
    files = [path.read_bytes() for path in sorted(options.images.rglob("*.jpg"))[:200]]
    size = np.mean([len(data) for data in files]) / 1024
    print(f"{len(files)} JPEGs of {size:.0f} KiB on the mean; {os.cpu_count()} cores", flush=True)
    ours = [sys.executable, "-m", "vitrail", "serve", options.model, "--port", "PORT"]
    ours += ["--runtime", options.runtime, "--device", "cpu", "--quiet"]
    if options.restarts:
        restarts(ours, options.restarts)
        return
    if options.soak:
        server = Server(ours, "/predict", files)
        soak(server, options.clients[0], options.soak)
        server.close()
        return
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(LITSERVE)
        script.flush()
        theirs = [options.litserve, script.name, options.model, options.runtime, "PORT"]
        servers = {"vitrail": (ours, "/predict")}
        if options.litserve:
            servers["LitServe"] = ([*theirs, str(options.batch), str(options.workers)], "/predict")
        for number in range(options.rounds):
            bare = [sys.executable, "-c", FORWARD, options.model, options.runtime, "3"]
            said = json.loads(subprocess.run(bare, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
            best, least = max(said["rates"].values()), 1000 * min(said["cpu"].values())
            how = f"{said['runtime']}, {said['precision']}"
            print(
                f"round {number + 1}: bare forward {best:.1f} images/s ({how}), {least:.0f} ms of processors",
                flush=True,
            )
            for name, (command, path) in servers.items():
                server = Server(command, path, files)
                for clients in options.clients:
                    before = cpu(server.process.pid)
                    rate, taken = asyncio.run(load(server.port, server.requests, clients, options.seconds))
                    each = 1000 * (cpu(server.process.pid) - before) / len(taken)
                    p50, p99 = np.percentile(taken, [50, 99]) * 1000
                    held, share = memory(server.process.pid), rate / best
                    told = (
                        f"{rate:6.1f}/s ({share:.2f} of bare), p50 {p50:6.0f} ms, p99 {p99:6.0f} ms, {held:5.0f} MiB, "
                    )
                    told += f"{each:.0f} ms of processors each"
                    print(f"  {name:<8} {clients:>3} clients: {told}, ready after {server.ready:.1f} s", flush=True)
                server.close()


if __name__ == "__main__":
    main()
