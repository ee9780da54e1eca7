"""What objects show of themselves: facts, on a few lines, whatever they hold."""

import numpy as np
import pandas as pd
import pytest

from tfx_transformer import data
from tfx_transformer.config import TransformerConfig
from tfx_transformer.prediction import Classification
from tfx_transformer.prediction.classification import Labels
from tfx_transformer.reprs import significant
from tfx_transformer.text.prompts import ROLE_TOKENS, ChatTemplate
from tfx_transformer.text.tokenizer import Tokenizer

LONG = "long " * 1_000
ROWS = [(LONG, "b\nc"), ("d", None), ("e", "f"), ("g", "h"), ("i", "j")]
TOKENIZER = Tokenizer.train(["a b c d"], 300, ROLE_TOKENS)


def test_pairs():
    pairs = data.read_pairs(ROWS, skip_bad_rows=True)
    assert repr(pairs) == (
        "Pairs: 4 rows of list ('source' → 'target'), 1 bad row skipped\n"
        f"  row 0: '{LONG[:59]}…' → 'b\\nc'\n"
        "  row 2: 'e' → 'f'\n"
        "  row 3: 'g' → 'h'\n"
        "  …"
    )
    frame = pd.DataFrame({"source": ["a"], "target": ["b"]}, index=["x"])
    (line,) = repr(data.read_pairs(frame)).splitlines()[1:]
    assert line == "  row x: 'a' → 'b'"
    assert repr(data.Pairs(["a"], ["b"], [7])) == "Pairs: 1 row\n  row 7: 'a' → 'b'"
    assert repr(pairs.take([])).startswith("Pairs: 0 rows of list")


def test_pairs_of_a_file_that_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr("tfx_transformer.data.file_rows.MOST_IN_MEMORY", 10)
    file = tmp_path / "pairs.csv"
    file.write_text("source,target\na,b\nc,d\n")
    pairs = data.read_pairs(file)
    assert repr(pairs.source) == f"FileRows: 2 rows that stay in {file}"
    assert repr(pairs).splitlines()[1:] == ["  row 2: 'a' → 'b'", "  row 3: 'c' → 'd'"]
    file = file.rename(tmp_path / "other.csv")
    other = data.read_pairs(file)
    file.unlink()
    assert "cannot be read any more" in repr(other)


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (data.read_labelled_texts([("a", "", "x|y"), ("b", "c", "")], "title,body", separator="|"),
         "LabelledTexts: 2 rows of list ('title,body' → 'label')\n"
         "  row 0: 'a', '' → 'x', 'y'\n  row 1: 'b', 'c' → "),
        (data.read_sentence_pairs([("a", "b", 1), ("c", "d", 3)], score="s"),
         "SentencePairs: 2 rows of list ('sentence1' ↔ 'sentence2' ↔ 's')\n"
         "  row 0: 'a' ↔ 'b'  0\n  row 1: 'c' ↔ 'd'  1"),
        (data.read_instructions([("a", "b")], system="Be brief."),
         "Conversations: 1 conversation of list\n"
         "  row 0: system 'Be brief.', user 'a', 1 more message"),
        (data.read_labelled_images([(np.zeros((3, 5, 3), "uint8"), "x")]),
         "LabelledImages: 1 image of list\n  row 0: 5 × 3 pixels → 'x'"),
        (data.read_table({"a": ["b"]}, {"text": "a"}), "Table: 1 row of columns (text: 'a')"),
        (TOKENIZER,
         "Tokenizer: 265 tokens, with a chat template\n"
         "  special tokens: '<pad>', '<s>', '</s>', '<|system|>', "
         "'<|user|>' and 1 more"),
        (TransformerConfig.of_size("nano", 300), None),
        (ChatTemplate.of(TOKENIZER), None),
        (Labels(list("abcdefg"), True),
         "7 labels: 'a', 'b', 'c', 'd', 'e' and 2 more, any number may be right"),
        (Classification("a", 0.5, ("a",), {"b": 0.25, "a": 0.5, "c": 0.25}),
         "Classification: 'a' 50.0 %, 'b' 25.0 %, 'c' 25.0 %"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_shown(read, expected):
    shown = repr(read)
    assert len(shown.splitlines()) <= 5
    assert max(map(len, shown.splitlines())) <= 160
    if expected is not None:
        assert shown == expected


def test_a_corpus(tmp_path):
    tokens, _ = data.read_corpus({"t": ["a b", "c d"]}, TOKENIZER, tmp_path, column="t", share=0.5)
    first, second = repr(tokens).splitlines()
    assert first.startswith(f"TokenFile: {tokens.tokens} tokens of columns (")
    assert second == f"  {tmp_path / 'training.bin'}, uint16, from token 0"


def test_a_configuration_is_what_makes_it_again():
    config = TransformerConfig.of_size("small", 8_000, style="llama", max_sequence_length=77)
    assert eval(repr(config)) == config
    assert "max_sequence_length=77" in repr(config) and "sandwich_norm" not in repr(config)


def test_summaries_are_their_table():
    pairs = data.read_pairs(ROWS, skip_bad_rows=True)
    (summary,) = data.describe_pairs(pairs, None, TOKENIZER, 16)
    assert repr(summary) == "\n".join(summary.lines())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.01234, "0.0123"),
        (4.5, "4.50"),
        (1234.5, "1,234"),
        (9.996, "10.0"),
        (0.09999, "0.100"),
        (-99.96, "-100"),
        (0.0, "0.00"),
        (0.000009999, "0.0000100"),
        (1.5e-7, "1.50e-07"),
        (9.999e14, "1.00e+15"),
    ],
)
def test_three_significant_digits_also_where_rounding_adds_one(value, expected):
    assert significant(value) == expected
