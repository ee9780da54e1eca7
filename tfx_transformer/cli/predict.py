"""The verb that answers every row of a table: predict."""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfx_transformer import files, json_files
from tfx_transformer.cli.engines import VARIANTS
from tfx_transformer.errors import InputError

# Seconds between two lines of progress, and between two notes of what is written: to flush a file
# can take longer than to answer a batch.
_PAUSE = 2.0
_NOTED = 1.0
_MAX_STATE_BYTES = 1024 * 1024


class Prediction(NamedTuple):
    """How the rows of a table are answered by models of a task.

    column: the column that is read by default; names: of the new columns; answer: (model, inputs,
    flags) -> a list of cells for each input.
    """

    column: str
    names: tuple[str, ...]
    answer: Callable[[Any, list[Any], argparse.Namespace], list[list[str]]]


def _answers(model, texts: list[str], chosen: argparse.Namespace) -> list[list[str]]:
    return [[answer] for answer in model.generate(texts, truncate=True)]


def _labels(model, inputs: list[Any], chosen: argparse.Namespace) -> list[list[str]]:
    cells = []
    for found in model.classify(inputs):
        label = "|".join(found.labels) if model.labels.multi_label else found.label
        sure = found.probability >= chosen.unsure
        cells.append([label if sure else "", f"{found.probability:.4f}"])
    return cells


def _vectors(model, texts: list[str], chosen: argparse.Namespace) -> list[list[str]]:
    return [[json.dumps([round(x, 6) for x in vector])] for vector in model.embed(texts).tolist()]


PREDICTIONS = {
    "seq2seq": Prediction("source", ("answer",), _answers),
    "causal": Prediction("instruction", ("answer",), _answers),
    "classification": Prediction("text", ("predicted", "probability"), _labels),
    "embedding": Prediction("text", ("vector",), _vectors),
}


def add_predict_verb(verb) -> None:
    """`predict` with its arguments; verb: see `cli.parser`."""
    one = verb("predict", predict)
    one.add_argument("bundle", help="folder of a bundle, such as saved_models/topics")
    one.add_argument("file", metavar="IN.csv", help="table whose rows are answered")
    one.add_argument("--save", metavar="OUT.csv", required=True, help="table to write")
    one.add_argument(
        "--column",
        help="column of the texts or images; several are separated by commas [as in training]",
    )
    one.add_argument(
        "--unsure",
        type=float,
        default=0.0,
        metavar="X",
        help="leave a label empty below this probability, from 0 to 1 [0]",
    )
    one.add_argument("--batch-size", type=int, default=64, help="rows answered together [64]")
    one.add_argument("--variant", choices=VARIANTS, help="which TFLite file runs [the first]")
    one.add_argument("--overwrite", action="store_true", help="replace OUT.csv")


def predict(chosen: argparse.Namespace) -> dict[str, Any]:
    """answer every row of a table with a bundle: labels, translations, answers or vectors"""
    from tfx_transformer import bundle

    if not 0 <= chosen.unsure <= 1 or chosen.batch_size < 1:
        raise InputError(
            f"--unsure is {chosen.unsure} and --batch-size is {chosen.batch_size}.\n"
            "  Expected a probability from 0 to 1, and 1 row or more."
        )
    if os.path.realpath(chosen.file) == os.path.realpath(chosen.save):
        raise InputError(
            f"--save {chosen.save}: that is the table to read.\n  Choose another name."
        )
    config = bundle.read_config(chosen.bundle)
    if config["task"] not in PREDICTIONS:
        raise InputError(
            f"{chosen.bundle}: a model of task {config['task']!r} answers nothing.\n"
            "  Fine-tune it with --base, and predict with the model made of it."
        )
    prediction = PREDICTIONS[config["task"]]
    table = _Input(Path(chosen.file), _columns(chosen, config, prediction), config)
    output = _Output(Path(chosen.save), _identity(chosen), chosen.overwrite)
    names = [*table.header, *prediction.names]
    if twice := set(prediction.names) & set(table.header):
        raise InputError(
            f"{chosen.file}: there is a column {sorted(twice)[0]!r} already, which the answers "
            "would have.\n  Rename it."
        )
    from tfx_transformer import runtime

    model = runtime.load(chosen.bundle, chosen.variant)
    done = output.open(names, table.signature)
    if done:
        print(f"Goes on after {done:,} rows.")
    progress = _Progress(table, done)
    rows = itertools.islice(table.rows(), done, None)
    empty = [""] * len(prediction.names)
    with output:
        while batch := list(itertools.islice(rows, chosen.batch_size)):
            good = [row.input for row in batch if row.is_good]
            found = iter(prediction.answer(model, good, chosen) if good else ())
            output.write([*row.cells, *(next(found) if row.is_good else empty)] for row in batch)
            progress.show(len(batch), batch[-1].end)
    return _report(chosen, table, progress.count)


