"""What a server takes at most, and how it says no."""

from collections.abc import Mapping
from dataclasses import dataclass

from vitrail.core.errors import BadInput


@dataclass(frozen=True)
class Limits:
    """Of images, requests, the queue, and connections."""

    image_mb: float = 25.0  # MiB of an encoded image
    request_mb: float = 100.0  # MiB of a request
    images: int = 64  # in a request
    megapixels: float = 64.0  # of a decoded image
    decode_seconds: float = 10.0  # of one image, in a decoder
    decode_gib: float = 1.0  # memory that a decoder may take for an image
    seconds: float = 30.0  # of a request, from its headers to its answer
    queue: int = 256  # images in work or waiting, in all; above it requests are refused with 429
    wait_ms: float = 5.0  # that an image waits for company on its way while the model has nothing to do
    inflight_mb: float = 512.0  # MiB of all requests that are held at once
    header_seconds: float = 10.0  # until a connection has sent the headers of a request
    connections: int = 1024  # open at once; the longest silent one gives way to a new one

    def check(self) -> None:
        """Raises BadInput for a limit that lets nothing through."""
        for name, value in vars(self).items():
            if value <= 0 and name != "wait_ms":
                raise BadInput(f"--{name.replace('_', '-')} {value}: expected more than 0")
        if self.images > self.queue:
            raise BadInput(f"--images {self.images} of a request do not fit into --queue {self.queue}")

    @property
    def image_bytes(self) -> int:
        """Of an encoded image."""
        return int(self.image_mb * 2**20)

    @property
    def request_bytes(self) -> int:
        """Of a request."""
        return int(self.request_mb * 2**20)

    @property
    def inflight_bytes(self) -> int:
        """Of all requests."""
        return int(self.inflight_mb * 2**20)


HEADER_BYTES = 16 << 10  # of a request line and all headers
FORM_FIELDS = 64  # of a form, besides its files
KEEP_ALIVE = 30  # seconds that a connection may be silent between two requests
DRAIN = 30  # seconds for the requests in work once the server is told to stop


class Refused(Exception):
    """A request that gets an error: its status, one sentence, its kind for the metrics, and headers."""

    def __init__(self, status: int, sentence: str, kind: str, headers: Mapping[str, str] | None = None):
        super().__init__(sentence)
        self.status, self.sentence, self.kind, self.headers = status, sentence, kind, dict(headers or {})
