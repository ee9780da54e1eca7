"""Batches of texts with the numbers that a teacher predicts for them."""

from __future__ import annotations

import numpy as np

from tfx_transformer.data.batches import Batches
from tfx_transformer.data.labelled_text import text_batches
from tfx_transformer.data.scored_text import Scale, ScoredTexts, standardized
from tfx_transformer.data.taught_text import UnlabelledTexts
from tfx_transformer.text.tokenizer import Tokenizer


def taught_numbers(
    examples: ScoredTexts,
    tokenizer: Tokenizer,
    scale: Scale,
    answers: np.ndarray,
    unlabelled: UnlabelledTexts | None = None,
    *,
    batch_size: int = 32,
    max_length: int = 128,
    token_dropout: float = 0.0,
    shuffle: bool = True,
    seed: int = 0,
) -> Batches:
    """Return a `tf.data.Dataset` of batches for `Regressor.fit` with `TaughtError`.

    Each batch is ({`token_ids`: int32 (batch, length)}, targets float32 (batch, 3), sample weights
    float32 (batch,)): targets as `TaughtError` takes them, standardized. All texts are held in
    memory.

    Args:
        answers: float (texts,), the teacher's numbers in the units of the data, those of the texts
            with numbers first.
        unlabelled: texts without numbers; None: none.
        scale, batch_size, max_length, token_dropout, shuffle, seed: as for `scored_texts`.

    Raises:
        InputError: as for `scored_texts`.
    """
    others = [] if unlabelled is None else unlabelled.texts
    known = np.arange(len(answers)) < len(examples)
    numbers = np.zeros(len(answers), "float32")
    numbers[known] = standardized(examples, scale)
    targets = np.stack([numbers, scale.standardize(answers), known], axis=1)
    return text_batches(
        [*examples.texts, *others],
        tokenizer,
        targets.astype("float32"),
        np.ones(len(answers), "float32"),
        batch_size=batch_size,
        max_length=max_length,
        token_dropout=token_dropout,
        shuffle=shuffle,
        seed=seed,
    )
