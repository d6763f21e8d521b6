"""The pages of a server: labels for people, and how programs ask. One file each, nothing from the network."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from vitrail.serve.http.answers import as_json
from vitrail.serve.http.openapi import description

_FILE = Path(__file__).with_name("page.html")


def routes(style: str) -> list[Route]:
    """The pages in the style of the reports."""
    page = _FILE.read_text(encoding="utf-8").replace("/*STYLE*/", style)
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)[0]
    allowed = f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )

    async def label_page(_: Request) -> Response:
        return HTMLResponse(page, headers={"content-security-policy": policy})

    async def docs_page(_: Request) -> Response:
        headers = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(_docs(style), headers=headers)

    async def openapi(_: Request) -> Response:
        return as_json(description())

    return [Route("/", label_page), Route("/docs", docs_page), Route("/openapi.json", openapi)]


def _docs(style: str) -> str:
    said, rows = description(), []
    for path, methods in said["paths"].items():
        for method, about in methods.items():
            rows.append(Markup("<h3><code>{} {}</code></h3><p>{}</p>").format(method.upper(), path, about["summary"]))
            if "parameters" in about:
                rows.append(_table(about["parameters"]))
    return Markup(
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>How to ask this server</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        "<style>{}</style></head><body><main><h1>How to ask this server</h1><p>{}</p>"
        '<pre>curl -F file=@cat.jpg http://127.0.0.1:8000/predict</pre>{}<p class="quiet">The same for programs: '
        '<a href="openapi.json">openapi.json</a></p></main></body></html>'
    ).format(Markup(style), said["info"]["description"], Markup("").join(rows))


def _table(parameters: list[dict[str, Any]]) -> Markup:
    rows = [
        Markup("<tr><td><code>{}</code></td><td>{}</td><td class=prose>{}</td></tr>").format(
            one["name"], one["schema"].get("default", one["schema"]["type"]), one["description"]
        )
        for one in parameters
        if one["in"] == "query"
    ]
    if not rows:
        return Markup("")
    head = Markup("<tr><th>option</th><th>default</th><th>what it is</th></tr>")
    return Markup('<div class="scroll table"><table>{}{}</table></div>').format(
        head, Markup("").join(map(escape, rows))
    )
