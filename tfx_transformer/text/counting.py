"""The tokens that texts cost, per language and per character, by several tokenizers at once."""

from __future__ import annotations

import bisect
import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tfx_transformer.reprs import quantity
from tfx_transformer.text.splitters import Split, Splitter, Token, tokens_of

JAPANESE, ENGLISH, OTHER = LANGUAGES = ("Japanese", "English", "other")

# Hiragana, katakana (half-width too), kanji and their iteration mark. Latin letters with accents.
_KANA_AND_KANJI = re.compile(
    "[\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9d"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]+"
)
_LATIN = re.compile("[A-Za-zÀ-ÖØ-öø-ɏḀ-ỿＡ-Ｚａ-ｚ]+")
_LETTERS = re.compile(r"[^\W\d_]+")


def language(text: str) -> str:
    """Return the language of a text, judged by its letters alone.

    Japanese: at least a third of the letters are kana or kanji (a Japanese text may be full of
    Latin names, and one kanji says as much as several letters). English: more than half are Latin.
    Else "other", as is a text without letters. So Chinese counts as Japanese and French as English.
    """
    letters, japanese, latin = (
        sum(map(len, script.findall(text))) for script in (_LETTERS, _KANA_AND_KANJI, _LATIN)
    )
    if 3 * japanese >= letters > 0:
        return JAPANESE
    return ENGLISH if 2 * latin > letters else OTHER


class Stretch(NamedTuple):
    """Consecutive lines of one language: the number of their characters and UTF-8 bytes."""

    language: str
    characters: int
    bytes: int


def stretches(text: str) -> list[Stretch]:
    """Return the stretches of one language in a text; a line without letters goes with the one
    before it."""
    found: list[Stretch] = []
    for line in text.splitlines(keepends=True):
        spoken = language(line) if not found or _LETTERS.search(line) else found[-1].language
        size = Stretch(spoken, len(line), len(line.encode()))
        if found and found[-1].language == spoken:
            before = found.pop()
            size = Stretch(spoken, before.characters + size.characters, before.bytes + size.bytes)
        found.append(size)
    return found


@dataclasses.dataclass(frozen=True)
class Count:
    """Sums over texts; `bytes` counts UTF-8."""

    tokens: int = 0
    characters: int = 0
    bytes: int = 0

    def __add__(self, other: Count) -> Count:
        sums = (self.tokens + other.tokens, self.characters + other.characters)
        return Count(*sums, self.bytes + other.bytes)

    @property
    def tokens_per_character(self) -> float:
        return _over(self.tokens, self.characters)

    @property
    def tokens_per_byte(self) -> float:
        return _over(self.tokens, self.bytes)

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return dataclasses.asdict(self) | {
            "tokens_per_character": round(self.tokens_per_character, 3),
            "tokens_per_byte": round(self.tokens_per_byte, 3),
        }


class Tally:
    """Running sums of the tokens of texts by several tokenizers.

    A token counts for the language of the line in which it begins.

    Attributes:
        languages: for each tokenizer a Count by language; only languages that occurred.
    """

    def __init__(self, splitters: Sequence[Splitter]) -> None:
        self.splitters = splitters
        self.languages: list[dict[str, Count]] = [{} for _ in splitters]

    def add(self, text: str) -> list[Split]:
        """Count a text without lone surrogates; return its tokens by each tokenizer."""
        parts = stretches(text)
        splits = [splitter.split(text) for splitter in self.splitters]
        for counts, split in zip(self.languages, splits, strict=True):
            for part, tokens in zip(parts, _tokens_in(parts, split), strict=True):
                before = counts.get(part.language, Count())
                counts[part.language] = before + Count(tokens, part.characters, part.bytes)
        return splits

    def include(self, other: Tally) -> None:
        """Add the counts of another tally with the same tokenizers."""
        for counts, more in zip(self.languages, other.languages, strict=True):
            for name, count in more.items():
                counts[name] = counts.get(name, Count()) + count

    def totals(self) -> list[Count]:
        """Return one Count per tokenizer, over all languages."""
        return [sum(counts.values(), Count()) for counts in self.languages]

    def language(self) -> str:
        """Return the language with the most characters."""
        counts = self.languages[0]
        return max(counts, key=lambda name: counts[name].characters, default=OTHER)

    def to_dict(self) -> list[dict[str, Any]]:
        """Return the figures as JSON values, one dict per tokenizer."""
        return [
            {"name": splitter.name, "vocabulary_size": splitter.vocabulary_size}
            | total.to_dict()
            | {"languages": {name: count.to_dict() for name, count in counts.items()}}
            for splitter, counts, total in zip(
                self.splitters, self.languages, self.totals(), strict=True
            )
        ]


