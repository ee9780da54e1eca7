"""Requests and the calls of tools that they ask for, from a table to conversations."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, ClassVar

from tfx_transformer import json_files
from tfx_transformer.data.conversations import Conversations, Messages
from tfx_transformer.data.examples import Examples
from tfx_transformer.data.sources import Problem, TableData
from tfx_transformer.data.splits import split_by_key
from tfx_transformer.data.tables import BadRow, Check, read_header, read_table
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import short_repr
from tfx_transformer.text.copied import can_be_copied, is_copy
from tfx_transformer.text.tools import Call, Tools

# Column of groups, unless another one is named.
GROUP = "wording"
# Fewest rows that show that an argument is copied.
_FEWEST_COPIED = 10
# Most characters of the arguments of a call.
_MOST_CHARACTERS = 100_000


@dataclasses.dataclass(frozen=True, repr=False)
class ToolCalls(Examples):
    """The request of each row and its call; the group of each row, if the table has one.

    tools: the tools that are called; system: text of a first message before every request; varied:
    number of the last examples, which `vary_tool_calls` has added.
    """

    utterances: list[str]
    calls: list[Call]
    rows: Sequence[Any]
    tools: Tools
    groups: list[str] | None = None
    path: str = ""
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    bad_rows: list[BadRow] = dataclasses.field(default_factory=list)
    system: str = ""
    varied: int = 0

    parts: ClassVar[tuple[str, ...]] = ("utterances", "calls", "groups")

    def shown(self, index: int) -> str:
        return f"{short_repr(self.utterances[index])} → {self.calls[index].to_json()[:80]}"

    def prompts(self) -> list[Messages]:
        """The messages before each call."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        return [[*first, {"role": "user", "content": text}] for text in self.utterances]

    def answers(self) -> list[str]:
        """Each call as JSON."""
        return [call.to_json() for call in self.calls]

    def texts(self) -> list[str]:
        """All requests."""
        return self.utterances

    def conversations(self) -> Conversations:
        """The requests and calls as conversations to train on."""
        messages = [
            [*before, call.message()]
            for before, call in zip(self.prompts(), self.calls, strict=True)
        ]
        return Conversations(
            messages, list(self.rows), self.path, columns=self.columns, bad_rows=self.bad_rows
        )


def read_tool_calls(
    path: TableData,
    tools: Tools,
    utterance: str = "utterance",
    tool: str = "tool",
    arguments: str = "arguments",
    *,
    group: str = "",
    system: str = "",
    skip_bad_rows: bool = False,
) -> ToolCalls:
    """Read a table of requests and the call that each asks for.

    Args:
        path: a table of any format (see `formats`) or in memory: a pandas DataFrame, a dictionary
            of columns, or a list of dictionaries or of (utterance, tool, arguments).
        tools: the tools; see `text.tools.read_tools`.
        utterance, tool, arguments: names of the columns. Arguments are a JSON object; an empty cell
            is a call without arguments.
        group: name of a column: rows of the same group stay on one side of a split; "": the column
            "wording", if there is one.
        system: text of a first message, of role "system", before every request.
        skip_bad_rows: leave out rows that cannot be used and list them in `bad_rows`, instead of
            refusing the file.

    Raises:
        InputError: a row names an unknown tool, or its arguments are not those that are declared;
            see also `tables.read_table`.
    """
    columns = {"utterance": utterance, "tool": tool, "arguments": arguments}
    if group or GROUP in read_header(path, columns):
        columns["group"] = group or GROUP
    table = read_table(
        path,
        columns,
        skip_bad_rows=skip_bad_rows,
        allow_empty=("arguments",),
        nested=("arguments",),
        check=_check_call(tools, columns),
    )
    cells = zip(table.columns["tool"], table.columns["arguments"], strict=True)
    calls = [tools.ordered(_call(name, text)) for name, text in cells]
    return ToolCalls(
        list(table.columns["utterance"]),
        calls,
        table.rows,
        tools,
        groups=list(table.columns["group"]) if "group" in columns else None,
        path=str(table.path),
        columns={role: name for role, name in columns.items() if role != "group"},
        bad_rows=table.bad_rows,
        system=system,
    )


def _call(name: str, text: str) -> Call:
    value = json_files.parse(text, unique=True) if text.strip() else {}
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    return Call(name.strip(), value)


def _check_call(tools: Tools, columns: dict[str, str]) -> Check:
    def check(cells: dict[str, Any]) -> Problem | None:
        text = cells["arguments"]
        if len(text) > _MOST_CHARACTERS:
            return Problem(columns["arguments"], "the arguments are too long", "Shorten them.")
        try:
            call = _call(cells["tool"], text)
            json.dumps(call.arguments, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError, InputError) as error:
            remedy = 'Expected a JSON object, such as {"minutes": 5}.'
            reason = f"the arguments are not a JSON object: {str(error).splitlines()[0][:100]}"
            return Problem(columns["arguments"], reason, remedy)
        reason = tools.problem(call)
        if not reason:
            return None
        where = "tool" if call.name not in tools.parameters else "arguments"
        remedy = "Correct the row, or the declaration of the tool."
        return Problem(columns[where], reason, remedy)

    return check


def mark_copied(examples: ToolCalls) -> Tools:
    """Return the tools, with marks for the arguments that are copied from the request.

    A text or number without `enum` is marked if ten rows or more have it, and its value is a part
    of the request, from one word to another, in all of them. Answers then choose among the parts of
    a request; see `Tools.schema`. A mark in the declaration stays: "x-copied": true or false.
    """
    counts: dict[tuple[str, str], int] = {}
    others: set[tuple[str, str]] = set()
    for request, call in zip(examples.utterances, examples.calls, strict=True):
        properties = examples.tools.parameters[call.name].get("properties", {})
        for argument, value in call.arguments.items():
            key, schema = (call.name, argument), properties.get(argument, {})
            if key in others:
                continue
            if can_be_copied(schema) and is_copy(value, request, schema["type"]):
                counts[key] = counts.get(key, 0) + 1
            else:
                others.add(key)
    found: dict[str, list[str]] = {}
    for (name, argument), count in counts.items():
        if count >= _FEWEST_COPIED and (name, argument) not in others:
            found.setdefault(name, []).append(argument)
    return examples.tools.mark_copied(found)


def split_tool_calls(
    examples: ToolCalls, share: float = 0.1, seed: int = 0
) -> tuple[ToolCalls, ToolCalls]:
    """Return the training and validation part; rows of one group, or with the same request, go to
    the same side.

    Args:
        examples: the examples to split.
        share: share of the distinct groups to hold out; see `splits.split_by_key`, also for the
            errors.
        seed: draws them.
    """
    path = examples.path or "tool calls"
    keys = examples.groups or examples.utterances
    noun = "group" if examples.groups else "request"
    inside, outside = split_by_key(keys, share, seed, path=path, noun=noun)
    return examples.take(inside), examples.take(outside)
