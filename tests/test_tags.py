"""Spans, tags and their decoding: by hand, by enumeration, and by seqeval."""

from __future__ import annotations

import itertools
import random
import time

import numpy as np
import pytest
import regex

from tfx_transformer.evaluation.spans import count_spans, score_spans, span_confusion
from tfx_transformer.prediction.tags import Tags
from tfx_transformer.text.spans import Span, count_inexact, tag_names, tags_of
from tfx_transformer.text.tokenizer import FINE_PATTERN, Tokenizer
from tfx_transformer.text.windows import windows
from tfx_transformer.text.words import is_inside_character, words

TEXTS = [
    "Ann Lee went to Tokyo on 3 May.",
    "田中さんは京都に行きました。",
    "naïve cafe\u0301 👩‍🔬 東京",
]


def test_characters_are_the_grapheme_clusters_of_another_library():
    pieces = [*"aé1 東", "e\u0301", "か\u3099", "ｶﾞ", "👩\u200d🔬", "👍🏽", "🇯🇵", "각"]
    pieces += ["\u1100\u1161\u11a8", "नि", "กำ", "\r\n", "❤️"]
    draw = random.Random(3)
    for _ in range(2000):
        text = "".join(draw.choice(pieces) for _ in range(draw.randint(1, 7)))
        ends = {0, *(found.end() for found in regex.finditer(r"\X", text))}
        assert {i for i in range(len(text) + 1) if not is_inside_character(text, i)} == ends, text


@pytest.mark.parametrize("character", ["\u0301", "🇯", "a", "\u200d", "ー"])
def test_long_runs_take_no_longer_a_character(character):
    began = time.thread_time()
    words(character * 30_000)
    assert time.thread_time() - began < 5


def test_words_are_cut_at_blanks_signs_and_scripts_without_spaces():
    text = "Ann Lee's 東京タワー U.S. 10km, cafe\u0301"
    assert [text[a:b] for a, b in words(text)] == [
        "Ann", "Lee", "'", "s", "東", "京", "タ", "ワ", "ー", "U", ".", "S", ".", "10", "km", ",",
        "cafe\u0301",
    ]  # fmt: skip


def test_offsets_name_the_characters_of_each_token():
    plain = Tokenizer.train(TEXTS, 259)  # bytes, and no merge
    ids, offsets = plain.encode_with_offsets("é 京!")
    assert ids == plain.encode("é 京!")
    assert offsets == [(0, 1), (0, 1), (2, 2), (2, 3), (2, 3), (2, 3), (3, 4)]
    assert plain.encode_with_offsets("") == ([], [])
    assert plain.encode_with_offsets("a\ud83db")[1] == [(0, 1), *[(1, 2)] * 3, (2, 3)]


def test_tokens_of_the_fine_pattern_never_hold_two_japanese_characters():
    fine = Tokenizer.train(TEXTS * 30, 330, pattern=FINE_PATTERN)
    again = Tokenizer.from_json(fine.to_json())
    text = "田中さんは Tokyoに。 naïve"
    ids, offsets = again.encode_with_offsets(text)
    assert ids == fine.encode(text)
    assert {text[a:b] for a, b in offsets} >= {"田", "中", "さ", "ん", "に", "。", "naïve", "Tokyo"}


@pytest.mark.parametrize("count", [0, 1, 5, 7, 8, 23, 64])
@pytest.mark.parametrize("room", [1, 2, 3, 5, 7])
def test_windows_keep_every_token_once(count, room):
    found = windows(count, room)
    kept = [i for one in found for i in range(one.kept_start, one.kept_end)]
    assert kept == list(range(count))
    assert all(one.start <= one.kept_start <= one.kept_end <= one.end for one in found)
    assert all(one.end - one.start <= room for one in found)


def test_windows_by_hand():
    # Room for 8, so each begins 6 behind the one before it; of the 2 shared the middle parts them.
    assert [tuple(one) for one in windows(17, 8)] == [
        (0, 8, 0, 7),
        (6, 14, 7, 13),
        (12, 17, 13, 17),
    ]


def test_tags_of_a_japanese_text_by_hand():
    offsets = [(0, 1), (1, 2), (2, 4), (4, 4), (4, 5), (4, 5), (5, 6)]
    spans = [Span(0, 2, "P"), Span(2, 3, "Q"), Span(4, 6, "P")]
    assert tags_of(spans, offsets) == ["B-P", "I-P", "B-Q", "O", "B-P", "I-P", "I-P"]
    text = "田中さん 京都"
    assert count_inexact(spans, "田中さん京都", offsets) == 1  # (2, 3) is in the token (2, 4)
    assert count_inexact([Span(0, 2, "P")], "Tokyo", [(0, 2), (2, 5)]) == 1  # inside a word
    assert tags_of([], [(0, len(text))]) == ["O"]
    assert tag_names(["A", "B"]) == ["O", "B-A", "I-A", "B-B", "I-B"]


