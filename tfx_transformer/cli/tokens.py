"""The verb tokens: the number of tokens of texts, by language and tokenizer."""

from __future__ import annotations

import collections
import dataclasses
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tfx_transformer import files
from tfx_transformer.cli.data import TableReading
from tfx_transformer.cli.engines import check_writable
from tfx_transformer.console import write_as_is
from tfx_transformer.errors import InputError

if TYPE_CHECKING:
    from tfx_transformer.text.counting import Comparison, Tally
    from tfx_transformer.text.splitters import Splitter
    from tfx_transformer.text.token_page import Sample

# Most texts whose tokens are shown: given texts, rows of a table, texts in a picture.
SHOWN_TEXTS, SHOWN_ROWS, DRAWN_TEXTS = 20, 3, 4
# Most tokens of a text: in the terminal, and on the page.
SHOWN_TOKENS, KEPT_TOKENS = 100, 2_000


@dataclasses.dataclass(frozen=True)
class CountedTable:
    """Settings of reading a table, where they cannot be detected. --encoding names a tokenizer.

    Attributes:
        table_encoding (NAME): Encoding of a CSV or TSV, such as cp932. [detected]
        delimiter (SIGN): Separator of its cells, such as ';' or tab. [detected]
        sheet (NAME): Sheet of a workbook. [the only one]
        table (NAME): Table of a SQLite database. [the only one]
    """

    table_encoding: str = ""
    delimiter: str = ""
    sheet: str = ""
    table: str = ""

    def file(self, csv: Path | None) -> str | os.PathLike[str] | None:
        """Return the table of --csv with these settings; None if no table is given."""
        reading = TableReading(self.table_encoding, self.delimiter, self.sheet, self.table)
        return reading.given_file(csv)


def tokens(
    *texts: str,
    csv: Path | None = None,
    column: str = "text",
    parallel: str = "",
    skip_bad_rows: bool = False,
    tokenizers: Sequence[tuple[Literal["bundle", "tokenizer", "encoding"], str]] = (),
    html: Path | None = None,
    png: Path | None = None,
    reading: CountedTable,
) -> dict[str, Any]:
    """Count the tokens of texts, files or a column of a table, by language and tokenizer.

    Args:
        texts (TEXT|FILE): Texts or files to count.
        csv (FILE.csv): Table whose column is counted instead.
        column (NAME): Column of the texts in --csv.
        parallel (COLUMN): Column with translations; prints the ratio of the tokens.
        skip_bad_rows: Skip rows that cannot be used, and list them.
        bundle (BUNDLE): Count with the tokenizer of a bundle; may be repeated.
        tokenizer (FILE): Count with a tokenizer.json of Hugging Face; may be repeated.
        encoding (NAME): Count with an encoding of tiktoken, or 'bytes'; may be repeated. [bytes]
        html (FILE.html): File to write the tokens to, as a page.
        png (FILE.png): Picture to draw of the tokens of the first texts.
        reading: How to read the table of --csv, where that cannot be detected.
    """
    from tfx_transformer.text.counting import table

    if not texts and not csv:
        raise InputError("there is nothing to count.\n  Give texts, files, or --csv FILE.csv.")
    if texts and csv:
        raise InputError("there are texts and --csv.\n  Give one or the other.")
    if parallel and not csv:
        raise InputError("--parallel is a column of --csv.\n  Give --csv FILE.csv --column NAME.")
    check_writable(html=html, png=png)
    table_file = reading.file(csv)
    splitters = _splitters(tokenizers or [("encoding", "bytes")])
    if table_file:
        counted = _count_column(table_file, column, parallel, skip_bad_rows, splitters)
    else:
        counted = _count_texts(texts, splitters)
    notes = counted.comparison.sentences() if counted.comparison else []
    if not tokenizers:
        notes.append("No tokenizer is named, so each byte counts as one token.")
    rows = table(counted.tally)
    names = [splitter.name for splitter in splitters]
    _print(names, counted.samples, rows, notes)
    if html:
        _write_page(html, names, counted.samples, rows, notes)
    if png:
        _draw(png, names, counted.samples)
    compared = {"comparison": counted.comparison.to_dict()} if counted.comparison else {}
    return {"tokenizers": counted.tally.to_dict()} | counted.figures | compared


def _splitters(named: Iterable[tuple[str, str]]) -> list[Splitter]:
    """Return the tokenizers that the flags name, in their order; two of one short name are named by
    their paths."""
    named = list(dict.fromkeys(named))
    short = [_short_name(value) if kind != "encoding" else value for kind, value in named]
    repeated = {name for name, times in collections.Counter(short).items() if times > 1}
    return [
        _splitter(kind, value, value if name in repeated else name)
        for (kind, value), name in zip(named, short, strict=True)
    ]


