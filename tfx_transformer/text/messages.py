"""Messages of a conversation in one form: who says what, with reasoning and calls of tools."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tfx_transformer.errors import InputError
from tfx_transformer.text.tools import Call

Message = Mapping[str, Any]

ROLES = ("system", "user", "assistant", "tool")

# Further keys than role and content, by role.
_KEYS = {
    "system": set(),
    "user": set(),
    "assistant": {"reasoning_content", "tool_calls"},
    "tool": {"name", "tool_call_id"},
}
# Keys that templates look up in a tool call; other keys are texts of the user.
_NAMES = {"id", "type", "function", "name", "arguments"}
# A template that writes the ids of calls.
_IDS = re.compile(r"""\.id\b|\[\s*["']id["']\s*\]|tool_call_id""")
_EXPECTED = (
    'Expected {"role": "system", "user", "assistant" or "tool", "content": a text}; of an\n'
    '  assistant also "reasoning_content": a text and "tool_calls": a list.'
)
_PARTS = 'Expected a text, or parts that are texts: [{"type": "text", "text": "…"}].'
_CALLS = (
    'Expected [{"type": "function", "function": {"name": "…", "arguments": {"…": …}}}]; the\n'
    "  arguments may be JSON in a text."
)


def clean_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the messages in the form that templates read; templates check the order of roles.

    Contents in parts become one text, keys without a value are dropped, and arguments of tool calls
    that are JSON in a text become objects.

    Raises:
        InputError: there is no message, or one has an unknown role, a content that is not a text, a
            tool call of another form, or a key that would be lost. The error gives the number of
            the message, from 1.
    """
    if not isinstance(messages, list | tuple) or not messages:
        raise InputError(f"there are no messages.\n  {_EXPECTED}")
    return [_clean(message, number) for number, message in enumerate(messages, start=1)]


def message_texts(message: Message) -> list[str]:
    """Return every text in a message: its content, reasoning, and texts of tool calls."""
    return [text for key, value in message.items() if key != "role" for text in _texts(value)]


def map_texts(message: Message, change: Callable[[str], str]) -> dict[str, Any]:
    """Return the message with every text in it changed."""
    return {key: value if key == "role" else _map(value, change)
            for key, value in message.items()}  # fmt: skip


def for_template(messages: Sequence[Message], template: str) -> list[dict[str, Any]]:
    """Return messages of which a template loses nothing, in the same order.

    If the text of the template does not name them, reasoning and tool calls become part of the
    content, and answers of tools become messages of the user, between the tags of Qwen and Hermes:
    `<think>`, `<tool_call>`, `<tool_response>`. If it names ids, calls and answers without one get
    the number of the call in nine digits, as Mistral's templates demand.
    """
    adapted = []
    for message in map(dict, _with_ids(messages) if _IDS.search(template) else messages):
        if "tool_calls" in message and "tool_calls" not in template:
            functions = [call["function"] for call in message.pop("tool_calls")]
            tagged = [Call(one["name"], one["arguments"]).tagged() for one in functions]
            message["content"] = "\n".join(filter(None, [message["content"], *tagged]))
        if "reasoning_content" in message and "reasoning_content" not in template:
            reasoning = message.pop("reasoning_content")
            message["content"] = f"<think>\n{reasoning}\n</think>\n\n{message['content']}"
        if message["role"] == "tool" and "tool" not in template:
            content = f"<tool_response>\n{message['content']}\n</tool_response>"
            message = {"role": "user", "content": content}
        adapted.append(message)
    return adapted


def _with_ids(messages: Sequence[Message]) -> Iterator[Message]:
    """Yield messages whose tool calls have ids, as the answers of the tools have."""
    number = 0
    asked: list[str] = []  # ids of the calls that are not answered yet
    for message in messages:
        if calls := message.get("tool_calls"):
            numbers = range(number + 1, number + 1 + len(calls))
            calls = [{"id": f"{n:09}"} | call for n, call in zip(numbers, calls, strict=True)]
            message = {**message, "tool_calls": calls}
            number, asked = number + len(calls), [call["id"] for call in calls]
        elif message["role"] == "tool":
            own = message.get("tool_call_id", asked[0] if asked else f"{number:09}")
            message = {**message, "tool_call_id": own}
            asked = [one for one in asked if one != own]
        yield message


def _clean(message: object, number: int) -> dict[str, Any]:
    def refuse(problem: str, expected: str = _EXPECTED) -> InputError:
        return InputError(f"message {number} {problem}.\n  {expected}")

    if not isinstance(message, Mapping):
        kind = type(message).__name__
        raise refuse(f"is not an object with role and content, but of type {kind}")
    if "role" not in message:
        raise refuse("has no role")
    role = message["role"]
    if role not in ROLES:
        raise refuse(f"has the role {role!r}")
    cleaned = {key: value for key, value in message.items()
               if value is not None or key == "content"}  # fmt: skip
    if surplus := cleaned.keys() - {"role", "content"} - _KEYS[role]:
        raise refuse(f"has the key {min(map(str, surplus))!r}, which would be lost")
    for key in _KEYS[role] & cleaned.keys() - {"tool_calls"}:
        if not isinstance(cleaned[key], str):
            raise refuse(f"has a {key} of type {type(cleaned[key]).__name__}")
    if not cleaned.get("reasoning_content", "x"):
        del cleaned["reasoning_content"]
    if "tool_calls" in cleaned:
        calls = _calls(cleaned.pop("tool_calls"))
        if calls is None:
            raise refuse("has tool_calls that cannot be read", _CALLS)
        if calls:
            cleaned["tool_calls"] = calls
    if cleaned.get("content") is None and "tool_calls" in cleaned:
        cleaned["content"] = ""
    if "content" not in cleaned:
        raise refuse("has no content")
    content = _join(cleaned["content"])
    if content is None:
        kind = type(cleaned["content"]).__name__
        parts = isinstance(cleaned["content"], list | tuple)
        what = "a content with a part that is not a text" if parts else f"a content of type {kind}"
        raise refuse(f"has {what}", _PARTS)
    return cleaned | {"content": content}


def _join(content: object) -> str | None:
    """The text of a content, or of its parts; None if there is something else in it."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        return None
    texts = []
    for part in content:
        if isinstance(part, Mapping) and part.get("type", "text") == "text":
            part = part.get("text")
        if not isinstance(part, str):
            return None
        texts.append(part)
    return "".join(texts)


def _calls(calls: object) -> list[dict[str, Any]] | None:
    """Tool calls in the form of `transformers`; None if one is something else."""
    if not isinstance(calls, list | tuple):
        return None
    cleaned = []
    for call in calls:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            return None
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                return None
        if not isinstance(arguments, Mapping | None):
            return None
        function = {"name": function["name"], "arguments": dict(arguments or {})}
        named = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
        cleaned.append(named | {"type": "function", "function": function})
    return cleaned


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _map(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(str(key)) if key not in _NAMES else key: _map(inner, change)
                for key, inner in value.items()}  # fmt: skip
    if isinstance(value, list | tuple):
        return [_map(inner, change) for inner in value]
    return value
