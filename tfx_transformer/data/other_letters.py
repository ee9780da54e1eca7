"""Invented names for training: letters of a text replaced by others of their kind."""

from __future__ import annotations

import collections
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from tfx_transformer.text.spans import Span
from tfx_transformer.text.words import words

# Other words are replaced at this share of the rate of spans: a new word is not always a name.
_OTHER_WORDS = 0.3


_HIRAGANA = re.compile("[\u3041-\u309f]")


class OtherLetters:
    """Replaces letters by others of the same kind: of the same script and case. Digits, signs and
    marks stay.

    Args:
        texts: source of the letters, which are drawn by their frequency.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        counts: collections.Counter[str] = collections.Counter()
        for text in texts:
            counts.update(text)
        kinds: dict[str, dict[str, int]] = collections.defaultdict(dict)
        for letter, count in sorted(counts.items()):
            if kind := _kind(letter):
                kinds[kind][letter] = count
        self._kind_of = {letter: kind for kind, several in kinds.items() for letter in several}
        self._letters = {kind: list(several) for kind, several in kinds.items()}
        self._sums = {
            kind: np.cumsum(list(several.values())) / sum(several.values())
            for kind, several in kinds.items()
        }

    def replace(
        self, text: str, spans: Sequence[Span], rate: float, random: np.random.Generator
    ) -> str:
        """Return a text of the same length with other letters in some spans and, more rarely, in
        other words. Words outside of spans that begin with hiragana stay: most are particles.

        Args:
            text: the text.
            spans: its spans.
            rate: share of the spans to change, from 0 to 1.
            random: draws spans, words and letters.
        """
        characters = list(text)
        inside = {place for span in spans for place in range(span.start, span.end)}
        others = [
            (start, end)
            for start, end in words(text)
            if start not in inside and not _HIRAGANA.match(text, start)
        ]
        stretches = [(rate, span[:2]) for span in spans]
        stretches += [(rate * _OTHER_WORDS, word) for word in others]
        for share, (start, end) in stretches:
            if random.random() >= share:
                continue
            draws = random.random(end - start)
            for place, draw in zip(range(start, end), draws, strict=True):
                if kind := self._kind_of.get(characters[place]):
                    other = int(np.searchsorted(self._sums[kind], draw, side="right"))
                    letters = self._letters[kind]
                    characters[place] = letters[min(other, len(letters) - 1)]
        return "".join(characters)


def _kind(character: str) -> str:
    """Return the script and case of a letter; "" for other characters."""
    category = unicodedata.category(character)
    if category not in ("Lu", "Ll", "Lo"):
        return ""
    return f"{unicodedata.name(character, '').partition(' ')[0].partition('-')[0]} {category}"
