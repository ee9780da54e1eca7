"""The figures of a data set, against numbers counted by hand."""

import json

import numpy as np
import pytest

from tfx_transformer.data import Pairs, describe_pairs
from tfx_transformer.data.tables import BadRow
from tfx_transformer.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def letters():
    """A tokenizer without merges: a token is a byte."""
    return Tokenizer.train([], 259)


TRAINING = Pairs(
    ["a", "bb", "a", "ccc", "dddd", "a"],
    ["vv", "w", "vv", "xxxxx", "猫", "y"],
    [2, 3, 4, 5, 6, 8],
    path="train.csv",
    columns={"source": "en", "target": "ja"},
    bad_rows=[BadRow(7, "ja", "column 'ja' is empty", ("e", ""))],
)
HELD_OUT = Pairs(["a", "new", "new"], ["vv", "z", "z"], [2, 3, 4], path="check.csv")


def test_figures(letters):
    training, validation = describe_pairs(TRAINING, HELD_OUT, letters, max_length=5)
    assert training.lengths == {"source": [1, 2, 1, 3, 4, 1], "target": [2, 1, 2, 5, 3, 1]}
    assert training.to_dict() == {
        "name": "training",
        "path": "train.csv",
        "columns": {"source": "en", "target": "ja"},
        "rows": 6,
        "bad_rows": 1,
        "duplicates": 1,  # a, vv; but not a, y
        "overlap": 0,
        "truncated": 1,  # xxxxx; dddd and its end just fit
        "tokens": 12 + 14 + 12,  # sources, targets, and an end for each
        "percentiles": [50, 95, 99, 100],
        "source_tokens": [2, 4, 4, 4],
        "target_tokens": [2, 5, 5, 5],
    }
    assert (validation.name, validation.rows, validation.bad_rows) == ("validation", 3, 0)
    assert (validation.duplicates, validation.overlap, validation.truncated) == (1, 1, 0)
    json.dumps(training.to_dict())


def test_a_text_is_truncated_when_its_end_has_no_room(letters):
    for length, truncated in ((5, 1), (6, 0)):
        (summary,) = describe_pairs(Pairs(["aaaaa"], ["b"], [2]), None, letters, length)
        assert summary.truncated == truncated


def test_percentiles_are_lengths_that_occur(letters):
    texts = ["x" * n for n in range(1, 101)]
    (summary,) = describe_pairs(Pairs(texts, texts, list(range(100))), None, letters, 1000)
    # The shortest length that so many percent of the texts do not exceed, or the next above it.
    assert summary.percentiles("source") == [51, 96, 100, 100]
    assert summary.tokens() == 2 * (5050 + 100)
    assert np.mean(np.array(summary.lengths["source"]) <= 51) >= 0.5


def test_lines(letters):
    training, validation = describe_pairs(TRAINING, HELD_OUT, letters, max_length=5)
    assert training.lines() == [
        "training    train.csv",
        "  rows      6 ('en' → 'ja'), 1 bad row left out",
        "  tokens    38; per text: half ≤ 2 → 2, 95 % ≤ 4 → 5, longest 4 → 5",
        "  truncated 1 row (16.7 %)",
        "  repeated  1 row (16.7 %)",
    ]
    assert validation.lines()[-3:] == [
        "  truncated none",
        "  repeated  1 row (33.3 %)",
        "  overlap   1 row (33.3 %) with a source that is in training too",
    ]
