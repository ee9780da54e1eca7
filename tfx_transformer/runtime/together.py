"""Decoding of several texts at a time, by an encoder-decoder in LiteRT."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfx_transformer.runtime.signature import Signature

Buffers = dict[str, Any]


class Together:
    """Caches of several texts in LiteRT's buffers, which the signatures write in place.

    A step writes the same slot of all caches, whatever the positions of the texts; a text sees only
    the slots since it began. After the last slot, all caches are moved to the front. The beams of a
    text share a cache with a slot for each of them at every step. A beam that continues another one
    copies nothing: it sees what that one saw.

    Args:
        decoder: `decode_<texts>` or `decode_<texts>x<beams>`.
        prefills: length -> `prefill_<texts>x<length>`.

    Attributes:
        count: number of texts.
        slots: most tokens of a source, and of an answer.
        bytes: size of the caches.
    """

    def __init__(self, decoder: Signature, prefills: dict[int, Signature]) -> None:
        self._decoder, self._prefills = decoder, prefills
        _, (self.count, self.beams, seen) = decoder.inputs["visible"]
        self.slots = seen // self.beams
        self._inputs = {name: decoder.input_buffer(name) for name in decoder.inputs}
        caches = {name: self._inputs[name] for name in decoder.outputs if name in self._inputs}
        self._outputs = {"logits": decoder.output_buffer("logits"), **caches}
        self._caches = list(caches)
        self.bytes = 4 * sum(math.prod(shape) for _, shape in decoder.inputs.values())
        self._memory = {n: b for n, b in self._inputs.items() if n.startswith("memory_")}
        self.clear()

    def clear(self) -> None:
        """Forget all texts."""
        self._slot = 0
        self._lengths, self._positions, self._begun = np.zeros((3, self.count), "int32")
        shape = (self.count, self.beams, self.slots, self.beams)
        self._visible = np.zeros(shape, "float32")

    def begin(self, row: int, memory: Buffers, length: int) -> None:
        """Project the encoder's memory of a source of `length` tokens into the caches of a row."""
        prefill = next(self._prefills[n] for n in sorted(self._prefills) if n >= length)
        place = {"row": prefill.input_buffer("row", np.array([row], "int32"))}
        prefill.invoke(place | memory | self._memory, self._memory)
        self._lengths[row], self._positions[row], self._begun[row] = length, 0, self._slot
        self._visible[row] = 0
        self._inputs["source_length"].write(self._lengths)

    def step(
        self, rows: Sequence[int], ids: np.ndarray, origins: np.ndarray | None = None
    ) -> np.ndarray:
        """Return float32 (rows, beams, vocabulary_size), logits after one more token.

        Args:
            rows: all rows whose texts go on.
            ids: int32 (rows, beams), the tokens.
            origins: int (rows, beams), the beam of the last step that each beam continues; None:
                itself.
        """
        rows = list(rows)
        if self._slot == self.slots:
            self._move(rows)
        if origins is not None:
            seen = np.take_along_axis(self._visible[rows], origins[:, :, None, None], axis=1)
            self._visible[rows] = seen
        beams = np.arange(self.beams)
        self._visible[np.array(rows)[:, None], beams, self._slot, beams] = 1
        tokens = np.zeros((self.count, self.beams), "int32")
        tokens[rows] = ids
        # A row without a text may have ended after the last position that the model knows.
        positions = np.zeros(self.count, "int32")
        positions[rows] = self._positions[rows]
        self._inputs["tokens"].write(tokens)
        self._inputs["input_pos"].write(positions)
        self._inputs["slot"].write(np.array([self._slot], "int32"))
        self._inputs["visible"].write(self._visible)
        self._decoder.invoke(self._inputs, self._outputs)
        self._slot += 1
        self._positions[rows] += 1
        logits = self._decoder.read("logits", self._outputs["logits"])
        return logits if len(rows) == self.count else logits[rows]

    def take(self, row: int) -> dict[str, np.ndarray]:
        """Return the caches of a text, float32 (beams, heads, position, width) by name."""
        seen = [np.flatnonzero(visible) for visible in self._visible[row].reshape(self.beams, -1)]
        return {
            name: np.stack([self._read(name)[row][:, s] for s in seen]) for name in self._caches
        }

    def _move(self, rows: Sequence[int]) -> None:
        """Move all caches so that the first of these rows begins at slot 0."""
        shift = int(self._begun[rows].min())
        for name in self._caches:
            cache = np.roll(self._read(name), -shift * self.beams, axis=2)
            self._inputs[name].write(cache)
        self._visible = np.roll(self._visible, -shift, axis=2)
        self._visible[:, :, self.slots - shift :] = 0
        self._slot -= shift
        self._begun = np.maximum(self._begun - shift, 0)

    def _read(self, name: str) -> np.ndarray:
        return self._decoder.read(name, self._inputs[name])
