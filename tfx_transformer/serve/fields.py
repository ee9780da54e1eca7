"""The fields of requests: one table checks a request and describes it in OpenAPI."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from tfx_transformer.serve.errors import Refusal, shown

_TYPES = {
    "string": str,
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}
_WORDS = {
    "string": "a text",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
    "integer": "a whole number",
    "number": "a number",
}
# Keywords that bound a value, and the unit of what they count.
_BOUNDS = (
    ("minimum", "maximum", ""),
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " items"),
)


class Field(NamedTuple):
    """A field of a request.

    schema: JSON Schema of its value, with keywords that `problem` checks; text: its description;
    needed: True if a request must have it.
    """

    schema: dict[str, Any]
    text: str
    needed: bool = False


def read(body: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
    """Return the values of a request; a null counts as missing.

    Raises:
        Refusal: the request is not an object, lacks a field, has an unknown one, or has a value
            that does not fit its field.
    """
    if not isinstance(body, dict):
        raise Refusal(400, f"The request is {shown(body)}. Expected a JSON object.")
    for name in body:
        if name not in fields:
            known = ", ".join(fields)
            raise Refusal(
                400, f"The field {shown(name)} is not known. Fields: {known}.", "unknown_field",
                name[:60],
            )  # fmt: skip
    values = {name: value for name, value in body.items() if value is not None}
    for name, field in fields.items():
        if field.needed and name not in values:
            raise Refusal(400, f"The field {name!r} is missing: {field.text}", "missing", name)
    for name, value in values.items():
        if found := problem(value, fields[name].schema):
            raise Refusal(400, f"The field {name!r} {found}.", "invalid_value", name)
    return values


def problem(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a value, or None.

    >>> problem(3, {"type": "integer", "maximum": 2})
    'is 3. Expected a whole number of at most 2'
    """
    if "anyOf" in schema:
        problems = [problem(value, one) for one in schema["anyOf"]]
        if None in problems:
            return None
        for one, found in zip(schema["anyOf"], problems, strict=True):
            if isinstance(value, _TYPES.get(one.get("type"), ())):  # the intended alternative
                return found
        expected = " or ".join(_expected(one) for one in schema["anyOf"])
        return f"is {shown(value)}. Expected {expected}"
    if not _fits(value, schema):
        return f"is {shown(value)}. Expected {_expected(schema)}"
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value, start=1):
            if found := problem(item, schema["items"]):
                return f"has an item {number} that {found}"
    return None


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Return True if a value has the type and is within the bounds; items are not checked."""
    kind = schema["type"]
    if not isinstance(value, _TYPES[kind]):
        return False
    if kind in ("integer", "number"):
        if isinstance(value, bool) or not _is_finite(value):
            return False
        low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
        return low <= value <= high and value > schema.get("exclusiveMinimum", -math.inf)
    if kind == "string" or kind == "array":
        name = "Length" if kind == "string" else "Items"
        if not schema.get(f"min{name}", 0) <= len(value) <= schema.get(f"max{name}", math.inf):
            return False
    return value in schema.get("enum", [value])


def _is_finite(value: int | float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def _expected(schema: Mapping[str, Any]) -> str:
    """Return the description of a valid value, such as "a whole number of at most 2"."""
    if "enum" in schema:
        return " or ".join(map(shown, schema["enum"]))
    text = _WORDS[schema["type"]]
    for low, high, unit in _BOUNDS:
        least, most = schema.get(low), schema.get(high)
        if least is not None and most is not None:
            text += f" {'of' if unit else 'from'} {least:,} to {most:,}{unit}"
        elif least is not None:
            text += f" of at least {least:,}{unit}"
        elif most is not None:
            text += f" of at most {most:,}{unit}"
    if "exclusiveMinimum" in schema:
        text += f", above {schema['exclusiveMinimum']:,}"
    return text


def json_schema(fields: Mapping[str, Field]) -> dict[str, Any]:
    """Return the JSON Schema of a request, for OpenAPI."""
    return {
        "type": "object",
        "properties": {
            name: field.schema | {"description": field.text} for name, field in fields.items()
        },
        "required": [name for name, field in fields.items() if field.needed],
        "additionalProperties": False,
    }
