"""Texts for a teacher to answer, with labels or without, and batches of its answers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from tfx_transformer.data.batches import Batches
from tfx_transformer.data.corpus import TEXT_SUFFIXES
from tfx_transformer.data.examples import Examples
from tfx_transformer.data.formats import TableFile, TableFiles
from tfx_transformer.data.joined import join_examples
from tfx_transformer.data.labelled_text import (
    LabelledTexts,
    header_of,
    joined_columns,
    text_batches,
    text_check,
    text_columns,
)
from tfx_transformer.data.labels import example_weights
from tfx_transformer.data.sentence_pair import SentencePairs
from tfx_transformer.data.sources import TableData
from tfx_transformer.data.splits import row_key
from tfx_transformer.data.summary import Line, Summary
from tfx_transformer.data.tables import BadRow, read_table
from tfx_transformer.data.text_encoding import decoded_name, find_encoding
from tfx_transformer.data.translation_pair import Pairs
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import short_repr
from tfx_transformer.text.tokenizer import Tokenizer

# Target of every class of a text without a label.
UNLABELLED = -1.0


class Unlabelled(Examples):
    """The base of examples without labels, which a teacher answers."""

    @property
    def inputs(self) -> Any:
        """The texts or images, as the teacher reads them."""
        raise NotImplementedError

    def without(self, *known: Iterable[Hashable]) -> Self:
        """Return the examples that are not known; of equal ones only the first.

        Args:
            known: keys of the known ones, see `Examples.keys`.
        """
        seen = {row_key(key) for keys in known for key in keys}
        kept = []
        for index, own in enumerate(self.keys()):
            key = row_key(own)
            if key not in seen:
                seen.add(key)
                kept.append(index)
        return self.take(kept)


@dataclasses.dataclass(frozen=True, repr=False)
class UnlabelledTexts(Unlabelled):
    """The texts of each row, one of each column, and the row in its file or table."""

    texts: list[tuple[str, ...]]
    rows: Sequence[Any]
    path: str = ""
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    bad_rows: list[BadRow] = dataclasses.field(default_factory=list)

    parts: ClassVar[tuple[str, ...]] = ("texts",)

    def shown(self, index: int) -> str:
        return ", ".join(map(short_repr, self.texts[index]))

    def flat_texts(self) -> list[str]:
        """All texts that are not empty, to train a tokenizer on."""
        return [text for texts in self.texts for text in texts if text]

    @property
    def inputs(self) -> list[tuple[str, ...]]:
        """The texts of each row."""
        return self.texts


@dataclasses.dataclass(frozen=True, repr=False)
class UnlabelledSummary(Summary):
    """Figures of the texts or images without labels that a teacher answers."""

    rows: int

    def entries(self) -> list[Line]:
        """See `Summary.entries`."""
        return []


def read_unlabelled_texts(
    path: TableData, text: str = "text", *, skip_bad_rows: bool = False, role: str = "text"
) -> UnlabelledTexts:
    """Read texts without labels, for a teacher to answer.

    Args:
        path: a text file (.txt or .md) with a text in each line that is not blank; or a table of
            any format (see `formats`) or in memory, as for `read_labelled_texts`; or several of
            these as `formats.table_files` returns them.
        text: column of the texts of a table, or several, see `read_labelled_texts`.
        skip_bad_rows: leave out rows that cannot be used and list them in `bad_rows`, instead of
            refusing the file.
        role: setting of a recipe that names the column, for messages.

    Raises:
        InputError: a text file cannot be read or decoded, has no text or a NUL character, or
            several columns are named; of a table, see `tables.read_table`.
    """
    if isinstance(path, TableFiles):
        options: dict[str, Any] = {"skip_bad_rows": skip_bad_rows, "role": role}
        parts = [read_unlabelled_texts(part, text, **options) for part in path.paths]
        return join_examples(parts, os.fspath(path))
    if isinstance(path, str | os.PathLike) and Path(path).suffix.lower() in TEXT_SUFFIXES:
        encoding = path.encoding if isinstance(path, TableFile) else ""
        return _read_lines(Path(path), text, encoding)
    columns = text_columns(text, header_of(path, text), role)
    roles = list(columns)
    table = read_table(
        path,
        columns,
        skip_bad_rows=skip_bad_rows,
        allow_empty=roles if len(roles) > 1 else [],
        check=text_check(roles, columns) if len(roles) > 1 else None,
    )
    return UnlabelledTexts(
        list(zip(*(table.columns[role] for role in roles), strict=True)),
        table.rows,
        path=str(table.path),
        columns={"text": joined_columns([columns[role] for role in roles])},
        bad_rows=table.bad_rows,
    )


def _read_lines(path: Path, text: str, encoding: str) -> UnlabelledTexts:
    if len(text_columns(text)) > 1:
        raise InputError(
            f"{path}: each line is one text, but {text!r} names several columns.\n"
            "  Expected a table with these columns."
        )
    try:
        codec = find_encoding(path, str(path), encoding)
        lines = path.read_bytes().decode(codec).split("\n")
    except OSError as error:
        raise InputError(
            f"{path}: the file cannot be read: {error.strerror}.\n  Check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is not {decoded_name(codec)}.\n  Write the file anew."
        ) from error
    kept = [number for number, line in enumerate(lines) if line.strip()]
    if not kept:
        raise InputError(f"{path}: it has no text.\n  Expected a text in each line.")
    for number in kept:
        if "\0" in lines[number]:
            raise InputError(f"{path}, line {number + 1}: it has a NUL character.\n  Remove it.")
    texts = [(lines[number].strip(),) for number in kept]
    return UnlabelledTexts(texts, [number + 1 for number in kept], path=str(path))


def taught_texts(
    examples: LabelledTexts,
    tokenizer: Tokenizer,
    names: Sequence[str],
    answers: np.ndarray,
    unlabelled: UnlabelledTexts | None = None,
    *,
    batch_size: int = 32,
    max_length: int = 128,
    multi_label: bool = False,
    weights: np.ndarray | str | None = None,
    token_dropout: float = 0.0,
    shuffle: bool = True,
    seed: int = 0,
) -> Batches:
    """Return a `tf.data.Dataset` of batches for `Classifier.fit` with `TaughtCrossentropy`.

    Each batch is ({`token_ids`: int32 (batch, length)}, targets, sample weights float32 (batch,)).
    Targets are float32 (batch, 2, names): see `taught_targets`. All texts are held in memory.

    Args:
        answers: float (labelled + unlabelled texts, names), the teacher's logits, those of the
            labelled texts first.
        unlabelled: texts without labels; None: none.
        names, batch_size, max_length, multi_label, weights, token_dropout, shuffle, seed: as for
            `labelled_texts`; the weight of a text without a label is 1.

    Raises:
        InputError: as for `labelled_texts`.
    """
    ids = examples.targets(names, multi_label)
    weight = example_weights(None if multi_label else weights, ids, len(names))
    labels = ids if multi_label else np.eye(len(names), dtype="float32")[ids]
    targets, weight = taught_targets(labels, weight, answers)
    return text_batches(
        [*examples.texts, *([] if unlabelled is None else unlabelled.texts)],
        tokenizer,
        targets,
        weight,
        batch_size=batch_size,
        max_length=max_length,
        token_dropout=token_dropout,
        shuffle=shuffle,
        seed=seed,
    )


def taught_targets(
    labels: np.ndarray, weight: np.ndarray, answers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the targets of `TaughtCrossentropy`, float32 (examples, 2, names), and the weights of
    the examples, float32 (examples,): those with labels first.

    A target has first 1 for each label of the example and 0 for the others, or -1 for all if it has
    no label; then the teacher's logits.

    Args:
        labels: 1 for each label, else 0: float (labelled, names).
        weight: of the labelled examples; the weight of the others is 1.
        answers: the teacher's logits, float (examples, names).
    """
    others = len(answers) - len(labels)
    none = np.full((others, labels.shape[1]), UNLABELLED, "float32")
    targets = np.stack([np.concatenate([labels, none]), answers], axis=1).astype("float32")
    return targets, np.concatenate([weight, np.ones(others, "float32")])


