"""From conversations to batches for fine-tuning: the tokens that count in the loss, and packing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfx_transformer.data import packing
from tfx_transformer.data.batches import Batches, BatchPlan, tf_dataset
from tfx_transformer.data.conversations import Conversations, Messages
from tfx_transformer.errors import InputError
from tfx_transformer.text.prompts import ChatTemplate, UnusableTemplateError

# Ids of an example, and the weight of each; None if no id of an answer is left to predict.
Encoded = tuple[list[int], list[int]] | None


def encode_conversation(
    messages: Messages, template: ChatTemplate, max_length: int
) -> list[Encoded]:
    """Return the ids of a conversation up to its last answer, and their weights, as one example.

    Weights are 1 for the ids of answers, their end tokens included, and 0 for those of prompts. An
    example longer than `max_length` is cut at the end. A template that changes earlier turns makes
    several examples: see `ChatTemplate.examples`. None: an example has no id of an answer left.
    """
    encoded: list[Encoded] = []
    for example in template.examples(messages):
        ids: list[int] = []
        weights: list[int] = []
        for prompt, answer in example:
            ids += [*prompt, *answer]
            weights += [0] * len(prompt) + [1] * len(answer)
        ids, weights = ids[:max_length], weights[:max_length]
        encoded.append((ids, weights) if any(weights[1:]) else None)
    return encoded


def encode_conversations(
    conversations: Conversations, template: ChatTemplate, max_length: int
) -> list[list[Encoded]]:
    """Return `encode_conversation` of each conversation.

    Raises:
        InputError: the template fails on one; the error names its row, unless the template itself
            is wrong.
    """
    encoded = []
    for row, messages in zip(conversations.rows, conversations.messages, strict=True):
        try:
            encoded.append(encode_conversation(messages, template, max_length))
        except UnusableTemplateError:
            raise
        except InputError as error:
            path = conversations.path or "conversations"
            raise InputError(f"{path}, row {row}: {error}") from error
    return encoded


def instructions(
    conversations: Conversations,
    template: ChatTemplate,
    *,
    batch_size: int = 16,
    max_length: int = 256,
    pack: bool = True,
    shuffle: bool = True,
    seed: int = 0,
    loss_on: str = "answers",
) -> Batches:
    """Return a `tf.data.Dataset` of batches for `CausalLM.fit` and `evaluate`.

    Each batch is (inputs, labels, sample weights), all (batch, length): inputs are int32
    `token_ids` and, with `pack`, `positions` and `segment_ids`; labels int32, the ids one step
    ahead; weights float32, 1 for the labels that count in the loss. Every iteration over the data
    set is the next epoch.

    Args:
        batch_size: rows of a batch.
        max_length: longer conversations are cut at the end, or left out if that leaves no answer;
            `describe_instructions` counts them.
        pack: put several conversations into one row; they do not attend to each other. See
            `packing`.
        shuffle: False keeps the order of the conversations, or of the packed rows.
        loss_on: "answers", or "all" for prompts too.

    Raises:
        InputError: no conversation fits, or the template fails on one.
    """
    examples, kept = instruction_examples(conversations, template, max_length, loss_on)
    options = {"batch_size": batch_size, "max_length": max_length, "pack": pack}
    return example_batches(
        examples, kept, template.tokenizer.padding_id, **options, shuffle=shuffle, seed=seed
    )


def instruction_examples(
    conversations: Conversations, template: ChatTemplate, max_length: int, loss_on: str = "answers"
) -> tuple[list[packing.Example], list[int]]:
    """Return the examples that conversations make, and the index of the conversation of each;
    arguments and errors as for `instructions`."""
    if loss_on not in ("answers", "all"):
        raise InputError(f"loss_on is {loss_on!r}.\n  Expected 'answers' or 'all'.")
    encoded = encode_conversations(conversations, template, max_length)
    usable = [(i, both) for i, several in enumerate(encoded) for both in several if both]
    examples = [_example(*both, loss_on) for _, both in usable]
    if not examples:
        raise InputError(
            f"{conversations.path or 'conversations'}: no answer begins in {max_length} tokens.\n"
            "  Choose a larger max_length."
        )
    return examples, [i for i, _ in usable]


def example_batches(
    examples: Sequence[packing.Example],
    kept: Sequence[int],
    padding_id: int,
    *,
    batch_size: int,
    max_length: int,
    pack: bool = True,
    shuffle: bool = True,
    seed: int = 0,
) -> Batches:
    """Return a `tf.data.Dataset` of batches of examples.

    Args:
        examples: the examples.
        kept: index of the row that each is made of, for messages.
        padding_id: id of padding.
        batch_size, max_length, pack, shuffle, seed: as for `instructions`.
    """
    lengths = np.array([len(example.token_ids) for example in examples])
    rows = packing.pack(lengths, max_length, seed) if pack else [[i] for i in range(len(examples))]
    row_lengths = [lengths[row].sum() for row in rows]
    plan = BatchPlan(row_lengths, batch_size, shuffle=shuffle, seed=seed)

    def batch(indices):
        chosen = [rows[i] for i in indices]
        if pack:  # always the same shape, so that a step is compiled once
            chosen += [[]] * (min(batch_size, len(rows)) - len(chosen))
            length = max_length
        else:
            longest = max(row_lengths[i] for i in indices)
            length = packing.padded_length(longest, max_length)
        packed = packing.packed_rows(chosen, examples, padding_id, length)
        inputs = {"token_ids": packed.token_ids}
        if pack:
            inputs |= {"positions": packed.positions, "segment_ids": packed.segment_ids}
        return inputs, packed.labels, packed.weights

    return tf_dataset(plan, batch, members=lambda row: [kept[i] for i in rows[row]])


def _example(ids: list[int], weights: list[int], loss_on: str) -> packing.Example:
    labels = np.array(ids[1:], "int32")
    weighed = np.array(weights[1:], "float32") if loss_on == "answers" else np.ones(len(labels))
    return packing.Example(np.array(ids[:-1], "int32"), labels, weighed.astype("float32"))
