"""Byte-level BPE of a checkpoint (GPT-2, RoBERTa, Llama 3, Qwen, SmolLM), run by tiktoken."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import tiktoken

from tfx_transformer.text import offsets, split_patterns
from tfx_transformer.text.conventions import Conventions
from tfx_transformer.text.tokenizer import PATTERN, SLICE, Tokenizer, to_bytes

# The pattern of a `ByteLevel` step (Radford et al. 2019).
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# The same after a `Digits` step, which first separates every digit from everything else. So no
# other piece holds a digit, and blanks before a digit are split as at the end of a text. `Digits`
# knows fourteen digits more than \p{N} does.
_DIGITS = r"\p{N}\U00011de0-\U00011de9\U00016ff4-\U00016ff6"
_GPT2_DIGITS = (
    rf"[{_DIGITS}]|'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+| ?[^\s\p{{L}}{_DIGITS}]+"
    rf"|\s+(?![^\s{_DIGITS}])|\s+"
)

_KNOWN_PATTERNS = (PATTERN, _GPT2, _GPT2_DIGITS)

# `tokenizers` composes characters as of Unicode 9: younger marks, and the composed letters of the
# scripts of Unicode 16, stay as they are.
_YOUNGER = (
    "\u05c8-\u05c9\u07fd\u0897-\u089f\u08ca-\u08d3\u09fe\u0c3c\u0d3b-\u0d3c\u0eba\u1715\u1abf-\u1af0"
    "\u1df6-\u1dfa\ua82c\U000105c0-\U000105ff\U00010d24-\U00010d27\U00010d69-\U00010d6d"
    "\U00010eab-\U00010eac\U00010ecb-\U00010ecf\U00010ef0-\U00010eff\U00010f46-\U00010f50"
    "\U00010f82-\U00010f85\U00011070\U0001133b\U00011380-\U000113ff\U0001145e\U00011839-\U0001183a"
    "\U0001193d-\U0001193e\U00011943\U000119e0\U00011a34\U00011a47\U00011a99\U00011d42"
    "\U00011d44-\U00011d45\U00011d97\U00011f41-\U00011f42\U00016100-\U0001613f"
    "\U00016d40-\U00016d7f\U00016ff0-\U00016ff1\U0001d127-\U0001d128\U0001d250-\U0001d281"
    "\U0001e08f\U0001e130-\U0001e136\U0001e2ae\U0001e2ec-\U0001e2ef\U0001e4ec-\U0001e4ef"
    "\U0001e5ee-\U0001e5ef\U0001e6e3-\U0001e6f5"
)
COMPOSED = re.compile(f"[^{_YOUNGER}]+")


# Characters that compose with nothing before them; and more tokens than a cut piece has.
_ASCII = re.compile("[ -~]")
_SPARE = 1_000


class ByteLevel(NamedTuple):
    """A byte-level BPE that tiktoken runs exactly.

    ids: bytes to id of each token that texts can become: the 256 bytes first, then the others in
    the order of their merges. parts: the two tokens that each of the others is merged from, if any.
    names: bytes of each id of the vocabulary that is not a special token. added: text to id of
    tokens that are cut out before all else. composed: True if texts are brought to NFC.
    prefix_space: True if a text gets a space before it, where it has none.
    """

    ids: dict[bytes, int]
    parts: dict[bytes, tuple[bytes, bytes]]
    names: dict[int, bytes]
    added: dict[str, int]
    pattern: str
    composed: bool
    prefix_space: bool


def byte_level(tree: Mapping[str, Any]) -> ByteLevel | None:
    """Read a `tokenizer.json`; return None if tiktoken cannot run it exactly."""
    model, added = tree["model"], tree.get("added_tokens") or []
    split, composed = _split(tree.get("pre_tokenizer")), _composes(tree.get("normalizer"))
    if split is None or composed is None or not _is_plain(model):
        return None
    ordinary = [token for token in added if not token["special"]]
    flags = ("single_word", "lstrip", "rstrip", *(["normalized"] if composed else []))
    if any(token.get(flag) for token in ordinary for flag in flags):
        return None
    contents = {token["content"]: token["id"] for token in added}
    spelled = _spellings(name for name in model["vocab"] if name not in contents)
    ids = {token: model["vocab"][name] for name, token in spelled.items()}
    pairs = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
    if not spelled.keys() >= {side for pair in pairs for side in pair}:
        return None
    pairs = ((spelled[left], spelled[right]) for left, right in pairs)
    parts = _parts(pairs, bool(model.get("ignore_merges")), ids)
    every = [bytes([byte]) for byte in range(256)]
    if parts is None or not ids.keys() >= {*every, *parts}:
        return None
    contents = {token["content"]: token["id"] for token in ordinary}
    return ByteLevel(
        ids={token: ids[token] for token in (*every, *parts)},
        parts={token: pair for token, pair in parts.items() if pair},
        names={index: token for token, index in ids.items()}
        | {index: text.encode() for text, index in contents.items()},
        added=contents,
        pattern=split[0],
        composed=composed,
        prefix_space=split[1],
    )


class ByteLevelTokenizer(Tokenizer):
    """The tokenizer of a checkpoint, by tiktoken.

    Args:
        bpe: result of `byte_level`.
        conventions: conventions of its tokens.
        text: the `tokenizer.json`, which is kept as it is.
    """

    def __init__(self, bpe: ByteLevel, conventions: Conventions, text: str) -> None:
        merged = list(bpe.ids.values())[256:]
        # tiktoken merges the pair of the lowest rank first, so the ranks are ids only if these
        # ascend in merge order; RoBERTa's do not.
        ascending = all(a < b for a, b in zip(merged, merged[1:], strict=False))
        self._ids = None if ascending else list(bpe.ids.values())
        ranks = bpe.ids if ascending else {token: n for n, token in enumerate(bpe.ids)}
        self.tiktoken = tiktoken.Encoding(
            "checkpoint", pat_str=bpe.pattern, mergeable_ranks=ranks, special_tokens={}
        )
        self._bpe, self._text, self.pattern = bpe, text, bpe.pattern
        contents = sorted({*bpe.added, *conventions.special_tokens}, key=len, reverse=True)
        self._added = re.compile("|".join(map(re.escape, contents))) if bpe.added else None
        self.ranks = {
            token: index for index, token in bpe.names.items() if index not in bpe.added.values()
        }
        self.is_plain = ascending and not (bpe.composed or bpe.prefix_space or bpe.added)
        self._adopt(conventions, max(bpe.names))

    def beginning(self, text: str, count: int) -> str:
        """See `Tokenizer.beginning`. With NFC, added tokens or a space before it, a text is cut
        before an ASCII character, with more than a piece to spare."""
        if self.is_plain:
            return super().beginning(text, count)
        for size in range(SLICE, len(text), SLICE):
            cut = _ASCII.search(text, size)
            shorter = text[: cut.start()] if cut else text
            if len(shorter) < len(text) and len(self.encode(shorter)) >= count + _SPARE:
                return shorter
        return text

    def ending(self, text: str, count: int) -> str:
        """See `Tokenizer.ending`. A text that is changed before it is encoded is not cut."""
        changed = self._added is not None or self._bpe.prefix_space
        if changed or (self._bpe.composed and not unicodedata.is_normalized("NFC", text)):
            return text
        return super().ending(text, count)

    def encode_with_offsets(self, text: str) -> tuple[list[int], offsets.Offsets]:
        """See `Tokenizer.encode_with_offsets`."""
        text = offsets.without_halves(text)
        ids: list[int] = []
        found: offsets.Offsets = []
        place = 0
        for part in self._parts(text):
            if isinstance(part, int):
                end = place + len(self.decode_bytes([part]).decode())
                ids.append(part)
                found.append((place, end))
            else:
                end = place + len(part)
                inside = [index for slice_ids in self._encode_stretch(part) for index in slice_ids]
                ids += inside
                found += self._offsets(part, inside, place)
            place = end
        return ids, offsets.trimmed(text, found)

    def _offsets(self, text: str, ids: list[int], first: int) -> offsets.Offsets:
        """Return the offsets of the tokens of a stretch; first: number of characters before it."""
        written, places = text, [(i, i + 1) for i in range(len(text))]
        if self._bpe.composed and not text.isascii():
            composed = (offsets.composed(run[0]) + run.span() for run in COMPOSED.finditer(text))
            written, places, end = "", [], 0
            for run, inner, start, stop in composed:
                between = range(end, start)
                written += text[end:start] + run
                places += [(i, i + 1) for i in between]
                places += [(start + a, start + b) for a, b in inner]
                end = stop
            written += text[end:]
            places += [(i, i + 1) for i in range(end, len(text))]
        if self._bpe.prefix_space and written and not written.startswith(" "):
            written, places = f" {written}", [(0, 0), *places]
        sizes = [len(self.decode_bytes([index])) for index in ids]
        tokens = offsets.of_bytes(written, sizes)
        return [(first + places[a][0], first + places[b - 1][1]) for a, b in tokens]

    def _slices(self, text: str) -> Iterator[list[int]]:
        for part in self._parts(text):
            yield from [[part]] if isinstance(part, int) else self._encode_stretch(part)

    def _parts(self, text: str) -> Iterator[str | int]:
        """Yield the ids of added tokens in a text, and the stretches between them."""
        end = 0
        for found in self._added.finditer(text) if self._added else ():
            if found[0] in self._bpe.added:
                yield text[end : found.start()]
                yield self._bpe.added[found[0]]
                end = found.end()
        yield text[end:]

    def _encode_stretch(self, text: str) -> Iterator[list[int]]:
        """Yield the ids of a stretch without added tokens, a slice at a time."""
        if self._bpe.composed and not text.isascii():
            text = COMPOSED.sub(lambda run: unicodedata.normalize("NFC", run[0]), text)
        if self._bpe.prefix_space and text and not text.startswith(" "):
            text = f" {text}"
        for ids in super()._slices(text):
            yield ids if self._ids is None else [self._ids[rank] for rank in ids]

    def _encode_slice(self, text: str) -> list[int]:
        return split_patterns.encode(self.tiktoken, text, known=self.pattern in _KNOWN_PATTERNS)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """UTF-8 bytes of ids, without special ids and ids beyond the vocabulary."""
        return b"".join(self._bpe.names.get(int(index), b"") for index in ids)

    def byte_lengths(self) -> list[int]:
        """Return for each id the number of bytes that it stands for; 0 for special ids."""
        names = self._bpe.names
        return [len(names.get(index, b"")) for index in range(self.vocabulary_size)]

    def merges(self) -> list[tuple[bytes, bytes]]:
        """The two parts that each merged token was merged from, in merge order."""
        return list(self._bpe.parts.values())

    def to_json(self) -> str:
        """The `tokenizer.json` that was read."""
        return self._text


def _is_plain(model: Mapping[str, Any]) -> bool:
    """Return True if, by its options, a model is a BPE of whole tokens that knows all bytes."""
    strange = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    kind = model.get("type") or ("BPE" if "merges" in model else None)
    return kind == "BPE" and not any(map(model.get, strange))


def _composes(normalizer: Mapping[str, Any] | None) -> bool | None:
    """Return True if texts are brought to NFC; None if they are changed in another way."""
    if normalizer is None:
        return False
    if normalizer["type"] == "Sequence":
        steps = list(map(_composes, normalizer["normalizers"]))
        return None if None in steps else any(steps)
    return True if normalizer["type"] == "NFC" else None


def _split(step: Mapping[str, Any] | None) -> tuple[str, bool] | None:
    """Return the one pattern that splits as the steps do, and True if a text gets a space before
    it; None if there is no such pattern."""
    steps = [] if step is None else step.get("pretokenizers", [step])
    kinds = [step["type"] for step in steps]
    if not kinds or kinds.pop() != "ByteLevel":
        return None
    prefix, splits = bool(steps[-1]["add_prefix_space"]), steps[-1].get("use_regex", True)
    if not kinds and splits:
        return _GPT2, prefix
    if prefix:  # every piece would get its own
        return None
    if kinds == ["Digits"] and splits and steps[0]["individual_digits"]:
        return _GPT2_DIGITS, False
    if kinds == ["Split"] and not splits:
        pattern = steps[0]["pattern"].get("Regex")
        if pattern and (steps[0]["behavior"], steps[0]["invert"]) == ("Isolated", False):
            return _with_rest(split_patterns.usable(pattern)), False
    return None


def _with_rest(pattern: str) -> str:
    """Return the pattern, extended to match all text: tiktoken would drop the rest."""
    if pattern == PATTERN:
        return pattern
    whole = rf"{pattern}|(?s:(?:(?!{pattern}).)+)"
    split_patterns.check(whole)
    return whole


def _spellings(names: Iterable[str]) -> dict[str, bytes]:
    """Return the bytes of all tokens that are spelled with one character per byte."""
    spelled = {}
    for name in names:
        with contextlib.suppress(ValueError):
            spelled[name] = to_bytes(name)
    return spelled


def _parts(
    pairs: Iterable[tuple[bytes, bytes]], whole: bool, ids: Mapping[bytes, int]
) -> dict[bytes, tuple[bytes, bytes] | None] | None:
    """Return each token longer than a byte that texts can become, in merge order, with the pair
    that it is merged from; with None if only whole pieces become the token.

    Returns None instead of the dictionary if tiktoken, which merges any two tokens whose bytes make
    a third, could merge in another way than the listed pairs. Where no merge crosses the ends of a
    token's bytes in a text, they go through the same merges as alone. So if these end in a listed
    pair, no other pair of that token can occur; and if they end in no pair, none can.

    Args:
        pairs: in merge order.
        whole: True if a piece that is a token becomes it without any merge.
        ids: bytes to id of all tokens.
    """
    listed: dict[bytes, list[tuple[bytes, bytes]]] = {}
    last = None
    for left, right in pairs:
        token = left + right
        if token not in ids or (token in listed and token != last):
            return None
        listed.setdefault(token, []).append((left, right))
        last = token
    others = [token for token in ids if whole and len(token) > 1 and token not in listed]
    ranks = {bytes([byte]): byte for byte in range(256)}
    ranks |= {token: rank for rank, token in enumerate([*listed, *others], start=256)}
    parts: dict[bytes, tuple[bytes, bytes]] = {}
    found: dict[bytes, tuple[bytes, bytes] | None] = {}
    for token in [*listed, *others]:
        rank = ranks[token]
        made = (p for p in listed.get(token, ()) if _is_merged(*p, rank, ranks, parts))
        pair = next(made, None)
        if pair is not None:
            parts[token] = found[token] = pair
        elif any(_is_merged(*pair, rank, ranks, parts) for pair in _cuts(token)):
            return None
        elif whole:
            found[token] = None
    return found


def _cuts(token: bytes) -> Iterator[tuple[bytes, bytes]]:
    return ((token[:cut], token[cut:]) for cut in range(1, len(token)))


def _is_merged(
    left: bytes,
    right: bytes,
    rank: int,
    ranks: Mapping[bytes, int],
    parts: Mapping[bytes, tuple[bytes, bytes]],
) -> bool:
    """Return True if the merges before `rank` turn the bytes of two tokens into just these two.

    They do if both tokens are merged by then, and no merge joins the parts on the two sides of the
    border between them. The search goes back through these parts, the last merge first.
    """
    for side in (left, right):
        if ranks.get(side, rank) >= rank or (len(side) > 1 and side not in parts):
            return False
    while ranks.get(left + right, rank) >= rank:
        if left not in parts and right not in parts:
            return True
        if right not in parts or (left in parts and ranks[left] > ranks[right]):
            rank, left = min(rank, ranks[left]), parts[left][1]
        else:
            # The left one of two equal merges comes first, so here its rank counts as joined.
            rank, right = min(rank, ranks[right] + 1), parts[right][0]
    return False