def _tokens_in(parts: Sequence[Stretch], split: Split) -> list[int]:
    """Return the number of tokens that begin in each stretch of a text."""
    numbers = []
    counted = end = 0
    for part in parts:
        end += part.bytes
        # Tokens that end before `end`, and the one after them, which begins before it.
        begun = min(bisect.bisect_left(split.ends, end) + 1, len(split.ids))
        numbers.append(begun - counted)
        counted = begun
    if numbers:
        numbers[-1] += len(split.ids) - counted  # tokens of no bytes after the last
    return numbers


@dataclasses.dataclass(frozen=True)
class Sample:
    """A text whose tokens are shown.

    label: the text itself, or its place; language: that of most characters; tokens: the first ones
    by each tokenizer; counts: the number of all tokens by each.
    """

    label: str
    language: str
    characters: int
    bytes: int
    tokens: list[list[Token]]
    counts: list[int]


def sample(
    label: str, pieces: Iterable[str], splitters: Sequence[Splitter], limit: int = 2_000
) -> tuple[Sample, Tally]:
    """Count a text that comes in pieces, and keep up to `limit` tokens of the first piece."""
    pieces = iter(pieces)
    first = next(pieces, "")
    tally = Tally(splitters)
    tokens = [tokens_of(first, split, limit) for split in tally.add(first)]
    for piece in pieces:
        tally.add(piece)
    totals = tally.totals()
    size = (totals[0].characters, totals[0].bytes)
    return Sample(label, tally.language(), *size, tokens, [t.tokens for t in totals]), tally


def table(tally: Tally) -> list[list[str]]:
    """Return a table of the figures: a header, then for each tokenizer a row per language and a
    row with their sum."""
    rows = [["tokenizer", "language by script", "tokens", "characters", "bytes"]]
    rows[0] += ["tokens/character", "tokens/byte"]
    for splitter, counts, total in zip(
        tally.splitters, tally.languages, tally.totals(), strict=True
    ):
        shown = [(name, counts[name]) for name in LANGUAGES if name in counts]
        for name, count in shown if len(shown) == 1 else [*shown, ("all", total)]:
            figures = [f"{n:,}" for n in (count.tokens, count.characters, count.bytes)]
            rates = [f"{count.tokens_per_character:.3f}", f"{count.tokens_per_byte:.3f}"]
            rows.append([splitter.name, name, *figures, *rates])
    return rows


class Ratio(NamedTuple):
    """One count divided by another: in tokens, in tokens per character, and in tokens per byte."""

    tokens: float
    per_character: float
    per_byte: float

    def to_dict(self) -> dict[str, float]:
        """The figures as JSON values."""
        return {name: round(value, 3) for name, value in self._asdict().items()}


def ratio(one: Count, other: Count) -> Ratio:
    """Return `one` / `other`: the cost of one side of a parallel text if the other costs 1.

    0 where `other` is 0.
    """
    return Ratio(
        _over(one.tokens, other.tokens),
        _over(one.tokens_per_character, other.tokens_per_character),
        _over(one.tokens_per_byte, other.tokens_per_byte),
    )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The cost of one side of a parallel text if the other costs 1, by each tokenizer.

    one, other: the languages if they are Japanese and English, else the names of the columns.
    """

    one: str
    other: str
    rows: int
    names: list[str]
    ratios: list[Ratio]

    def sentences(self) -> list[str]:
        """Return one sentence per tokenizer."""
        return [
            f"{name}: {self.one} costs {ratio.tokens:.2f} times {self.other} (per character "
            f"{ratio.per_character:.2f}, per byte {ratio.per_byte:.2f} times; "
            f"{quantity(self.rows, 'row')})"
            for name, ratio in zip(self.names, self.ratios, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        ratios = zip(self.names, self.ratios, strict=True)
        return {
            "one": self.one,
            "other": self.other,
            "rows": self.rows,
            "ratios": {name: ratio.to_dict() for name, ratio in ratios},
        }


def compare(first: Tally, second: Tally, columns: tuple[str, str], rows: int) -> Comparison:
    """Compare two columns that say the same in every row: Japanese to English, in whichever columns
    they are; other languages: the second column to the first."""
    languages = (first.language(), second.language())
    names = tuple(map(repr, columns))
    if set(languages) == {JAPANESE, ENGLISH}:
        names = languages
        if languages[0] == JAPANESE:
            first, second, names = second, first, names[::-1]
    ratios = list(map(ratio, second.totals(), first.totals()))
    return Comparison(names[1], names[0], rows, [s.name for s in first.splitters], ratios)


def _over(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
