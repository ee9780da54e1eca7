"""Spans that simple methods mark: a dictionary of the training spans, and a linear model of words.

Neither needs TensorFlow; the linear model is scikit-learn's.
"""

from __future__ import annotations

import collections
import unicodedata
from collections.abc import Sequence

import numpy as np

from tfx_transformer.evaluation.linear import logistic_regression
from tfx_transformer.text.spans import OUTSIDE, Span, best_path, tags_of
from tfx_transformer.text.words import words

# Most words that the linear model learns from.
_WORDS = 60_000
# Most characters of a word in its shape.
_LONGEST_SHAPE = 8

Spans = Sequence[Sequence[Span]]


def dictionary_spans(
    train_texts: Sequence[str], train_spans: Spans, test_texts: Sequence[str]
) -> list[list[Span]]:
    """Return the training spans that are found in texts, each with its most frequent label. Texts
    are searched from the left, for the longest span first, in whole words.

    Args:
        train_texts, train_spans: n texts and their spans.
        test_texts: texts to mark.
    """
    labels: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for text, spans in zip(train_texts, train_spans, strict=True):
        for span in spans:
            labels[text[span.start : span.end]][span.label] += 1
    known = {text: counts.most_common(1)[0][0] for text, counts in labels.items()}
    longest = max((len(words(text)) for text in known), default=0)
    return [_look_up(text, known, longest) for text in test_texts]


def _look_up(text: str, known: dict[str, str], longest: int) -> list[Span]:
    places = words(text)
    found: list[Span] = []
    first = 0
    while first < len(places):
        step = 1
        for last in range(min(first + longest, len(places)) - 1, first - 1, -1):
            start, end = places[first][0], places[last][1]
            if label := known.get(text[start:end]):
                found.append(Span(start, end, label))
                step = last - first + 1
                break
        first += step
    return found


def linear_spans(
    train_texts: Sequence[str], train_spans: Spans, test_texts: Sequence[str], seed: int = 0
) -> list[list[Span]]:
    """Return the spans that scikit-learn's logistic regression (C=10) of words marks. The features
    of a word are its text, shape, beginning and end, and the two words on either side; its tags are
    the most probable ones that make valid spans.

    Args:
        train_texts, train_spans, test_texts: as for `dictionary_spans`.
        seed: draws the training texts, if they have more than 60,000 words.
    """
    from sklearn.feature_extraction import FeatureHasher

    features: list[list[str]] = []
    tags: list[str] = []
    for index in np.random.default_rng(seed).permutation(len(train_texts)):
        text = train_texts[index]
        places = words(text)
        features += _features(text, places)
        tags += tags_of(train_spans[index], places)
        if len(features) > _WORDS:
            break
    names = sorted(set(tags))
    if len(names) < 2:
        return [[] for _ in test_texts]
    hasher = FeatureHasher(2**18, input_type="string", alternate_sign=False)
    model = logistic_regression(hasher.transform(features), tags, C=10, max_iter=200)
    classes = [str(name) for name in model.classes_]
    found = []
    for text in test_texts:
        places = words(text)
        if not places:
            found.append([])
            continue
        scores = model.predict_log_proba(hasher.transform(_features(text, places)))
        found.append(_spans_of(places, _best_tags(scores, classes)))
    return found


def _features(text: str, places: Sequence[tuple[int, int]]) -> list[list[str]]:
    """Return the features of each word."""
    own = [text[start:end] for start, end in places]
    shapes = [_shape(word) for word in own]
    found = []
    for place, (word, shape) in enumerate(zip(own, shapes, strict=True)):
        features = [
            "bias",
            f"word={word}",
            f"lower={word.lower()}",
            f"shape={shape}",
            *(f"end={word[-size:]}" for size in (1, 2, 3)),
            *(f"begin={word[:size]}" for size in (1, 2, 3)),
        ]
        for step in (-2, -1, 1, 2):
            other = place + step
            inside = 0 <= other < len(own)
            features.append(f"{step}:word={own[other].lower() if inside else ''}")
            features.append(f"{step}:shape={shapes[other] if inside else ''}")
        before = own[place - 1].lower() if place else ""
        features.append(f"pair={before} {word.lower()}")
        found.append(features)
    return found


def _shape(word: str) -> str:
    """Return the kinds of a word's characters, such as "Xxx" for "Ann" and "CjCj" for two kanji."""
    kinds = []
    for character in word[:_LONGEST_SHAPE]:
        category = unicodedata.category(character)
        name = unicodedata.name(character, "")
        if name.startswith(("CJK", "HIRAGANA", "KATAKANA", "HANGUL")):
            kinds.append(name[0] + name[1].lower())
        elif category == "Lu":
            kinds.append("X")
        elif category[0] == "L":
            kinds.append("x")
        else:
            kinds.append("0" if category == "Nd" else character)
    return "".join(kinds)


def _best_tags(scores: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Return the most probable tags in which every I- continues a span."""
    allowed = np.array(
        [[not b.startswith("I-") or a[2:] == b[2:] for b in classes] for a in classes]
    )
    steps = [np.where(allowed, 0.0, -np.inf)] * (len(scores) - 1)
    first = np.array([-np.inf if name.startswith("I-") else 0.0 for name in classes])
    return [classes[tag] for tag in best_path(scores, first, steps)]


def _spans_of(places: Sequence[tuple[int, int]], tags: Sequence[str]) -> list[Span]:
    found: list[Span] = []
    for tag, (start, end) in zip(tags, places, strict=True):
        if tag.startswith("B-"):
            found.append(Span(start, end, tag[2:]))
        elif tag != OUTSIDE:
            found[-1] = found[-1]._replace(end=end)
    return found
