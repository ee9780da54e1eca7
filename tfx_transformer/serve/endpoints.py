"""The type of an endpoint: its address, its fields, its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.responses import Response

from tfx_transformer.serve.fields import Field

if TYPE_CHECKING:
    from tfx_transformer.serve.service import Call, Service

MODEL = Field(
    {"type": "string", "maxLength": 200},
    "Name of the model; optional if only one model answers here.",
)


class Endpoint(NamedTuple):
    """An address that answers POST requests.

    path: of the address; text: its description; fields: of a request; answer: JSON Schema of the
    response; handle: (service, call) -> response; images: requests may have images, so they may be
    larger.
    """

    path: str
    text: str
    fields: Mapping[str, Field]
    answer: Mapping[str, Any]
    handle: Callable[[Service, Call], Awaitable[Response]]
    images: bool = False


def listing(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of a list of answers in OpenAI's form.

    Args:
        item: JSON Schema of an answer.
    """
    return {
        "type": "object",
        "required": ["object", "model", "data", "usage"],
        "properties": {
            "object": {"const": "list"},
            "model": {"type": "string"},
            "data": {"type": "array", "items": item},
            "usage": {
                "type": "object",
                "description": "Numbers of tokens.",
                "required": ["prompt_tokens", "total_tokens"],
                "additionalProperties": {"type": "integer"},
            },
        },
    }
