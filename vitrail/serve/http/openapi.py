"""What a server understands, as OpenAPI 3.1: paths, options, answers."""

from dataclasses import fields
from importlib.metadata import version
from typing import Any

from vitrail.serve.http.request import Asked

OPTIONS = {
    "top": "labels of each image",
    "all_probabilities": "of every class, in the order of the classes",
    "representation": "what the classifier reads",
    "attention": "rollout: the share of each patch, and a PNG of the picture, darker where little reaches the answer",
    "neighbours": "nearest training images, where the server was started with --neighbours",
    "abstain_below": "probability below which `sure` is false",
}
_TYPES = {int: "integer", float: "number", bool: "boolean"}
_OK: dict[str, Any] = {"content": {"application/json": {"schema": {"type": "object"}}}}


def description() -> dict[str, Any]:
    """The whole of it."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    bodies = {
        "multipart/form-data": {"schema": {"type": "object", "properties": {"file": binary["schema"]}}},
        "image/*": binary,
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["images"],
                "properties": {"images": {"type": "array", "items": {"type": "string", "format": "byte"}}},
            }
        },
    }
    responses = {
        "200": {"description": "a row an image, in their order; a broken one has `error`", **_OK},
        "400": {"description": "the request cannot be understood"},
        "401": {"description": "the token is missing or wrong"},
        "413": {"description": "too large, or too many images"},
        "422": {"description": "no image of the request can be read; the error says why"},
        "429": {"description": "too much is waiting; Retry-After says when to come again"},
        "503": {"description": "the model is being loaded"},
    }
    label = {"parameters": _options(), "requestBody": {"required": True, "content": bodies}, "responses": responses}
    of_model = [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}, "description": "name"}]
    named = {**label, "parameters": [*of_model, *_options()]}
    feedback = {"parameters": of_model, "responses": responses}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vitrail serve",
            "version": version("vitrail"),
            "description": "Images in; names of classes with probabilities out. Images come as files of a form, as the "
            "bytes of one image, or as base64 in JSON. No path and no address is read.",
        },
        "paths": {
            "/predict": {"post": {"summary": "Labels by the first model.", **label}},
            "/models": {
                "get": {"summary": "The models, their classes, runtimes and cards.", "responses": {"200": _ok()}}
            },
            "/models/{model}": {"get": {"summary": "One model.", "parameters": of_model, "responses": {"200": _ok()}}},
            "/models/{model}/predict": {"post": {"summary": "Labels by one model.", **named}},
            "/models/{model}/feedback": {
                "post": {
                    "summary": "A picture and its right label, kept for training (only with --collect).",
                    **feedback,
                }
            },
            "/metrics": {"get": {"summary": "Numbers for Prometheus.", "responses": {"200": _ok()}}},
            "/v2/health/live": {"get": {"summary": "200 while the process answers.", "responses": {"200": _ok()}}},
            "/v2/health/ready": {"get": {"summary": "200 once the models answer.", "responses": {"200": _ok()}}},
            "/v2/models/{model}/infer": {
                "post": {
                    "summary": "The Open Inference Protocol, JSON or binary tensors: `image` BYTES, `pixels` UINT8 or "
                    "`normalised` FP32 in; `probabilities`, `representation` and `label` out.",
                    "parameters": of_model,
                    "responses": responses,
                }
            },
        },
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}, {}],
    }


def _ok() -> dict[str, Any]:
    return {"description": "as asked", **_OK}


def _options() -> list[dict[str, Any]]:
    return [
        {
            "name": field.name,
            "in": "query",
            "description": OPTIONS[field.name],
            "schema": {"type": _TYPES[type(field.default)], "default": field.default},
        }
        for field in fields(Asked)
    ]
