"""The past of the bundle that a training starts from: its labels, and the rows that it has seen,
which a later training does not hold out."""

from __future__ import annotations

import collections
import dataclasses
import difflib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfx_transformer import bundle
from tfx_transformer.data.examples import Examples
from tfx_transformer.data.joined import Correction, join_examples, settle
from tfx_transformer.data.splits import Split, row_sum
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity

# A training goes on with the labels of the base if it knows this share of the data's labels.
_SHARE = 0.5
# Highest learning rate of a training that began with a checkpoint; a new model learns faster.
_FINE_TUNING = 5e-4
# Most rows whose split a bundle keeps: four bytes each.
_MOST_ROWS = 2_000_000


class Past:
    """The past of the model that a training starts from; empty unless it is a bundle of this
    package.

    Args:
        base: a bundle, or another source of `from_pretrained`, or "".

    Attributes:
        path: path of the bundle; None if it is not one.
        labels: names of its classes, if the training goes on with them; empty for another task or
            other labels, whose read-out is new.
        split: the rows it was trained on and those it held out; None if it has no record of them.
        corrections: rows whose label a later table has changed.
        notes: findings about the rows, for the terminal.

    Raises:
        InputError: the bundle cannot be read.
    """

    def __init__(self, base: str | os.PathLike[str] = "") -> None:
        self.path: Path | None = None
        self.labels: list[str] = []
        self.split: Split | None = None
        self.corrections: list[Correction] = []
        self.notes: list[str] = []
        self._config: dict[str, Any] = {}
        self._has_table = False
        self._has_base = bool(base)
        self._seen: Split | None = None
        self._seers = ""
        if base and "://" not in str(base) and _is_bundle(Path(base)):
            self.path = Path(base)
            self._config = bundle.read_config(self.path)
            self.labels = list(self._config.get("labels") or [])
            self.split = Split.read(self.path)

    def __repr__(self) -> str:
        rows = quantity(len(self.split.training), "row") if self.split else "unknown rows"
        return f"Past: {self.path}, trained on {rows}" if self.path else "Past: none"

    @property
    def is_comparable(self) -> bool:
        """True if the base cannot have been trained on rows that are held out now."""
        return self.path is not None and (self.split is not None or self._has_table)

    def is_of(self, task: str) -> bool:
        """Return True if the base is a bundle of this task."""
        return self._config.get("task") == task

    @property
    def goes_on(self) -> bool:
        """True if the training goes on with the labels of the base."""
        return bool(self.labels)

    @property
    def is_pretrained(self) -> bool:
        """True if the base is a checkpoint, or a bundle that was made of one: imported, trained
        from one of the hub, or trained at the low rate of fine-tuning."""
        if self.path is None:
            return self._has_base
        if self._config.get("base"):
            return True
        settings = self._config.get("settings")
        if not settings:  # imported, or trained by an earlier version, which kept `training` alone
            return not self._config.get("training")
        rate = settings.get("learning_rate")
        return isinstance(rate, int | float) and rate <= _FINE_TUNING

    def divide(
        self,
        train: Any,
        held_out: Any | None,
        split: Callable[..., tuple[Any, Any]],
        share: float,
        seed: int,
        multi_label: bool = False,
        teacher: Past | None = None,
    ) -> tuple[Any, Any]:
        """Return the examples to train on and the held-out ones.

        By the record in its bundle, rows that the base was trained on are trained on again, and
        rows that it held out stay held out. A share of the new rows is held out, unless there is a
        table of held-out rows; a row whose label the base may have predicted is never held out.

        Args:
            train: labelled examples of one table or several.
            held_out: examples of a table of their own; None: a share of `train` is held out.
            split: (examples, share, seed) -> both parts.
            share, seed: arguments of `split`.
            multi_label: True if a row may have several labels.
            teacher: past of the teacher, whose record counts too: a row that either was trained on
                is not held out.

        Raises:
            InputError: there is nothing to hold out.
        """
        if teacher is not None and self.path is None:
            parts = teacher.divide(train, held_out, split, share, seed, multi_label)
            self.notes, self.corrections = teacher.notes, teacher.corrections
            return parts
        self._has_table = held_out is not None
        self._compare_labels(train, multi_label)
        self._join_teacher(teacher)
        if self.split is None and self.goes_on and held_out is None:
            self.notes.append(
                f"{self.path} does not say which rows it has seen, so a comparison would not be "
                "fair: give held-out rows of their own (--validation)"
            )
        if self._seen is None:
            train, self.corrections = settle(train, self._answers)
            self._note(train)
            return (train, held_out) if held_out is not None else split(train, share, seed)
        both, apart = train, frozenset[int]()
        if held_out is not None:
            held_out = self._without_training(held_out)
            apart = frozenset(map(row_sum, held_out.keys()))
            both = _with_first(held_out, train)
        both, self.corrections = settle(both, self._answers)
        self._note(train)
        sides = self._sides(both, self._seen.held_out | apart)
        inside = [i for i, side in enumerate(sides) if side == "training"]
        outside = [i for i, side in enumerate(sides) if side == "held out"]
        new = [i for i, side in enumerate(sides) if side == "new"]
        if new and held_out is None:
            more, others = _split_places(both, new, split, share, seed)
            inside, outside = sorted(inside + more), sorted(outside + others)
        elif new:
            inside = sorted(inside + new)
        if not outside or not inside:
            raise InputError(
                f"{train.path}: it has none of the rows that {self._seers} "
                f"{'holds out' if not outside else 'may be trained on'}.\n"
                f"  Name the table of {self._seers} first, so that nothing is forgotten:\n"
                f"  first.csv,{os.path.basename(str(train.path))}; or give held-out rows of "
                "their own (--validation)."
            )
        found = both.take(outside)
        if held_out is not None:
            found = dataclasses.replace(found, path=held_out.path)
        return both.take(inside), found

    def _join_teacher(self, teacher: Past | None) -> None:
        """Let the record of a teacher count beside that of the base."""
        self._seen, self._seers = self.split, str(self.path)
        if teacher is None or teacher.split is None:
            return
        self._seen, self._seers = teacher.split, str(teacher.path)
        if self.split is not None:
            self._seen, self._seers = self.split | teacher.split, f"{self.path} or {teacher.path}"

    def _without_training(self, held_out: Any) -> Any:
        """Return the held-out examples that neither the base nor the teacher was trained on."""
        assert self._seen is not None
        kept = [
            index
            for index, key in enumerate(held_out.keys())
            if row_sum(key) not in self._seen.training
        ]
        if left_out := len(held_out) - len(kept):
            count = quantity(left_out, "held-out row")
            self.notes.append(f"{count} left out: {self._seers} was trained on them")
        return held_out.take(kept)

    def _sides(self, both: Any, apart: frozenset[int]) -> list[str]:
        """Return the side of each example: "training", "held out", or "new".

        Args:
            apart: rows that are held out, unless the base was trained on them.
        """
        assert self._seen is not None
        sides = []
        predicted = both.predicted or [False] * len(both)
        for index, number in enumerate(map(row_sum, both.keys())):
            if number in self._seen.training:
                sides.append("training")
            elif number in apart:
                sides.append("held out")
            else:
                own = predicted[index] and set(both.labels[index]) <= set(self.labels)
                sides.append("training" if own else "new")
        if self.goes_on and "held out" not in sides:
            self.notes.append(
                f"the data have none of the rows that {self._seers} holds out: name its table too"
            )
        return sides

    def _compare_labels(self, train: Any, multi_label: bool) -> None:
        """Forget the labels of the base if the data have mostly others, or labels of another kind;
        else note the new ones."""
        if not self.labels or not isinstance(getattr(train, "labels", None), list):
            self.labels = []
            return
        several = bool(self._config.get("architecture", {}).get("multi_label"))
        counts = collections.Counter(label for labels in train.labels for label in labels)
        known = set(self.labels) & counts.keys()
        if several != multi_label or len(known) < _SHARE * len(counts):
            self.labels = []
        for name in sorted(counts.keys() - set(self.labels)) if self.labels else ():
            note = f"new label {name!r}: {quantity(counts[name], 'row')}"
            alike = difflib.get_close_matches(name, self.labels, n=1, cutoff=0.75)
            self.notes.append(note + (f"; did you mean {alike[0]!r}?" if alike else ""))

    def _note(self, train: Any) -> None:
        if train.open_rows:
            self.notes.append(f"{quantity(train.open_rows, 'row')} still open: left out")
        if self.corrections:
            count = quantity(len(self.corrections), "row")
            self.notes.append(f"{count} of an earlier table with another label in a later one")

    def _answers(self, inputs: list[Any]) -> list[tuple[str, ...]]:
        """Return the labels that the base gives to texts or images."""
        if not self.labels:
            return [()] * len(inputs)
        return [found.labels for found in self.open().classify(inputs)]

    def open(self) -> Any:
        """Return the predictor of the base, see `open_bundle`.

        Raises:
            InputError: it is damaged.
        """
        assert self.path is not None
        return open_bundle(self.path)