def taught_pairs(
    pairs: Pairs,
    answers: Sequence[str],
    others: UnlabelledTexts | None = None,
    joined: bool = False,
) -> Pairs:
    """Return the pairs with the translations of a teacher as targets (Kim & Rush 2016, section
    3.2), then pairs of the other texts and their translations.

    An empty answer is not learned: the pair keeps its own target, and another text is left out. All
    texts are held in memory.

    Args:
        answers: the teacher's translation of each source, then of each other text.
        others: texts without translations, one in each row; None: none.
        joined: True to return the pairs unchanged, then pairs with the answers.
    """
    own = list(zip(pairs.source, pairs.target, pairs.rows, strict=True))
    single = zip(others.flat_texts(), others.rows, strict=True) if others else ()
    path = others.path if others else ""
    asked = [*own, *((text, "", f"{row} of {path}") for text, row in single)]
    found = [
        (source, answer if answer.strip() else target, row)
        for (source, target, row), answer in zip(asked, answers, strict=True)
    ]
    if joined:  # an answer that is the target counts once
        known = set(own)
        found = [*own, *(triple for triple in found if triple not in known)]
    source, target, rows = map(list, zip(*(t for t in found if t[1]), strict=True))
    return dataclasses.replace(pairs, source=source, target=target, rows=rows)


def add_unlabelled_pairs(
    pairs: SentencePairs, others: UnlabelledTexts, seed: int = 0
) -> SentencePairs:
    """Return the pairs, then each single text paired with another one, drawn at random. Only a
    teacher knows the cosine of such a pair, so no pair has a score.

    Args:
        others: texts, one in each row.
        seed: seed of the random numbers.
    """
    texts = others.flat_texts()
    # Each text gets the next one of a random circle, so none gets itself.
    circle = np.random.default_rng(seed).permutation(len(texts))
    second = dict(zip(circle.tolist(), np.roll(circle, -1).tolist(), strict=True))
    return dataclasses.replace(
        pairs,
        first=pairs.first + texts,
        second=pairs.second + [texts[second[index]] for index in range(len(texts))],
        scores=None,
        rows=[*pairs.rows, *(f"{row} of {others.path}" for row in others.rows)],
    )
