"""The time that training steps wait for their batches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tfx_transformer.data.batches import Batches


class Waiting:
    """The seconds that the steps of a training take, and those in which they wait for batches.

    The first step after each beginning does not count: it compiles. Time between two steps
    (checkpoints, previews, validation) does not count either.

    Args:
        batches: the batches of the training.
        on_jax: the step gets its batch from a Python iterator, which is timed. TensorFlow's step
            gets it within its graph; there the time counts until the batch was made.
    """

    def __init__(self, batches: Batches, on_jax: bool) -> None:
        self.batches, self.on_jax = batches, on_jax
        self.seconds = self.waited = 0.0
        self._compiled = False

    def begin(self) -> None:
        """Prepare for the first step of `fit`."""
        self._compiled = False

    def step(self, train: Callable[..., Any], *arguments: Any) -> Any:
        """Make a step and return what it returns; its iterator is the last argument."""
        self._began, self._own = time.monotonic(), 0.0
        if self.on_jax:
            *state, iterator = arguments
            return train(*state, self._timed(iterator))
        result = train(*arguments)
        if self.batches.ready:
            self._own = max(self.batches.ready.popleft() - self._began, 0.0)
        return result

    def end(self) -> None:
        """Count the step, when its results were read."""
        if self._compiled:
            self.seconds += time.monotonic() - self._began
            self.waited += self._own
        self._compiled = True

    @property
    def share(self) -> float | None:
        """The share of the time that was waited, from 0 to 1; None: no step was counted."""
        return min(self.waited / self.seconds, 1.0) if self.seconds else None

    def _timed(self, iterator):
        while True:
            begin = time.monotonic()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._own += time.monotonic() - begin
            yield item
