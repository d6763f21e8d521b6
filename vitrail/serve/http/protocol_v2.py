"""The Open Inference Protocol, version 2, as Triton, KServe and their clients speak it; with Triton's binary tensors.

Inputs, one of them: `image` BYTES [n] (encoded; base64 in JSON), `pixels` UINT8 [n, H, W, 3] (pictures of any size), or
`normalised` FP32 [n, C, H, W] (as the model reads it). Outputs: `probabilities` FP32 [n, K], `representation` FP32
[n, D], `label` BYTES [n] (of several classes an image all, with commas). Triton's classification extension on
`probabilities`.
"""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vitrail.data.decode.image import BrokenImage
from vitrail.serve.http.answers import as_json
from vitrail.serve.http.limits import Refused
from vitrail.serve.http.request import Upload, from_base64
from vitrail.serve.http.served import Served
from vitrail.serve.http.service import Labelled, Service, as_ppm

LENGTH = "inference-header-content-length"  # of the JSON, where tensors follow it
_TYPES: dict[str, np.dtype[Any]] = {"UINT8": np.dtype("u1"), "FP32": np.dtype("<f4")}


class Tensor(NamedTuple):
    """An input or an output: values are an array, or of BYTES a list."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Any


class ProtocolV2:
    """The handlers, each named by what it does."""

    def __init__(self, service: Service):
        self.service = service

    def routes(self) -> list[Route]:
        """All paths of the protocol."""
        routes = [
            Route("/v2", self.v2_server),
            Route("/v2/health/live", self.v2_live),
            Route("/v2/health/ready", self.v2_ready),
        ]
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            routes += [
                Route(model, self.v2_model),
                Route(f"{model}/ready", self.v2_model_ready),
                Route(f"{model}/infer", self.v2_infer, methods=["POST"]),
            ]
        return routes

    async def v2_server(self, _: Request) -> Response:
        """What this server is."""
        from importlib.metadata import version

        return as_json(
            {"name": "vitrail", "version": version("vitrail"), "extensions": ["binary_tensor_data", "classification"]}
        )

    async def v2_live(self, _: Request) -> Response:
        """The process answers."""
        return as_json({"live": True})

    async def v2_ready(self, _: Request) -> Response:
        """Requests are answered: all models are loaded, warm, and gave the outputs that they gave before."""
        return as_json({"ready": self.service.ready}, 200 if self.service.ready else 503)

    async def v2_model(self, request: Request) -> Response:
        """What goes in and comes out."""
        served = self._model(request)
        height, width = served.model.preprocess.resolution
        config = served.model.config
        inputs = [
            {"name": "image", "datatype": "BYTES", "shape": [-1]},
            {"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
            {"name": "normalised", "datatype": "FP32", "shape": [-1, config.channels, height, width]},
        ]
        outputs = [{"name": "representation", "datatype": "FP32", "shape": [-1, config.representation_width]}]
        if served.classes:
            outputs.insert(0, {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(served.classes)]})
            outputs.append({"name": "label", "datatype": "BYTES", "shape": [-1]})
        about = {"name": served.name, "versions": [served.version], "platform": "vitrail"}
        return as_json(about | {"inputs": inputs, "outputs": outputs})

    async def v2_model_ready(self, request: Request) -> Response:
        """One model answers."""
        served = self._model(request)
        return as_json({"name": served.name, "ready": self.service.ready})

    async def v2_infer(self, request: Request) -> Response:
        """Tensors in, tensors out."""
        service = self.service
        async with service.held.body(request) as body:
            with self._model(request).used() as served:
                asked, binary = _asked(body, request.headers.get(LENGTH))
                given = _input(asked, binary)
                if len(given.values) > service.limits.images:
                    raise Refused(
                        413, f"{len(given.values)} images; at most {service.limits.images} are taken", "too large"
                    )
                request.state.images = len(given.values)
                found = await self._found(served, given)
                service.metrics.add("vitrail_images_total", len(found), model=served.name)
                return _response(served, asked, _outputs(served, asked, found))

    def _model(self, request: Request) -> Served:
        served = self.service.model(request.path_params["model"])
        version = request.path_params.get("version", served.version)
        if version != served.version:
            raise Refused(404, f"{served.name} has the version {served.version} now, not {version[:40]!r}", "no model")
        return served

    async def _found(self, served: Served, given: Tensor) -> list[Labelled]:
        """What the model makes of the images; raises Refused for one that is broken."""
        if given.name == "normalised":
            config = served.model.config
            expected = (config.channels, *config.resolution)
            if given.shape[1:] != expected or not np.isfinite(given.values).all():
                raise Refused(
                    400,
                    f"normalised is {list(given.shape)}, expected finite numbers [n, {_list(expected)}]",
                    "bad request",
                )
            found = await self.service.label_views(served, list(given.values))
        else:
            encoded = given.values if given.name == "image" else [as_ppm(pixels) for pixels in given.values]
            found = await self.service.label(served, [Upload(str(i), data) for i, data in enumerate(encoded)])
        for i, one in enumerate(found):
            if isinstance(one, BrokenImage):
                raise Refused(422, f"image {i}: {one}", "broken request")
        return [one for one in found if isinstance(one, Labelled)]


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)


def _asked(body: bytes, length: str | None) -> tuple[dict[str, Any], bytes]:
    """The JSON of a request, and the tensors that follow it."""
    end = len(body) if length is None else int(length) if length.isdecimal() and len(length) < 12 else -1
    if not 0 <= end <= len(body):
        raise Refused(400, f"{LENGTH} is {str(length)[:20]!r}, and the body has {len(body)} bytes", "bad request")
    try:
        asked = json.loads(body[:end])
    except (ValueError, RecursionError):
        raise Refused(400, "the request is no JSON", "bad request") from None
    if not isinstance(asked, dict) or not isinstance(asked.get("inputs"), list) or len(asked["inputs"]) != 1:
        raise Refused(400, "expected one input: image, pixels or normalised", "bad request")
    return asked, body[end:]


def _input(asked: dict[str, Any], binary: bytes) -> Tensor:
    first = asked["inputs"][0]
    said: dict[str, Any] = first if isinstance(first, dict) else {}
    name, datatype, shape = said.get("name"), said.get("datatype"), said.get("shape")
    expected = {"image": ("BYTES", (1, 2)), "pixels": ("UINT8", (4,)), "normalised": ("FP32", (4,))}
    if name not in expected:
        raise Refused(400, f"unknown input {str(name)[:40]!r}; known are: image, pixels, normalised", "bad request")
    kind, dims = expected[name]
    sides = shape if isinstance(shape, list) else []
    if (
        datatype != kind
        or len(sides) not in dims
        or not all(type(side) is int and 0 < side < 1 << 31 for side in sides)
    ):
        raise Refused(400, f"{name} is {kind} with {dims[0]} dimensions, all above 0", "bad request")
    if name == "pixels" and sides[3] != 3:
        raise Refused(400, f"pixels are [n, H, W, 3], not {sides}", "bad request")
    count, parameters = math.prod(sides), said.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is not None:
        if size != len(binary):
            raise Refused(400, f"binary_data_size is {str(size)[:20]}, and {len(binary)} bytes follow", "bad request")
        values = _texts(binary, count) if kind == "BYTES" else _numbers(binary, kind, sides)
    else:
        data = _flat(said.get("data"))
        if len(data) != count:
            raise Refused(400, f"{name} has {len(data)} values, its shape says {count}", "bad request")
        values = [from_base64(text) for text in data] if kind == "BYTES" else _array(data, kind, sides)
    return Tensor(name, kind, tuple(sides), values)


def _texts(binary: bytes, count: int) -> list[bytes]:
    found, at = list[bytes](), 0
    while at + 4 <= len(binary) and len(found) < count:
        size = int.from_bytes(binary[at : at + 4], "little")
        found.append(binary[at + 4 : at + 4 + size])
        at += 4 + size
    if at != len(binary) or len(found) != count:
        raise Refused(400, f"the binary data hold no {count} strings, each after its length", "bad request")
    return found


def _numbers(binary: bytes, kind: str, shape: list[int]) -> np.ndarray:
    dtype = _TYPES[kind]
    if len(binary) != math.prod(shape) * dtype.itemsize:
        raise Refused(400, f"{len(binary)} bytes are no {kind} of the shape {shape}", "bad request")
    return np.frombuffer(binary, dtype).reshape(shape)


def _flat(data: Any) -> list[Any]:
    """Values in JSON come flat or nested; a few levels, as a hostile client could nest them deeply."""
    for _ in range(4):
        if not (isinstance(data, list) and data and isinstance(data[0], list)):
            break
        data = [one for some in data if isinstance(some, list) for one in some]
    return data if isinstance(data, list) else []


def _array(data: list[Any], kind: str, shape: list[int]) -> np.ndarray:
    try:
        return np.array(data, _TYPES[kind]).reshape(shape)
    except (ValueError, TypeError, OverflowError):
        raise Refused(400, f"the values are no {kind}", "bad request") from None


def _outputs(served: Served, asked: dict[str, Any], found: Sequence[Labelled]) -> list[tuple[Tensor, bool]]:
    """What was asked for, all where nothing was, and whether it goes out in binary."""
    wanted = asked.get("outputs")
    known = (["probabilities"] if served.classes else []) + ["representation"] + (["label"] if served.classes else [])
    if not isinstance(wanted, list) or not wanted:
        wanted = [{"name": name} for name in known]
    binary = bool(_parameters(asked).get("binary_data_output", False))
    outputs = []
    for one in wanted:
        name = one.get("name") if isinstance(one, dict) else None
        if name not in known:
            raise Refused(400, f"unknown output {str(name)[:40]!r}; known are: {', '.join(known)}", "bad request")
        said = _parameters(one)
        made = _output(served, name, said.get("classification"), found)
        outputs.append((made, bool(said.get("binary_data", binary))))
    return outputs


def _parameters(said: dict[str, Any]) -> dict[str, Any]:
    found = said.get("parameters")
    return found if isinstance(found, dict) else {}


def _output(served: Served, name: str, classification: Any, found: Sequence[Labelled]) -> Tensor:
    if name == "label":
        labels = [served.predictor.labels(one.answer.probabilities, 1) for one in found]
        texts = [", ".join(label.name for label in some).encode() for some in labels]
        return Tensor(name, "BYTES", (len(texts),), texts)
    values = np.stack([getattr(one.answer, name).numpy() for one in found])
    if name == "probabilities" and type(classification) is int and classification > 0:
        top = min(classification, values.shape[1])
        texts = list[bytes]()
        for one in found:
            shares, places = one.answer.probabilities.topk(top)
            pairs = zip(shares.tolist(), places.tolist(), strict=True)
            texts += [f"{share:f}:{place}:{served.classes[place]}".encode() for share, place in pairs]
        return Tensor(name, "BYTES", (len(found), top), texts)
    return Tensor(name, "FP32", values.shape, np.ascontiguousarray(values, "<f4"))


def _response(served: Served, asked: dict[str, Any], outputs: Sequence[tuple[Tensor, bool]]) -> Response:
    said, parts = [], []
    for tensor, binary in outputs:
        one: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if binary:
            parts.append(_as_bytes(tensor))
            one["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            texts = tensor.datatype == "BYTES"
            one["data"] = [text.decode() for text in tensor.values] if texts else tensor.values.ravel().tolist()
        said.append(one)
    about: dict[str, Any] = {"model_name": served.name, "model_version": served.version, "outputs": said}
    if isinstance(asked.get("id"), str):
        about["id"] = asked["id"]
    if not parts:
        return as_json(about)
    head = json.dumps(about).encode()
    headers = {LENGTH: str(len(head))}
    return Response(b"".join([head, *parts]), headers=headers, media_type="application/octet-stream")


def _as_bytes(tensor: Tensor) -> bytes:
    if tensor.datatype == "BYTES":
        return b"".join(len(text).to_bytes(4, "little") + text for text in tensor.values)
    return tensor.values.tobytes()
