"""The time that look-up drafting saves on the texts that a model is to write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tfx_transformer.export.signatures import DRAFTED
from tfx_transformer.generation.drafting import WIDE, Drafter, Hits
from tfx_transformer.generation.text import Prompt
from tfx_transformer.models.decoding import text_generator
from tfx_transformer.text.tokenizer import Tokenizer

# Texts that are counted, one after the other: what was right in one is drafted in the next.
_TEXTS = 250

# The time of a step that reads several tokens, in steps that read one; see benchmarks/README.md.
_TIME, _TIME_IF_NARROW = 1.2, 1.8

# Files have such steps if the time with drafts is at most this share of the time without: they make
# an export longer.
_MOST = 0.97


def repeats(model, tokenizer: Tokenizer, written: Sequence[tuple[Prompt, str]]) -> bool:
    """Return True if the answers repeat so much of their prompts, or of themselves, that drafting
    makes a model write them faster: see `generation.drafting`.

    Args:
        model: a model that writes.
        tokenizer: its tokenizer.
        written: prompts of held-out rows with their right answers, which count as far as the model
            can write them. Drafts change no answer, so no score.
    """
    encode = text_generator(model, tokenizer).encode
    ids = []
    for text, answer in written[:_TEXTS]:
        prompt = encode(text, truncate=True)
        ids.append((prompt, tokenizer.encode(answer)[: model.room(len(prompt))]))
    return time_with_drafts(ids, model.config.hidden_dim) <= _MOST


def time_with_drafts(
    written: Iterable[tuple[Sequence[int], Sequence[int]]], hidden_dim: int
) -> float:
    """Return the time of all steps with drafts as a share of the time of single steps; 1 without
    answers.

    Args:
        written: the ids of each prompt and of its answer.
        hidden_dim: the model's width.
    """
    hits, sizes, tokens = Hits(hidden_dim), [], 0

    def run(ids: Sequence[int]) -> np.ndarray:
        sizes.append(len(ids))
        return np.zeros((len(ids), 1))

    for prompt, answer in written:
        drafter = Drafter(hits)
        drafter.read(prompt, 0)
        tokens += len(answer)
        for place, index in enumerate(answer, len(prompt)):
            if drafter.passes(index, place):
                sizes.append(1)
            else:
                drafter.step(index, place, run, DRAFTED)
    time = _TIME if hidden_dim >= WIDE else _TIME_IF_NARROW
    return sum(time if size > 1 else 1 for size in sizes) / tokens if tokens else 1.0
