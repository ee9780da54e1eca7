"""The places at which a text may be cut in two: between words, never within a character.

A character is what people see as one: a letter with its marks, a family of emoji, a flag. A word is
a run of letters, or of digits. Where a script has no spaces between words (Japanese, Chinese, Thai)
or joins particles to them (Korean), each of its characters may be cut from the next.
"""

from __future__ import annotations

import re
import unicodedata

_JOINER = "\u200d"
# Most characters to look back over: real texts have fewer marks, or flags, in a row.
_FARTHEST = 64
# Characters that join the one before them and are not marks: joiners, halfwidth voicing marks,
# vowels of Thai and Lao, skin tones, and the tags of flags.
_EXTENDING = re.compile(
    "[\u200c\u200d\uff9e\uff9f\u0e33\u0eb3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"
)
_FLAG_LETTER = re.compile("[\U0001f1e6-\U0001f1ff]")
_PICTURE = re.compile(
    "[\u00a9\u00ae\u203c-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001f1e5\U0001f200-\U0001f3fa"
    "\U0001f400-\U0001faff]"
)
# Signs that join a consonant of some scripts of India to the next one, and such a consonant.
_VIRAMA = re.compile("[\u094d\u09cd\u0acd\u0b4d\u0c4d\u0d4d]")
_CONSONANT = re.compile("[\u0915-\u0939\u0958-\u095f\u0978-\u097f\u0995-\u09b9\u09dc-\u09df"
                        "\u0a95-\u0ab9\u0b15-\u0b39\u0c15-\u0c39\u0d15-\u0d3a]")  # fmt: skip
# Letters of scripts that are written without spaces, or with particles joined to words.
_UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u1950-\u19df\u1a20-\u1aad\u3005-\u3007"
    "\u3031-\u3035\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf"
    "\ua960-\ua97f\ua9e0-\ua9ff\uaa60-\uaadf\uac00-\ud7ff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff]"
)


def is_inside_character(text: str, place: int) -> bool:
    """Return True if a place in a text is within a character as people see it.

    These are the extended grapheme clusters of Unicode (UAX #29), except for the few signs that
    join the character after them.

    Args:
        place: number of characters (code points) before it; 0 and the length of the text are never
            inside.
    """
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    if before < "\u0300" and after < "\u0300":
        return before == "\r" and after == "\n"
    if unicodedata.category(before) in ("Cc", "Zl", "Zp"):
        return False
    if unicodedata.category(after).startswith("M") or _EXTENDING.match(after):
        return True
    if _PICTURE.match(after):
        return before == _JOINER and bool(_PICTURE.match(text[_base(text, place - 1)]))
    if _CONSONANT.match(after):
        return bool(_VIRAMA.search(text, _base(text, place - 1), place))
    if _FLAG_LETTER.match(before) and _FLAG_LETTER.match(after):
        start, first = place, max(place - _FARTHEST, 0)
        while start > first and _FLAG_LETTER.match(text[start - 1]):
            start -= 1
        return (place - start) % 2 == 1
    return _syllable_part(after) in _JOINED.get(_syllable_part(before), ())


def is_inside_word(text: str, place: int) -> bool:
    """Return True if a place in a text is within a word, or within a character.

    Args:
        place: as of `is_inside_character`.
    """
    if is_inside_character(text, place):
        return True
    if not 0 < place < len(text):
        return False
    before, after = _kind(text[_base(text, place - 1)]), _kind(text[place])
    return before == after != ""


def words(text: str) -> list[tuple[int, int]]:
    """Return the begin and end of each word and sign of a text, in characters; blanks are left
    out."""
    found, start = [], 0
    for place in range(1, len(text) + 1):
        if place == len(text) or not is_inside_word(text, place):
            if not text[start:place].isspace():
                found.append((start, place))
            start = place
    return found


def _base(text: str, place: int) -> int:
    """Return the place of the character that the marks and joiners at a place belong to."""
    first = max(place - _FARTHEST, 0)
    while place > first and _is_mark(text[place]):
        place -= 1
    return place


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M" or _EXTENDING.match(character) is not None


def _kind(character: str) -> str:
    """Return "L" for a letter that forms words with others, "N" for a digit, "" for all else."""
    kind = unicodedata.category(character)[0]
    if kind == "L" and _UNSPACED.match(character):
        return ""
    return kind if kind in "LN" else ""


def _syllable_part(character: str) -> str:
    """Return the part of a Korean syllable that a character is: "L", "V", "T", "LV" or "LVT"."""
    for part, first, last in _SYLLABLE_PARTS:
        if first <= character <= last:
            return part
    if "\uac00" <= character <= "\ud7a3":
        return "LVT" if (ord(character) - 0xAC00) % 28 else "LV"
    return ""


_SYLLABLE_PARTS = (
    ("L", "\u1100", "\u115f"),
    ("V", "\u1160", "\u11a7"),
    ("T", "\u11a8", "\u11ff"),
    ("L", "\ua960", "\ua97c"),
    ("V", "\ud7b0", "\ud7c6"),
    ("T", "\ud7cb", "\ud7fb"),
)
# The parts that may follow each part of a syllable.
_JOINED = {
    "L": ("L", "V", "LV", "LVT"),
    "LV": ("V", "T"),
    "V": ("V", "T"),
    "LVT": ("T",),
    "T": ("T",),
}
