"""Instructions and conversations of many turns, read from a CSV, a JSON Lines or a JSON file."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tfx_transformer import json_files, reprs
from tfx_transformer.data import encodings, json_records
from tfx_transformer.data.chat_records import (
    COMPLETION,
    DEFAULTS,
    EXPECTED,
    INPUT,
    PROMPT,
    Messages,
    Problem,
    read_record,
    read_tree,
    single_turn,
)
from tfx_transformer.data.examples import Examples
from tfx_transformer.data.formats import is_table_folder, is_table_name, open_table
from tfx_transformer.data.json_records import Record, entries, is_array, lines
from tfx_transformer.data.sources import (
    TableData,
    fix_or_skip,
    in_memory,
    is_table,
    row_error,
    show,
)
from tfx_transformer.data.splits import split_by_key
from tfx_transformer.data.tables import BadRow, read_header, read_table
from tfx_transformer.data.typed_rows import TypedFile
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import short_repr
from tfx_transformer.text.messages import message_texts

# Columns that hold whole conversations.
_LISTS = {"messages", "conversations"}


def _shown(messages: Messages) -> str:
    """A conversation on one line: its first two messages, and how many more there are."""
    said = [f"{m['role']} {short_repr(str(m.get('content') or ''), 40)}" for m in messages[:2]]
    more = f", {reprs.quantity(len(messages) - 2, 'more message')}" if len(messages) > 2 else ""
    return ", ".join(said) + more


@dataclasses.dataclass(frozen=True, repr=False)
class Conversations(Examples):
    """Lists of messages, {"role": …, "content": …}, and where in the file each is: the row of a
    CSV, the line of JSON Lines, the number of the entry in a JSON array."""

    messages: list[Messages]
    rows: list[Any]
    path: str = ""
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    bad_rows: list[BadRow] = dataclasses.field(default_factory=list)

    parts: ClassVar[tuple[str, ...]] = ("messages",)
    noun: ClassVar[str] = "conversation"

    def shown(self, index: int) -> str:
        return _shown(self.messages[index])

    def keys(self) -> Iterator[str]:
        """Yield the first prompt of each conversation: see `Examples.keys`."""
        return iter(self.first_prompts())

    def texts(self) -> list[str]:
        """All texts in all messages, to train a tokenizer on."""
        messages = itertools.chain.from_iterable(self.messages)
        return [text for message in messages for text in message_texts(message)]

    def prompts(self) -> list[Messages]:
        """Each conversation up to its last message from a user or a tool."""
        return [messages[: _last_of(messages, "user", "tool") + 1] for messages in self.messages]

    def answers(self) -> list[str]:
        """The last answer of each conversation."""
        return [messages[_last_of(messages, "assistant")]["content"] for messages in self.messages]

    def first_prompts(self) -> list[str]:
        """The first message of the user in each conversation."""
        return [
            next(message["content"] for message in messages if message["role"] == "user")
            for messages in self.messages
        ]


def _last_of(messages: Messages, *roles: str) -> int:
    return max(i for i, message in enumerate(messages) if message["role"] in roles)


def read_instructions(
    path: TableData,
    instruction: str = "instruction",
    input: str = INPUT,
    output: str = "output",
    *,
    system: str = "",
    skip_bad_rows: bool = False,
) -> Conversations:
    """Read instructions and answers, or conversations of many turns.

    Args:
        path: a table of any format (see `formats`); a .jsonl with a JSON object a line; or a .json
            with an array of objects. An object has the same keys as the columns of a table; or
            "messages", a list of {"role", "content"} with a user's message and an assistant's at
            the end, which may hold "tool_calls", "reasoning_content" and answers of the role
            "tool"; or "conversations", a list of {"from", "value"} (ShareGPT). Contents may be
            lists of parts, {"type": "text", "text": …}. Or in memory: a list of such objects, or of
            (instruction, output) or (instruction, input, output), a pandas DataFrame or a
            dictionary of columns.
        instruction, input, output: names of the columns or keys. The input may be empty, and a
            column "input" may be missing; other names must be there. "prompt" and "completion" are
            read if no other names are given and there is no "instruction".
        system: text of a first message, of role "system", for every conversation that has none.
        skip_bad_rows: leave out rows that cannot be used and list them in `bad_rows`, instead of
            refusing the file.

    Raises:
        InputError: for a table see `tables.read_table`. For JSON, naming the line or the entry: it
            is not UTF-8; or, unless skipped, it is not JSON, has another shape, a message that is
            empty or not a text, no user or no answer, or over 10 MB. Or the file is of another
            kind.
    """
    names = {"instruction": instruction, INPUT: input, "output": output}
    kind = "" if is_table(path) else Path(path).suffix.lower()
    if is_table(path):
        read = _read_memory(path, names, skip_bad_rows)
    elif kind in (".jsonl", ".json"):
        path = Path(path)
        records = entries(path) if kind == ".json" and is_array(path) else lines(path)
        read = _read_records(path, records, names, skip_bad_rows)
    elif is_table_name(path) or is_table_folder(path):
        read = _read_table(path, names, skip_bad_rows)
    else:
        raise _ending_error(Path(path))
    if not system:
        return read
    first = {"role": "system", "content": system}
    messages = [m if m[0]["role"] == "system" else [first, *m] for m in read.messages]
    return dataclasses.replace(read, messages=messages)


def _ending_error(path: Path) -> InputError:
    try:
        remedy = encodings.advise_ending(path)
    except OSError as error:
        remedy = f"This one cannot be read: {error.strerror}. Check the path."
    what = "instructions are read from tables, .jsonl and .json files."
    return row_error(str(path), what, remedy)


def _read_table(
    path: str | os.PathLike, names: dict[str, str], skip_bad_rows: bool
) -> Conversations:
    header = read_header(path)
    if names == DEFAULTS and names["instruction"] not in header and _LISTS & set(header):
        source = open_table(path)
        if isinstance(source, TypedFile):
            return _read_records(source.name, _records_of(source), names, skip_bad_rows)
    if (
        names == DEFAULTS
        and names["instruction"] not in header
        and {PROMPT, COMPLETION} <= set(header)
    ):
        names = names | {"instruction": PROMPT, "output": COMPLETION}
    columns = dict(names)
    # A header "Input" or "input " is more likely a slip than no input: read_table names it.
    if names[INPUT] == INPUT and INPUT not in [text.strip().casefold() for text in header]:
        del columns[INPUT]
    table = read_table(
        path, columns, skip_bad_rows=skip_bad_rows, allow_empty=columns.keys() & {INPUT}
    )
    instructions, outputs = table.columns["instruction"], table.columns["output"]
    inputs = table.columns.get(INPUT, [""] * len(outputs))
    messages = [single_turn(*cells) for cells in zip(instructions, inputs, outputs, strict=True)]
    return Conversations(messages, table.rows, str(path), table.used, table.bad_rows)


def _records_of(source: TypedFile) -> Iterator[Record]:
    """Yield the rows of a file of typed values as objects."""
    for name, tree in source.records():
        plain = {key: _parse_list(value) for key, value in tree.items()}
        yield Record(name, f"row {name}", show(plain), tree=plain)


def _parse_list(value: Any) -> Any:
    """Return the list that a cell holds as JSON; other values unchanged."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with contextlib.suppress(InputError, ValueError, RecursionError):
            return json_files.parse(value)
    return _plain(value)


