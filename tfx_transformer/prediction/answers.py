"""The answers that a model of each task adds to a row of a table: one row a task."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from tfx_transformer.errors import InputError

if TYPE_CHECKING:
    import pandas


def as_cell(value: Any) -> str:
    """Return an answer as the cell of a text table; "" for None."""
    if value is None:
        return ""
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return f"{value:.4f}" if isinstance(value, float) else value


def as_number(value: float | None) -> str:
    """Return a float32 number as the cell of a text table, without an exponent; "" for None."""
    return "" if value is None else np.format_float_positional(np.float32(value), trim="-")


class Prediction(NamedTuple):
    """The row of a task: the answers of its models to the rows of a table.

    column: the column that is read by default; names: of the new columns; kinds: their types;
    answer: (model, inputs, probability below which a label stays open, or "auto") -> values for
    each input; of models that write also with fields of `GenerationOptions` by name; cell: (value,
    or None) -> the cell of a text table.
    """

    column: str
    names: tuple[str, ...]
    kinds: tuple[Any, ...]
    answer: Callable[..., list[list[Any]]]
    cell: Callable[[Any], str] = as_cell


def _answers(model: Any, texts: list[str], unsure: float, **options: Any) -> list[list[Any]]:
    return [[answer] for answer in model.generate(texts, truncate=True, **options)]


def _labels(model: Any, inputs: list[Any], unsure: float | str) -> list[list[Any]]:
    return [
        ["|".join(model.labels.sure(found, unsure)), round(found.probability, 4)]
        for found in model.classify(inputs)
    ]


def _spans(model: Any, texts: list[str], unsure: float | str) -> list[list[Any]]:
    if isinstance(unsure, str):
        raise InputError(
            "a tagger has no thresholds of its labels, which unsure='auto' needs.\n"
            "  Give a probability, from 0 to 1."
        )
    rows = []
    for found in model.tag(texts):
        sure = (entity for entity in found if entity.probability >= unsure)
        rounded = (one._replace(probability=round(one.probability, 4)) for one in sure)
        rows.append([[one._asdict() for one in rounded]])
    return rows


def _vectors(model: Any, texts: list[str], unsure: float) -> list[list[Any]]:
    return [[[round(x, 6) for x in vector]] for vector in model.embed(texts).tolist()]


def _numbers(model: Any, inputs: list[Any], unsure: float) -> list[list[Any]]:
    return [[float(f"{number:.7g}")] for number in model.predict(inputs)]


PREDICTIONS = {
    "seq2seq": Prediction("source", ("answer",), (str,), _answers),
    "causal": Prediction("instruction", ("answer",), (str,), _answers),
    "classification": Prediction("text", ("predicted", "probability"), (str, float), _labels),
    "embedding": Prediction("text", ("vector",), (list[float],), _vectors),
    "tagging": Prediction("text", ("spans",), (list[dict],), _spans),
    "regression": Prediction("text", ("prediction",), (float,), _numbers, as_number),
}


class TablePredictor:
    """Answers the rows of a DataFrame; the base of models that answer texts or images.

    Attributes:
        input_columns: names of the columns that the model was trained on; None: not known.
    """

    # Key of the model's row in `PREDICTIONS`.
    task: str = "classification"
    input_columns: Sequence[str] | None = None

    def predict_table(
        self,
        frame: pandas.DataFrame,
        column: str | Sequence[str] = "",
        *,
        unsure: float | Literal["auto"] = 0.0,
        batch_size: int = 64,
    ) -> pandas.DataFrame:
        """Return a copy of a table with the answers to its rows in new columns, as `tfx-transformer
        predict` writes them: `predicted` and `probability`, `prediction`, `answer`, `spans` or
        `vector`.

        Rows without a readable text are not answered (a warning counts them): their label or answer
        is "", their probability or number NaN, their vector or spans None.

        Args:
            frame: a pandas DataFrame.
            column: name of the column of texts or paths of images; a list for a model of several
                columns. "": as in the training.
            unsure: a label below this probability, from 0 to 1, is ""; "auto": each label has its
                own threshold, from which on 95 % of the held-out rows were right.
            batch_size: rows that are answered together.

        Raises:
            InputError: a column is missing or there twice, or one of the new columns is there
                already; or `unsure` is "auto" and the bundle has no thresholds.
        """
        prediction = PREDICTIONS[self.task]
        columns = self._columns(frame, column, prediction)
        for name in prediction.names:
            if name in frame.columns:
                raise InputError(
                    f"the table already has a column {name!r}, the name of a new column.\n"
                    "  Rename it."
                )
        inputs = [_input(row) for row in zip(*(frame[name] for name in columns), strict=True)]
        good = [index for index, row in enumerate(inputs) if row is not None]
        if len(good) < len(inputs):
            count = len(inputs) - len(good)
            warnings.warn(f"{count:,} of {len(inputs):,} rows are not answered", stacklevel=2)
        empty = [{str: "", float: math.nan}.get(kind) for kind in prediction.kinds]
        answers: list[list[Any]] = [list(empty) for _ in inputs]
        for start in range(0, len(good), batch_size):
            batch = good[start : start + batch_size]
            found = prediction.answer(self, [inputs[index] for index in batch], unsure)
            for index, values in zip(batch, found, strict=True):
                answers[index] = values
        result = frame.copy()
        for place, name in enumerate(prediction.names):
            result[name] = [values[place] for values in answers]
        return result

    def _columns(
        self, frame: pandas.DataFrame, column: str | Sequence[str], prediction: Prediction
    ) -> list[str]:
        given = [column] if isinstance(column, str) and column else list(column)
        columns = given or list(self.input_columns or [prediction.column])
        for name in columns:
            if list(frame.columns).count(name) != 1:
                there = ", ".join(map(repr, frame.columns))
                raise InputError(
                    f"there is no column {name!r}, or there are two of this name.\n"
                    f"  The columns are: {there}. Name the one to read (column=...)."
                )
        return columns


def _input(row: tuple[Any, ...]) -> Any:
    """Return the input of a model for a row; None if the row has no readable text."""
    if len(row) == 1:
        return row[0] if isinstance(row[0], str) and row[0].strip() else None
    texts = tuple(text if isinstance(text, str) else "" for text in row)
    is_whole = all(isinstance(text, str) or _is_missing(text) for text in row)
    return texts if is_whole and any(text.strip() for text in texts) else None


def _is_missing(value: Any) -> bool:
    is_nan = isinstance(value, float) and math.isnan(value)
    return value is None or is_nan or type(value).__name__ == "NAType"
