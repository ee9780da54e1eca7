"""Scores of tool calls: exact name and arguments, next to those of simple methods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tfx_transformer.evaluation.baselines import nearest_texts
from tfx_transformer.text.tools import Call, Tools, read_call, same_call


def right_calls(written: Sequence[str], expected: Sequence[Call]) -> np.ndarray:
    """Return bool (n,): True where an answer makes the expected call; see `same_call`."""
    pairs = zip(written, expected, strict=True)
    return np.array([same_call(read_call(text), call) for text, call in pairs], bool)


def score_calls(
    written: Sequence[str], expected: Sequence[Call], tools: Tools
) -> dict[str, float | int]:
    """Return the scores of answers as tool calls.

    Args:
        written, expected: n answers, and their calls.
        tools: the tools that may be called.

    Returns: exact_calls (share of answers with the right name and the right arguments; the order of
        keys and blanks do not matter), right_tools (share with the right name), valid_calls (share
        of answers that are calls of one of the tools with valid arguments), count.
    """
    found = [read_call(text) for text in written]
    pairs = list(zip(found, expected, strict=True))
    valid = [call is not None and not tools.problem(call) for call in found]
    return {
        "exact_calls": round(float(np.mean([same_call(*pair) for pair in pairs])), 4),
        "right_tools": round(
            float(np.mean([call is not None and call.name == want.name for call, want in pairs])), 4
        ),
        "valid_calls": round(float(np.mean(valid)), 4),
        "count": len(pairs),
    }


def frequent_call(calls: Sequence[Call]) -> Call:
    """Return the most frequent call of the training rows, the first of equally frequent ones."""
    texts = [call.to_json() for call in calls]
    return calls[texts.index(Counter(texts).most_common(1)[0][0])]


def nearest_calls(
    train_texts: Sequence[str], train_calls: Sequence[Call], test_texts: Sequence[str]
) -> list[Call]:
    """Return the call of the most similar training request, by TF-IDF, for each request."""
    return [train_calls[index] for index in nearest_texts(train_texts, test_texts)]
