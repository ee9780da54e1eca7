"""Read texts with marked spans: tables of spans, tables of tags, and files of columns (CoNLL)."""

from __future__ import annotations

import bisect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfx_transformer.arguments import naming
from tfx_transformer.data import tag_rows
from tfx_transformer.data.sources import Problem, TableData, is_table, row_error
from tfx_transformer.data.span_cells import as_spans, read_spans
from tfx_transformer.data.tables import BadRow, read_header, read_table
from tfx_transformer.data.tag_rows import Sentence, TokenRow
from tfx_transformer.data.tagged_text import TaggedTexts
from tfx_transformer.errors import InputError

# Names of a column of spans; the first that is there is read.
SPANS = ("spans", "entities", "label", "labels")


def read_tagged_texts(
    path: TableData,
    text: str = "text",
    spans: str = "",
    sentence: str = "sentence",
    token: str = "token",
    tag: str = "tag",
    *,
    skip_bad_rows: bool = False,
) -> TaggedTexts:
    """Read texts and the spans that are marked in them, in one of three layouts:

    - a table with a text and its spans in each row: JSON Lines, or any format with JSON in the
      cells; see `span_cells.read_spans`;
    - a table with a token, its tag and its sentence in each row. The rows of a sentence follow one
      another; an empty cell means the sentence above;
    - a file of columns (.conll, .bio, .iob, .txt): see `tag_rows.read_columns`.

    Tags are IOB2: `B-X` begins a span of label X, `I-X` continues it. Texts stay as they are
    written; those of tokens are joined as `tag_rows.sentences` says.

    Args:
        path: a file, or a table in memory.
        text: name of the column of the texts.
        spans: name of the column of the spans; "": spans, entities, label or labels, the first that
            is there.
        sentence, token, tag: names of the columns of a table of tags.
        skip_bad_rows: leave out rows that cannot be used (of tokens, their sentences) and list them
            in `bad_rows`, instead of refusing the file.

    Raises:
        InputError: spans overlap, are not within their text, cut a character, or begin or end with
            blanks; a tag is not IOB2, or continues no span; for others see `tables.read_table`.
    """
    if isinstance(path, str | os.PathLike) and is_column_file(path):
        return _read_columns(Path(path), skip_bad_rows)
    header = _header(path, text)
    if token in header and tag in header:
        return _read_tags(path, sentence, token, tag, skip_bad_rows)
    return _read_spans(path, text, spans or _spans_column(path, header, text), skip_bad_rows)


def is_column_file(path: str | os.PathLike[str]) -> bool:
    """Return True if a name has the ending of a file of columns."""
    return Path(path).suffix.lower() in tag_rows.ENDINGS


def _header(path: TableData, text: str) -> list[str]:
    if is_table(path) and not isinstance(path, str | os.PathLike):
        return list(read_header(path, {"text": text, "spans": SPANS[0]}))
    return read_header(path)


def _spans_column(path: TableData, header: Sequence[str], text: str) -> str:
    for name in SPANS:
        if name in header and name != text:
            return name
    place = os.fspath(path) if isinstance(path, str | os.PathLike) else "the table"
    there = ", ".join(map(repr, header)) or "none"
    raise row_error(
        place,
        "it has no column of spans, and none of tokens and tags.",
        f"The columns there are: {there}.\nName the column of spans: {naming('spans')};\n"
        f"or those of a table of tags: {naming('sentence', 'token', 'tag')}.\n"
        "A file of columns without a header "
        "needs a name that ends in .conll.",
    )


def _read_spans(path: TableData, text: str, spans: str, skip_bad_rows: bool) -> TaggedTexts:
    if text == spans:
        raise InputError(
            f"column {text!r} is named twice: for the texts and for the spans.\n"
            f"  Name another one: {naming('text', 'spans')}."
        )

    def check(cells: dict[str, str]) -> Problem | None:
        found = read_spans(cells["text"], cells["spans"], spans)
        return found if isinstance(found, Problem) else None

    table = read_table(
        path,
        {"text": text, "spans": spans},
        skip_bad_rows=skip_bad_rows,
        convert={"spans": as_spans},
        check=check,
        nested=("spans",),
    )
    texts = list(table.columns["text"])
    found = (read_spans(*pair, spans) for pair in zip(texts, table.columns["spans"], strict=True))
    return TaggedTexts(
        texts,
        [tuple(one) for one in found],
        table.rows,
        path=str(table.path),
        columns={"text": text, "spans": spans},
        bad_rows=table.bad_rows,
    )


def _read_tags(
    path: TableData,
    sentence: str,
    token: str,
    tag: str,
    skip_bad_rows: bool,
) -> TaggedTexts:
    columns = {"sentence": sentence, "token": token, "tag": tag}
    table = read_table(path, columns, skip_bad_rows=skip_bad_rows, allow_empty=list(columns))
    name, keys = str(table.path), []
    for row, key in zip(table.rows, table.columns["sentence"], strict=True):
        if not key.strip() and not keys:
            raise row_error(name, f"column {sentence!r} is empty.", "The first row must name a "
                            "sentence; an empty cell means the one above.", row=row)  # fmt: skip
        keys.append(key if key.strip() else keys[-1])
    tag_rows.check_contiguous(zip(table.rows, keys, strict=True), name, sentence)
    broken = _broken_sentences(table.rows, keys, table.bad_rows)
    parts = (table.rows, keys, table.columns["token"], table.columns["tag"])
    rows = (TokenRow(*v, tag) for v in zip(*parts, strict=True) if v[1] not in broken)
    bad_rows = list(table.bad_rows)
    found = list(tag_rows.sentences(rows, name, skip_bad_rows, bad_rows))
    return _from_sentences(found, name, columns, bad_rows)


def _broken_sentences(
    rows: Sequence[Any], keys: Sequence[str], bad_rows: Sequence[BadRow]
) -> set[str]:
    """Return the sentences that may have lost a row, those before and after each bad row."""
    found: set[str] = set()
    for bad in bad_rows:
        place = bisect.bisect(rows, bad.row)
        found.update(keys[max(place - 1, 0) : place + 1])
    return found


def _read_columns(path: Path, skip_bad_rows: bool) -> TaggedTexts:
    bad_rows: list[BadRow] = []
    rows = tag_rows.read_columns(path)
    found = list(tag_rows.sentences(rows, str(path), skip_bad_rows, bad_rows))
    return _from_sentences(found, str(path), {}, bad_rows)


def _from_sentences(
    found: list[Sentence], name: str, columns: dict[str, str], bad_rows: list[BadRow]
) -> TaggedTexts:
    if not found:
        if bad_rows:
            what = f"{bad_rows[0].reason}, and every sentence after it is bad too."
            raise row_error(name, what, "Leaving out bad rows leaves none: fix them.")
        raise row_error(
            name, "there are no sentences.", "Expected a token and its tag in each row."
        )
    return TaggedTexts(
        [one.text for one in found],
        [one.spans for one in found],
        [one.row for one in found],
        path=name,
        columns=columns,
        bad_rows=bad_rows,
    )


def is_tagged(header: Sequence[str], text: Any = "text") -> bool:
    """Return True for the header of a table of spans or of tags; a column `label` is not enough."""
    return ("token" in header and "tag" in header) or (
        text in header and any(name in header for name in SPANS[:2])
    )
