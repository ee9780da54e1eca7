"""Scores of texts, against sacrebleu called plainly, SQuAD's own script and numbers by hand."""

import collections
import importlib.util
import re
import string

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from tfx_transformer.errors import InputError
from tfx_transformer.evaluation import score_answers, score_texts, token_f1

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


# Answers


@pytest.mark.parametrize(
    ("written", "reference", "f1"),
    [
        ("white", "white", 1),
        ("It is white.", "white", 2 * 1 / (3 + 1)),
        ("The cat, THE dog!", "a dog and a cat", 2 * 2 / (2 + 3)),
        ("the the cat", "cat cat", 2 * 1 / (1 + 2)),
        ("black", "white", 0),
        ("", "white", 0),
        ("white", "", 0),
        ("", "", 1),
        ("The!", "...", 1),  # nothing is left of either
        ("STRASSE", "straße", 1),
        # Japanese by character: 5 of 6 and 8, 。 not counted.
        ("犬が好きです。", "私は猫が好きです。", 2 * 5 / (6 + 8)),
        ("私は猫が好きです", "私は、猫が好きです。", 1),
        ("ねこ", "ネコ", 0),
        ("コーヒー", "コーヒ", 2 * 3 / (4 + 3)),
        # A word beside characters: "tom", は, 犬 and "tom", が, 犬.
        ("Tom は犬", "Tomが犬", 2 * 2 / (3 + 3)),
        ("「猫」", "猫", 1),
    ],
)
def test_token_f1_by_hand(written, reference, f1):
    assert token_f1(written, reference) == pytest.approx(f1)
    assert token_f1(reference, written) == pytest.approx(f1)


def squad_f1(prediction, ground_truth):
    """`f1_score` and `normalize_answer` of SQuAD's evaluate-v1.1.py, joined."""

    def words(text):
        text = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return re.sub(r"\b(a|an|the)\b", " ", text).split()

    ours, theirs = words(prediction), words(ground_truth)
    same = sum((collections.Counter(ours) & collections.Counter(theirs)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(ours), same / len(theirs)
    return 2 * precision * recall / (precision + recall)


english = st.lists(
    st.tuples(
        st.sampled_from(
            ["a", "An", "the", "THE", "cat", "Cat", "dogs", "then", "7", "café", "it's", "a-the"]
        ),
        st.sampled_from(["", "", ".", "!", ",", '"', ")"]),
    ).map("".join),
    min_size=1,
    max_size=6,
).map(" ".join)


@given(english, english)
def test_token_f1_is_squads(written, reference):
    reference += " cat"  # where nothing is left of both, SQuAD's script says 0
    assert token_f1(written, reference) == pytest.approx(squad_f1(written, reference))


def test_scores_of_answers_by_hand():
    references = ["white", "私は猫が好きです。", "ten", "a small dog"]
    written = ["white", "犬が好きです。", "two", "The small dog."]
    # To the letter one of four is right; by words 1, 5/7, 0 and 1.
    assert score_answers(written, references) == {
        "exact_match": 0.25,
        "token_f1": round((1 + 10 / 14 + 0 + 1) / 4, 4),
        "chrf": round(sacrebleu.corpus_chrf(written, [references]).score, 2),
        "count": 4,
    }
    perfect = {"exact_match": 1.0, "token_f1": 1.0, "chrf": 100.0, "count": 4}
    assert score_answers(tuple(references), references) == perfect


def test_reasoning_is_not_scored():
    plain = score_answers(["4", "a cat"], ["4", "a dog"])
    written = ["<think>2 and 2</think>\n\n4", "<think>\n\n</think>\n\na cat"]
    assert score_answers(written, ["4", "<think>x</think>a dog"]) == plain


def test_answers_without_a_partner():
    with pytest.raises(ValueError, match=r"zip\(\)|length"):
        score_answers(["a", "b"], ["a"])