def _short_name(value: str) -> str:
    """Return the name of a bundle's folder, or of a file; of a tokenizer.json, of its folder."""
    path = Path(value).absolute()
    return path.parent.name if path.name == "tokenizer.json" else path.stem


def _splitter(kind: str, value: str, name: str) -> Splitter:
    from tfx_transformer import bundle
    from tfx_transformer.text import splitters

    if kind == "bundle":
        bundle.read_config(value)
        return splitters.tokenizer_splitter(name, bundle.read_tokenizer(value))
    if kind == "tokenizer":
        return splitters.hugging_face_splitter(name, value)
    if value == splitters.BYTES:
        return splitters.byte_splitter()
    return splitters.tiktoken_splitter(name, splitters.offline_encoding(value))


class _Counted(NamedTuple):
    """The counts. figures: of single texts or of the file, JSON values."""

    tally: Tally
    samples: list[Sample]
    figures: dict[str, Any]
    comparison: Comparison | None


def _count_texts(texts: Iterable[str], splitters: list[Splitter]) -> _Counted:
    from tfx_transformer.text.counting import Tally, sample
    from tfx_transformer.text.splitters import clean

    total, samples, rows = Tally(splitters), [], []
    for text in texts:
        shown, tally = sample(clean(text), _pieces(text), splitters, KEPT_TOKENS)
        total.include(tally)
        samples += [shown] if len(samples) < SHOWN_TEXTS else []
        counts = zip((splitter.name for splitter in splitters), shown.counts, strict=True)
        row = {"text": shown.label, "language": shown.language, "characters": shown.characters}
        rows.append(row | {"bytes": shown.bytes, "tokens": dict(counts)})
    return _Counted(total, samples, {"texts": rows}, None)


def _pieces(text: str) -> Iterable[str]:
    """Return the text, or the pieces of the file of that name."""
    from tfx_transformer.data.corpus import read_documents
    from tfx_transformer.text.splitters import clean

    if not os.path.isfile(text):  # False, not an error, for a text too long to be a name
        return [clean(text)]
    if text.lower().endswith(".csv"):
        raise InputError(f"{text}: which column?\n  Give --csv {text} --column NAME.")
    return (piece.text for piece in read_documents([text]))


def _count_column(
    csv: str | os.PathLike[str],
    column: str,
    parallel: str,
    skip_bad_rows: bool,
    splitters: list[Splitter],
) -> _Counted:
    from tfx_transformer.data.tables import stream_table
    from tfx_transformer.text.counting import Tally, compare, sample

    columns = {"column": column}
    columns |= {"parallel": parallel} if parallel else {}
    # An empty cell is a text of no tokens, but not the translation of a text.
    empty = () if parallel else ("column",)
    tables = stream_table(csv, columns, skip_bad_rows=skip_bad_rows, allow_empty=empty)
    total, sides = Tally(splitters), {role: Tally(splitters) for role in columns}
    samples, bad, rows = [], [], 0
    for table in tables:
        bad += [[row.row, row.column, row.reason] for row in table.bad_rows]
        for number, *cells in zip(table.rows, *table.columns.values(), strict=True):
            rows += 1
            for role, cell in zip(columns, cells, strict=True):
                label = f"row {number}, {columns[role]!r}"
                shown, tally = sample(label, [cell], splitters, KEPT_TOKENS)
                sides[role].include(tally)
                samples += [shown] if rows <= SHOWN_ROWS else []
    for side in sides.values():
        total.include(side)
    comparison = None
    if parallel:
        first, second = sides.values()
        comparison = compare(first, second, (column, parallel), rows)
    return _Counted(total, samples, {"rows": rows, "bad_rows": bad}, comparison)


def _print(
    names: list[str], samples: list[Sample], rows: list[list[str]], notes: list[str]
) -> None:
    from tfx_transformer.cli.terminal import align, has_colours, sample_lines

    colours = has_colours()
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for sample in samples:
        lines = sample_lines(names, sample, SHOWN_TOKENS, colours, columns)
        write_as_is("\n".join(lines) + "\n\n", sys.stdout)
    print("\n".join(align(rows, words=2)))
    for note in notes:
        print(note)


def _write_page(
    path: Path, names: list[str], samples: list[Sample], rows: list[list[str]], notes: list[str]
) -> None:
    from tfx_transformer.text.token_page import token_page

    files.write(path, token_page("Tokens", names, samples, rows, notes))


def _draw(path: Path, names: list[str], samples: list[Sample]) -> None:
    from tfx_transformer.pictures import token_picture

    samples = samples[:DRAWN_TEXTS]
    rows = {
        name: [([token.data for token in s.tokens[n]], s.counts[n]) for s in samples]
        for n, name in enumerate(names)
    }
    token_picture(path, rows)
