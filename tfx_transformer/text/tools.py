"""Declarations of tools, as OpenAI and the chat templates of Hugging Face write them, and calls."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import regex

from tfx_transformer import json_files
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity, short_list, short_repr
from tfx_transformer.text.copied import COPIED, can_be_copied, copies

# A bundle's file may come from anywhere; the declarations of a hundred tools stay below these.
MAX_BYTES = 256 * 1024
MOST_TOOLS = 256
_MAX_DEPTH = 16
# OpenAI's names (letters, digits, _ and -), and dots.
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_EXPECTED = (
    'Expected [{"type": "function", "function": {"name": "…", "description": "…",\n'
    '  "parameters": {"type": "object", "properties": {…}}}}, …].'
)
# Seconds in which the parts of a request are compared with the patterns of all arguments.
_PATTERN_SECONDS = 0.5
# A repetition with its counts, which `regex` writes out; most characters of a pattern with them.
_REPEATED = re.compile(r"\{(\d*),?(\d*)\}")
_MOST_PATTERN = 200_000
# Errors of keywords that have a wrong value, or take too long.
_UNREADABLE = (TypeError, ValueError, OverflowError, RecursionError, TimeoutError)
# Relative error of a decimal number, such as 0.1, in binary.
_ROUNDING = 1e-9
# The tags of Qwen and Hermes around a call.
OPEN, CLOSE = "<tool_call>", "</tool_call>"
# Tags before and after a call, of any template: <tool_call>, <|python_tag|>, [TOOL_CALLS]. The last
# one may be missing from an answer.
_TAG = r"(?:<[^\s<>{}\"]{1,40}>|\[/?[A-Z][A-Z_]{1,40}\])"
_OPENING, _CLOSING = re.compile(rf"^{_TAG}"), re.compile(rf"{_TAG}$")
# A name before its arguments; a template of Mistral writes [ARGS] between them.
_NAMED = re.compile(r"([A-Za-z0-9_.-]{1,64})(?:\[ARGS\])?(\{.*)", re.DOTALL)


class Call(NamedTuple):
    """The call of a function: its name and its arguments."""

    name: str
    arguments: dict[str, Any]

    def to_json(self) -> str:
        """Return {"name": …, "arguments": {…}}."""
        return json.dumps({"name": self.name, "arguments": self.arguments}, ensure_ascii=False)

    def tagged(self) -> str:
        """Return the call between the tags of Qwen and Hermes."""
        return f"{OPEN}\n{self.to_json()}\n{CLOSE}"

    def message(self) -> dict[str, Any]:
        """Return the message of an assistant that makes the call."""
        function = {"name": self.name, "arguments": self.arguments}
        calls = [{"type": "function", "function": function}]
        return {"role": "assistant", "content": "", "tool_calls": calls}


class Tools:
    """The tools that a model may call.

    Args:
        declarations: a list of {"type": "function", "function": {"name", "description",
            "parameters"}}, or of the inner objects. The parameters are a JSON Schema of an object;
            without them a tool has no arguments. An argument with "x-copied": true is always a part
            of the request.
        file: the file of the declarations, for messages.

    Attributes:
        declarations: the list, each with its "type".
        parameters: by name, the JSON Schema of the arguments.
        copied: by name, the marks of arguments: True if one is copied from the request, False if it
            is not. `declarations` and `parameters` have no marks.

    Raises:
        InputError: they have another form, or two tools have the same name.
    """

    def __init__(self, declarations: Any, file: str | os.PathLike | None = None) -> None:
        if not isinstance(declarations, Sequence) or isinstance(declarations, str):
            kind = type(declarations).__name__
            raise InputError(f"the tools are not a list but a {kind}.\n  {_EXPECTED}", file)
        if not 0 < len(declarations) <= MOST_TOOLS:
            raise InputError(
                f"there are {len(declarations)} tools.\n  Expected from 1 to {MOST_TOOLS}.", file
            )
        self.declarations: list[dict[str, Any]] = []
        self.parameters: dict[str, dict[str, Any]] = {}
        self.copied: dict[str, dict[str, bool]] = {}
        for number, one in enumerate(declarations, start=1):
            name, parameters, declared = _read(one, number, file)
            if name in self.parameters:
                raise InputError(f"two tools are named {name!r}.\n  Rename one.", file)
            self.copied[name] = _take_marks(parameters)
            if self.copied[name]:
                declared["function"]["parameters"] = parameters
            self.declarations.append(declared)
            self.parameters[name] = parameters

    def __len__(self) -> int:
        return len(self.declarations)

    def __repr__(self) -> str:
        names = ", ".join(list(self.parameters)[:8])
        return f"Tools: {quantity(len(self), 'tool')}, {names}"

    def to_json(self) -> str:
        """Return the declarations as the text of `tools.json`."""
        declarations = copy.deepcopy(self.declarations)
        for one in declarations:
            function = one["function"]
            for argument, mark in self.copied[function["name"]].items():
                function["parameters"]["properties"][argument][COPIED] = mark
        return json.dumps(declarations, ensure_ascii=False, indent=2) + "\n"

    def mark_copied(self, found: Mapping[str, Sequence[str]]) -> Tools:
        """Return the tools with more marks of arguments that are copied from the request.

        Args:
            found: by name, the arguments. Marks that are there already stay.
        """
        tools = copy.copy(self)
        tools.copied = {
            name: dict.fromkeys(found.get(name, ()), True) | marks
            for name, marks in self.copied.items()
        }
        return tools

    @property
    def copies(self) -> bool:
        """True if an argument is copied from the request."""
        return any(mark for marks in self.copied.values() for mark in marks.values())

    def schema(self, request: str | None = None) -> dict[str, Any]:
        """Return the JSON Schema of a call: {"name": …, "arguments": {…}}.

        Args:
            request: text of the user: an argument that is copied is a part of it, unless no part
                fits its declaration or the request is too long; see `copies`.
        """
        schemas = self.parameters
        if request is not None:
            end = time.monotonic() + _PATTERN_SECONDS
            schemas = {name: self._narrowed(name, request, end) for name in schemas}
        return {"anyOf": [_call_schema(*one) for one in schemas.items()]}

    def _narrowed(self, name: str, request: str, end: float) -> dict[str, Any]:
        """Return the schema of the arguments of a tool for a request.

        Args:
            end: time after which no `pattern` is matched.
        """
        parameters = self.parameters[name]
        properties = dict(parameters.get("properties", {}))
        for argument, mark in self.copied[name].items():
            schema = properties[argument]
            if not mark or not can_be_copied(schema):
                continue
            parts = _fitting(copies(request, schema["type"]), schema, end)
            if parts:
                properties[argument] = {"enum": parts}
        return parameters | {"properties": properties} if properties else parameters

    def problem(self, call: Call) -> str:
        """Return the reason why a call is not valid: its tool is unknown, or the declaration does
        not allow its arguments; "" if it is valid.

        The keywords type, enum, const, anyOf, minimum, maximum, properties, required, items and
        additionalProperties are checked, others, such as pattern, are not.
        """
        if call.name not in self.parameters:
            names = short_list(list(self.parameters))
            return f"there is no tool {short_repr(call.name)} (the tools are {names})"
        return _mismatch(call.arguments, _closed(self.parameters[call.name]), "arguments")

    def ordered(self, call: Call) -> Call:
        """Return a call with its arguments in the order of the declaration."""
        order = self.parameters[call.name].get("properties", {})
        names = [name for name in order if name in call.arguments]
        names += [name for name in call.arguments if name not in order]
        return Call(call.name, {name: call.arguments[name] for name in names})


def read_tools(given: str | os.PathLike | Sequence[Any] | Tools) -> Tools:
    """Return tools from a JSON file, or from a list of declarations.

    Raises:
        InputError: the file cannot be read, or its declarations have another form; see `Tools`.
    """
    if isinstance(given, Tools):
        return given
    if not isinstance(given, str | os.PathLike):
        return Tools(given)
    file = Path(given)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise InputError(f"it is larger than {MAX_BYTES // 1024} KiB.\n  {_EXPECTED}", file)
        text = file.read_text("utf-8-sig")
        value = json_files.parse(text, file, unique=True)
    except OSError as error:
        raise InputError(
            f"it cannot be read: {error.strerror}.\n"
            "  Give the file that declares the tools: --tools FILE.json",
            file,
        ) from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"it is not JSON: {error}.\n  {_EXPECTED}", file) from error
    return Tools(value["tools"] if isinstance(value, dict) and "tools" in value else value, file)


def read_call(text: str) -> Call | None:
    """Return the call that an answer makes; None if it makes none, or several.

    A call is a JSON object with "name" and "arguments" (Llama 3: "parameters"), alone, in a list,
    or between tags: `<tool_call>` (Qwen, Hermes; a text may be before it), `[TOOL_CALLS]`
    (Mistral), `<|python_tag|>`, or others of this form. It may also be a name followed by the
    object of its arguments, as newer templates of Mistral write it.
    """
    inside = text[text.find(OPEN) + len(OPEN) :] if OPEN in text else ""
    inside = inside[: inside.rfind(CLOSE)] if CLOSE in inside else inside
    untagged = _CLOSING.sub("", _OPENING.sub("", text.strip()))
    found = (_plain_call(one.strip()) for one in (text, inside, untagged) if one)
    return next((call for call in found if call is not None), None)


def _plain_call(text: str) -> Call | None:
    """Return the call in a text without tags; None if there is none."""
    if named := _NAMED.match(text):
        text = f'{{"name": "{named[1]}", "arguments": {named[2]}}}'
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    return Call(value["name"], arguments) if isinstance(arguments, dict) else None


def same_call(one: Call | None, other: Call | None) -> bool:
    """Return True if two calls have the same name and arguments. The order of keys does not
    matter; 5 and 5.0 are the same number, 1 and true are not the same."""
    if one is None or other is None:
        return False
    return one.name == other.name and same_value(one.arguments, other.arguments)


def same_value(one: Any, other: Any) -> bool:
    """Return True if two JSON values are the same; see `same_call`."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_value(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    return one == other


