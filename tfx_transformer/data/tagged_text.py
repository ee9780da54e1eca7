"""Texts with marked spans, from tables of spans or of tags to batches for a `Tagger`'s `fit`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tfx_transformer.data.batches import Batches, FreshPlan, pad, tf_dataset
from tfx_transformer.data.examples import Examples
from tfx_transformer.data.labels import split_stratified
from tfx_transformer.data.other_letters import OtherLetters
from tfx_transformer.data.tables import BadRow
from tfx_transformer.errors import InputError
from tfx_transformer.prediction.tagging import frame_window, room_for
from tfx_transformer.reprs import short_repr
from tfx_transformer.text.offsets import Offsets
from tfx_transformer.text.spans import Span, span_text, tag_names, tags_of
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.text.windows import Window, windows


@dataclasses.dataclass(frozen=True, repr=False)
class TaggedTexts(Examples):
    """A text in each row, and its spans in their order; they do not overlap."""

    texts: list[str]
    spans: list[tuple[Span, ...]]
    rows: Sequence[Any]
    path: str = ""
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    bad_rows: list[BadRow] = dataclasses.field(default_factory=list)

    parts: ClassVar[tuple[str, ...]] = ("texts", "spans")

    def shown(self, index: int) -> str:
        text = self.texts[index]
        return f"{short_repr(text)} → {span_text(text, self.spans[index])}"

    @property
    def inputs(self) -> list[str]:
        """The texts to mark spans in."""
        return self.texts

    def flat_texts(self) -> list[str]:
        """All texts, to train a tokenizer on."""
        return self.texts

    def labels(self) -> list[str]:
        """Return the distinct labels of all spans, sorted by their characters.

        Raises:
            InputError: no text has a span.
        """
        found = sorted({span.label for spans in self.spans for span in spans})
        if not found:
            raise InputError(
                f"{self.path or 'tagged texts'}: no text has a span.\n"
                "  A tagger needs texts with marked spans."
            )
        return found


def split_tagged_texts(
    examples: TaggedTexts, share: float = 0.1, seed: int = 0
) -> tuple[TaggedTexts, TaggedTexts]:
    """Return a training and a validation part with about the same share of every label.

    Equal texts go to the same side; see `labels.split_stratified`, also for the errors.
    """
    labels = [tuple(sorted({span.label for span in spans})) for spans in examples.spans]
    path = examples.path or "tagged texts"
    inside, outside = split_stratified(labels, examples.texts, share, seed, path=path)
    return examples.take(inside), examples.take(outside)


def tagged_texts(
    examples: TaggedTexts,
    tokenizer: Tokenizer,
    labels: Sequence[str],
    *,
    batch_size: int = 32,
    max_length: int = 128,
    token_dropout: float = 0.0,
    new_names: float = 0.0,
    shuffle: bool = True,
    seed: int = 0,
) -> Batches:
    """Return a `tf.data.Dataset` of batches for `Tagger.fit` and `evaluate`.

    Each batch is ({`token_ids`: int32 (batch, length)}, tags int32 (batch, length), weights float32
    (batch, length)), windows of similar length together. Tags are indices into `spans.tag_names`.
    Start, end, padding and blanks weigh 0; a token in two windows has weight in one of them. Every
    iteration over the data set is the next epoch, in the order `BatchPlan` gives for (seed, epoch).
    In order (`shuffle=False`), for validation, no token is left out or replaced.

    Args:
        labels: of the spans, see `TaggedTexts.labels`.
        max_length: most tokens of a window; a longer text has several.
        token_dropout: probability of leaving out each token, anew in every epoch.
        new_names: probability of replacing the letters of each span, anew in every epoch, by others
            of their kind (capitals by capitals, kanji by kanji of the texts), so that a model
            learns from the form of a span and the words around it. Texts of several windows stay.

    Raises:
        InputError: a label is unknown, a rate is not from 0 to 1, or `max_length` leaves no room
            for a token.
    """
    return tagged_batches(
        TagEncoder(examples, tokenizer, labels, max_length),
        batch_size=batch_size,
        token_dropout=token_dropout,
        new_names=new_names,
        shuffle=shuffle,
        seed=seed,
    )


def tagged_batches(
    encoder: TagEncoder,
    *,
    batch_size: int = 32,
    token_dropout: float = 0.0,
    new_names: float = 0.0,
    shuffle: bool = True,
    seed: int = 0,
) -> Batches:
    """Return a `tf.data.Dataset` of batches of windows, with the targets and weights of an encoder.

    Args:
        encoder: encoder of the texts.
        batch_size, token_dropout, new_names, shuffle, seed: as for `tagged_texts`.

    Raises:
        InputError: as for `tagged_texts`.
    """
    for name, rate in (("token_dropout", token_dropout), ("new_names", new_names)):
        if not 0 <= rate < 1:
            raise InputError(f"{name} is {rate}.\n  Expected from 0 to below 1.")
    examples, padding_id = encoder.examples, encoder.tokenizer.padding_id
    made = [
        (index, several, window)
        for index in range(len(examples))
        for several in [encoder.windows(index)]
        for window in several
    ]
    plan = FreshPlan([len(w[0]) for _, _, w in made], batch_size, shuffle=shuffle, seed=seed)
    letters = OtherLetters(examples.texts) if new_names and shuffle else None

    def row(number: int) -> Arrays:
        epoch, place = divmod(number, len(made))
        index, several, window = made[place]
        # The last number makes these draws independent of those of the plan.
        random = np.random.default_rng([seed, epoch, place, 2])
        if letters is not None and len(several) == 1 and index < encoder.labelled:
            text = letters.replace(examples.texts[index], examples.spans[index], new_names, random)
            found = encoder.windows(index, text)
            window = found[0] if len(found) == 1 else window
        if not (token_dropout and shuffle):
            return window
        kept = (random.random(len(window[0])) >= token_dropout) | (window[2] == 0)
        ids, tags, weights = (values[kept] for values in window)
        return ids, tags, weights

    def batch(numbers: np.ndarray) -> Any:
        rows = [row(int(number)) for number in numbers]
        ids = pad([ids for ids, _, _ in rows], padding_id, encoder.max_length)
        first = rows[0][1]
        targets = np.zeros((*ids.shape, *first.shape[1:]), first.dtype)
        weights = np.zeros(ids.shape, "float32")
        for place, (_, own, weight) in enumerate(rows):
            targets[place, : len(own)], weights[place, : len(own)] = own, weight
        return {"token_ids": ids}, targets, weights

    return tf_dataset(plan, batch, members=lambda place: [made[place][0]])


# Ids, targets and weights of a window.
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


class TagEncoder:
    """The windows of texts, with the tags of their tokens.

    Args:
        examples: the texts.
        tokenizer, labels, max_length: of `tagged_texts`.

    Attributes:
        examples, tokenizer, max_length: as given.
        labelled: number of examples whose spans are known; the others follow them.
        names: the tags.

    Raises:
        InputError: `max_length` leaves no room for a token.
    """

    def __init__(
        self, examples: TaggedTexts, tokenizer: Tokenizer, labels: Sequence[str], max_length: int
    ) -> None:
        self.examples, self.tokenizer, self.max_length = examples, tokenizer, max_length
        self.labelled = len(examples)
        self.names = tag_names(labels)
        self._labels = labels
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self._room = room_for(tokenizer, max_length)

    def windows(self, index: int, text: str | None = None) -> list[Arrays]:
        """Return the ids, targets and weights of the windows of a text.

        Args:
            index: of the example.
            text: read instead of its text, and of the same length.
        """
        text = self.examples.texts[index] if text is None else text
        ids, offsets = self.tokenizer.encode_with_offsets(text)
        targets, counts = self.targets(index, offsets)
        several = windows(len(ids), self._room)
        return [self._arrays(ids, targets, counts, window) for window in several]

    def targets(self, index: int, offsets: Offsets) -> tuple[np.ndarray, np.ndarray]:
        """Return the target of each token of a text, int32 (tokens,), the number of its tag; and
        its weight, float32 (tokens,).

        Args:
            index: of the example.
            offsets: offsets of the tokens.

        Raises:
            InputError: a label is unknown.
        """
        names = tags_of(self.examples.spans[index], offsets)
        if unknown := sorted({name for name in names if name not in self._numbers}):
            place = f"{self.examples.path or 'tagged texts'}, row {self.examples.rows[index]}"
            raise InputError(
                f"{place}: label {unknown[0][2:]!r} is not known.\n"
                f"  Known labels: {', '.join(self._labels)}."
            )
        tags = np.array([self._numbers[name] for name in names], "int32")
        return tags, np.array([start < end for start, end in offsets], "float32")

    def _arrays(
        self, ids: list[int], targets: np.ndarray, counts: np.ndarray, window: Window
    ) -> Arrays:
        framed = np.array(frame_window(self.tokenizer, ids, window), "int32")
        before, inside = len(self.tokenizer.frame.before), slice(window.start, window.end)
        place = slice(before, before + window.end - window.start)
        framed_targets = np.zeros((len(framed), *targets.shape[1:]), targets.dtype)
        weights = np.zeros(len(framed), "float32")
        framed_targets[place] = targets[inside]
        kept = np.zeros(len(ids), "float32")
        kept[window.kept_start : window.kept_end] = 1
        weights[place] = (counts * kept)[inside]
        return framed, framed_targets, weights
