"""The application: which path does what. docs/serve.md says it for people, /openapi.json for machines."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import Lifespan, Receive, Scope, Send

from vitrail.serve.http import page
from vitrail.serve.http.answers import as_json, as_row, check_asked
from vitrail.serve.http.limits import Refused
from vitrail.serve.http.protocol_v2 import ProtocolV2
from vitrail.serve.http.request import read_form, read_request
from vitrail.serve.http.served import Served
from vitrail.serve.http.service import Service


def application(service: Service, lifespan: Lifespan[Any], style: str) -> Router:
    """All paths of a server."""
    paths = Paths(service)
    routes = [
        Route("/predict", paths.predict, methods=["POST"]),
        Route("/models/{model}/predict", paths.predict, methods=["POST"]),
        Route("/models", paths.models),
        Route("/models/{model}", paths.model),
        Route("/models/{model}/feedback", paths.feedback, methods=["POST"]),
        Route("/metrics", paths.metrics),
        *ProtocolV2(service).routes(),
        *page.routes(style),
    ]
    return Router(routes, default=_no_such_path, lifespan=lifespan)


async def _no_such_path(scope: Scope, _: Receive, __: Send) -> None:
    raise Refused(404, f"there is no {scope['path'][:80]!r} here", "no path")


class Paths:
    """The handlers, each named by what it does."""

    def __init__(self, service: Service):
        self.service = service

    async def predict(self, request: Request) -> Response:
        """Labels for the images of a request."""
        service = self.service
        name = request.path_params.get("model") or request.query_params.get("model")
        async with service.held.body(request) as body:
            with service.model(name).used() as served:
                uploads, asked = await read_request(request, body, service.limits)
                check_asked(served, asked)
                request.state.images = len(uploads)
                found = await service.label(served, uploads)
                service.metrics.add("vitrail_images_total", len(found), model=served.name)
                pairs = list(zip(uploads, found, strict=True))
                if asked.attention or asked.neighbours:
                    rows = await asyncio.to_thread(lambda: [as_row(served, up.key, one, asked) for up, one in pairs])
                else:
                    rows = [as_row(served, up.key, one, asked) for up, one in pairs]
        if all("error" in row for row in rows):
            raise Refused(422, "; ".join(f"{row['key']}: {row['error']}" for row in rows[:5]), "broken request")
        return as_json({"model": served.name, "version": served.version, "predictions": rows})

    async def models(self, _: Request) -> Response:
        """All models, the first one is that of /predict."""
        return as_json({"models": [self._about(served) for served in self.service.models.values()]})

    async def model(self, request: Request) -> Response:
        """One model."""
        return as_json(self._about(self.service.model(request.path_params["model"])))

    def _about(self, served: Served) -> dict[str, Any]:
        return served.about() | {"collects": self.service.feedback is not None}

    async def feedback(self, request: Request) -> Response:
        """A picture and its right label, kept for training."""
        service = self.service
        if service.feedback is None:
            raise Refused(404, "this server keeps nothing: it was not started with --collect DIR", "no path")
        served = service.model(request.path_params["model"])
        async with service.held.body(request) as body:
            uploads, said = await read_form(request, body, service.limits)
            if len(uploads) != 1 or "label" not in said:
                raise Refused(400, "expected one file and its label", "bad request")
            await service.decoders.view(uploads[0].data, served.model.preprocess)
            await asyncio.to_thread(service.feedback.keep, served, uploads[0].data, said["label"])
        return as_json({"kept": True})

    async def metrics(self, _: Request) -> Response:
        """For Prometheus."""
        return PlainTextResponse(self.service.metrics.text(), media_type="text/plain; version=0.0.4")