def _read(one: Any, number: int, file: str | os.PathLike | None) -> tuple[str, dict, dict]:
    """Return the name, the parameters and the whole of a declaration."""

    def refuse(problem: str) -> InputError:
        return InputError(f"tool {number} {problem}.\n  {_EXPECTED}", file)

    if not isinstance(one, Mapping):
        raise refuse(f"is not an object but of type {type(one).__name__}")
    if one.get("type", "function") != "function":
        raise refuse(f"has the type {str(one['type'])[:40]!r}; only functions can be called")
    function = one.get("function", one)
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise refuse("has no name of up to 64 letters, digits, '_', '-' and '.'")
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
        raise refuse(f"({name}) has parameters that are not the JSON Schema of an object")
    properties = parameters.get("properties", {})
    if not isinstance(properties, Mapping) or not all(
        isinstance(value, Mapping) for value in properties.values()
    ):
        raise refuse(f"({name}) has properties that are not JSON Schemas by name")
    if not isinstance(parameters.get("required", []), list):
        raise refuse(f"({name}) has no list of required names")
    if _depth(parameters) > _MAX_DEPTH:
        raise refuse(f"({name}) has parameters of more than {_MAX_DEPTH} levels")
    if keyword := _wrong_keyword(parameters):
        raise refuse(f"({name}) has parameters with a wrong {keyword!r}")
    inner = {key: value for key, value in function.items() if key != "type"}
    return name, dict(parameters), {"type": "function", "function": inner}


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= _MAX_DEPTH:
        depth += 1
        level = [inner for one in level for inner in _inner(one)]
    return depth


