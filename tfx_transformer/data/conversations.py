"""Instructions and conversations of many turns, read from a CSV or a JSONL file."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfx_transformer.data.splits import split_by_key
from tfx_transformer.data.tables import BadRow, read_table, stream_table
from tfx_transformer.errors import InputError
from tfx_transformer.text.prompts import check_messages

Messages = list[dict[str, str]]

_INPUT = "input"
# A longer line is more likely a file without line ends than one conversation.
_LONGEST_LINE = 10_000_000
# What JSON can spell and no text in UTF-8 holds, and NUL, a trace of damage.
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_EXPECTED = (
    "Expected a JSON object a line, with instruction and output, or\n"
    '  {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}.'
)


@dataclasses.dataclass(frozen=True)
class Conversations:
    """Lists of messages, {"role": …, "content": …}, and the row (line) of the file each is in."""

    messages: list[Messages]
    rows: list[int]
    path: str = ""
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    bad_rows: list[BadRow] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return len(self.messages)

    def take(self, indices: Sequence[int]) -> Conversations:
        """The conversations at these indices, in this order."""
        return dataclasses.replace(
            self,
            messages=[self.messages[i] for i in indices],
            rows=[self.rows[i] for i in indices],
        )

    def texts(self) -> list[str]:
        """The contents of all messages: what a tokenizer is trained on."""
        return [message["content"] for messages in self.messages for message in messages]

    def prompts(self) -> list[Messages]:
        """Each conversation up to its last message of a user."""
        return [messages[: _last_of("user", messages) + 1] for messages in self.messages]

    def answers(self) -> list[str]:
        """The last answer of each conversation."""
        return [messages[_last_of("assistant", messages)]["content"] for messages in self.messages]

    def first_prompts(self) -> list[str]:
        """What the user says first in each conversation."""
        return [
            next(message["content"] for message in messages if message["role"] == "user")
            for messages in self.messages
        ]


def _last_of(role: str, messages: Messages) -> int:
    return max(i for i, message in enumerate(messages) if message["role"] == role)


class _Problem(Exception):
    """Why a line cannot be used; `column` as in BadRow."""

    def __init__(self, reason: str, column: str | None = None, remedy: str = _EXPECTED) -> None:
        super().__init__(reason)
        self.reason, self.column, self.remedy = reason, column, remedy


def user_text(instruction: str, input: str = "") -> str:
    """What the user says: the instruction and, if there is one, the input below it."""
    return f"{instruction}\n\n{input}" if input.strip() else instruction


def read_instructions(
    path: str | os.PathLike,
    instruction: str = "instruction",
    input: str = _INPUT,
    output: str = "output",
    *,
    system: str = "",
    skip_bad_rows: bool = False,
) -> Conversations:
    """Reads instructions and answers, or conversations of many turns.

    Args:
        path: a .csv in UTF-8 with a header; or a .jsonl, each line a JSON object with the same
            keys as the columns of a CSV, or with "messages": a list of {"role", "content"} that has
            a user's message and ends with an assistant's.
        instruction, input, output: names of the columns or keys. One with the name "input" may be
            missing, and its cells may be empty; another name must be there.
        system: first message, of role "system", of every conversation that has none.
        skip_bad_rows: leave out rows that cannot be used and list them in `bad_rows`, instead of
            refusing the file.

    Raises:
        InputError: of a CSV see `tables.read_table`. Of a JSONL naming the line: not UTF-8, or, if
            not to be skipped, no JSON, another shape, a message that is empty or no text, a
            conversation without user or answer, over 10 MB. Or another kind of file.
    """
    names = {"instruction": instruction, _INPUT: input, "output": output}
    kind = Path(path).suffix.lower()
    if kind == ".csv":
        read = _read_csv(path, names, skip_bad_rows)
    elif kind == ".jsonl":
        read = _read_jsonl(Path(path), names, skip_bad_rows)
    else:
        raise InputError(
            f"{path}: instructions are read from .csv and .jsonl files.\n"
            "  Give the file the ending of what it is, or convert it."
        )
    if not system:
        return read
    first = {"role": "system", "content": system}
    messages = [m if m[0]["role"] == "system" else [first, *m] for m in read.messages]
    return dataclasses.replace(read, messages=messages)


def _read_csv(path: str | os.PathLike, names: dict[str, str], skip_bad_rows: bool) -> Conversations:
    columns = dict(names)
    required = {role: name for role, name in names.items() if role != _INPUT}
    header = next(stream_table(path, required, skip_bad_rows=True, chunk_rows=1)).header
    # "Input" or "input " is more likely a slip than no such column: read_table names it.
    if names[_INPUT] == _INPUT and _INPUT not in [text.strip().casefold() for text in header]:
        del columns[_INPUT]
    table = read_table(
        path, columns, skip_bad_rows=skip_bad_rows, allow_empty=columns.keys() & {_INPUT}
    )
    instructions, outputs = table.columns["instruction"], table.columns["output"]
    inputs = table.columns.get(_INPUT, [""] * len(outputs))
    messages = [_single_turn(*cells) for cells in zip(instructions, inputs, outputs, strict=True)]
    return Conversations(messages, table.rows, str(path), table.used, table.bad_rows)


def _single_turn(instruction: str, input: str, output: str) -> Messages:
    return [
        {"role": "user", "content": user_text(instruction, input)},
        {"role": "assistant", "content": output},
    ]


def _read_jsonl(path: Path, names: dict[str, str], skip_bad_rows: bool) -> Conversations:
    read = Conversations([], [], str(path))
    for number, line, complete in _lines(path):
        try:
            if not complete:
                raise _Problem(f"the line has over {_LONGEST_LINE:,} bytes")
            read.messages.append(_conversation(line, names))
            read.rows.append(number)
        except _Problem as problem:
            if not skip_bad_rows:
                raise InputError(
                    f"{path}, line {number}: {problem.reason}.\n  {problem.remedy}\n"
                    "  Fix the line, or pass --skip-bad-rows (skip_bad_rows=True) to leave it out\n"
                    "  (it is then listed among the bad rows)."
                ) from problem
            # Of a line that is too long the beginning tells enough.
            shown = line if complete else line[:1000]
            read.bad_rows.append(BadRow(number, problem.column, problem.reason, (shown,)))
    if not read.rows and read.bad_rows:
        first = read.bad_rows[0]
        raise InputError(
            f"{path}, line {first.row}: {first.reason}, and every line after it is bad too.\n"
            "  Leaving out bad rows leaves none: fix them."
        )
    if not read.rows:
        raise InputError(f"{path}: there is no line with text in it.\n  {_EXPECTED}")
    return read


def _lines(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Number and text of each line that is not blank, and whether it is all of the line."""
    offset = 0
    try:
        with path.open("rb") as file:
            for number in itertools.count(1):
                line = rest = file.readline(_LONGEST_LINE + 1)
                if not line:
                    return
                size, complete = len(line), len(line) <= _LONGEST_LINE
                while not complete and rest and not rest.endswith(b"\n"):
                    rest = file.readline(_LONGEST_LINE)
                    size += len(rest)
                text = _decoded(path, number, offset, line, complete)
                if text.strip(" \t\r\n"):
                    yield number, text.rstrip("\r\n"), complete
                offset += size
    except OSError as error:
        raise InputError(
            f"{path}: the file cannot be read: {error.strerror}.\n  Check the path."
        ) from error


