"""The messages of one record of a JSON or JSON Lines file, in any of the known shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tfx_transformer.errors import InputError
from tfx_transformer.text.messages import clean_messages, message_texts

Messages = list[dict[str, Any]]

INPUT = "input"
# Keys of the parts of an instruction, unless the user names others.
DEFAULTS = {"instruction": "instruction", INPUT: INPUT, "output": "output"}
# Read if there is no key "instruction": the names in the Hub's fine-tuning files.
PROMPT, COMPLETION = "prompt", "completion"
EXPECTED = (
    "Expected a JSON object with instruction and output, with prompt and completion,\n"
    '  {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]} or\n'
    '  {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}.'
)
# NUL, a trace of damage, and half characters, which JSON can spell but UTF-8 cannot.
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
# Speakers in ShareGPT's files, and their roles.
_SPEAKERS = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bard", "bing", "model", "function_call"),
                    "assistant"),
    **dict.fromkeys(("tool", "observation", "function_response", "ipython"), "tool"),
}  # fmt: skip


class Problem(Exception):
    """The reason why a record cannot be used; `column` as in BadRow."""

    def __init__(self, reason: str, column: str | None = None, remedy: str = EXPECTED) -> None:
        super().__init__(reason)
        self.reason, self.column, self.remedy = reason, column, remedy


def user_text(instruction: str, input: str = "") -> str:
    """The user's message: the instruction and, unless it is blank, the input below it."""
    return f"{instruction}\n\n{input}" if input.strip() else instruction


def single_turn(instruction: str, input: str, output: str) -> Messages:
    """The messages of an instruction and its answer."""
    return [
        {"role": "user", "content": user_text(instruction, input)},
        {"role": "assistant", "content": output},
    ]


def read_record(text: str, names: Mapping[str, str]) -> Messages:
    """The messages of a record.

    Args:
        text: JSON.
        names: keys of instruction, input and output.

    Raises:
        Problem: the record cannot be used.
    """
    try:
        tree = json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        raise Problem(f"not JSON from character {error.pos + 1} on: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise Problem("its JSON has too long a number, or is nested too deep") from error
    return read_tree(tree, names)


def read_tree(tree: Any, names: Mapping[str, str]) -> Messages:
    """The messages of a parsed record; see `read_record`."""
    if not isinstance(tree, dict):
        raise Problem(f"this is not a JSON object but a {type(tree).__name__}")
    if tree.get("tools"):
        raise Problem(
            "it describes tools, which chat templates are not given",
            "tools",
            "Write what they do into the first message, of the role system, and remove 'tools'.",
        )
    messages = _messages(tree, names)
    for number, message in enumerate(messages, start=1):
        texts = message_texts(message)
        if message["role"] != "tool" and not any(map(str.strip, texts)):
            raise Problem(f"message {number} is empty", "messages")
        if any(map(_NO_TEXT.search, texts)):
            raise Problem(f"message {number} holds a NUL character or half a character")
    return messages


def _messages(tree: dict[str, Any], names: Mapping[str, str]) -> Messages:
    """The messages of an object, by the keys it has."""
    if tree.get("messages") is not None:
        return _turns(tree["messages"], "messages")
    for key in ("conversations", "conversation"):
        if tree.get(key) is not None:
            return _turns(_sharegpt_messages(tree[key], tree.get("system"), key), key)
    if names == DEFAULTS and "instruction" not in tree and {PROMPT, COMPLETION} <= tree.keys():
        parts = [tree[PROMPT], tree[COMPLETION]]
        if all(isinstance(part, list) for part in parts):
            return _turns(parts[0] + parts[1], PROMPT)
        names = {"instruction": PROMPT, INPUT: INPUT, "output": COMPLETION}
    return _messages_by_key(tree, names)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; raise if a key is repeated, since JSON readers drop one of the values."""
    tree = dict(pairs)
    if len(tree) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Problem(f"the key {twice!r} is twice in one object", twice)
    return tree


def _turns(messages: Any, key: str) -> Messages:
    try:
        messages = clean_messages(messages)
    except InputError as error:
        reason, _, remedy = str(error).partition("\n")
        raise Problem(reason.rstrip("."), key, remedy.strip()) from error
    roles = [message["role"] for message in messages]
    if "user" not in roles:
        raise Problem("there is no message of a user", key)
    if roles[-1] != "assistant":
        raise Problem(f"the last message is not an answer but the {roles[-1]}'s", key)
    return messages


def _sharegpt_messages(turns: Any, system: Any, key: str) -> Any:
    """Turns of ShareGPT, {"from", "value"}, as messages; others as they are."""
    if not isinstance(turns, list):
        raise Problem(f"the value of {key!r} is not a list", key)
    messages = []
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict) or "from" not in turn:
            messages.append(turn)
            continue
        speaker, value = turn["from"], turn.get("value")
        role = _SPEAKERS.get(speaker.lower()) if isinstance(speaker, str) else None
        if role is None:
            expected = f"Expected one of {', '.join(_SPEAKERS)}."
            raise Problem(f"turn {number} is from {speaker!r}", key, expected)
        messages.append({"role": role, "content": value})
    if isinstance(system, str) and system.strip():
        messages.insert(0, {"role": "system", "content": system})
    return messages


def _messages_by_key(tree: dict[str, Any], names: Mapping[str, str]) -> Messages:
    cells = {}
    for role, name in names.items():
        if role == INPUT == name and tree.get(name) is None:
            cells[role] = ""
            continue
        if name not in tree:
            there = ", ".join(map(repr, tree)) or "none"
            remedy = f"The keys there are: {there}. {EXPECTED}"
            raise Problem(f"there is no key {name!r}", name, remedy)
        if not isinstance(tree[name], str):
            kind = type(tree[name]).__name__
            raise Problem(f"the value of {name!r} is not a text but of type {kind}", name)
        if role != INPUT and not tree[name].strip():
            raise Problem(f"the value of {name!r} is empty", name)
        cells[role] = tree[name]
    return single_turn(**cells)
