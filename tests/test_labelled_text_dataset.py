"""The data set of labelled texts: its form, its balance, and that nothing held out is shown."""

import collections
import csv
import difflib
import functools
import re
import unicodedata

import pytest

from tfx_transformer import resources

TRAINING, HELD_OUT = FILES = ["labelled_text.csv", "labelled_text_heldout.csv"]
TOPICS = {"animals", "food", "sport", "travel", "weather", "work"}
FUNCTION_WORDS = re.compile(
    "the|and|for|with|from|was|were|are|has|have|had|his|her|our|its|they|she|you|not|that|this|"
    "will|after|before|into|every|what|how|when|there|some|which"
)


@functools.cache
def read(name: str) -> list[tuple[str, str]]:
    with resources.dataset_path(name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, strict=True))
    assert rows[0] == ["text", "label"]
    assert all(len(row) == 2 for row in rows)
    return [tuple(row) for row in rows[1:]]


def language(text: str) -> str:
    return "ja" if re.search("[ぁ-んァ-ヶ一-龠]", text) else "en"


def words(text: str) -> set[str]:
    """English words of three letters or more without plural, single kanji, katakana words."""
    found = re.findall("[a-z]{3,}|[一-龠]|[ァ-ヶー]{2,}", text.casefold())
    return {word.removesuffix("s") for word in found if not FUNCTION_WORDS.fullmatch(word)}


@pytest.mark.parametrize("name", FILES)
def test_the_bytes(name):
    text = resources.dataset_path(name).read_bytes().decode("utf-8")
    assert text == unicodedata.normalize("NFC", text)
    assert text.endswith("\n") and not text.endswith("\n\n")
    assert not re.search(r"[\r\t\ufeff\u3000]|  ", text)
    assert not [c for c in text if c != "\n" and unicodedata.category(c)[0] == "C"]


@pytest.mark.parametrize("name", FILES)
def test_the_cells(name):
    for text, label in read(name):
        assert (text, label) == (text.strip(), label.strip())
        assert label in TOPICS
        assert "\n" not in text
        assert re.search("[.?!。？！か]$", text), text
        # A sentence is of one language: "PK" is the only English in a Japanese one.
        assert language(text) == "en" or not re.search("[A-Za-z]", text.replace("PK", "")), text
        assert 4 <= len(text) <= 80


@pytest.mark.parametrize(("name", "count"), [(TRAINING, 100), (HELD_OUT, 20)])
def test_topics_and_languages_are_balanced_and_shuffled(name, count):
    found = collections.Counter((label, language(text)) for text, label in read(name))
    assert found == {(topic, code): count for topic in TOPICS for code in ("en", "ja")}
    neighbours = sum(a[1] == b[1] for a, b in zip(read(name), read(name)[1:], strict=False))
    assert neighbours < len(read(name)) / 4, "one in six by chance"


def test_every_text_occurs_once():
    texts = [text for name in FILES for text, _ in read(name)]
    assert len(set(texts)) == len(texts)


def test_nothing_held_out_is_a_training_sentence_with_a_word_changed():
    for text, _ in read(HELD_OUT):
        matcher = difflib.SequenceMatcher(b=text)
        for shown, _ in read(TRAINING):
            if language(shown) == language(text):
                matcher.set_seq1(shown)
                # Bounds from above, which are quicker.
                if matcher.real_quick_ratio() > 0.8 and matcher.quick_ratio() > 0.8:
                    assert matcher.ratio() < 0.8, (text, shown)


def test_training_shows_words_of_every_held_out_sentence_in_its_topic():
    shown = {(topic, word) for text, topic in read(TRAINING) for word in words(text)}
    strange = [
        text
        for text, topic in read(HELD_OUT)
        if sum((topic, word) in shown for word in words(text)) < 2
    ]
    assert not strange