def open_bundle(path: Path, beams: int = 1) -> Any:
    """Return the predictor of a bundle: its TFLite file if there is one that can decode with so
    many beams, else its Keras model.

    Raises:
        InputError: it is damaged.
    """
    if any((path / name).is_file() for name in bundle.LITERT.values()):
        from tfx_transformer import runtime

        found: Any = runtime.load(path)
        if beams == 1 or beams in found.engine.beams:
            return found
    from tfx_transformer.models.decoding import text_generator
    from tfx_transformer.models.predicting import predictor
    from tfx_transformer.models.saving import load

    model, tokenizer = load(path)
    if model.writes:
        return text_generator(model, tokenizer)
    labels = bundle.read_config(path).get("labels")
    return predictor(model, tokenizer, labels) if labels else predictor(model, tokenizer)


def split_of(read: Sequence[Any], past: Past) -> Split | None:
    """Return the split of the examples, joined with that of the past; None for other data, such as
    token files, and for more rows than a bundle keeps.

    Args:
        read: training examples and held-out ones.
        past: past of the base.
    """
    if len(read) != 2 or not all(isinstance(part, Examples) for part in read):
        return None
    if sum(map(len, read)) > _MOST_ROWS:
        return None
    found = Split.of(*(part.keys() for part in read))
    return found if past.split is None else found | past.split


