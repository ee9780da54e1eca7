"""The key/value cache of a text in LiteRT's buffers, with as many slots as the text needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfx_transformer.runtime.signature import Signature


class Cache:
    """The keys and values of one text, for steps whose caches have different numbers of slots.

    The buffers for a number of slots are made when they are needed, and freed when a text outgrows
    them: a long text does not hold all smaller caches too. Larger ones stay for the next long text.

    Args:
        steps: slots -> a signature of one text that reads and writes such a cache, float32 (1,
            heads, slots, head_dim) for the keys and for the values of each block.
    """

    def __init__(self, steps: Mapping[int, Signature]) -> None:
        self._steps = steps
        self._buffers: dict[int, dict[str, Any]] = {}
        self._slots = 0

    def of(self, slots: int, kept: int) -> dict[str, Any]:
        """Return the buffers of a number of slots, by their names in the steps of one text.

        Args:
            slots: one of those of `steps`.
            kept: how many slots, from the first one, hold what must be kept.
        """
        if slots == self._slots:
            return self._buffers[slots]
        step, kept = self._steps[slots], min(kept, self._slots, slots)
        buffers = self._buffers.setdefault(slots, {})
        for name in (one for one in step.outputs if one.startswith("kv_cache_")):
            made = buffers.get(name)
            if made is None:
                values = self._with_kept(np.zeros(step.inputs[name][1], "float32"), name, kept)
                buffers[name] = step.input_buffer(name, values)
            elif kept:
                made.write(self._with_kept(step.read(name, made), name, kept))
        self._slots = slots
        self._buffers = {n: one for n, one in self._buffers.items() if n >= slots}
        return buffers

    def _with_kept(self, values: np.ndarray, name: str, kept: int) -> np.ndarray:
        """Return the values of a cache with the first `kept` slots of the last one."""
        if kept:
            last = self._steps[self._slots].read(name, self._buffers[self._slots][name])
            values[:, :, :kept] = last[:, :, :kept]
        return values
