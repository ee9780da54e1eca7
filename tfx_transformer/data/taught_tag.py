"""The tags that a teacher gives to the words of texts, and batches of them for a student."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfx_transformer.data.batches import Batches
from tfx_transformer.data.tagged_text import TagEncoder, TaggedTexts, tagged_batches
from tfx_transformer.data.taught_text import UNLABELLED, UnlabelledTexts
from tfx_transformer.prediction.tagging import TaggedTokens
from tfx_transformer.text.offsets import Offsets
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.text.words import words

# Logit of a tag that is impossible.
_NEVER = -1e4


def word_logits(text: str, tokens: TaggedTokens, names: Sequence[str]) -> np.ndarray:
    """Return the logits of the words of a text, float32 (words, tags), by those of its tokens.

    A word has the logits of the first token that holds a part of it. If that token holds a part of
    an earlier word too, they are those of `continued`. A word without a token has NaN.

    Args:
        text: the text; its words are those of `text.words.words`.
        tokens: tokens of the text, and their logits.
        names: the tags: O, and for each label both B- and I-.
    """
    places = words(text)
    found = np.full((len(places), len(names)), np.nan, "float32")
    after = continued(tokens.logits, names)
    token, used = 0, -1
    for index, (start, end) in enumerate(places):
        token = _first_after(tokens.offsets, token, start)
        if token < len(tokens.offsets) and tokens.offsets[token][0] < end:
            found[index] = (after if token == used else tokens.logits)[token]
            used = token
    return found


def continued(logits: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Return the logits of what continues a word: a span cannot begin there, so the probability of
    B- of a label belongs to its I-.

    Args:
        logits: float (…, tags), of the beginning of the word.
        names: the tags.
    """
    found = np.array(logits, "float32")
    for index, name in enumerate(names):
        if name.startswith("B-"):
            inside = names.index(f"I-{name[2:]}")
            with np.errstate(invalid="ignore"):  # NaN stays NaN
                found[..., inside] = np.logaddexp(found[..., index], found[..., inside])
            found[..., index] = _NEVER
    return found


def _first_after(offsets: Offsets, token: int, place: int) -> int:
    """Return the number of the first token, from one on, that ends after a place; tokens of length
    0 do not count."""
    while token < len(offsets) and (
        offsets[token][1] <= place or offsets[token][0] == offsets[token][1]
    ):
        token += 1
    return token


def taught_tags(
    examples: TaggedTexts,
    tokenizer: Tokenizer,
    labels: Sequence[str],
    answers: Sequence[np.ndarray],
    unlabelled: UnlabelledTexts | None = None,
    *,
    batch_size: int = 32,
    max_length: int = 128,
    token_dropout: float = 0.0,
    new_names: float = 0.0,
    shuffle: bool = True,
    seed: int = 0,
) -> Batches:
    """Return a `tf.data.Dataset` of batches for `Tagger.fit` with `TaughtCrossentropy`.

    Each batch is ({`token_ids`}, targets, weights) as that of `tagged_texts`, but targets are
    float32 (batch, length, 2, tags). First 1 for the tag of the token and 0 for the others, or -1
    for all in a text without spans; then the teacher's logits of the word that the token is in: the
    first token of a word has those of `word_logits`, its others those of `continued`. Where the
    teacher has no answer, it agrees with the label; a token without either weighs 0.

    Args:
        answers: logits of the words of each text, float (words, tags) each, in the order of
            `tag_names(labels)`; those of the texts with spans first.
        unlabelled: texts without spans, one in each row; None: none. Their letters stay.
        labels, batch_size, max_length, token_dropout, new_names, shuffle, seed: as for
            `tagged_texts`.

    Raises:
        InputError: as for `tagged_texts`.
    """
    encoder = _TaughtEncoder(examples, tokenizer, labels, max_length, answers, unlabelled)
    return tagged_batches(
        encoder,
        batch_size=batch_size,
        token_dropout=token_dropout,
        new_names=new_names,
        shuffle=shuffle,
        seed=seed,
    )


class _TaughtEncoder(TagEncoder):
    """The windows of texts, with the tags of their tokens and the teacher's logits; arguments as
    for `taught_tags`."""

    def __init__(
        self,
        examples: TaggedTexts,
        tokenizer: Tokenizer,
        labels: Sequence[str],
        max_length: int,
        answers: Sequence[np.ndarray],
        unlabelled: UnlabelledTexts | None,
    ) -> None:
        others = [] if unlabelled is None else [text for (text,) in unlabelled.texts]
        rows = [*examples.rows, *([] if unlabelled is None else unlabelled.rows)]
        every = dataclasses.replace(
            examples,
            texts=[*examples.texts, *others],
            spans=[*examples.spans, *[()] * len(others)],
            rows=rows,
        )
        super().__init__(every, tokenizer, labels, max_length)
        self.labelled = len(examples)
        self._words = list(map(words, every.texts))
        self._answers = list(answers)

    def targets(self, index: int, offsets: Offsets) -> tuple[np.ndarray, np.ndarray]:
        """Return the targets of the tokens of a text, float32 (tokens, 2, tags), and their weights,
        float32 (tokens,)."""
        tags, weights = super().targets(index, offsets)
        found = np.zeros((len(offsets), 2, len(self.names)), "float32")
        found[:, 0] = np.eye(len(self.names))[tags]
        found[:, 1] = np.where(found[:, 0], 0.0, _NEVER)
        if index >= self.labelled:
            found[:, 0] = UNLABELLED
        places, answers = self._words[index], self._answers[index]
        after = continued(answers, self.names)
        word, used = 0, -1
        for token, (start, end) in enumerate(offsets):
            while word < len(places) and places[word][1] <= start:
                word += 1
            inside = start < end and word < len(places) and places[word][0] < end
            if inside and not np.isnan(answers[word, 0]):
                found[token, 1] = (after if word == used else answers)[word]
                used = word
            elif index >= self.labelled:
                weights[token] = 0
        return found, weights
