"""Answers that a model repeats while it learns preferences, so that it does not forget them."""

from __future__ import annotations

import os

from tfx_transformer.data.conversations import Conversations, read_instructions, split_conversations
from tfx_transformer.data.preference_pairs import Answer
from tfx_transformer.errors import InputError
from tfx_transformer.text.prompts import ChatTemplate

# Share of the rows that are held out, for the loss that ends the training.
_HELD_OUT = 0.1


def read_rehearsed(
    path: str | os.PathLike, template: ChatTemplate, max_length: int, seed: int = 0
) -> tuple[list[Answer], list[Answer]]:
    """Return the answers of a file to repeat, and a tenth of them that are held out.

    Args:
        path: a table or chats; see `read_instructions`.
        template: the model's.
        max_length: most tokens of an answer with what is before it; others are left out.
        seed: draws those that are held out.

    Raises:
        InputError: the file cannot be read, no answer fits, or the template fails on one.
    """
    parts = split_conversations(read_instructions(path), _HELD_OUT, seed)
    return encode_rehearsed(parts[0], template, max_length), encode_rehearsed(
        parts[1], template, max_length
    )


def encode_rehearsed(
    conversations: Conversations, template: ChatTemplate, max_length: int
) -> list[Answer]:
    """Return the last answer of each conversation, with what is before it, for `preferences`.

    Args:
        max_length: most tokens; others are left out.

    Raises:
        InputError: none fits, or the template fails on one.
    """
    kept = []
    for messages in conversations.messages:
        turns = template.examples(messages)[-1]
        ids = [index for prompt, answer in turns for index in (*prompt, *answer)]
        if len(ids) <= max_length:
            kept.append(Answer(ids, len(ids) - len(turns[-1][1])))
    if not kept:
        raise InputError(
            f"{conversations.path or 'rehearsed rows'}: no row fits into {max_length} tokens.\n"
            "  Choose a larger max_length."
        )
    return kept
