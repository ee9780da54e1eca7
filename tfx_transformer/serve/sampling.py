"""The fields of a request for generation, and the options made of them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from tfx_transformer.errors import InputError
from tfx_transformer.generation.options import MAX_CHOICES, MAX_FORM, GenerationOptions
from tfx_transformer.serve.errors import Refusal, shown
from tfx_transformer.serve.fields import Field
from tfx_transformer.serve.limits import MOST_CHOICES

_STOP = {"type": "string", "minLength": 1, "maxLength": 500}
_CHOICE = {"type": "string", "minLength": 1, "maxLength": MAX_FORM}
_NONE = "Only 0, which has no effect."
OPTIONS = {
    "max_tokens": Field(
        {"type": "integer", "minimum": 1},
        "Most tokens to write. Default: as many as the model can.",
    ),
    "temperature": Field(
        {"type": "number", "minimum": 0, "maximum": 2},
        "0 takes the most probable token, above 0 draws. Default: 0, with top_p or top_k 1.",
    ),
    "top_p": Field(
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "Draw among the most probable tokens that reach p together.",
    ),
    "top_k": Field(
        {"type": "integer", "minimum": 0},
        "Draw among the k most probable tokens; 0: all. Not in OpenAI's API.",
    ),
    "repetition_penalty": Field(
        {"type": "number", "exclusiveMinimum": 0, "maximum": 100},
        "Above 1 avoids tokens already written. Not in OpenAI's API.",
    ),
    "seed": Field(
        {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
        "Seed of the draws; the same seed draws the same tokens. Default: a random one.",
    ),
    "stop": Field(
        {"anyOf": [_STOP, {"type": "array", "items": _STOP, "maxItems": 16}]},
        "The answer ends before this text, or before any of these.",
    ),
    "regex": Field(
        {"type": "string", "minLength": 1, "maxLength": MAX_FORM},
        "Regular expression that the answer matches as a whole. Not in OpenAI's API.",
    ),
    "choices": Field(
        {"type": "array", "minItems": 1, "maxItems": MAX_CHOICES, "items": _CHOICE},
        "The answer is one of these texts. Not in OpenAI's API.",
    ),
    "n": Field(
        {"type": "integer", "minimum": 1, "maximum": MOST_CHOICES}, "Answers to each prompt."
    ),
}
RESPONSE_FORMAT = Field(
    {"type": "object"},
    'Form of the answer: {"type": "json_schema", "json_schema": {"schema": {…}}} for JSON that '
    'follows a schema, {"type": "json_object"} for any object, {"type": "text"} for any text.',
)
STREAM = {
    "stream": Field({"type": "boolean"}, "Send the answer in pieces, as server-sent events."),
    "stream_options": Field(
        {"type": "object"}, '{"include_usage": true} counts tokens at the end.'
    ),
}
# Fields that clients of OpenAI may send and that have no effect here.
NEUTRAL = {
    "user": Field({"type": "string"}, "Not read."),
    "metadata": Field({"type": "object"}, "Not read."),
    "store": Field({"type": "boolean"}, "Not read: nothing is stored."),
    "frequency_penalty": Field({"type": "number", "minimum": 0, "maximum": 0}, _NONE),
    "presence_penalty": Field({"type": "number", "minimum": 0, "maximum": 0}, _NONE),
}


def options_of(body: Mapping[str, Any], **more: Any) -> GenerationOptions:
    """Return the options of generation that a request asks for.

    Args:
        body: the result of `fields.read`.
        more: further fields of `GenerationOptions`.

    Raises:
        Refusal: two options exclude each other.
    """
    names = ("temperature", "top_p", "top_k", "repetition_penalty", "stop", "regex", "choices",
             "free")  # fmt: skip
    given = {name: body[name] for name in names if name in body}
    if given.get("temperature") == 0:  # OpenAI's clients send these together
        given.pop("top_p", None)
        given.pop("top_k", None)
    if (schema := _schema(body.get("response_format", {"type": "text"}))) is not None:
        given["schema"] = schema
    seed = body.get("seed", secrets.randbits(32))
    try:
        return GenerationOptions(max_new_tokens=body.get("max_tokens"), seed=seed, **given, **more)
    except InputError as error:
        raise Refusal(400, str(error), "invalid_value") from error


def _schema(given: Mapping[str, Any]) -> Any:
    """Return the schema that a `response_format` asks for, or None.

    Raises:
        Refusal: it is of another form.
    """
    kind = given.get("type")
    if kind in ("text", "json_object"):
        return {"type": "object"} if kind == "json_object" else None
    inner = given.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else None
    if kind != "json_schema" or not isinstance(schema, dict):
        raise Refusal(
            400,
            f"The field 'response_format' is {shown(given)}. Expected {RESPONSE_FORMAT.text}",
            "invalid_value",
            "response_format",
        )
    return schema
