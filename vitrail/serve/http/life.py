"""The life of a server: it listens, loads, answers, takes new versions of its models, drains, and ends."""

import asyncio
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from vitrail.core.device import RuntimeChoice
from vitrail.core.errors import BadInput
from vitrail.core.object_store import is_remote
from vitrail.core.progress import say
from vitrail.serve.http.app import application
from vitrail.serve.http.feedback import Feedback
from vitrail.serve.http.front import Front
from vitrail.serve.http.guarded import cut_the_slow, guarded
from vitrail.serve.http.limits import DRAIN, HEADER_BYTES, KEEP_ALIVE, Limits
from vitrail.serve.http.served import Served, load_served, name_of, signature_of
from vitrail.serve.http.service import Service

LOOK = 2.0  # seconds between two looks at what is watched
LOCAL = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True)
class Serve:
    """What is served, where, and how."""

    models: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    runtime: RuntimeChoice = "auto"
    devices: tuple[str, ...] = ("auto",)
    watch: Path | None = None  # a folder of bundles: each is a model, and a new version of one replaces it
    neighbours: str | None = None  # DATA whose features by the models are at hand
    collect: Path | None = None  # a folder for what is marked as wrong
    collect_mb: float = 1024.0
    token: str | None = None
    names: tuple[str, ...] = ()  # besides those of the loopback address, as a proxy passes them on
    decoders: int = 1
    limits: Limits = Limits()
    log: bool = True

    def check(self) -> None:
        """Raises BadInput."""
        self.limits.check()
        if not self.models and self.watch is None:
            raise BadInput("nothing to serve: give a MODEL, or a folder of bundles to --watch")
        if self.decoders < 1:
            raise BadInput(f"--decoders {self.decoders}: expected 1 or more")
        names = [name_of(source) for source in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise BadInput(f"two models are called {twice[0]!r}: a model is served under the name of its folder")

    def sources(self) -> dict[str, str]:
        """The models by their names, those of the watched folder among them."""
        found = {name_of(source): source for source in self.models}
        if self.watch is not None:
            for folder in sorted(self.watch.iterdir()) if self.watch.is_dir() else []:
                if not folder.name.startswith(".") and (signature_of(str(folder)) and _is_model(folder)):
                    found.setdefault(folder.name, str(folder))
        return found


def _is_model(folder: Path) -> bool:
    return any((place / "model.safetensors").exists() for place in (folder, folder / "bundle"))


class Life:
    """A server from its socket to its end.

    Args:
        style: CSS of the pages.
    """

    def __init__(self, config: Serve, style: str = ""):
        config.check()
        feedback = Feedback(config.collect, int(config.collect_mb * 2**20)) if config.collect is not None else None
        self.config = config
        self._socket = _listen(config.host, config.port)
        self.port: int = self._socket.getsockname()[1]
        self.service = Service(config.limits, config.decoders, feedback)
        self.problem: BadInput | None = None
        self._reload = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None  # once it runs
        self._refused: dict[str, Any] = {}  # signatures of versions that did not load, by name
        hosts = LOCAL | set(config.names) if config.host in LOCAL else None
        front = Front(application(self.service, self._lifespan, style), self.service, config.token, hosts, config.log)
        self._protocol = guarded(config.limits)
        self.server = _Server(
            uvicorn.Config(
                front,
                http=self._protocol,
                ws="none",
                log_config=None,
                access_log=False,
                log_level="error",  # what is no HTTP is answered with 400, and no news
                server_header=False,
                proxy_headers=False,
                h11_max_incomplete_event_size=HEADER_BYTES,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=DRAIN,
            )
        )

    def run(self) -> None:
        """Serves until a signal ends it; raises BadInput where a model cannot be loaded."""
        try:
            self.server.run([self._socket])
        finally:
            self._socket.close()
            self.service.decoders.close()
        if self.problem is not None:
            raise self.problem

    def reload(self) -> None:
        """Looks at the models now, and takes those that were changed; SIGHUP asks for it."""
        self._reload.set()

    @asynccontextmanager
    async def _lifespan(self, _: Any) -> AsyncIterator[None]:
        self.loop = asyncio.get_running_loop()
        with suppress(ValueError, RuntimeError, NotImplementedError):  # not the main thread: no signals
            self.loop.add_signal_handler(signal.SIGHUP, self.reload)
        tasks = [asyncio.create_task(cut_the_slow(self._protocol)), asyncio.create_task(self._keep())]
        yield
        self.service.draining = True
        for task in tasks:
            task.cancel()
        for served in self.service.models.values():
            await served.retire()

    async def _keep(self) -> None:
        """Loads the models, then new versions of them when they are there."""
        try:
            for name, source in self.config.sources().items():
                self.service.models[name] = await self._load(name, source)
            if not self.service.models:
                say(f"{self.config.watch} holds no bundle yet")
        except BadInput as problem:
            self.problem = problem
            self.server.should_exit = True
            return
        except Exception as error:
            self.problem = BadInput(f"a model cannot be loaded: {type(error).__name__}: {error}")
            self.server.should_exit = True
            raise
        while True:
            seconds = LOOK if self.config.watch is not None else None
            with suppress(TimeoutError):
                await asyncio.wait_for(self._reload.wait(), seconds)
            asked = self._reload.is_set()
            self._reload.clear()
            await self._renew(asked)

    async def _renew(self, asked: bool) -> None:
        for name, source in self.config.sources().items():
            if is_remote(source) and not asked:  # a store is not asked every other second
                continue
            now, held = await asyncio.to_thread(signature_of, source), self.service.models.get(name)
            if (
                not now
                or (held is not None and held.signature == now)
                or (self._refused.get(name) == now and not asked)
            ):
                continue
            if not asked:
                await asyncio.sleep(LOOK / 2)
                if signature_of(source) != now:  # still being written
                    continue
            await self.replace(name, source)

    async def replace(self, name: str, source: str) -> None:
        """A new version takes over; one that does not load is refused, and the old one goes on."""
        now = await asyncio.to_thread(signature_of, source)
        try:
            new = await self._load(name, source)
        except Exception as problem:
            self._refused[name] = now
            self.service.metrics.add("vitrail_reloads_total", model=name, result="refused")
            say(f"{name}: the new version is refused, the old one goes on: {problem}")
            return
        old = self.service.models.get(name)
        self.service.models[name] = new
        self.service.metrics.add("vitrail_reloads_total", model=name, result="done")
        if old is not None:
            await old.retire()

    async def _load(self, name: str, source: str) -> Served:
        config = self.config
        seen = self.service.seen
        load = partial(
            load_served, name, source, config.devices, config.runtime, config.limits, seen, config.neighbours
        )
        served: Served = await _in_thread(load)
        told = "its outputs are those recorded before" if served.recorded else "its outputs are recorded now"
        runtime = served.predictor.runtime
        say(f"{name}: {source}, version {served.version}, {runtime.name} in {runtime.precision}; {told}")
        return served


async def _in_thread(function: Callable[[], Served]) -> Served:
    """As asyncio.to_thread, in a thread that nobody waits for when the server is told to end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Served] = loop.create_future()

    def tell(result: Served | BaseException) -> None:
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)

    def run() -> None:
        try:
            result: Served | BaseException = function()
        except BaseException as problem:
            result = problem
        with suppress(RuntimeError, asyncio.InvalidStateError):  # the loop has ended
            loop.call_soon_threadsafe(lambda: None if future.done() else tell(result))

    threading.Thread(target=run, name="loading", daemon=True).start()
    return await future


class _Server(uvicorn.Server):  # type: ignore[misc]  # uvicorn is checked only where it is installed
    """uvicorn's, which would end itself by the signal again, before decoders are told to go."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT drain; a second SIGINT does not wait."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # named, for asyncio gives TCP_NODELAY to no other protocol: without it the last part of an answer waits 40 ms
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as problem:
        listening.close()
        raise BadInput(f"cannot listen at {host}:{port}: {problem.strerror or problem}") from None
    listening.listen(2048)
    listening.setblocking(False)
    return listening
