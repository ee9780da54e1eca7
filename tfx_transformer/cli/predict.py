"""The verb that answers every row of a table: predict."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfx_transformer.cli.data import TableReading
from tfx_transformer.cli.engines import Variant
from tfx_transformer.errors import InputError
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.reprs import quantity

if TYPE_CHECKING:
    from tfx_transformer.cli.answered_table import InputTable
    from tfx_transformer.prediction.answers import Prediction

# Seconds between two lines of progress.
_PAUSE = 2.0


def predict(
    bundle: Path,
    file: Path,
    /,
    *,
    save: Path,
    column: str | None = None,
    unsure: str = "0",
    batch_size: int = 64,
    variant: Variant | None = None,
    overwrite: bool = False,
    reading: TableReading,
    generation: GenerationOptions,
) -> dict[str, Any]:
    """Answer every row of a table with a bundle: labels, spans, numbers, texts or vectors.

    Args:
        bundle: Folder of a bundle, such as saved_models/topics.
        file (IN): Table whose rows are answered: CSV, TSV, JSON, .xlsx, Parquet, …
        save (OUT): Table to write: .csv, .tsv, .jsonl, .xlsx or .parquet; .csv.gz is compressed.
        column (NAME): Column of the texts or images; several are separated by commas.
            [as in training]
        unsure (X): Probability, from 0 to 1, below which a label stays empty and a span is left
            out; auto: each label has a threshold, from which on 95 % of held-out rows were right.
        batch_size: Rows answered together.
        variant: TFLite file to run. [the first in the bundle]
        overwrite: Replace OUT.
        reading: How to read the table, where that cannot be detected.
        generation: How answers are written, by a model that writes.
    """
    from tfx_transformer import runtime
    from tfx_transformer.bundle import read_config
    from tfx_transformer.cli.answered_table import InputTable, OutputTable
    from tfx_transformer.prediction.answers import PREDICTIONS
    from tfx_transformer.prediction.classification import read_thresholds

    limit = _limit(unsure)
    if batch_size < 1:
        raise InputError(f"--batch-size is {batch_size}.\n  Expected 1 row or more.")
    if os.path.realpath(file) == os.path.realpath(save):
        raise InputError(f"--save {save}: that is the table to read.\n  Choose another name.")
    config = read_config(bundle)
    if config["task"] not in PREDICTIONS:
        raise InputError(
            f"{bundle}: a model of task {config['task']!r} answers nothing.\n"
            "  Fine-tune it with --base, and predict with the model made of it."
        )
    prediction = PREDICTIONS[config["task"]]
    if limit == "auto" and read_thresholds(config, config.get("labels") or []) is None:
        raise InputError(
            f"{bundle} has no thresholds of its labels, which --unsure auto needs.\n"
            "  Training a classifier fits them on 30 or more held-out rows: train again, or\n"
            "  give a probability, such as --unsure 0.7."
        )
    # Everything that decides the answers to a row.
    flags = {"column": column, "unsure": limit, "variant": variant, "batch_size": batch_size}
    writing = _given_options(generation)
    flags |= writing
    flags |= {name: value for name, value in vars(reading).items() if value}
    table_file = reading.file(file)
    output = OutputTable(save, {"bundle": _digest(bundle), "flags": flags}, overwrite)
    table = InputTable(table_file, _columns(column, config, prediction), config)
    if twice := set(prediction.names) & set(table.header):
        raise InputError(
            f"{file}: there is a column {sorted(twice)[0]!r} already, and answers have this name "
            "too.\n  Rename it."
        )
    model = runtime.load(bundle, variant)
    if writing and not isinstance(model, runtime.TextGenerator):
        # The temperature comes last: --top-k and --top-p set it too.
        flag = min(writing, key=lambda name: (name == "temperature", name)).replace("_", "-")
        raise InputError(f"--{flag} is for models that write; {bundle} is another one.\n  Drop it.")
    done = output.open(table, prediction)
    if done:
        print(f"Goes on after {quantity(done, 'row')}.")
    progress = _Progress(table, done)
    rows = itertools.islice(table.rows(), done, None)
    empty = [None] * len(prediction.names)
    with output:
        while batch := list(itertools.islice(rows, batch_size)):
            good = [row.input for row in batch if row.is_good]
            found = iter(prediction.answer(model, good, limit, **writing) if good else ())
            output.write((row, next(found) if row.is_good else empty) for row in batch)
            progress.show(len(batch), batch[-1].end)
    return _report(save, table, progress.count)


def _limit(unsure: str) -> float | str:
    """Return the probability below which a label stays empty, or "auto"."""
    if unsure == "auto":
        return unsure
    try:
        limit = float(unsure)
    except ValueError:
        limit = math.nan
    if not 0 <= limit <= 1:
        shown = repr(unsure) if math.isnan(limit) else limit
        raise InputError(f"--unsure is {shown}.\n  Expected a probability from 0 to 1, or auto.")
    return limit


def _given_options(generation: GenerationOptions) -> dict[str, Any]:
    """Return the options that differ from greedy decoding, as JSON values.

    Raises:
        InputError: a form cannot be used, or `logprobs` is given, which has no column.
    """
    if generation.logprobs is not None:
        raise InputError(
            "--logprobs has no column in the table.\n"
            "  Drop it, or ask for single texts: tfx-transformer generate BUNDLE TEXT --logprobs N"
        )
    if generation.has_form:
        from tfx_transformer.generation.constraint import check

        check(generation)
    usual = vars(GenerationOptions())
    given = {name: value for name, value in vars(generation).items() if value != usual[name]}
    return {name: [*v] if isinstance(v, tuple) else v for name, v in given.items()}


def _report(save: Path, table: InputTable, count: int) -> dict[str, Any]:
    """Print and return what was written; write the rows that could not be read to a file."""
    from tfx_transformer.data.tables import write_bad_rows

    print(f"{save}: {quantity(count, 'row')}")
    bad_rows = list(table.bad_rows())
    if bad_rows:
        listed = save.with_suffix(".bad_rows.csv")
        write_bad_rows(listed, bad_rows)
        print(f"  {len(bad_rows):,} of them could not be read and are not answered: {listed}")
    return {"file": str(save), "rows": count, "bad_rows": len(bad_rows)}


def _columns(column: str | None, config: dict[str, Any], prediction: Prediction) -> list[str]:
    """Return the names of the columns to read."""
    from tfx_transformer.data.labelled_text import text_columns

    default = "path" if config["architecture"].get("image_size") else prediction.column
    given = column or config.get("columns") or default
    columns = list(text_columns(given).values())
    if len(columns) != (count := config.get("text_columns", 1)):
        raise InputError(
            f"--column names {len(columns)} columns; the model reads {count} of each row.\n"
            "  Name them with commas, in the order of the training."
        )
    return columns


def _digest(path: Path) -> str:
    """Return the SHA-256 of a bundle's checksums, which identifies it; "" if it has none."""
    from tfx_transformer import bundle

    sums = path / bundle.SUMS
    return hashlib.sha256(sums.read_bytes()).hexdigest() if sums.is_file() else ""


class _Progress:
    """Lines of progress on standard error."""

    def __init__(self, table: InputTable, done: int) -> None:
        self.table, self.count = table, done
        self.begin = self.last = time.monotonic()
        self.first: int | None = None

    def show(self, rows: int, end: int) -> None:
        """Count rows, and print a line from time to time; end: see `InputRow`, of the last row."""
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
