"""Scopes in which models are made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
from keras.src.backend.common import global_state  # no public name for it

_WAITING = "uninitialized_variables"


@contextlib.contextmanager
def without_memory() -> Iterator[None]:
    """Make models whose variables have a shape but no memory; Keras forgets them at the end."""
    # Keras appends to the list itself, so what waited before must be a copy.
    before = list(global_state.get_global_attribute(_WAITING, []))
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute(_WAITING, before)