def _read_memory(data: TableData, names: dict[str, str], skip_bad_rows: bool) -> Conversations:
    """Read objects, or rows of values in the order of the names; two values have no input."""
    keys = names
    first = data[0] if isinstance(data, Sequence | np.ndarray) and len(data) else None
    if isinstance(first, Sequence | np.ndarray) and len(first) == 2:
        keys = {role: name for role, name in names.items() if role != INPUT}
    table = in_memory(data, keys)
    assert table is not None, "the path of a file"
    records = (
        Record(name, f"row {name}", show(tree), tree=_plain(tree)) for name, tree in table.records()
    )
    return _read_records(table.name, records, names, skip_bad_rows)


def _plain(value: Any) -> Any:
    """Return a value with its arrays, the lists of a Parquet file, as lists at any depth."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _read_records(
    path: Path | str, records: Iterator[Record], names: dict[str, str], skip_bad_rows: bool
) -> Conversations:
    read = Conversations([], [], str(path))
    first = None
    for record in records:
        try:
            if not record.complete:
                raise Problem(f"the line has over {json_records.LONGEST_LINE:,} bytes")
            messages = (
                read_record(record.text, names)
                if record.tree is None
                else read_tree(record.tree, names)
            )
            read.messages.append(messages)
            read.rows.append(record.number)
        except Problem as problem:
            if not skip_bad_rows:
                remedy = fix_or_skip(record.place.split()[0]).replace("\n", "\n  ")
                raise InputError(
                    f"{path}, {record.place}: {problem.reason}.\n  {problem.remedy}\n  {remedy}"
                ) from problem
            first = first or record
            # The beginning of an overlong line is enough.
            shown = record.text if record.complete else record.text[:1000]
            read.bad_rows.append(BadRow(record.number, problem.column, problem.reason, (shown,)))
    if not read.rows and first:
        every = f"every {first.place.split()[0]} after it is bad too"
        raise InputError(
            f"{path}, {first.place}: {read.bad_rows[0].reason}, and {every}.\n"
            "  Leaving out bad rows leaves none: fix them."
        )
    if not read.rows:
        raise InputError(f"{path}: there is no conversation in it.\n  {EXPECTED}")
    return read


def add_turns(conversations: Conversations, most: int, seed: int = 0) -> Conversations:
    """Return the conversations, then all of them again, joined into longer ones.

    Examples of one turn teach a model nothing about a second one. A joined conversation holds 2 to
    `most` neighbours in an order drawn from the seed; the last one may hold only one. The system
    message is that of the first neighbour; the others' are left out.

    Args:
        most: conversations in a joined one, at most; 1 adds none.

    Raises:
        InputError: most is below 1.
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
    """Return the training and validation part, the same for the same conversations, share and seed.

    All conversations with the same first message of the user go to the same side.

    Args:
        share: share of the distinct first messages that goes to validation; at least one does.

    Raises:
        InputError: there are fewer than two distinct first messages.
    """
    inside, outside = split_by_key(
        conversations.first_prompts(),
        share,
        seed,
        path=conversations.path or "conversations",
        noun="first prompt",
    )
    return conversations.take(inside), conversations.take(outside)
