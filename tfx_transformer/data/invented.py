"""Invented texts: real ones with other words, from which a model learns to copy."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

from tfx_transformer.text.scripts import KANA

# Kind of letters or digits -> its characters, and the first and last one that is drawn.
_KINDS = {
    "digit": ("0-9", "09"),
    "latin": ("A-Za-zÀ-ÖØ-öø-ɏ", "az"),
    "hiragana": ("ぁ-ゖ", "あん"),
    "katakana": ("ァ-ヺー", "アン"),
    "han": ("々一-鿿", "一龥"),
    "hangul": ("가-힣", "가힣"),
    "cyrillic": ("Ѐ-ӿ", "ая"),
    "greek": ("Ͱ-Ͽ", "αω"),
    "arabic": ("ء-ي", "بي"),
    "devanagari": ("ऀ-ॿ", "कह"),
    "thai": ("ก-๎", "กฮ"),
}
_RUN = re.compile("|".join(f"(?P<{kind}>[{letters}]+)" for kind, (letters, _) in _KINDS.items()))
_JAPANESE = re.compile("[々一-鿿ぁ-ゖァ-ヺー]+")
# A random number below the first keeps a run, one below the second replaces it by a real one, and
# any other by drawn letters.
_KEPT, _REAL = 0.2, 0.4
# Share of the texts that lose a run, and of those that get one more.
_SHORTER, _LONGER = 0.15, 0.15
_LONGEST_RUN = 12
# A run in so many texts or more joins words, such as "with" and の: it stays where it is.
_JOINS = 3
# Share of the Japanese texts that become a noun phrase of other words; the chances of one word, of
# two, and so on; what joins two words, repeated so that it is drawn more often.
_PHRASES, _COUNTS = 0.5, (0.25, 0.45, 0.25, 0.05)
_BETWEEN = ("の",) * 8 + ("と", "と", "", "", "", "や", "な", "い", "で", "への", "からの", "との")
# The kinds of letters in a Japanese word, with the fewest and the most letters of each, and the
# chance of such a word; and the chance of a long vowel after a letter of katakana.
_SHAPES = {
    (("han", 1, 4),): 0.3,
    (("katakana", 2, 7),): 0.25,
    (("hiragana", 2, 5),): 0.2,
    (("han", 1, 2), ("hiragana", 1, 3)): 0.15,
    (("han", 1, 1), ("hiragana", 1, 2), ("han", 1, 2)): 0.05,
    (("hiragana", 1, 1), ("han", 1, 2)): 0.05,
}
_LONG_VOWEL = 0.15


class Words:
    """Runs of letters of one kind, such as words, from which other texts are made.

    Args:
        texts: real texts.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.runs: dict[str, list[str]] = defaultdict(list)
        self.next: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        several = sorted(set(texts))
        counts = Counter(run for text in several for run in {m[0] for m in _RUN.finditer(text)})
        self.is_japanese = any(map(KANA.search, several))
        self.joining = {run for run, count in counts.items() if count >= _JOINS}
        for text in several:
            for found in _RUN.finditer(text):
                kind, run = str(found.lastgroup), found[0]
                if run not in self.joining:
                    self.runs[kind].append(run)
                lower = run.lower()
                for one, other in zip(["", *lower], lower, strict=False):
                    self.next[kind][one].append(other)

    def invent(self, text: str, rng: np.random.Generator) -> str:
        """Return a text of the same shape with other words.

        Each run of letters of one script stays, or is replaced by a real one of that script or by
        drawn letters. In half of those runs the letters follow each other as in real texts, in the
        other half they are any of the script. Digits are replaced by digits. Sometimes a run is
        left out, or one more is added. Runs of many texts, such as "with", stay.

        If real texts have kana, half of the texts in kana or kanji become Japanese noun phrases of
        any shape, such as 犬の散歩. From these a model learns that の and hiragana may go on with a
        text as well as end it.
        """
        if self.is_japanese and _JAPANESE.fullmatch(text) and rng.random() < _PHRASES:
            return self._phrase(rng)
        parts = [self._part(found, rng) for found in _split(text)]
        space = " " if " " in text or text.isascii() else ""
        runs = [index for index, part in enumerate(parts) if _RUN.match(part)]
        draw = rng.random()
        if len(runs) > 1 and draw < _SHORTER:
            first = runs[rng.integers(len(runs) - 1)]
            ends = [place for place in runs if place > first and parts[place] not in self.joining]
            del parts[first : (ends or runs)[0 if ends else -1]]
        elif runs and draw > 1 - _LONGER:
            kind = _kind(parts[runs[-1]])
            parts.insert(runs[-1] + 1, space + self._run(kind, 5, rng))
        return "".join(parts).strip() or text

    def _phrase(self, rng: np.random.Generator) -> str:
        """Return a Japanese noun phrase."""
        made = self._word(rng)
        for _ in range(rng.choice(len(_COUNTS), p=_COUNTS)):
            made += _BETWEEN[rng.integers(len(_BETWEEN))] + self._word(rng)
        return made

    def _word(self, rng: np.random.Generator) -> str:
        """Return a Japanese word, in one of four a real one."""
        shapes = list(_SHAPES)
        shape = shapes[rng.choice(len(shapes), p=list(_SHAPES.values()))]
        real = self.runs[shape[0][0]]
        if len(shape) == 1 and real and rng.random() < 0.25:
            return _choice(real, rng)
        drawn = (self._letters(kind, int(rng.integers(low, high + 1)), rng)
                 for kind, low, high in shape)  # fmt: skip
        return "".join(drawn)

    def _part(self, part: str, rng: np.random.Generator) -> str:
        kind = _kind(part)
        if not kind or part in self.joining:
            return part
        if kind == "digit":
            return "".join(str(rng.integers(10)) for _ in part)
        draw = rng.random()
        if draw < _KEPT:
            return part
        if draw < _REAL and self.runs[kind]:
            return _choice(self.runs[kind], rng)
        made = self._run(kind, len(part), rng)
        return made.capitalize() if part[:1].isupper() else made

    def _run(self, kind: str, length: int, rng: np.random.Generator) -> str:
        """Return a run of about this many drawn letters."""
        length = int(np.clip(length + rng.integers(-2, 3), 1, _LONGEST_RUN))
        return self._letters(kind, length, rng)

    def _letters(self, kind: str, length: int, rng: np.random.Generator) -> str:
        first, last = map(ord, _KINDS[kind][1])
        follows, made = self.next[kind], ""
        as_real = bool(follows) and rng.random() < 0.5
        for _ in range(length):
            known = follows.get(made[-1:]) if as_real else None
            if kind == "katakana" and made and rng.random() < _LONG_VOWEL:
                made += "ー"
            else:
                made += _choice(known, rng) if known else chr(rng.integers(first, last + 1))
        return made


def _split(text: str) -> list[str]:
    """Return the runs of letters of one kind in a text, and what is between them."""
    parts, end = [], 0
    for found in _RUN.finditer(text):
        parts += [text[end : found.start()], found[0]]
        end = found.end()
    return [part for part in [*parts, text[end:]] if part]


def _kind(part: str) -> str:
    found = _RUN.match(part)
    return str(found.lastgroup) if found else ""


def _choice(several: list[str], rng: np.random.Generator) -> str:
    return several[rng.integers(len(several))]


def other_letters(text: str, rng: np.random.Generator) -> str:
    """Return a text with another letter or digit of the same script and case in each place."""
    return "".join(_other_letter(one, rng) for one in text)


def _other_letter(one: str, rng: np.random.Generator) -> str:
    if not (kind := _kind(one)):
        return one
    first, last = map(ord, _KINDS[kind][1])
    made = chr(rng.integers(first, last + 1))
    return made.upper() if one.isupper() else made
