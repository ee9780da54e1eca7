"""The verb that answers every row of a table: predict."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfx_transformer.cli.data import TABLE_OPTIONS, add_table_options, given_table
from tfx_transformer.cli.engines import VARIANTS
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity

if TYPE_CHECKING:
    from tfx_transformer.cli.answered_table import InputTable
    from tfx_transformer.prediction.answers import Prediction

# Seconds between two lines of progress.
_PAUSE = 2.0


def add_predict_verb(verb) -> None:
    """`predict` with its arguments; verb: see `cli.parser`."""
    one = verb("predict", predict)
    one.add_argument("bundle", help="folder of a bundle, such as saved_models/topics")
    one.add_argument(
        "file",
        metavar="IN",
        help="table whose rows are answered: CSV, TSV, JSON, .xlsx, Parquet, …",
    )
    one.add_argument(
        "--save",
        metavar="OUT",
        required=True,
        help="table to write: .csv, .tsv, .jsonl, .xlsx or .parquet; .csv.gz is compressed",
    )
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
    one.add_argument("--overwrite", action="store_true", help="replace OUT")
    add_table_options(one)


def predict(chosen: argparse.Namespace) -> dict[str, Any]:
    """answer every row of a table with a bundle: labels, translations, answers or vectors"""
    from tfx_transformer import bundle
    from tfx_transformer.cli.answered_table import InputTable, OutputTable
    from tfx_transformer.prediction.answers import PREDICTIONS

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
    file = given_table(chosen)
    output = OutputTable(Path(chosen.save), _identity(chosen), chosen.overwrite)
    table = InputTable(file, _columns(chosen, config, prediction), config)
    if twice := set(prediction.names) & set(table.header):
        raise InputError(
            f"{chosen.file}: there is a column {sorted(twice)[0]!r} already, which the answers "
            "would have.\n  Rename it."
        )
    from tfx_transformer import runtime

    model = runtime.load(chosen.bundle, chosen.variant)
    done = output.open(table, prediction)
    if done:
        print(f"Goes on after {quantity(done, 'row')}.")
    progress = _Progress(table, done)
    rows = itertools.islice(table.rows(), done, None)
    empty = [None] * len(prediction.names)
    with output:
        while batch := list(itertools.islice(rows, chosen.batch_size)):
            good = [row.input for row in batch if row.is_good]
            found = iter(prediction.answer(model, good, chosen.unsure) if good else ())
            output.write((row, next(found) if row.is_good else empty) for row in batch)
            progress.show(len(batch), batch[-1].end)
    return _report(chosen, table, progress.count)


def _report(chosen: argparse.Namespace, table: InputTable, count: int) -> dict[str, Any]:
    """Say what was written, and list the rows that could not be read."""
    from tfx_transformer.data.tables import write_bad_rows
    from tfx_transformer.reprs import quantity

    print(f"{chosen.save}: {quantity(count, 'row')}")
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


def _identity(chosen: argparse.Namespace) -> dict[str, Any]:
    """Return what decides the answers to a row: bundle, variant and flags."""
    from tfx_transformer import bundle

    sums = Path(chosen.bundle, bundle.SUMS)
    digest = hashlib.sha256(sums.read_bytes()).hexdigest() if sums.is_file() else ""
    flags = {name: getattr(chosen, name) for name in ("column", "unsure", "variant", "batch_size")}
    options = {name: getattr(chosen, name) for name in TABLE_OPTIONS if getattr(chosen, name)}
    return {"bundle": digest, "flags": flags | options}


class _Progress:
    """Lines that say how far it is, on standard error."""

    def __init__(self, table: InputTable, done: int) -> None:
        self.table, self.count = table, done
        self.begin = self.last = time.monotonic()
        self.first: int | None = None

    def show(self, rows: int, end: int) -> None:
        """Count rows; end: how far the table is read with the last of them."""
        from tfx_transformer.reprs import duration

        self.count += rows
        now = time.monotonic()
        if self.first is None:
            self.first = end
        if now - self.last < _PAUSE or end <= self.first:
            return
        self.last = now
        text = f"  {quantity(self.count, 'row')}"
        if total := self.table.total:
            left = (now - self.begin) * (total - end) / (end - self.first)
            text += f", {100 * end / total:.0f} %, {duration(max(left, 0))} left"
        print(text, file=sys.stderr, flush=True)
