"""Answers that a model repeats while it learns preferences, so that it does not forget them."""

from __future__ import annotations

from tfx_transformer.data.conversations import Conversations, read_instructions, split_conversations
from tfx_transformer.data.preference_pairs import Answer
from tfx_transformer.data.sources import TableData
from tfx_transformer.errors import InputError
from tfx_transformer.text.prompts import ChatTemplate

# Share of the rows that are held out, for the loss that ends the training.
_HELD_OUT = 0.1


def read_rehearsed(
    path: TableData, seed: int = 0, *, system: str = "", skip_bad_rows: bool = False
) -> tuple[Conversations, Conversations]:
    """Return conversations whose answers a model repeats: those to train on and a held-out tenth.

    Args:
        path: a table or chats; see `read_instructions`.
        seed: draws those that are held out.
        system, skip_bad_rows: as for `read_instructions`.

    Raises:
        InputError: as in `read_instructions` and `split_conversations`.
    """
    read = read_instructions(path, system=system, skip_bad_rows=skip_bad_rows)
    return split_conversations(read, _HELD_OUT, seed)


def encode_rehearsed(
    conversations: Conversations, template: ChatTemplate, max_length: int
) -> list[Answer]:
    """Return the last answer of each conversation with the turns before it, for `preferences`.

    Args:
        max_length: most tokens; longer conversations are left out.

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
