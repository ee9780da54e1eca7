"""Steps of one text that read several tokens at once; see `generation.drafting`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfx_transformer.runtime.signature import Signature


class Verifier:
    """Runs `verify_<length>` in the caches of single steps.

    Its own buffers, for tokens, positions and logits, are made when the first draft is read, and
    serve all later ones.

    Args:
        signature: a `verify_<length>`.

    Attributes:
        length: most tokens that are read at once.
    """

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        _, (_, self.length) = signature.inputs["tokens"]
        _, (self._positions,) = signature.inputs["input_pos"]
        self._own: dict[str, Any] = {}

    def run(
        self,
        ids: Sequence[int],
        position: int,
        buffers: Mapping[str, Any],
        signature: Signature | None = None,
    ) -> np.ndarray:
        """Return float32 (tokens, vocabulary_size), the logits after each of the tokens at
        position, position + 1, …

        Fewer than `length` tokens are padded; later ones overwrite the padding in the caches before
        anything reads it.

        Args:
            buffers: of the caches and of all other inputs but tokens and input_pos.
            signature: the `verify_<length>` to run, of the same length; None: that of the
                constructor.
        """
        signature = signature or self._signature
        if not self._own:
            self._own = {name: signature.input_buffer(name) for name in ("tokens", "input_pos")}
            self._logits = signature.output_buffer("logits")
        tokens = np.zeros((1, self.length), "int32")
        tokens[0, : len(ids)] = ids
        self._own["tokens"].write(tokens)
        places = np.arange(position, position + self._positions, dtype="int32")
        self._own["input_pos"].write(places)
        caches = {name: buffer for name, buffer in buffers.items() if name in signature.outputs}
        signature.invoke(self._own | dict(buffers), {"logits": self._logits} | caches)
        return signature.read("logits", self._logits)[0, : len(ids)]
