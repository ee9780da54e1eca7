"""Steps of one text that read several tokens at once; see `generation.drafting`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfx_transformer.runtime.signature import Signature


class Verifier:
    """Runs `verify_<length>` in the caches of single steps.

    Args:
        signature: one of those that read so many tokens.
        buffers: of the caches and of all other inputs but tokens and input_pos.

    Attributes:
        length: most tokens that are read at once.
    """

    def __init__(self, signature: Signature, buffers: dict[str, Any]) -> None:
        _, (_, self.length) = signature.inputs["tokens"]
        _, (self._positions,) = signature.inputs["input_pos"]
        own = {name: signature.input_buffer(name) for name in ("tokens", "input_pos")}
        self._inputs = own | buffers
        self._logits = signature.output_buffer("logits")
        caches = {name: buffer for name, buffer in buffers.items() if name in signature.outputs}
        self._outputs = {"logits": self._logits} | caches

    def run(self, signature: Signature, ids: Sequence[int], position: int) -> np.ndarray:
        """Return float32 (tokens, vocabulary_size), the logits after each of the tokens at
        position, position + 1, …

        Fewer than `length` tokens are padded; later ones overwrite the padding in the caches before
        anything reads it.
        """
        tokens = np.zeros((1, self.length), "int32")
        tokens[0, : len(ids)] = ids
        self._inputs["tokens"].write(tokens)
        places = np.arange(position, position + self._positions, dtype="int32")
        self._inputs["input_pos"].write(places)
        signature.invoke(self._inputs, self._outputs)
        return signature.read("logits", self._logits)[0, : len(ids)]
