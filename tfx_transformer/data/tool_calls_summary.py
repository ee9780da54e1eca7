"""The summary of tool calls: that of the conversations they make, and the varied rows."""

from __future__ import annotations

import dataclasses

from tfx_transformer.data.instructions_summary import InstructionsSummary, describe_instructions
from tfx_transformer.data.summary import Line
from tfx_transformer.data.tool_calls import ToolCalls
from tfx_transformer.text.prompts import ChatTemplate


@dataclasses.dataclass(frozen=True, repr=False)
class ToolCallsSummary(InstructionsSummary):
    """Figures of one set of tool calls.

    rows: rows of the table; varied: added rows with other values. The other figures count both.
    """

    varied: int

    overlapping = "with a request that is in training too"

    def entries(self) -> list[Line]:
        rows, *others = super().entries()
        varied = [("varied", f"{self.varied:,} more rows with other values")] if self.varied else []
        return [rows, *varied, *others]


def describe_tool_calls(
    training: ToolCalls, validation: ToolCalls | None, template: ChatTemplate, max_length: int
) -> list[ToolCallsSummary]:
    """Return the figures of training rows and, if given, of validation rows.

    Args:
        max_length: most tokens of a request with its call, and of a packed row.

    Raises:
        InputError: the template fails on a row.
    """
    parts = [part for part in (training, validation) if part is not None]
    conversations = [part.conversations() for part in parts]
    found = describe_instructions(
        conversations[0], conversations[1] if len(parts) > 1 else None, template, max_length
    )
    return [
        ToolCallsSummary(
            **{f.name: getattr(one, f.name) for f in dataclasses.fields(InstructionsSummary)}
            | {"rows": one.rows - part.varied, "varied": part.varied}
        )
        for one, part in zip(found, parts, strict=True)
    ]
