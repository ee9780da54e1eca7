"""A teacher's answers to prompts and probabilities of tokens, for an assistant to learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfx_transformer.data.batches import Batches
from tfx_transformer.data.chat_records import Messages
from tfx_transformer.data.conversations import Conversations
from tfx_transformer.data.instruction_batches import example_batches, instruction_examples
from tfx_transformer.data.packing import Example
from tfx_transformer.data.taught_text import UnlabelledTexts
from tfx_transformer.text.prompts import ChatTemplate

# Number of the teacher's tokens at each place whose probabilities a student learns.
_LIKELIEST = 32


def likeliest_of(vocabulary_size: int) -> int:
    """Return how many of a teacher's likeliest tokens a student learns at each place."""
    return min(_LIKELIEST, vocabulary_size)


def unanswered(prompts: UnlabelledTexts, system: str = "") -> list[Messages]:
    """Return a conversation without an answer for each prompt.

    Args:
        prompts: texts, one in each row.
        system: text of a first message of role "system"; "": none.
    """
    first = [{"role": "system", "content": system}] if system else []
    return [[*first, {"role": "user", "content": text}] for text in prompts.flat_texts()]


def taught_conversations(
    conversations: Conversations,
    answers: Sequence[str],
    others: UnlabelledTexts | None = None,
    prompts: Sequence[Messages] = (),
    joined: bool = False,
) -> Conversations:
    """Return conversations whose last answers are those of a teacher (Kim & Rush 2016, section
    3.2), then the other prompts with its answers.

    An empty answer is not learned: the conversation keeps its own answer, and another prompt is
    left out.

    Args:
        answers: the teacher's answers to `conversations.prompts()`, or to none of them, which then
            keep their answers; then those to the other prompts.
        others: other prompts, for their rows; None: none.
        prompts: conversations without an answer, see `unanswered`.
        joined: True to return the conversations unchanged, then those with the answers.
    """
    own = len(answers) - len(prompts)
    pairs = zip(conversations.prompts(), answers[:own], strict=True) if own else ()
    before = list(zip(conversations.messages, conversations.rows, strict=True))
    taught = [
        (_answered(prompt, answer) if answer.strip() else messages, row)
        for (messages, row), (prompt, answer) in zip(before, pairs, strict=False)
    ]
    if joined or not own:  # an answer that is the conversation's counts once
        taught = before + [new for old, new in zip(before, taught, strict=False) if new != old]
    rows = [] if others is None else [f"{row} of {others.path}" for row in others.rows]
    for prompt, answer, row in zip(prompts, answers[own:], rows, strict=True):
        if answer.strip():
            taught.append((_answered(prompt, answer), row))
    messages, rows = map(list, zip(*taught, strict=True))
    return dataclasses.replace(conversations, messages=messages, rows=rows)


def _answered(prompt: Messages, answer: str) -> Messages:
    return [*prompt, {"role": "assistant", "content": answer}]


def taught_instructions(
    conversations: Conversations,
    template: ChatTemplate,
    answers: Sequence[np.ndarray],
    *,
    batch_size: int = 16,
    max_length: int = 256,
    pack: bool = True,
    shuffle: bool = True,
    seed: int = 0,
    loss_on: str = "answers",
) -> Batches:
    """Return a `tf.data.Dataset` of batches for `CausalLM.fit` with `TaughtTokens`.

    Each batch is (inputs, targets, sample weights) as that of `instructions`, but targets are
    float32 (batch, length, 1 + 2 n): the label, the ids of the teacher's n likeliest tokens, and
    their log-probabilities. Without weight all but the label are 0. All are held in memory.

    Args:
        answers: for each example of `instruction_examples`, float32 (weights above 0, 2 n): ids and
            log-probabilities.
        batch_size, max_length, pack, shuffle, seed, loss_on: as for `instructions`.

    Raises:
        InputError: as for `instructions`.
    """
    examples, kept = instruction_examples(conversations, template, max_length, loss_on)
    taught = [_taught(*pair) for pair in zip(examples, answers, strict=True)]
    options = {"batch_size": batch_size, "max_length": max_length, "pack": pack}
    return example_batches(
        taught, kept, template.tokenizer.padding_id, **options, shuffle=shuffle, seed=seed
    )


def _taught(example: Example, answer: np.ndarray) -> Example:
    targets = np.zeros((len(example.labels), 1 + answer.shape[1]), "float32")
    targets[:, 0] = example.labels
    targets[example.weights > 0, 1:] = answer
    return example._replace(labels=targets)
