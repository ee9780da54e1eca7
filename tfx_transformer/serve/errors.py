"""Refusals: an HTTP status, and the error object that clients of OpenAI read."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from tfx_transformer.serve.limits import SHOWN

# The type of an error by its status, in OpenAI's words.
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class Refusal(Exception):
    """The refusal of a request, with its reason.

    Args:
        status: of HTTP.
        message: what is wrong, and what to do.
        code: a word for programs, such as "model_not_found".
        param: the field of the request that is wrong.
        headers: of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object of the response."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "")
        return {
            "error": {
                "message": self.message,
                "type": kind or "invalid_request_error",
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> Response:
        """Return the response with this refusal."""
        return JSON(self.body, self.status, self.headers)


class JSON(Response):
    """A response of one JSON value, as UTF-8."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """See `encode`."""
        return encode(content)


def encode(value: Any) -> bytes:
    """Return JSON as UTF-8; a lone surrogate, which UTF-8 cannot hold, becomes a question mark.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def overloaded(seconds: float) -> Refusal:
    """Return the refusal of a request for which the server has no room.

    Args:
        seconds: until room is likely.
    """
    return Refusal(
        503,
        "The queue is full. Send the request again later.",
        "queue_full",
        headers={"Retry-After": str(max(1, round(seconds)))},
    )


def ending() -> Refusal:
    """Return the refusal of a request to a server that is shutting down."""
    return Refusal(
        503, "The server is shutting down. Send the request again later.", "ending",
        headers={"Retry-After": "5"},
    )  # fmt: skip


def too_late(seconds: float) -> Refusal:
    """Return the refusal of a request that got no answer within `seconds`."""
    return Refusal(
        504,
        f"There was no answer within {seconds:g} seconds. Send the request again later.",
        "timeout",
    )


def shown(value: Any) -> str:
    """Return a value of a request as JSON for a message, cut after `SHOWN` characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
