"""What every request passes first: an id, the host, the token, the clock, and the line in the log."""

import asyncio
import hmac
import json
import re
import sys
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vitrail.data.decode.image import BrokenImage
from vitrail.serve.http.limits import HEADER_BYTES, Refused
from vitrail.serve.http.service import Service

OPEN = {
    "/",
    "/docs",
    "/openapi.json",
    "/v2/health/live",
    "/v2/health/ready",
}  # that need no token: pages without data, and probes
_ID = re.compile(r"[\w.:-]{1,64}")
_SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Front:
    """Around the application.

    Args:
        token: that a request has to bear, None for none.
        hosts: names that a browser may know this server by; None: any. A page of another site whose name was pointed to
            this machine comes with its own name.
        log: whether each request is a line of JSON on standard error.
    """

    def __init__(self, app: ASGIApp, service: Service, token: str | None, hosts: set[str] | None, log: bool = True):
        self.app, self.service, self.log = app, service, log
        self._token = token.encode() if token is not None else None
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, start = Headers(scope=scope), time.monotonic()
        given = headers.get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex[:16]
        scope["state"]["id"], scope["state"]["images"] = request_id, 0
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                added = MutableHeaders(scope=message)
                added["x-request-id"] = request_id
                for name, value in _SAFE.items():
                    added.setdefault(name, value)
            await send(message)

        problem: Refused | None = None
        try:
            if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
                raise Refused(431, f"headers of more than {HEADER_BYTES >> 10} KiB", "too large")
            self._check(scope["path"], headers)
            async with asyncio.timeout(self.service.limits.seconds):
                await self.app(scope, receive, noted)
        except Refused as refused:
            problem = refused
        except BrokenImage as broken:
            problem = Refused(422, str(broken), "broken image")
        except ClientDisconnect:
            problem = Refused(499, "the client went away", "gone")
        except TimeoutError:
            problem = Refused(408, f"not done in the {self.service.limits.seconds:g} s allowed", "timeout")
        except Exception as error:
            problem = Refused(500, "the server failed; the log says why", "failure")
            self._write({"request": request_id, "error": f"{type(error).__name__}: {error}"})
        if problem is not None:
            self.service.metrics.add("vitrail_errors_total", kind=problem.kind)
            if not status:
                body = {"error": problem.sentence, "request": request_id}
                await JSONResponse(body, problem.status, problem.headers)(scope, receive, noted)
        seconds = time.monotonic() - start
        what = getattr(scope.get("endpoint"), "__name__", "other")
        self.service.metrics.add("vitrail_requests_total", what=what, status=str(status))
        self.service.metrics.observe("vitrail_request_seconds", seconds, what=what)
        if self.log:
            images = scope["state"]["images"]
            line = {"request": request_id, "method": scope["method"], "path": scope["path"][:200], "status": status}
            self._write(line | {"images": images, "seconds": round(seconds, 4)})

    def _check(self, path: str, headers: Headers) -> None:
        host = headers.get("host", "")
        name = re.sub(r":\d+$", "", host).strip("[]").lower()
        if self._hosts is not None and name not in self._hosts:
            raise Refused(421, f"this server is not {name[:80]!r}; --names says what else it is called", "host")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise Refused(403, "a page of another site may not ask this server", "origin")
        if self._token is None or path in OPEN:
            return
        scheme, _, said = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(said.strip().encode(), self._token):
            raise Refused(401, "give the token: Authorization: Bearer …", "no token", {"www-authenticate": "Bearer"})

    def _write(self, line: dict[str, Any]) -> None:
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        print(json.dumps({"time": stamp, **line}), file=sys.stderr, flush=True)