def _report(chosen: argparse.Namespace, table: _Input, count: int) -> dict[str, Any]:
    """Say what was written, and list the rows that could not be read."""
    from tfx_transformer.data.tables import write_bad_rows

    print(f"{chosen.save}: {count:,} rows")
    bad_rows = list(table.bad_rows())
    if bad_rows:
        listed = Path(chosen.save).with_suffix(".bad_rows.csv")
        write_bad_rows(listed, bad_rows)
        print(f"  {len(bad_rows):,} of them could not be read and are not answered: {listed}")
    return {"file": chosen.save, "rows": count, "bad_rows": len(bad_rows)}


def _columns(
    chosen: argparse.Namespace, config: dict[str, Any], prediction: Prediction
) -> list[str]:
    """Return the names of the columns to read."""
    from tfx_transformer.data.labelled_text import text_columns

    default = "path" if config["architecture"].get("image_size") else prediction.column
    given = chosen.column or config.get("columns") or default
    columns = list(text_columns(given).values())
    if len(columns) != (count := config.get("text_columns", 1)):
        raise InputError(
            f"--column names {len(columns)} columns; the model reads {count} of each row.\n"
            "  Name them with commas, in the order of the training."
        )
    return columns


class _Row(NamedTuple):
    """A row of the input: its cells, one for each header; what the model reads; whether it can be
    read; the byte of the file after it."""

    cells: list[str]
    input: Any
    is_good: bool
    end: int


class _Input:
    """The table that is read.

    Args:
        path: of a CSV file.
        columns: names of those that the model reads.
        config: of the bundle.

    Raises:
        InputError: the file cannot be read, or a column is missing.
    """

    def __init__(self, path: Path, columns: list[str], config: dict[str, Any]) -> None:
        from tfx_transformer.data.tables import find_columns

        self.path, self.columns = path, columns
        roles = ["column", *(f"column {number}" for number in range(2, len(columns) + 1))]
        self.header, places = find_columns(path, dict(zip(roles, columns, strict=True)))
        self.places = list(places.values())
        self.images = bool(config["architecture"].get("image_size"))
        self.several = config.get("text_columns", 1) > 1
        status = path.stat()
        self.size = status.st_size
        self.signature = [status.st_size, status.st_mtime_ns]

    def rows(self) -> Iterator[_Row]:
        """Yield every row that is not blank."""
        from tfx_transformer.data.csv_file import CsvFile
        from tfx_transformer.data.tables import without_blank_end

        for row in without_blank_end(CsvFile(self.path).open().rows):
            width = len(self.header)
            cells = [*row.cells, *[""] * width][:width]
            yield _Row(cells, self._input(cells), self._problem(row.cells) is None, row.end)

    def bad_rows(self) -> Iterator[Any]:
        """Yield the rows that cannot be read, as `tables.BadRow`."""
        from tfx_transformer.data.csv_file import CsvFile
        from tfx_transformer.data.tables import BadRow, without_blank_end

        for row in without_blank_end(CsvFile(self.path).open().rows):
            if problem := self._problem(row.cells):
                yield BadRow(row.name, *problem, tuple(row.cells))

    def _problem(self, cells: Sequence[str]) -> tuple[str | None, str] | None:
        """Return the column at fault and the reason why a row cannot be read, or None."""
        if len(cells) != len(self.header):
            return None, f"the row has {len(cells)} cells, the header {len(self.header)}"
        texts = [cells[place] for place in self.places]
        if not any(text.strip() for text in texts):
            return self.columns[0], "it is empty"
        if "\0" in "".join(texts):
            return self.columns[0], "it holds a NUL character"
        if self.images and not (self.path.parent / texts[0]).is_file():
            return self.columns[0], f"there is no file {texts[0]!r}"
        return None

    def _input(self, cells: Sequence[str]) -> Any:
        texts = tuple(cells[place] for place in self.places)
        if self.images:
            return str(self.path.parent / texts[0])
        return texts if self.several else texts[0]


