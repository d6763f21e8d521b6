"""A request read: its images and what is asked of them, from a form, raw bytes or JSON; never more than is allowed.

POST …  multipart/form-data       files in any field; options as fields or in the query
        image/* or anything else  the bytes of one image; options in the query
        application/json          {"images": ["base64…", …], "top": 3, …}
"""

import base64
import binascii
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from vitrail.core.errors import nearest
from vitrail.serve.http.limits import FORM_FIELDS, Limits, Refused


class Upload(NamedTuple):
    """An encoded image and what the client calls it."""

    key: str
    data: bytes


@dataclass(frozen=True)
class Asked:
    """What is wanted of each image."""

    top: int = 5  # labels
    all_probabilities: bool = False
    representation: bool = False
    attention: bool = False  # rollout: as numbers, and over the picture as PNG
    neighbours: int = 0  # nearest training images, where the server has features of them
    abstain_below: float = 0.0  # probability below which the answer is "not sure"

    def check(self) -> None:
        """Raises Refused."""
        if self.top < 1:
            raise Refused(400, f"top is {self.top}, expected 1 or more", "bad option")
        if not 0 <= self.abstain_below <= 1:
            raise Refused(400, f"abstain_below is {self.abstain_below:g}, expected 0 to 1", "bad option")
        if not 0 <= self.neighbours <= 50:
            raise Refused(400, f"neighbours is {self.neighbours}, expected 0 to 50", "bad option")


class Held:
    """How many bytes of requests are held at once."""

    def __init__(self, limits: Limits):
        self.limits, self.bytes = limits, 0

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The body, which counts until the block ends; raises Refused."""
        limit, taken, chunks = self.limits.request_bytes, 0, []
        said = request.headers.get("content-length", "")
        if said.isdecimal() and int(said) > limit:
            raise _too_large(self.limits)
        try:
            async for chunk in request.stream():
                taken += len(chunk)
                self.bytes += len(chunk)
                if taken > limit:
                    raise _too_large(self.limits)
                if self.bytes > self.limits.inflight_bytes:
                    raise Refused(429, "too many bytes in work; try again", "busy", {"retry-after": "1"})
                chunks.append(chunk)
            yield b"".join(chunks)
        finally:
            self.bytes -= taken


def _too_large(limits: Limits) -> Refused:
    return Refused(413, f"the request is larger than the {limits.request_mb:g} MiB allowed", "too large")


async def read_request(request: Request, body: bytes, limits: Limits) -> tuple[list[Upload], Asked]:
    """The images and options of a request; raises Refused."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    asked = _options(Asked(), request.query_params)
    if kind == "multipart/form-data":
        uploads, more = await read_form(request, body, limits)
        asked = _options(asked, more)
    elif kind == "application/json":
        uploads, asked = _json(body, asked)
    elif kind == "application/x-www-form-urlencoded":
        raise Refused(415, "a form with files is sent as multipart/form-data", "bad request")
    else:
        uploads = [Upload(request.query_params.get("key", "image"), body)]
    asked.check()
    if not uploads:
        raise Refused(400, "no image in the request", "bad request")
    if len(uploads) > limits.images:
        raise Refused(413, f"{len(uploads)} images; at most {limits.images} are taken in a request", "too large")
    return uploads, asked


class _InMemory(MultiPartParser):
    """Starlette's, which does not write to the disk: the body is in memory, and bounded, already."""

    spool_max_size = 1 << 40


async def read_form(request: Request, body: bytes, limits: Limits) -> tuple[list[Upload], dict[str, str]]:
    """The files and fields of a form; raises Refused."""

    async def stream() -> AsyncIterator[bytes]:
        yield body

    parser = _InMemory(request.headers, stream(), max_files=limits.images, max_fields=FORM_FIELDS)  # type: ignore[arg-type]
    uploads, options = list[Upload](), dict[str, str]()
    try:
        form = await parser.parse()
        for name, value in form.multi_items():
            if isinstance(value, str):
                options[name] = value
            else:
                uploads.append(Upload(value.filename or name, value.file.read()))
    except MultiPartException as problem:
        raise Refused(400, f"the form cannot be read: {problem.message}", "bad request") from None
    except Exception as problem:  # a hostile form finds holes in parsers
        raise Refused(400, f"the form cannot be read: {type(problem).__name__}", "bad request") from None
    finally:
        for file in getattr(parser, "_files_to_close_on_error", ()):  # also those of a form that ends too early
            file.close()
    return uploads, options


def _json(body: bytes, asked: Asked) -> tuple[list[Upload], Asked]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is no JSON", "bad request") from None
    if not isinstance(said, dict) or not isinstance(said.get("images"), list):
        raise Refused(400, 'expected {"images": ["base64…", …]}', "bad request")
    return [Upload(str(i), from_base64(text)) for i, text in enumerate(said.pop("images"))], _options(asked, said)


def from_base64(text: Any) -> bytes:
    """Bytes, from base64 with or without `data:…,` before it; raises Refused. An address is not fetched."""
    if not isinstance(text, str):
        raise Refused(400, "an image in JSON is a string of base64", "bad request")
    if "://" in text[:16]:
        raise Refused(400, "an address, and nothing is fetched: send the image itself", "bad request")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, "an image in JSON is not valid base64", "bad request") from None


_KINDS: dict[str, type] = {field.name: type(field.default) for field in fields(Asked)}
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}


def _options(asked: Asked, said: Mapping[str, Any]) -> Asked:
    """With what is said of options; raises Refused for one that there is not."""
    changed: dict[str, Any] = {}
    for name, value in said.items():
        if name in ("key", "model"):
            continue
        if name not in _KINDS:
            raise Refused(400, f"unknown option {name!r}{nearest(name, _KINDS)}", "bad option")
        changed[name] = _value(name, value)
    return replace(asked, **changed) if changed else asked


def _value(name: str, value: Any) -> Any:
    kind = _KINDS[name]
    if kind is bool:
        text = str(value).lower()
        if text in _TRUE | _FALSE:
            return text in _TRUE
    else:
        try:
            number = kind(value)
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is not None and number == number:
            return number
    raise Refused(
        400,
        f"{name} is {str(value)[:40]!r}, expected {'a number' if kind is not bool else 'true or false'}",
        "bad option",
    )
