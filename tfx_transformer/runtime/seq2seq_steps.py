"""The decoding steps of one source, by an encoder-decoder in LiteRT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer.generation.drafting import Drafter, Hits
from tfx_transformer.runtime.signature import Signature
from tfx_transformer.runtime.verifier import Verifier


class Seq2SeqReach(NamedTuple):
    """The signatures of a file that read the first slots of its caches.

    Attributes:
        slots: how many they read, of the source and of the text.
        prefill: `prefill`, which projects so many vectors of the encoder's memory.
        decoder: `decode`.
        verifier: `verify_<length>`; None if the file does not have it.
    """

    slots: int
    prefill: Signature
    decoder: Signature
    verifier: Signature | None


class Steps:
    """The decoding steps of one source.

    Args:
        signature: `decode` or `decode_beams`.
        reaches: of the steps without beams, from the fewest slots to the whole context.
        memory: buffers of the cross-attention cache.
        source_ids: the source.
        verifier: of the engine; None for `decode_beams`.
        hits: of the drafts; None: nothing is drafted.
    """

    def __init__(
        self,
        signature: Signature,
        reaches: Sequence[Seq2SeqReach],
        memory: dict[str, Any],
        source_ids: Sequence[int],
        verifier: Verifier | None,
        hits: Hits | None,
    ) -> None:
        self.signature, self._reaches = signature, reaches
        self.rows = np.arange(signature.rows, dtype="int32")
        self._source_length, self._drafter = len(source_ids), None
        length = signature.input_buffer("source_length", np.array([len(source_ids)], "int32"))
        self.constant = {**memory, "source_length": length}
        self.inputs = {
            name: signature.input_buffer(name)
            for name in signature.inputs
            if name not in self.constant
        }
        self.outputs = {name: signature.output_buffer(name) for name in signature.outputs}
        self.caches = self.outputs.keys() & self.inputs.keys()
        if signature.rows == 1:  # written in place; beams read rows that other beams write
            caches = {name: self.inputs[name] for name in self.caches}
            self.outputs |= caches
            self.caches = frozenset()
            self._most = self.signature.inputs["kv_cache_k_0"][1][2]
            self._verifier, self._buffers = verifier, caches | self.constant
            if verifier is not None and hits is not None:
                # Source and text are one sequence, in which the tokens of names are looked up.
                self._drafter = Drafter(hits)
                self._drafter.read(source_ids, 0)

    def reorder(self, cache: None, rows: np.ndarray) -> None:
        """Let row i of the next step continue rows[i] of the last one."""
        self.rows = rows.astype("int32")

    def step(self, ids: np.ndarray, position: int, cache: None) -> tuple[np.ndarray, None]:
        """Return float32 (rows, vocabulary_size), logits after ids int32 (rows,), and None."""
        if self._drafter is None:
            return self._step(ids, position), None
        place = self._source_length + position
        if self._drafter.passes(int(ids[0]), place):
            return self._step(ids, position), None
        most = self._verifier.length
        if position + most > self._most:
            most = 1

        def run(tokens: Sequence[int]) -> np.ndarray:
            if len(tokens) == 1:
                return self._step(np.array(tokens, "int32"), position)
            return self.verify(tokens, position)

        return self._drafter.step(int(ids[0]), place, run, most), None

    def verify(self, ids: Sequence[int], position: int) -> np.ndarray:
        """Return float32 (tokens, vocabulary_size), the logits after each of a few tokens, read at
        once."""
        end = position + self._verifier.length
        verifier = next(reach.verifier for reach in self._reaches if reach.slots >= end)
        return self._verifier.run(ids, position, self._buffers, verifier)

    def _step(self, ids: np.ndarray, position: int) -> np.ndarray:
        """Return the logits after one more token of each row, not drafted."""
        self.inputs["tokens"].write(ids.astype("int32")[:, None])
        self.inputs["input_pos"].write(np.array([position], "int32"))
        if "rows" in self.inputs:
            self.inputs["rows"].write(self.rows)
        signature = self.signature
        if signature.rows == 1:
            signature = next(reach.decoder for reach in self._reaches if reach.slots > position)
        signature.invoke(self.inputs | self.constant, self.outputs)
        for name in self.caches:  # the next step reads what this one wrote
            self.inputs[name], self.outputs[name] = self.outputs[name], self.inputs[name]
        self.rows = np.arange(len(ids), dtype="int32")
        return self.signature.read("logits", self.outputs["logits"])[:, 0]

    def load(self, caches: dict[str, np.ndarray]) -> None:
        """Continue a text whose first keys and values are given, float32 (rows, heads, position,
        width) by name."""
        for name, values in caches.items():
            _, shape = self.signature.inputs[name]
            whole = np.zeros(shape, "float32")
            whole[:, :, : values.shape[2]] = values
            self.inputs[name].write(whole)