class _Output:
    """The table that is written, beside its place until it is complete: `OUT.csv.part`.

    Every second, and at the end, `OUT.csv.part.json` says how much of it is whole, so that a
    command that was interrupted goes on there when it is repeated.

    Args:
        path: of the table.
        identity: what decides the answers.
        overwrite: replace a table that is there.

    Raises:
        InputError: the table is there, or its folder is not.
    """

    def __init__(self, path: Path, identity: dict[str, Any], overwrite: bool) -> None:
        if path.exists() and not overwrite:
            raise InputError(
                f"{path} exists already.\n  Choose another name, or pass --overwrite to replace it."
            )
        if not path.parent.is_dir():
            raise InputError(f"--save {path}: there is no folder {path.parent}.\n  Make it first.")
        self.path, self.identity = path, identity
        self.part = path.with_name(path.name + ".part")
        self.state = path.with_name(path.name + ".part.json")
        # Rows and bytes of the batches that are written, in one value: a signal may come at any
        # moment, and rows and bytes then belong together.
        self._whole = 0, 0
        self._last = time.monotonic()

    def open(self, names: Sequence[str], signature: list[int]) -> int:
        """Write the header, or go on where an interrupted command with the same bundle, table and
        flags was; return the rows that are written already.

        Raises:
            InputError: another command is writing this table.
        """
        self.identity |= {"table": signature, "names": list(names)}
        try:
            self._lock = files.Lock(self.part.with_name(self.part.name + ".lock")).hold()
        except files.Held as held:
            raise InputError(
                f"{self.path}: another command, process {held.process}, is writing it now.\n"
                "  Wait for its end, or choose another name."
            ) from held
        known = self._read_state()
        if known is not None:
            self._file = self.part.open("r+b")
            self._file.truncate(known["bytes"])
            self._file.seek(0, os.SEEK_END)
            self._whole = known["rows"], known["bytes"]
        else:
            self._file = self.part.open("wb")
            self._append([names], 0)
        return self._whole[0]

    def write(self, rows: Iterable[list[str]]) -> None:
        """Append a batch of rows, and note from time to time how much is whole."""
        rows = list(rows)
        self._append(rows, len(rows))
        if time.monotonic() - self._last > _NOTED:
            self.note()

    def _append(self, lines: Sequence[Sequence[str]], rows: int) -> None:
        """Write lines, and then count them: a signal between the two leaves what the next command
        cuts off, and never a batch of which a part is answered again."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows(lines)
        content = text.getvalue().encode()
        self._file.write(content)
        self._whole = self._whole[0] + rows, self._whole[1] + len(content)

    def note(self) -> None:
        """Flush what is written to disk, and note how much of it is whole."""
        self._last = time.monotonic()
        rows, size = self._whole
        self._file.flush()
        os.fsync(self._file.fileno())
        files.write(self.state, json.dumps(self.identity | {"rows": rows, "bytes": size}))

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, *_: object) -> None:
        """Note what is written, and unless there was an error move the table to its place."""
        try:
            self.note()
            self._file.close()
            if kind is None:
                os.replace(self.part, self.path)
                self.state.unlink(missing_ok=True)
        finally:
            self._lock.release()

    def _read_state(self) -> dict[str, Any] | None:
        """Return what an interrupted command with the same identity noted, or None."""
        if not (self.state.is_file() and self.part.is_file()):
            return None
        if self.state.stat().st_size > _MAX_STATE_BYTES:
            return None
        try:
            state = json_files.parse(self.state.read_text(encoding="utf-8"), self.state)
        except (InputError, OSError, ValueError):
            return None
        if not isinstance(state, dict) or not self.identity.items() <= state.items():
            return None
        return state if state["bytes"] <= self.part.stat().st_size else None


def _identity(chosen: argparse.Namespace) -> dict[str, Any]:
    """Return what decides the answers to a row: bundle, variant and flags."""
    from tfx_transformer import bundle

    sums = Path(chosen.bundle, bundle.SUMS)
    digest = hashlib.sha256(sums.read_bytes()).hexdigest() if sums.is_file() else ""
    flags = {name: getattr(chosen, name) for name in ("column", "unsure", "variant", "batch_size")}
    return {"bundle": digest, "flags": flags}


class _Progress:
    """Lines that say how far it is, on standard error."""

    def __init__(self, table: _Input, done: int) -> None:
        self.table, self.count = table, done
        self.begin = self.last = time.monotonic()
        self.first: int | None = None

    def show(self, rows: int, end: int) -> None:
        """Count rows; end: the byte of the file after the last of them."""
        from tfx_transformer.reprs import duration

        self.count += rows
        now = time.monotonic()
        if self.first is None:
            self.first = end
        if now - self.last < _PAUSE or end <= self.first:
            return
        self.last = now
        left = (now - self.begin) * (self.table.size - end) / (end - self.first)
        share = 100 * end / self.table.size
        print(
            f"  {self.count:,} rows, {share:.0f} %, {duration(left)} left",
            file=sys.stderr,
            flush=True,
        )
