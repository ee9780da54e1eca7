"""The share of time that training steps wait for their batches, by a clock that the test sets."""

from __future__ import annotations

import collections
import time
import types

import pytest

from tfx_transformer.training.waiting import Waiting


@pytest.fixture
def clock(monkeypatch):
    """The time, which only the test moves."""
    now = types.SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(time, "monotonic", lambda: now.seconds)
    return now


def test_a_step_of_tensorflow_waits_until_its_batch_was_made(clock):
    batches = types.SimpleNamespace(ready=collections.deque())
    waiting = Waiting(batches, on_jax=False)
    # When the batch was made, after the step began; and how long the step takes.
    for made, seconds in ((5.0, 50.0), (-1.0, 2.0), (1.0, 4.0), (0.5, 4.0)):
        batches.ready.append(clock.seconds + made)

        def train(iterator, seconds=seconds):
            clock.seconds += seconds
            return iterator

        assert waiting.step(train, "iterator") == "iterator"
        waiting.end()
        clock.seconds += 7  # a checkpoint
    # The first step compiled.
    assert waiting.share == pytest.approx((1.0 + 0.5) / (2 + 4 + 4))


def test_a_step_of_jax_waits_for_its_iterator(clock):
    def batches():
        for seconds in (50.0, 0.0, 3.0):
            clock.seconds += seconds
            yield seconds

    def train(state, iterator):
        next(iterator)
        clock.seconds += 2
        return "logs", state

    waiting, iterator = Waiting(types.SimpleNamespace(ready=()), on_jax=True), batches()
    assert waiting.share is None
    for _ in range(3):
        assert waiting.step(train, "state", iterator) == ("logs", "state")
        clock.seconds += 1  # its results are read
        waiting.end()
    assert waiting.share == pytest.approx(3 / (3 + 6))
    with pytest.raises(StopIteration):
        waiting.step(train, "state", iterator)


def test_a_training_that_goes_back_compiles_again(clock):
    waiting = Waiting(types.SimpleNamespace(ready=()), on_jax=False)
    for _ in range(2):
        waiting.begin()
        waiting.step(lambda iterator: None, None)
        waiting.end()
    assert waiting.share is None
