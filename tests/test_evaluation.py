"""Scores of texts, against sacrebleu called plainly and against a BLEU computed by hand."""

import importlib.util

import pytest
import sacrebleu

from tfx_transformer.errors import InputError
from tfx_transformer.evaluation import score_texts

ENGLISH = ["The cat sat on a mat.", "It's raining, isn't it?", "Good morning!"]
JAPANESE = ["私は猫が好きです。", "雨が降っていますね。", "おはようございます。"]


def test_equal_texts_are_perfect():
    assert score_texts(JAPANESE, JAPANESE) == {
        "bleu": 100.0,
        "chrf": 100.0,
        "exact_match": 1.0,
        "count": 3,
        "bleu_tokenize": "char",
    }


def test_bleu_by_hand():
    scores = score_texts(["the cat sat on the mat"], ["the cat sat on a mat"])
    # Of 6, 5, 4, 3 n-grams 5, 3, 2, 1 are in the reference, which is as long.
    assert scores["bleu"] == round(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4), 2)
    assert scores["exact_match"] == 0


@pytest.mark.parametrize(
    ("references", "tokenize", "used"),
    [
        (ENGLISH, None, "13a"),
        (JAPANESE, None, "char"),
        (JAPANESE[:2] + ENGLISH[:1], None, "char"),
        (JAPANESE[:1] + ENGLISH[:2], None, "13a"),
        (["猫 です"] * 3, None, "13a"),
        (JAPANESE, "zh", "zh"),
        (ENGLISH, "none", "none"),
    ],
)
def test_scores_are_sacrebleus(references, tokenize, used):
    written = [references[0], references[1][:-3], references[2].replace("o", "a")]
    scores = score_texts(written, references, tokenize)
    assert scores["bleu_tokenize"] == used
    bleu = sacrebleu.corpus_bleu(written, [references], tokenize=used).score
    assert scores["bleu"] == round(bleu, 2)
    assert scores["chrf"] == round(sacrebleu.corpus_chrf(written, [references]).score, 2)
    equal = sum(map(str.__eq__, written, references))
    assert scores["exact_match"] == round(equal / 3, 4)


def test_a_tokenizer_that_is_not_installed():
    if importlib.util.find_spec("MeCab"):
        pytest.skip("MeCab is installed")
    with pytest.raises(InputError, match=r"'ja-mecab'.*\n.*sacrebleu\[ja\]"):
        score_texts(JAPANESE, JAPANESE, "ja-mecab")


def test_texts_without_a_partner():
    with pytest.raises(ValueError, match=r"zip\(\)|length"):
        score_texts(["a", "b"], ["a"])
