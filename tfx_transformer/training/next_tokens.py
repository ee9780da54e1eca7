"""The likeliest next tokens by a model that writes, which a student learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfx_transformer.annotations import Tensor
from tfx_transformer.data.batches import pad
from tfx_transformer.data.packing import Example
from tfx_transformer.models.decoding import compile_function

# Most logits that are computed at once, and most rows.
_LOGITS = 1 << 26
_ROWS = 16


class NextTokens:
    """Returns the likeliest next tokens by a model.

    Args:
        model: a `CausalLM`.
        temperature: divisor of the logits, above 0.
        kept: number of tokens at each place.
        known: number of tokens that a tokenizer has, the first ones: the model may have room for
            more, which mean nothing.
    """

    def __init__(self, model: keras.Model, temperature: float, kept: int, known: int) -> None:
        self._model, self._temperature, self._kept = model, temperature, kept
        self._known = known
        self._run = compile_function(self._likeliest, [("int32", 2)])

    def _likeliest(self, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        logits = ops.cast(self._model({"token_ids": token_ids}, training=False), "float32")
        logs = ops.log_softmax(logits / self._temperature, axis=-1)
        best: Any = ops.top_k(logs[..., : self._known], self._kept)
        return best[1], best[0]

    def __call__(self, examples: Sequence[Example]) -> list[np.ndarray]:
        """Return for each example float32 (weights above 0, 2 kept): ids of the likeliest tokens,
        the likeliest first, then their log-probabilities."""
        config = self._model.config
        longest = max(len(example.token_ids) for example in examples)
        rows = min(max(_LOGITS // (longest * config.vocabulary_size), 1), _ROWS)
        found = []
        for start in range(0, len(examples), rows):
            part = examples[start : start + rows]
            ids = pad([example.token_ids for example in part], config.padding_id)
            tables: list[Any] = [ops.convert_to_numpy(table) for table in self._run(ids)]
            likeliest = np.concatenate(tables, axis=-1).astype("float32")
            for example, own in zip(part, likeliest, strict=True):
                found.append(own[: len(example.weights)][example.weights > 0])
        return found
