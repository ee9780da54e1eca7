"""The verbs index and search: the rows of tables, found by their meaning."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tfx_transformer.cli.data import TableReading
from tfx_transformer.cli.engines import Variant
from tfx_transformer.console import COLUMNS, wrapped
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity

if TYPE_CHECKING:
    from tfx_transformer.search import Found, Made, Progress

# Indentation of the lines of a found row, except the first.
_INDENT = " " * 11
# Seconds between two lines of progress.
_PAUSE = 2.0


def index(
    bundle: Path,
    /,
    *tables: Path,
    out: Path,
    column: str = "text",
    show: str = "",
    append: bool = False,
    row_prompt: str | None = None,
    width: int | None = None,
    dtype: Literal["float32", "float16", "int8"] = "float16",
    skip_bad_rows: bool = False,
    variant: Variant | None = None,
    reading: TableReading,
) -> dict[str, Any]:
    """Make an index of the texts in tables, for the verb search, or renew it.

    Only texts that the index does not have are embedded. A command that was interrupted goes on
    when it is repeated.

    Args:
        bundle: Folder of an embedder's bundle, such as saved_models/similar.
        tables (TABLE): Tables whose rows are searched: CSV, TSV, JSON, .xlsx, Parquet, …
        out (FOLDER): Folder of the index.
        column (NAME): Column of the texts.
        show (NAMES): Further columns to show with each row, separated by commas.
        append: Keep the rows of other tables that the index has.
        row_prompt (NAME): Prompt of the embedder to put before each text. [document, if it has
            that]
        width: Width of the vectors, one that the embedder was trained for. [the full width]
        dtype: Number format of the stored vectors.
        skip_bad_rows: Skip rows that cannot be used, and list them in the folder.
        variant: TFLite file to run. [the first in the bundle]
        reading: How to read the tables, where that cannot be detected.
    """
    if not tables:
        raise InputError(
            "there is no table to index.\n"
            "  tfx-transformer index BUNDLE FILE.csv --column COLUMN --out FOLDER"
        )
    from tfx_transformer.search import make_index

    made = make_index(
        out,
        bundle,
        [reading.file(table) for table in tables],
        column,
        shown=_names(show),
        prompt=row_prompt,
        dtype=dtype,
        width=width,
        variant=variant,
        append=append,
        skip_bad_rows=skip_bad_rows,
        progress=_Lines(),
    )
    _report(out, made)
    return {"index": str(out)} | made._asdict()


def _names(text: str) -> list[str]:
    """Return the names of columns between commas."""
    names = [name.strip() for name in text.split(",")] if text else []
    if not all(names) or len(set(names)) < len(names):
        raise InputError(f"--show {text}: a name is empty or there twice.\n  Expected a,b,c.")
    return names


def _report(out: Path, made: Made) -> None:
    """Print what was made."""
    from tfx_transformer.installation import requirement
    from tfx_transformer.search import EXACT_ROWS

    print(f"{out}: {quantity(made.rows, 'row')}, {quantity(made.new, 'text')} embedded")
    if made.bad_rows:
        print(f"  {quantity(made.bad_rows, 'bad row')} skipped: {out / 'bad_rows.csv'}")
    if made.cut:
        print(
            f"  {quantity(made.cut, 'text')} with as many tokens as the model reads, or more: "
            "further tokens are not searched"
        )
    if made.rows > EXACT_ROWS and not made.has_graph:
        print(
            f"  a search compares all rows; for a graph, which is faster above {EXACT_ROWS:,}:\n"
            f"  pip install {requirement('search')}, and repeat the command"
        )
    print(f'search it: tfx-transformer search {out} "TEXT"')


class _Lines:
    """Lines of progress on standard error."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, done: Progress) -> None:
        now = time.monotonic()
        if now - self._last < _PAUSE:
            return
        self._last = now
        text = f"  {quantity(done.rows, 'row')}, {quantity(done.new, 'text')} embedded"
        if done.graph:
            text = f"  graph of {quantity(done.graph, 'row')}"
        print(text, file=sys.stderr, flush=True)


def search(
    folder: Path,
    /,
    *texts: str,
    count: int = 5,
    prompt: str | None = None,
    exact: bool = False,
    bundle: Path | None = None,
    as_text: bool = False,
) -> dict[str, Any]:
    """Find the rows of an index whose texts are nearest in meaning.

    Args:
        folder (INDEX): Folder that the verb index has made.
        texts (TEXT): Texts to find rows for.
        count: Nearest rows to show.
        prompt (NAME): Prompt of the embedder to put before TEXT. [query, if it has that]
        exact: Compare all rows; the graph of a large index may miss one.
        bundle: Bundle of the embedder. [where it was when the index was made]
        as_text: Read TEXT as a text, even if it looks like the name of a file.
    """
    from tfx_transformer.arguments import check_search, refuse_files

    check_search(texts, count, 'tfx-transformer search INDEX "TEXT"')
    remedy = "A table needs an index first: tfx-transformer index BUNDLE TABLE --out FOLDER"
    refuse_files(texts, remedy, as_text)
    from tfx_transformer.search import Index

    opened = Index(folder, bundle)
    found = opened.search(texts, count, prompt, exact)
    method = "graph" if opened.has_graph and not exact else "exact"
    print(f"{quantity(len(opened), 'row')}, {method}")
    for table in opened.changed_tables():
        print(f"{table} has changed since; renew the index.", file=sys.stderr)
    several = len(opened.store.tables) > 1
    for text, rows in zip(texts, found, strict=True):
        print(text)
        for row in rows:
            print(found_lines(row.cosine, _place(row, several), row.text))
            for name, cell in row.cells.items():
                print(_lines(f"{_INDENT}{name}: ", cell))
    return {"method": method, "results": [_as_json(*one) for one in zip(texts, found, strict=True)]}


def _place(row: Found, several: bool) -> str:
    """Return the place of a row, such as "row     12"."""
    number = f"{row.row:>6,}" if isinstance(row.row, int) else str(row.row)
    return f"{Path(row.table).name} row {number}" if several else f"row {number}"


def found_lines(cosine: float, place: str, text: str) -> str:
    """Return a found row as lines for a terminal of 80 columns."""
    return _lines(f"  {cosine:>7.4f}  {place}  ", text)


def _lines(start: str, text: str) -> str:
    """Return `start` and a text as lines for a terminal; line ends in the text become blanks."""
    return "\n".join(wrapped(start + " ".join(text.splitlines()), COLUMNS, _INDENT))


def _as_json(text: str, rows: list[Found]) -> dict[str, Any]:
    return {"query": text, "nearest": [row._asdict() for row in rows]}