def _inner(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple):
        yield from value


def _closed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of arguments without other names than those declared."""
    plain = {"type": "object", "properties": {}} | dict(parameters)
    return plain if "additionalProperties" in plain else plain | {"additionalProperties": False}


def _call_schema(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": _closed(parameters)},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


# Name of a JSON type -> True for a value of it.
_TYPES = {
    "object": lambda value: isinstance(value, Mapping),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (
        not isinstance(value, bool)
        and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
    ),
}


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_schema(value: Any) -> bool:
    return isinstance(value, Mapping | bool)


# Keyword of a JSON Schema -> True for a value that it may have. `_mismatch` reads these.
_KEYWORDS = {
    "type": lambda value: isinstance(value, str) or _is_list_of_texts(value),
    "enum": lambda value: isinstance(value, list),
    "anyOf": lambda value: isinstance(value, list) and all(map(_is_schema, value)),
    "minimum": _TYPES["number"],
    "maximum": _TYPES["number"],
    "properties": lambda value: isinstance(value, Mapping) and all(map(_is_schema, value.values())),
    "required": _is_list_of_texts,
    COPIED: _TYPES["boolean"],
}


def _wrong_keyword(schema: Any) -> str:
    """Return a keyword that has a value of a wrong type, in a JSON Schema or one inside it; "" if
    there is none."""
    if not isinstance(schema, Mapping):
        return ""
    for keyword, is_right in _KEYWORDS.items():
        if keyword in schema and not is_right(schema[keyword]):
            return keyword
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", []), schema.get("items")]
    return next((found for one in inner if (found := _wrong_keyword(one))), "")


def _mismatch(value: Any, schema: Any, place: str) -> str:
    """Return the reason why a value does not fit a JSON Schema; "" if it does. Keywords that are
    not read below are not checked."""
    if not isinstance(schema, Mapping):
        return ""
    named = schema.get("type", [])
    kinds = [kind for kind in ([named] if isinstance(named, str) else named) if kind in _TYPES]
    if kinds and not any(_TYPES[kind](value) for kind in kinds):
        return f"{place} is {_shown(value)}, not of type {' or '.join(kinds)}"
    if "enum" in schema and not any(same_value(value, one) for one in schema["enum"]):
        return f"{place} is {_shown(value)}, not one of {', '.join(map(_shown, schema['enum']))}"
    if "const" in schema and not same_value(value, schema["const"]):
        return f"{place} is {_shown(value)}, not {_shown(schema['const'])}"
    if isinstance(schema.get("anyOf"), list):
        found = [_mismatch(value, one, place) for one in schema["anyOf"]]
        if all(found):
            return found[0] if found else ""
    if _TYPES["number"](value):
        if (least := schema.get("minimum")) is not None and value < least:
            return f"{place} is {value}, less than {least}"
        if (most := schema.get("maximum")) is not None and value > most:
            return f"{place} is {value}, more than {most}"
    inner: list[tuple[Any, Any, str]] = []
    if isinstance(value, Mapping):
        declared = schema.get("properties", {})
        for name in schema.get("required", []):
            if name not in value:
                return f"there is no {name!r} in {place}"
        if schema.get("additionalProperties") is False:
            for name in value.keys() - declared.keys():
                return f"{name!r} in {place} is not declared"
        inner = [(value[name], declared.get(name), name) for name in value]
    elif isinstance(value, list):
        inner = [(item, schema.get("items"), f"an item of {place}") for item in value]
    return next((reason for one in inner if (reason := _mismatch(*one))), "")


def fits(value: Any, schema: Mapping[str, Any], seconds: float = _PATTERN_SECONDS) -> bool:
    """Return True if a text or number has the type, size and `pattern` that a JSON Schema asks for,
    or one of its `anyOf`; a pattern that Python cannot read fits nothing.

    Args:
        seconds: time after which a text that the pattern is still compared with does not fit.
    """
    if _mismatch(value, schema, ""):
        return False
    choices = schema.get("anyOf")
    if isinstance(choices, list) and not any(
        one if isinstance(one, bool) else fits(value, one, seconds) for one in choices
    ):
        return False
    try:
        if not isinstance(value, str):
            return _is_between(value, schema)
        least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
        if not least <= len(value) <= most:
            return False
        return "pattern" not in schema or _matches(schema["pattern"], value, seconds)
    except (re.error, regex.error, *_UNREADABLE):
        return False


def _matches(pattern: str, text: str, seconds: float) -> bool:
    """Return True if a pattern is found in a text; False if it is too long with its repetitions."""
    re.compile(pattern)  # what else `regex` reads is refused
    counts = [max(1, *(int(n) for n in one if n)) for one in _REPEATED.findall(pattern)]
    if len(pattern) * math.prod(counts) > _MOST_PATTERN:
        return False
    return regex.search(pattern, text, timeout=seconds) is not None


def _fitting(values: Sequence[Any], schema: Mapping[str, Any], end: float) -> list[Any]:
    """Return the values that fit a JSON Schema; [] if its `pattern` takes longer than until `end`.
    That of a bundle from anywhere might never end."""
    if "pattern" not in schema:
        return [one for one in values if fits(one, schema)]
    found = []
    for one in values:
        left = end - time.monotonic()
        if left <= 0:
            return []
        if fits(one, schema, left):
            found.append(one)
    return found if time.monotonic() < end else []


def _is_between(value: float, schema: Mapping[str, Any]) -> bool:
    """Return True if a number is within the bounds that `_mismatch` does not read."""
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    step = schema.get("multipleOf")
    return (
        (not _TYPES["number"](above) or value > above)
        and (not _TYPES["number"](below) or value < below)
        and (not _TYPES["number"](step) or step <= 0 or _is_multiple(value, step))
    )


def _is_multiple(value: float, step: float) -> bool:
    """Return True if a number is a multiple of another one, as 0.3 is of 0.1."""
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    return abs(math.remainder(value, step)) <= _ROUNDING * step


def _take_marks(parameters: dict[str, Any]) -> dict[str, bool]:
    """Remove the marks of arguments that are copied or not from a schema, and return them."""
    properties = parameters.get("properties", {})
    marks = {name: one[COPIED] for name, one in properties.items() if COPIED in one}
    if marks:
        parameters["properties"] = {
            name: {key: value for key, value in one.items() if key != COPIED}
            for name, one in properties.items()
        }
    return marks


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"
