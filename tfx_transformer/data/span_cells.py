"""The spans of a text in the cell of a table: JSON in several known forms, checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tfx_transformer import json_files
from tfx_transformer.data.sources import Problem, as_text, shorten, show
from tfx_transformer.errors import InputError
from tfx_transformer.text.spans import Span
from tfx_transformer.text.words import is_inside_character

# Names that programs use for the start, end and label of a span.
_KEYS = {
    "start": ("start", "start_offset", "begin"),
    "end": ("end", "end_offset"),
    "label": ("label", "labels", "type"),
}
_FORM = 'Expected a list such as [{"start": 0, "end": 5, "label": "PERSON"}], or [] of no span.'


def as_spans(value: Any) -> str:
    """Return the spans of a table in memory as JSON; see `sources.as_text` for errors."""
    if hasattr(value, "tolist"):  # of NumPy
        value = value.tolist()
    if isinstance(value, list | tuple | dict):
        try:
            return json.dumps(value)
        except TypeError as error:
            raise ValueError(f"holds a value that is not JSON: {error}") from error
    return as_text(value)


def read_spans(text: str, cell: str, column: str) -> list[Span] | Problem:
    """Return the spans of a text in their order, or the problem with them.

    Args:
        cell: JSON: a list of objects with "start", "end" and "label" (or "start_offset",
            "end_offset", "labels"), or of lists [start, end, label]. Start and end are counted in
            characters (code points). A "text" in an object must equal the text of the span.
        column: name of the cell's column, for messages.
    """
    try:
        entries = json_files.parse(cell, unique=True)
    except (InputError, ValueError, RecursionError) as error:
        reason = "it is nested too deep"
        if not isinstance(error, RecursionError):
            reason = str(error).partition("\n")[0]
        return Problem(column, f"column {column!r} is not JSON: {reason}", _FORM)
    if not isinstance(entries, list):
        return Problem(column, f"column {column!r} holds no list but {show(cell)}", _FORM)
    spans = []
    for number, entry in enumerate(entries, start=1):
        found = _read_span(text, entry)
        if isinstance(found, str):
            reason, _, remedy = found.partition("\n")
            return Problem(column, f"column {column!r}, span {number} {reason}", remedy or _FORM)
        spans.append(found)
    spans.sort()
    for one, other in zip(spans, spans[1:], strict=False):
        if other.start < one.end:
            reason = f"column {column!r}: the spans {_shown(text, one)} and {_shown(text, other)}"
            remedy = "A character is in one span at most: remove a span, or move its start or end."
            return Problem(column, f"{reason} overlap", remedy)
    return spans


def check_span(text: str, span: Span) -> str | None:
    """Return the reason why a span does not fit a text, and the remedy after a line end; None if it
    fits."""
    start, end, label = span
    if not 0 <= start < end <= len(text):
        counted = f"the text has {len(text)} characters"
        return (
            f"is from {start} to {end}, and {counted}\nExpected 0 ≤ start < end ≤ {len(text)}, in "
            "characters (code points), not in bytes or UTF-16 units."
        )
    if not label.strip():
        return "has no label"
    held = text[start:end]
    if held != held.strip():
        first = start + len(held) - len(held.lstrip())
        last = end - len(held) + len(held.rstrip())
        if first >= last:
            return f"holds only blanks, from {start} to {end}\nRemove it."
        return (
            f"begins or ends with a blank: {shorten(held)!r}\nIt should be from {first} to {last}."
        )
    for place in (start, end):
        if is_inside_character(text, place):
            around = text[max(place - 2, 0) : place + 2]
            return (
                f"begins or ends within a character, at {place} ({around!r})\nAn emoji, or a "
                "letter with its marks, may be several code points: begin before it, and end "
                "after it."
            )
    return None


def _read_span(text: str, entry: Any) -> Span | str:
    """Return a span, or the reason why it is not one."""
    values = _values(entry)
    if values is None:
        return f"is not a span: {show(json.dumps(entry, ensure_ascii=False))}"
    start, end, label = values
    if isinstance(label, list) and len(label) == 1:  # of Label Studio
        label = label[0]
    if not isinstance(label, str):
        return f"has the label {show(json.dumps(label, ensure_ascii=False))}\nExpected one text."
    places = []
    for name, value in (("start", start), ("end", end)):
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            return f"has the {name} {show(str(value))}\nExpected a whole number."
        places.append(value)
    span = Span(places[0], places[1], label.strip())
    if problem := check_span(text, span):
        return problem
    said = entry.get("text") if isinstance(entry, Mapping) else None
    if isinstance(said, str) and said != text[span.start : span.end]:
        held = shorten(text[span.start : span.end])
        return (
            f"says {shorten(said)!r}, and the text has {held!r} from {span.start} to {span.end}\n"
            "Are begin and end counted in bytes or UTF-16 units? Count characters (code points)."
        )
    return span


def _values(entry: Any) -> Sequence[Any] | None:
    if isinstance(entry, list):
        return entry if len(entry) == 3 else None
    if not isinstance(entry, Mapping):
        return None
    found = []
    for names in _KEYS.values():
        there = [name for name in names if entry.get(name) is not None]
        if len(there) != 1:
            return None
        found.append(entry[there[0]])
    return found


def _shown(text: str, span: Span) -> str:
    held = shorten(text[span.start : span.end])
    return f"{span.label} {held!r} ({span.start} to {span.end})"
