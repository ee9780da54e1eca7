"""Labelled texts, from a CSV to batches for a `Classifier`'s `fit`."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tfx_transformer import reprs
from tfx_transformer.arguments import naming
from tfx_transformer.data.batches import Batches, FreshPlan, pad, tf_dataset
from tfx_transformer.data.examples import Examples
from tfx_transformer.data.file_rows import Rows, hashes, mapped, sample, sizes, zipped
from tfx_transformer.data.formats import TableFiles
from tfx_transformer.data.joined import (
    join_examples,
    label_columns,
    row_labels,
    without_open_rows,
)
from tfx_transformer.data.labels import example_weights, label_ids, label_matrix, split_stratified
from tfx_transformer.data.sources import Problem, TableData, as_label, is_table
from tfx_transformer.data.tables import BadRow, Check, read_header, read_table
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import short_repr
from tfx_transformer.text.framing import frame
from tfx_transformer.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, repr=False)
class LabelledTexts(Examples):
    """The texts and labels of each row: one text and one label, unless more were asked for."""

    texts: Rows[tuple[str, ...]]
    labels: list[tuple[str, ...]]
    rows: Sequence[Any]
    path: str = ""
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    bad_rows: list[BadRow] = dataclasses.field(default_factory=list)
    tables: Sequence[int] | None = None
    predicted: Sequence[bool] | None = None
    open_rows: int = 0

    parts: ClassVar[tuple[str, ...]] = ("texts", "labels")

    def shown(self, index: int) -> str:
        texts = ", ".join(map(short_repr, self.texts[index]))
        return f"{texts} → {reprs.short_list(self.labels[index])}"

    @property
    def inputs(self) -> Rows[tuple[str, ...]]:
        """The texts to classify."""
        return self.texts

    def targets(self, names: Sequence[str], multi_label: bool = False) -> np.ndarray:
        """int32 (examples,), see `labels.label_ids`; with `multi_label` float32 (examples, names),
        see `labels.label_matrix`."""
        number = label_matrix if multi_label else label_ids
        path = self.path or "labelled texts"
        return number(self.labels, names, path=path, rows=self.rows)

    def flat_texts(self) -> list[str]:
        """All texts that are not empty, to train a tokenizer on; a sample of texts that stay in
        their file."""
        return [text for texts in sample(self.texts) for text in texts if text]


def read_labelled_texts(
    path: TableData,
    text: str = "text",
    label: str = "label",
    separator: str = "",
    *,
    skip_bad_rows: bool = False,
) -> LabelledTexts:
    """Read a table of texts and their labels.

    Texts stay as they are written. So do labels, except blanks at either end: `NA`, `null`, `001`
    and `True` are labels like any other.

    The whole file is checked. If it has more than 64 MiB, the texts stay in it as `FileRows`, which
    need the file as long as they are used.

    Args:
        path: a table of any format (see `formats`), or several as `formats.table_files` returns
            them; or a table in memory: a pandas DataFrame, a dictionary of columns, or a list of
            dictionaries or of (text, label). Whole numbers are labels too. For a table that
            `predict` wrote see `joined.label_columns`.
        text: name of the column of the texts, or several, separated by commas, or as a JSON list:
            `["title, short", "body"]`. A column of exactly this name is taken first. Of several
            texts some may be empty, but not all.
        label: name of the column of the labels.
        separator: between several labels in one cell, such as "|". Then `a||b|a` is `a` and `b`,
            and an empty cell has no label. "": every cell is one label.
        skip_bad_rows: leave out rows that cannot be used and list them in `bad_rows`, instead of
            refusing the file.

    Raises:
        InputError: a column is named twice; for others see `tables.read_table`.
    """
    if isinstance(path, TableFiles):
        return join_examples(
            [
                read_labelled_texts(part, text, label, separator, skip_bad_rows=skip_bad_rows)
                for part in path.paths
            ],
            os.fspath(path),
        )
    columns = text_columns(text, header_of(path, text))
    check_columns(columns, text, label, "label")
    roles = list(columns)
    of_labels = label_columns(path, label)
    allow_empty = list(of_labels) if separator or "predicted" in of_labels else []
    table = read_table(
        path,
        columns | of_labels,
        skip_bad_rows=skip_bad_rows,
        allow_empty=allow_empty + (roles if len(roles) > 1 else []),
        leave_in_file=roles,
        convert=dict.fromkeys(of_labels, as_label),
        check=text_check(roles, columns) if len(roles) > 1 else None,
    )
    labels, predicted = row_labels(table.columns, separator)
    found = LabelledTexts(
        zipped([table.columns[role] for role in roles]),
        labels,
        table.rows,
        path=str(table.path),
        columns={"text": joined_columns([columns[role] for role in roles]), "label": label},
        bad_rows=table.bad_rows,
        predicted=predicted,
    )
    return found if predicted is None else without_open_rows(found)


def split_labelled_texts(
    examples: LabelledTexts, share: float = 0.1, seed: int = 0
) -> tuple[LabelledTexts, LabelledTexts]:
    """Return the training and validation part, with about the same share of every label.

    Rows with equal texts go to the same side; a label of a single row stays in training. See
    `labels.split_stratified`, also for the errors.
    """
    keys = hashes(examples.texts).tolist()
    inside, outside = split_stratified(
        examples.labels, keys, share, seed, path=examples.path or "labelled texts"
    )
    return examples.take(inside), examples.take(outside)


def labelled_texts(
    examples: LabelledTexts,
    tokenizer: Tokenizer,
    names: Sequence[str],
    *,
    batch_size: int = 32,
    max_length: int = 128,
    multi_label: bool = False,
    weights: np.ndarray | str | None = None,
    token_dropout: float = 0.0,
    mixed: bool = False,
    shuffle: bool = True,
    seed: int = 0,
) -> Batches:
    """Return a `tf.data.Dataset` of batches for `Classifier.fit` and `evaluate`.

    Each batch is ({`token_ids`: int32 (batch, length)}, labels, sample weights float32 (batch,)),
    texts of similar length together. Labels are int32 (batch,), indices into `names`; with
    `multi_label` float32 (batch, names), 1 for those that hold. Every iteration over the data set
    is the next epoch, in the order `BatchPlan` gives for (seed, epoch). Texts that stay in their
    file are read, and encoded, when their batch is made.

    Args:
        names: the known labels, see `labels.label_names`.
        max_length: longer rows are cut, see `text.framing.frame`.
        weights: float (names,), weight of an example of each label; "balanced": see
            `labels.class_weights`; None or "": 1.
        token_dropout: probability of leaving out each token, anew in every epoch (Iyyer et al.
            2015, section 3.1), so that the label is learned from the other tokens too. In order
            (`shuffle=False`), for validation, no token is left out.
        mixed: True for batches of texts of any length, which take more padding: for a loss that
            compares the texts of a batch, such as `LabelContrast`.

    Raises:
        InputError: a label is unknown, a row has several and `multi_label` is not set, weights are
            given with `multi_label`, or `max_length` leaves no room for a text.
    """
    if multi_label and weights is not None and len(weights):
        raise InputError(
            "class weights and several labels a row do not go together.\n"
            "  The weight of a row is that of its one label. Leave one of them out."
        )
    labels = examples.targets(names, multi_label)
    return text_batches(
        examples.texts,
        tokenizer,
        labels,
        example_weights(weights, labels, len(names)),
        batch_size=batch_size,
        max_length=max_length,
        token_dropout=token_dropout,
        mixed=mixed,
        shuffle=shuffle,
        seed=seed,
    )


def text_batches(
    texts: Rows[tuple[str, ...]],
    tokenizer: Tokenizer,
    targets: np.ndarray,
    weight: np.ndarray,
    *,
    batch_size: int,
    max_length: int,
    token_dropout: float = 0.0,
    mixed: bool = False,
    shuffle: bool = True,
    seed: int = 0,
) -> Batches:
    """Return a `tf.data.Dataset` of batches of texts and their targets.

    Args:
        texts: of each row.
        targets: (rows,) or (rows, n), in the dtype of the batches.
        weight: float32 (rows,).
        batch_size, max_length, token_dropout, mixed, shuffle, seed: as for `labelled_texts`.

    Raises:
        InputError: `max_length` leaves no room for a text, or `token_dropout` is out of range.
    """
    _check_room(texts, max_length)
    if not 0 <= token_dropout < 1:
        raise InputError(f"token_dropout is {token_dropout}.\n  Expected from 0 to below 1.")
    ids = mapped(lambda row: frame(tokenizer, row, max_length), texts)
    frame_ids = {tokenizer.start_id, tokenizer.end_id}
    plan = FreshPlan(sizes(ids), batch_size, shuffle=shuffle, seed=seed, mixed=mixed)
    dropped = token_dropout if shuffle else 0.0

    def row(number):
        epoch, index = divmod(int(number), len(ids))
        if not dropped:
            return ids[index]
        framed = ids[index]
        # The last number makes these draws independent of those of the plan.
        random = np.random.default_rng([seed, epoch, index, 2])
        kept = random.random(len(framed)) >= dropped
        return [i for i, keep in zip(framed, kept, strict=True) if keep or i in frame_ids]

    def batch(numbers):
        indices = numbers % len(ids)
        token_ids = pad(list(map(row, numbers)), tokenizer.padding_id, max_length)
        return {"token_ids": token_ids}, targets[indices], weight[indices]

    return tf_dataset(plan, batch)


def _check_room(texts: Rows[tuple[str, ...]], max_length: int) -> None:
    columns = max(map(len, sample(texts)))
    if max_length < columns + 2:
        raise InputError(
            f"max_length is {max_length}.\n"
            f"  Expected {columns + 2} or more: a start, {columns} ends and a token."
        )


def header_of(path: TableData, text: str) -> list[str]:
    """Return the header if `text` may be one name with commas or blanks, or several names; [] for a
    plain name."""
    if text == text.strip() and not set(text) & set(",["):
        return []
    if is_table(path):
        return list(getattr(path, "columns", path if isinstance(path, Mapping) else ()))
    return read_header(path)


def text_columns(
    text: str | Sequence[str], header: Collection[str] = (), role: str = "text"
) -> dict[str, str]:
    """Return role -> name of each column of texts.

    Args:
        text: one name, several separated by commas, or a JSON list of names.
        header: of the file; a name that is in it is one column, whatever characters it has.
        role: the role of a single column: the parameter that names it. The roles of several
            columns are numbered, such as "text 1".
    """
    names = [text] if text in header else _split_names(text)
    if len(names) == 1:
        return {role: names[0]}
    return {f"{role} {number}": name for number, name in enumerate(names, start=1)}


def joined_columns(names: Sequence[str]) -> str:
    """Return names of columns as one text that `text_columns` reads."""
    plain = all(name == name.strip() and not set(name) & set(",[") for name in names)
    return ",".join(names) if plain else json.dumps(names, ensure_ascii=False)


def _split_names(text: str | Sequence[str]) -> list[str]:
    if not isinstance(text, str):
        return list(text)
    if text.lstrip().startswith("["):
        try:
            names = json.loads(text)
        except ValueError:
            names = None
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            return names
    return [name.strip() for name in text.split(",")]


def check_columns(
    columns: dict[str, str], text: str | Sequence[str], target: str, role: str
) -> None:
    """Raise if a column is named twice.

    Args:
        columns: role -> name of each column of texts.
        text: the names of these, as the user gave them.
        target: name of the column to predict.
        role: role of that column, such as "label".

    Raises:
        InputError: a column is named twice; the error says which.
    """
    names = list(columns.values())
    for name in names:
        if names.count(name) > 1 or name == target:
            raise InputError(
                f"column {name!r} is named twice: the texts are {text!r}, the {role} {target!r}.\n"
                f"  Every column is read once. Name another one: {naming('text', role)}."
            )


def text_check(roles: list[str], columns: dict[str, str]) -> Check:
    """Return a check that rejects a row if all its texts are empty.

    Args:
        roles: of the columns of texts.
        columns: role -> name of the column.
    """
    names = " and ".join(repr(columns[role]) for role in roles)
    remedy = "Every row needs a text in one of them."

    def check(cells: dict[str, str]) -> Problem | None:
        if any(cells[role].strip() for role in roles):
            return None
        return Problem(columns[roles[0]], f"columns {names} are empty", remedy)

    return check