def _by_enumeration(tags, scores, joined):
    """All paths of tags that make whole spans: the best one's spans, and the mass of each span."""
    scores = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    best, mass, whole = (-np.inf, []), {}, -np.inf
    for path in itertools.product(range(len(tags.names)), repeat=len(scores)):
        names, spans = [tags.names[i] for i in path], []
        for place, name in enumerate(names):
            before = names[place - 1] if place else "O"
            if name[0] == "I" and before[2:] != name[2:]:
                break
            if joined[place] and (name[0] == "B" or (name == "O" and before != "O")):
                break
            if name[0] == "B":
                spans.append((place, place, name[2:]))
            elif name[0] == "I":
                spans[-1] = (spans[-1][0], place, name[2:])
        else:
            total = scores[range(len(path)), list(path)].sum()
            whole = np.logaddexp(whole, total)
            best = max(best, (total, spans))
            for span in spans:
                mass[span] = np.logaddexp(mass.get(span, -np.inf), total)
    return [(*span, np.exp(mass[span] - whole)) for span in best[1]]


def test_decoding_is_the_best_of_all_paths_and_its_probability_their_share():
    tags = Tags(["O", "B-A", "I-A", "I-B", "B-B"])  # in an order of its own
    offsets = [(0, 1), (1, 2), (3, 4), (5, 5), (6, 8), (9, 10)]
    text = "ab c  de 東"
    kept = [0, 1, 2, 4, 5]
    draw = np.random.default_rng(5)
    for _ in range(20):
        logits = 2 * draw.normal(size=(6, 5))
        expected = _by_enumeration(tags, logits[kept], [False, True, False, False, False])
        found = tags.entities(text, offsets, logits)
        places = [(offsets[kept[a]][0], offsets[kept[b]][1], name) for a, b, name, _ in expected]
        assert [one[:3] for one in found] == places
        np.testing.assert_allclose([one.probability for one in found], [p for *_, p in expected])


@pytest.mark.parametrize("scale", [0.0, 1e3, 1e30])
def test_probabilities_of_extreme_logits_are_probabilities(scale):
    logits = scale * np.random.default_rng(3).normal(size=(23, 5))
    offsets = [(i, i + 1) for i in range(23)]
    for text in ("a" * 23, "東" * 23, "a " * 12):
        found = Tags(tag_names("AB")).entities(text, offsets, logits)
        assert all(0 <= one.probability <= 1 for one in found)


def test_tags_of_other_schemes_begin_with_the_one_tag_that_they_have():
    offsets, logits = [(0, 1), (2, 3), (4, 5)], 9 * np.eye(4)[[1, 1, 0]]
    found = Tags(["I-LOC", "I-PER", "O", "B-LOC"]).entities("a b c", offsets, logits)
    assert [one[:4] for one in found] == [(0, 3, "PER", "a b"), (4, 5, "LOC", "c")]
    found = Tags(["LOC", "PER", "O", "X"]).entities("a b c", offsets, logits)
    assert [one[:3] for one in found] == [(0, 3, "PER"), (4, 5, "LOC")]


# True and marked tags of sentences, and what seqeval 1.2.2 says of them: `classification_report(…,
# mode="strict", scheme=IOB2, zero_division=0)`. It cannot be installed by pip alone any more.
TRUE_AND_MARKED = [
    ("O O O B-C I-C", "O O O B-Z I-Z"),
    ("O O O B-A O O O", "O O O B-A O O O"),
    ("O O O B-A I-A", "B-A O B-C I-C O"),
    ("B-C I-C B-B O O O O", "B-C I-C B-B O O O O"),
    ("B-B I-B", "B-A I-A"),
    ("O B-C B-C", "O B-C B-C"),
    ("B-B I-B B-C B-B", "O B-A O O"),
    ("B-B I-B I-B O O", "B-C I-C I-C O O"),
    ("B-C O", "B-C O"),
]
SEQEVAL = {  # precision, recall, F1 and how many
    "A": (1 / 4, 1 / 2, 1 / 3, 2),
    "B": (1, 1 / 5, 1 / 3, 5),
    "C": (2 / 3, 2 / 3, 2 / 3, 6),
    "Z": (0, 0, 0, 0),
    "micro": (0.5, 0.46153846153846156, 0.48, 13),
    "macro": (0.47916666666666663, 0.3416666666666667, 1 / 3, 13),
}


def _spans(tags):
    """The spans of tags, a character each."""
    spans = []
    for place, tag in enumerate(tags.split()):
        if tag[0] == "B":
            spans.append(Span(place, place + 1, tag[2:]))
        elif tag[0] == "I":
            spans[-1] = spans[-1]._replace(end=place + 1)
    return spans


def test_scores_are_those_of_seqeval():
    truth, marked = ([_spans(pair[side]) for pair in TRUE_AND_MARKED] for side in (0, 1))
    ours = score_spans(marked, truth)
    assert (ours["precision"], ours["recall"], ours["entity_f1"], ours["count"]) == pytest.approx(
        SEQEVAL["micro"]
    )
    assert ours["macro_f1"] == pytest.approx(SEQEVAL["macro"][2])
    assert list(ours["per_class"]) == ["A", "B", "C", "Z"]
    for label, one in ours["per_class"].items():
        assert tuple(one.values()) == pytest.approx(SEQEVAL[label]), label
    assert ours["exact_match"] == pytest.approx(4 / 9)


def test_confusion_by_hand():
    truth = [[Span(0, 4, "A"), Span(6, 8, "B")], [Span(0, 2, "A")]]
    marked = [[Span(0, 3, "B"), Span(3, 4, "A"), Span(9, 11, "A")], [Span(0, 2, "A")]]
    names, counts = span_confusion(marked, truth)
    assert names == ["A", "B", "–"]
    assert counts.tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert count_spans(marked, truth).f1() == pytest.approx(2 * 1 / (4 + 3))