def _is_bundle(path: Path) -> bool:
    from tfx_transformer.models.pretrained import is_checkpoint

    return (path / bundle.CONFIG).is_file() and not is_checkpoint(path)


def _with_first(held_out: Any, train: Any) -> Any:
    """Return the examples of all tables, joined: the held-out ones first, then the training's."""
    path = str(train.path)
    if train.tables is None:
        return join_examples([held_out, train], path)
    numbers = sorted(set(train.tables))
    parts = [
        train.take([index for index, table in enumerate(train.tables) if table == number])
        for number in numbers
    ]
    joined = join_examples([held_out, *parts], path)
    rows = [f"{row} of {held_out.path}" for row in held_out.rows]
    return dataclasses.replace(
        joined, rows=[*rows, *train.rows], bad_rows=[*held_out.bad_rows, *train.bad_rows]
    )


def _split_places(
    both: Any, new: Sequence[int], split: Callable[..., tuple[Any, Any]], share: float, seed: int
) -> tuple[list[int], list[int]]:
    """Return the places of new examples to train on and of those to hold out; all are trained on
    if they cannot be split."""
    numbered = dataclasses.replace(both.take(new), rows=list(new))
    try:
        inside, outside = split(numbered, share, seed)
    except InputError:
        if not 0 <= share <= 1:
            raise
        return list(new), []
    return list(inside.rows), list(outside.rows)
