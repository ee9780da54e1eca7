"""The description of a server in OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from tfx_transformer.serve.endpoints import Endpoint
from tfx_transformer.serve.fields import json_schema

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_REFUSED = {
    "4XX": "The request is wrong; the message gives the reason.",
    "503": "The queue is full, or the server is shutting down. Retry-After: seconds to wait.",
    "504": "There was no answer in time.",
}
# Addresses of GET requests -> description and media type.
PAGES = {
    "/v1/models": ("The models that are served.", "application/json"),
    "/healthz": ("200 while every model answers.", "application/json"),
    "/metrics": ("Counts, in the text format of Prometheus.", "text/plain"),
}


def description(endpoints: list[Endpoint], has_key: bool) -> dict[str, Any]:
    """Return the description.

    Args:
        endpoints: the endpoints of this server's models.
        has_key: True if requests need the key.
    """
    paths: dict[str, Any] = {
        path: {"get": {"summary": text, "responses": {"200": _content(text, kind)}}}
        for path, (text, kind) in PAGES.items()
    }
    for endpoint in endpoints:
        paths[endpoint.path] = {"post": _operation(endpoint)}
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "tfx-transformer serve", "version": "1"},
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR}},
    }
    if has_key:
        scheme = {"type": "http", "scheme": "bearer"}
        found["components"]["securitySchemes"] = {"key": scheme}
        found["security"] = [{"key": []}]
    return found


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    refusals = {
        status: _content(text, "application/json", {"$ref": "#/components/schemas/Error"})
        for status, text in _REFUSED.items()
    }
    answer = _content("The answer.", "application/json", dict(endpoint.answer))
    if "stream" in endpoint.fields:
        answer["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    return {
        "summary": endpoint.text,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": json_schema(endpoint.fields)}},
        },
        "responses": {"200": answer, **refusals},
    }


def _content(text: str, kind: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"description": text, "content": {kind: {"schema": schema or {}}}}
