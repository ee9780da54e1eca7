"""Requests as pieces: words and the values of arguments; other wordings put together from them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer.text.scripts import UNSPACED

# Words of scripts with spaces between words, blanks, and every other character.
_PIECES = re.compile(rf"[^\W{UNSPACED}\uac00-\ud7a3]+|\s+|\S")
_UNSPACED = re.compile(f"[{UNSPACED}]")
# Share of the wordings that are put together at a value.
_AT_VALUE = 0.5
# Places that are tried before a wording stays as it is.
_TRIES = 8
# Only a wording with so many words, or characters of a script without spaces, is shortened; by at
# most half of it, and by at most so many words or characters.
_FEWEST_WORDS = 4
_MOST_WORDS, _MOST_CHARACTERS = 3, 5


class Piece(NamedTuple):
    """A piece of a request.

    text: as it is written; name: the argument whose value it shows, "" for other text; value: the
    value of that argument.
    """

    text: str
    name: str = ""
    value: Any = None

    @property
    def key(self) -> str:
        """The name of the argument, or the text in lower case; "" for a blank."""
        return f"\0{self.name}" if self.name else self.text.strip().lower()

    @property
    def is_word(self) -> bool:
        """True for a word, or a letter of a script without spaces."""
        return not self.name and any(map(str.isalnum, self.text))


def cut(text: str, slots: Sequence[tuple[str, int, int, Any]] = ()) -> list[Piece]:
    """Return the pieces of a request.

    Args:
        slots: name, start, end and value of each argument that the request shows, in order.
    """
    pieces, done = [], 0
    for name, start, end, value in slots:
        pieces += [Piece(found) for found in _PIECES.findall(text[done:start])]
        pieces.append(Piece(text[start:end], name, value))
        done = end
    return pieces + [Piece(found) for found in _PIECES.findall(text[done:])]


def is_unspaced(text: str) -> bool:
    """Return True if a text has a character of a script without spaces between words."""
    return bool(_UNSPACED.search(text))


def is_run(pair: Sequence[str]) -> bool:
    """Return True if two pieces are kanji, or are katakana: they may be of one word."""
    kinds = {unicodedata.name(text, "")[:8] if len(text) == 1 else "" for text in pair}
    return len(pair) == 2 and len(kinds) == 1 and kinds <= {"CJK UNIF", "KATAKANA"}


def wording(pieces: Sequence[Piece]) -> tuple[str, ...]:
    """Return the words of a request in lower case, with names for the values of arguments."""
    return tuple(piece.key for piece in pieces if piece.name or piece.is_word)


class Wordings:
    """The wordings of many requests, from which others are put together.

    Args:
        requests: the pieces of each request.
        kinds: of each request: only wordings of one kind, such as the requests for one tool in one
            script, are put together; None: the wording stays as it is.
    """

    def __init__(self, requests: Sequence[list[Piece]], kinds: Sequence[Hashable | None]) -> None:
        self._requests, self._kinds = requests, kinds
        self._places: dict[Hashable, list[tuple[int, int]]] = defaultdict(list)
        self._alike: dict[Hashable, list[int]] = defaultdict(list)
        self._names = [_names(pieces) for pieces in requests]
        for index, (pieces, kind) in enumerate(zip(requests, kinds, strict=True)):
            self._alike[kind].append(index)
            for place, piece in enumerate(pieces):
                if kind is not None and piece.key:
                    self._places[kind, piece.key].append((index, place))

    def spliced(self, index: int, rng: np.random.Generator) -> list[Piece]:
        """Return the beginning of a request, up to a word or value, and the end of another request
        of its kind from the same word or value on. Together they show each argument once."""
        pieces, kind = self._requests[index], self._kinds[index]
        values = [place for place, piece in enumerate(pieces) if piece.name]
        for _ in range(_TRIES if kind is not None else 0):
            place = int(rng.integers(len(pieces)))
            if values and rng.random() < _AT_VALUE:
                place = values[rng.integers(len(values))]
            places = self._places.get((kind, pieces[place].key))
            if not places:
                continue
            other, found = places[rng.integers(len(places))]
            made = pieces[: place + 1] + self._requests[other][found + 1 :]
            if other != index and _names(made) == self._names[index]:
                return made
        return pieces

    def shortened(self, index: int, pieces: list[Piece], rng: np.random.Generator) -> list[Piece]:
        """Return the pieces of a request without some words in a row.

        In scripts without spaces the character after a value stays: it is often a particle, which
        shows where the value ends. A word in kanji or katakana goes or stays as a whole.

        Args:
            index: of a request that the pieces come from.
        """
        count = sum(piece.is_word for piece in pieces)
        if self._kinds[index] is None or count < _FEWEST_WORDS:
            return pieces
        for _ in range(_TRIES):
            start, end = _draw_words(pieces, count // 2, rng)
            unspaced = is_unspaced(pieces[start].text)
            if _is_whole(pieces, start, end) and not (unspaced and _is_after_value(pieces, start)):
                return _without(pieces, start, end)
        return pieces

    def lengthened(self, index: int, pieces: list[Piece], rng: np.random.Generator) -> list[Piece]:
        """Return the pieces of a request with some words in a row of another request of its kind,
        at any place between two words.

        From those a model learns that these words are not part of a value. In scripts without
        spaces they come after a value if they do so in the other request.

        Args:
            index: of a request that the pieces come from.
        """
        kind = self._kinds[index]
        for _ in range(_TRIES if kind is not None else 0):
            drawn = self._alike[kind][rng.integers(len(self._alike[kind]))]
            other = self._requests[drawn]
            if drawn == index or not any(piece.is_word for piece in other):
                continue
            start, end = _draw_words(other, len(other), rng)
            unspaced = is_unspaced(other[start].text)
            while unspaced and not _begins(other, end):
                end += 1
            place = int(rng.integers(len(pieces) + 1))
            if not _is_whole(other, start, end) or not _is_whole(pieces, place, place):
                continue
            before, added, after = pieces[:place], other[start:end], pieces[place:]
            if any(piece.text.isdigit() for piece in added):  # it might be a value
                continue
            if unspaced:
                alike = _is_after_value(pieces, place) == _is_after_value(other, start)
                if alike and _begins(pieces, place) and _begins(other, start):
                    return [*before, *added, *after]
            elif not after:
                return [*before, Piece(" "), *added]
            elif after[0].name or after[0].is_word:
                return [*before, *added, Piece(" "), *after]
        return pieces


def _names(pieces: Sequence[Piece]) -> Counter[str]:
    """Return the arguments that pieces show, and how often."""
    return Counter(piece.name for piece in pieces if piece.name)


def _draw_words(pieces: Sequence[Piece], most: int, rng: np.random.Generator) -> tuple[int, int]:
    """Return the first piece and the end of some words in a row, at most so many."""
    words = [place for place, piece in enumerate(pieces) if piece.is_word]
    first = int(rng.integers(len(words)))
    unspaced = is_unspaced(pieces[words[first]].text)
    most = min(_MOST_CHARACTERS if unspaced else _MOST_WORDS, most, len(words) - first)
    return words[first], words[first + int(rng.integers(most))] + 1


def _is_whole(pieces: Sequence[Piece], start: int, end: int) -> bool:
    """Return True if pieces show no values, and begin and end between two words."""
    texts = ["" if piece.name else piece.text for piece in pieces]
    cuts = (place for place in (start - 1, end - 1) if place >= 0)
    return all(texts[start:end]) and not any(is_run(texts[at : at + 2]) for at in cuts)


def _begins(pieces: Sequence[Piece], place: int) -> bool:
    """Return True if words may begin at a place of a text without spaces: not within hiragana."""
    within = 0 < place < len(pieces) and not pieces[place - 1].name
    return not (within and re.match("[ぁ-ゖ]", pieces[place].text) and not pieces[place].name)


def _is_after_value(pieces: Sequence[Piece], place: int) -> bool:
    return place > 0 and bool(pieces[place - 1].name)


def _without(pieces: list[Piece], start: int, end: int) -> list[Piece]:
    """Return the pieces without some of them; two blanks become one, and none begins or ends."""
    before, after = pieces[:start], pieces[end:]
    while after and not after[0].name and not before and not after[0].is_word:
        after = after[1:]
    if before and after and not before[-1].key and not after[0].name and not after[0].is_word:
        before = before[:-1]
    made = before + after
    while made and not made[-1].key:
        made.pop()
    return made