def _decoded(path: Path, number: int, offset: int, line: bytes, complete: bool) -> str:
    """Text of a line that begins at byte `offset`; one that is cut may end inside a character."""
    codec = "utf-8-sig" if number == 1 else "utf-8"
    try:
        return line.decode(codec, errors="strict" if complete else "replace")
    except UnicodeDecodeError as error:
        byte = offset + len(line) - len(error.object) + error.start  # a signature is cut off
        raise InputError(
            f"{path}, line {number}: not UTF-8 text, from byte {byte} of the file on "
            f"(0x{error.object[error.start]:02x}).\n"
            "  Text in UTF-8 is expected. Convert text in another encoding, such as CP932\n"
            "  (Shift-JIS), UTF-16 or WINDOWS-1252:\n"
            f"  iconv -f ENCODING -t UTF-8 {shlex.quote(str(path))} > utf8.jsonl"
        ) from error


def _conversation(line: str, names: dict[str, str]) -> Messages:
    """The messages of one line, or a _Problem."""
    try:
        tree = json.loads(line, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise _Problem(f"not JSON from character {error.pos + 1} on: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise _Problem("no JSON that can be read: a number or a nesting is too long") from error
    if not isinstance(tree, dict):
        raise _Problem(f"the line holds no JSON object but a {type(tree).__name__}")
    messages = _turns(tree["messages"]) if "messages" in tree else _keyed(tree, names)
    for number, message in enumerate(messages, start=1):
        if not message["content"].strip():
            raise _Problem(f"message {number} is empty", "messages")
        if _NO_TEXT.search(message["content"]):
            raise _Problem(f"message {number} holds a NUL character or half a character")
    return messages


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of two values with the same key JSON readers would drop one."""
    tree = dict(pairs)
    if len(tree) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Problem(f"the key {twice!r} stands twice in one object", twice)
    return tree


def _turns(messages: Any) -> Messages:
    try:
        check_messages(messages)
    except InputError as error:
        reason, _, remedy = str(error).partition("\n")
        raise _Problem(reason.rstrip("."), "messages", remedy.strip()) from error
    roles = [message["role"] for message in messages]
    if "user" not in roles:
        raise _Problem("there is no message of a user", "messages")
    if roles[-1] != "assistant":
        raise _Problem(f"the last message is no answer but the {roles[-1]}'s", "messages")
    return messages


def _keyed(tree: dict[str, Any], names: dict[str, str]) -> Messages:
    cells = {}
    for role, name in names.items():
        if role == _INPUT == name and name not in tree:
            cells[role] = ""
            continue
        if name not in tree:
            there = ", ".join(map(repr, tree)) or "none"
            remedy = f"The keys there are: {there}. {_EXPECTED}"
            raise _Problem(f"there is no key {name!r}", name, remedy)
        if not isinstance(tree[name], str):
            kind = type(tree[name]).__name__
            raise _Problem(f"the value of {name!r} is no text but of type {kind}", name)
        if role != _INPUT and not tree[name].strip():
            raise _Problem(f"the value of {name!r} is empty", name)
        cells[role] = tree[name]
    return _single_turn(**cells)


def add_turns(conversations: Conversations, most: int, seed: int = 0) -> Conversations:
    """The conversations, and all of them once more, joined into longer ones of up to `most`.

    Examples of one turn teach a model nothing about a second one. A joined conversation is made of
    neighbours in an order drawn by the seed; what each of them says first to the model, its system
    message, is kept from the first only.

    Args:
        most: conversations in a joined one, 2 to `most`; 1 adds none.
    """
    if most < 1:
        raise InputError(f"turns is {most}.\n  Expected 1 or more.")
    if most == 1 or len(conversations) < 2:
        return conversations
    random = np.random.default_rng(seed)
    order = random.permutation(len(conversations))
    joined, rows, start = [], [], 0
    while start < len(order):
        first, *others = order[start : start + random.integers(2, most + 1)]
        messages = list(conversations.messages[first])
        for index in others:
            turns = conversations.messages[index]
            messages += turns[1:] if turns[0]["role"] == "system" else turns
        joined.append(messages)
        rows.append(conversations.rows[first])
        start += 1 + len(others)
    return dataclasses.replace(
        conversations,
        messages=conversations.messages + joined,
        rows=conversations.rows + rows,
    )


def split_conversations(
    conversations: Conversations, share: float = 0.1, seed: int = 0
) -> tuple[Conversations, Conversations]:
    """Training and validation part, the same for the same conversations, share and seed.

    All conversations that begin with the same message of the user go to the same side.

    Args:
        share: of distinct beginnings that go to validation; at least one, if there are two.

    Raises:
        InputError: fewer than two distinct beginnings.
    """
    inside, outside = split_by_key(
        conversations.first_prompts(),
        share,
        seed,
        path=conversations.path or "conversations",
        noun="first prompt",
    )
    return conversations.take(inside), conversations.take(outside)
