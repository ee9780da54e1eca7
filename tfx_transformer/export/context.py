"""Contexts of exported files that are longer than those of training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.export.signatures import causal_signatures

# Tokens of a conversation for which a `.litertlm` file has room by default.
CHAT = 1024

# Most tokens of a prefill in a file whose context is longer than that of training.
_LONGEST_PREFILL = 256


def chat_context(config: TransformerConfig, context: int | None = None) -> int:
    """Return the context of the `.litertlm` file of a decoder-only model.

    Args:
        config: of the model.
        context: the requested context; None: that of the model, at least `CHAT` if its positions
            allow more than they were trained for.

    Raises:
        InputError: the model cannot have the requested context.
    """
    longest = config.max_sequence_length
    if context is None:
        return max(longest, CHAT) if _may_grow(config) else longest
    if context < 2 or (context > longest and not _may_grow(config)):
        more = (
            "2 or more"
            if _may_grow(config)
            else f"2 to {longest:,}: its positions ({config.position}) end there"
        )
        raise InputError(f"context is {context}.\n  Expected, of this model, {more}.")
    return context


def short_context_note(config: TransformerConfig) -> str:
    """Return a note of two lines if the context of a model is short for a conversation; else ""."""
    longest = config.max_sequence_length
    if chat_context(config) >= CHAT:
        return ""
    return (
        f"  LiteRT-LM ends a chat after {longest:,} tokens, as {config.position} positions end "
        "there.\n"
        f"  For longer chats, train with a context of {CHAT:,}, or with --style llama."
    )


def long_signatures(model: Any, context: int) -> dict[str, tuple]:
    """Return the functions of a decoder-only model for one text, with any context.

    Beyond the context of training every block has a sliding window of that size: a token sees as
    many tokens before it as in training, so that no distance is new to the model. Up to the context
    of training, the answers are those of the model.

    Args:
        model: a `CausalLM`.
        context: see `chat_context`.
    """
    longest = model.config.max_sequence_length
    table = causal_signatures(model, context=context, rows=1)
    table = {name: found for name, found in table.items() if not name.startswith("first_")}
    if context <= longest:
        return table
    most = max(longest, _LONGEST_PREFILL)
    return {
        name: (_within(model, longest, function), specs)
        for name, (function, specs) in table.items()
        if name == "decode" or int(name.removeprefix("prefill_")) <= most
    }


def _may_grow(config: TransformerConfig) -> bool:
    """Return True if only distances matter to a model, not positions."""
    return config.position == "rotary"


def _within(model: Any, window: int, function: Callable) -> Callable:
    """Return the function, computed with a sliding window."""

    def call(inputs):
        with _sliding_window(model, window):
            return function(inputs)

    return call


@contextlib.contextmanager
def _sliding_window(model: Any, window: int) -> Iterator[None]:
    """Give a sliding window to the blocks of a model that have none, in the block."""
    attentions = [block.attention for block in model.first_stack.blocks]
    changed = [attention for attention in attentions if not attention.sliding_window]
    for attention in changed:
        attention.sliding_window = window
    try:
        yield
    finally:
        for attention in changed:
            attention.sliding_window = 0
