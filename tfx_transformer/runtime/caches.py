"""The key/value cache of a text in LiteRT's buffers, with as many slots as the text needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfx_transformer.runtime.signature import Signature


class Cache:
    """The keys and values of one text, for steps whose caches have different numbers of slots.

    The buffers for a number of slots are made when they are first needed, and kept.

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
        step = self._steps[slots]
        if slots not in self._buffers:
            names = [name for name in step.outputs if name.startswith("kv_cache_")]
            self._buffers[slots] = {name: step.input_buffer(name) for name in names}
        kept = min(kept, self._slots, slots)
        if kept:
            earlier = self._steps[self._slots]
            for name, source in self._buffers[self._slots].items():
                target = self._buffers[slots][name]
                values = step.read(name, target)
                values[:, :, :kept] = earlier.read(name, source)[:, :, :kept]
                target.write(values)
        self._slots = slots
        return self._buffers[slots]
