"""Split patterns of tokenizers as JavaScript reads them, with the flag `u`."""

from __future__ import annotations

import re

from tfx_transformer.errors import InputError

# Names of scripts, which JavaScript writes as Script=Name; categories are the same in both.
_SCRIPT = re.compile(r"[A-Z][a-z]{2,}(_[A-Z][a-z]+)*")
_CATEGORIES = {"Letter", "Number", "Punctuation", "Symbol", "Mark", "Separator", "Other"}
_CATEGORIES |= {"White_Space", "Alphabetic", "Lowercase", "Uppercase"}
# Classes that differ in JavaScript: its \s has U+FEFF, but not U+0085.
_CLASSES = {"s": r"\p{White_Space}", "S": r"\P{White_Space}", "d": r"\p{Nd}", "D": r"\P{Nd}"}
_KEPT = frozenset("pPrntfvxu")
_SYNTAX = frozenset(r"^$\.*+?()[]{}|/")
_HEXADECIMAL = re.compile(r"\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{2,8})")
# Further characters that fold to a letter, by Unicode's simple case folding.
_FOLDS = {"s": "ſ", "k": "\u212a"}


def to_javascript(pattern: str) -> str:
    """Return a pattern for tiktoken (Rust's fancy-regex) as one for JavaScript's flag `u`.

    Raises:
        InputError: it has a part that JavaScript lacks.
    """
    return _Reader(pattern).alternatives(frozenset())


def literal(text: str) -> str:
    """Return a text as a part of a pattern for JavaScript's flag `u`."""
    return re.sub(r"[\^$\\.*+?()\[\]{}|/]", r"\\\g<0>", text)


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern, self._place = pattern, 0

    def alternatives(self, flags: frozenset[str], inside: bool = False) -> str:
        """Return the pattern up to its end, or to the parenthesis that closes a group."""
        parts: list[str] = []
        while self._place < len(self._pattern):
            if inside and self._pattern[self._place] == ")":
                break
            parts.append(self._part(flags))
        return "".join(parts)

    def _take(self) -> str:
        self._place += 1
        return self._pattern[self._place - 1 : self._place]

    def _part(self, flags: frozenset[str]) -> str:
        character = self._take()
        if character == "(":
            return self._group(flags)
        if character == "[":
            return self._class(flags)
        if character == "\\":
            return self._escape()
        if character in "*+?}" and self._pattern[self._place : self._place + 1] == "+":
            raise self._refusal("possessive quantifiers")
        if character == "." and "s" in flags:
            return "[^]"
        if "i" in flags and character.isalpha():
            return f"[{_cases(character)}]"
        return character

    def _group(self, flags: frozenset[str]) -> str:
        found = re.compile(r"\?([a-z]*):|\?(<?[=!])|").match(self._pattern, self._place)
        assert found is not None
        self._place = found.end()
        added, around = found[1], found[2]
        if added is None and around is None:
            if self._pattern[self._place : self._place + 1] == "?":
                raise self._refusal("groups of this kind")
            added = ""
        if added and set(added) - {"i", "s"}:
            raise self._refusal(f"the flag {added!r}")
        inner = self.alternatives(flags | frozenset(added or ""), inside=True)
        if self._take() != ")":
            raise self._refusal("a group that does not end")
        return f"(?{around or ':'}{inner})"

    def _class(self, flags: frozenset[str]) -> str:
        parts = ["["]
        if self._pattern[self._place : self._place + 1] == "^":
            parts.append(self._take())
        while True:
            character = self._take()
            if not character or character == "[" or self._pattern.startswith("&&", self._place):
                raise self._refusal("classes inside classes")
            if character == "]" and len(parts) > 1 + (parts[1:2] == ["^"]):
                return "".join([*parts, "]"])
            if character == "\\":
                parts.append(self._escape(in_class=True))
            elif "i" in flags and character.isalpha():
                parts.append(_cases(character))
            else:
                parts.append(f"\\{character}" if character in _SYNTAX else character)

    def _escape(self, in_class: bool = False) -> str:
        character = self._take()
        if character in "pP":
            return self._property(character)
        if character in "xuU":
            found = _HEXADECIMAL.match(self._pattern, self._place)
            if not found:
                raise self._refusal("an escape")
            digits = found[1] or found[2][: {"x": 2, "u": 4, "U": 8}[character]]
            self._place = found.end() if found[1] else self._place + len(digits)
            return f"\\u{{{digits}}}"
        if character in _CLASSES:
            return _CLASSES[character]
        if character in _KEPT or character in _SYNTAX or (character == "-" and in_class):
            return f"\\{character}"
        if character.isalnum() or not character:
            raise self._refusal(f"the escape \\{character}")
        return character

    def _property(self, kind: str) -> str:
        found = re.compile(r"\{(\^?)(\w+)\}|(\w)").match(self._pattern, self._place)
        if not found:
            raise self._refusal("a property")
        self._place = found.end()
        if found[1]:
            kind = {"p": "P", "P": "p"}[kind]
        name = found[2] or found[3]
        is_script = _SCRIPT.fullmatch(name) and name not in _CATEGORIES
        return f"\\{kind}{{{'Script=' if is_script else ''}{name}}}"

    def _refusal(self, what: str) -> InputError:
        return InputError(
            f"the tokenizer's split pattern has {what}, which JavaScript lacks.\n"
            "  A page would split texts differently. Run the bundle by tfx-transformer or run.pyz."
        )


def _cases(letter: str) -> str:
    return "".join(dict.fromkeys([letter, letter.lower(), letter.upper()])) + _FOLDS.get(
        letter.lower(), ""
    )
