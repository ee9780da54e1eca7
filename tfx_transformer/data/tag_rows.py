"""Texts with a token and its tag in each row (CoNLL), joined to sentences and checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfx_transformer.data.json_records import lines
from tfx_transformer.data.sources import Problem, fix_or_skip, row_error, shorten
from tfx_transformer.data.span_cells import check_span
from tfx_transformer.data.tables import BadRow
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity
from tfx_transformer.text.spans import OUTSIDE, Span

# Endings of files with columns and blank lines.
ENDINGS = (".conll", ".conll2003", ".bio", ".iob", ".iob2", ".txt")
_DOCUMENT = "-DOCSTART-"
# Tokens are joined by a space, except next to characters or signs of these scripts.
_TIGHT = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u4dbf"
                    "\u4e00-\u9fff\uf900-\ufaff\uff01-\uff9f\U00020000-\U0003ffff]")  # fmt: skip
_RULE = "Tags are O, B-X for the first token of a span of label X, and I-X for its others."


class TokenRow(NamedTuple):
    """A row with a token.

    row: its number; sentence: equal in the rows of one sentence, different in the next; column:
    name of the column of tags, for messages.
    """

    row: Any
    sentence: Any
    token: str
    tag: str
    column: str = "tag"


class Sentence(NamedTuple):
    """A sentence; row: the row of its first token."""

    row: Any
    text: str
    spans: tuple[Span, ...]


def read_columns(path: Path) -> Iterator[TokenRow]:
    """Yield the rows of a file of columns, separated by tabs or spaces: the token first, its tag
    last. A blank line ends a sentence. Lines that begin with -DOCSTART- are left out, and so are
    comments: lines before a sentence that begin with # and do not end with a tag.

    Raises:
        InputError: a line has another number of columns than the first one, or is not UTF-8.
    """
    sentence, last, width, first, separator = 0, 0, 0, 0, ""
    for record in lines(path):
        if not record.complete:
            raise row_error(str(path), "the line is too long.", "Is a line end missing?",
                            row=record.number)  # fmt: skip
        if record.number != last + 1:
            sentence += 1
        last = record.number
        if record.text.startswith(_DOCUMENT):
            sentence += 1
            continue
        separator = separator or ("\t" if "\t" in record.text else " ")
        text = record.text.strip(" ") if separator == " " else record.text
        cells = re.split(" +", text) if separator == " " else text.split("\t")
        begins = sentence != first
        if begins and record.text.startswith("#") and _problem(cells[-1], "") is not None:
            continue
        first = sentence
        width = width or len(cells)
        if len(cells) != width or width < 2:
            raise row_error(
                str(path),
                f"the line has {quantity(len(cells), 'column')}"
                + (f", the first one has {width}." if width > 1 else "."),
                "Expected a token, a tab or space, its tag, and a blank line between "
                "sentences.\nA table with a header needs columns 'text' and 'spans', or "
                "'sentence', 'token' and 'tag'.",
                row=record.number,
            )
        yield TokenRow(record.number, sentence, cells[0], cells[-1], f"column {width}")


def sentences(
    rows: Iterable[TokenRow], name: str, skip_bad_rows: bool, bad_rows: list[BadRow]
) -> Iterator[Sentence]:
    """Yield the sentences of rows: tokens with a space between them, except next to Chinese,
    Japanese or Thai characters.

    Args:
        name: of the file, for messages.
        skip_bad_rows: leave out sentences with a row that cannot be used, and add that row to
            `bad_rows`.

    Raises:
        InputError: a row cannot be used; the error names the row, the fault and the remedy.
    """
    for several in _group_rows(rows):
        found = _join_tokens(several)
        if isinstance(found, Sentence):
            yield found
            continue
        row, problem = found
        if not skip_bad_rows:
            raise row_error(
                name,
                f"{problem.reason}.",
                f"{problem.remedy}\n{fix_or_skip(what='its sentence')}",
                row=row,
            )
        tokens = tuple(one.token for one in several)
        bad_rows.append(BadRow(row, problem.column, problem.reason, tokens))


def _group_rows(rows: Iterable[TokenRow]) -> Iterator[list[TokenRow]]:
    several: list[TokenRow] = []
    for row in rows:
        if several and row.sentence != several[0].sentence:
            yield several
            several = []
        several.append(row)
    if several:
        yield several


def _join_tokens(rows: Sequence[TokenRow]) -> Sentence | tuple[Any, Problem]:
    """Return the sentence of some rows; or the row that cannot be used, and the problem."""
    text, before = "", OUTSIDE
    spans: list[Span] = []
    for one in rows:
        if not one.token.strip():
            problem = Problem("token", "the token is empty", "Every row needs a token and its tag.")
            return one.row, problem
        if problem := _problem(one.tag, before, one.column):
            return one.row, problem
        apart = text and not (_TIGHT.match(text[-1]) or _TIGHT.match(one.token[0]))
        text += " " if apart else ""
        start, end = len(text), len(text) + len(one.token)
        text += one.token
        if one.tag.startswith("B-"):
            spans.append(Span(start, end, one.tag[2:].strip()))
        elif one.tag != OUTSIDE:
            spans[-1] = spans[-1]._replace(end=end)
        before = one.tag
    for span in spans:
        if fault := check_span(text, span):
            reason, _, remedy = fault.partition("\n")
            shown = f"the span {span.label} {shorten(text[span.start : span.end])!r}"
            return rows[0].row, Problem(None, f"{shown} {reason}", remedy or _RULE)
    return Sentence(rows[0].row, text, tuple(spans))


def _problem(tag: str, before: str, column: str = "") -> Problem | None:
    """Return the problem of a tag after the tag `before`, or None; `before`: "" fits any tag."""
    prefix, dash, label = tag.partition("-")
    if tag == OUTSIDE:
        return None
    if prefix not in ("B", "I") or not dash or not label.strip():
        remedy = _RULE
        if prefix in ("E", "L", "S", "U") and label:
            remedy += " Of BIOES and BILOU write E- and L- as I-, S- and U- as B-."
        return Problem(column, f"the tag {shorten(tag)!r} is not one of IOB2", remedy)
    if prefix == "I" and before and before[2:] != label:
        reason = f"the tag {shorten(tag)!r} follows {shorten(before)!r}"
        reason += f", but no span of {label!r} has begun"
        remedy = f"{_RULE} Write B-{label} where a span begins (files in IOB1 do not)."
        return Problem(column, reason, remedy)
    return None


def check_contiguous(keys: Iterable[tuple[Any, str]], name: str, column: str) -> None:
    """Raise if the rows of a sentence do not follow one another.

    Args:
        keys: number of each row, and the sentence that it names.

    Raises:
        InputError: they do not; the error names the row.
    """
    seen: set[str] = set()
    last = None
    for row, key in keys:
        if key != last and key in seen:
            raise InputError(
                f"{name}, row {row}: sentence {key!r} of column {column!r} is there twice, with "
                "others between.\n  Sort the rows, so that each sentence has successive rows."
            )
        seen.add(key)
        last = key
