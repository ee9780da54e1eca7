"""Tokenizers of checkpoints by `tokenizers`: WordPiece, Unigram, BPE with byte fallback."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tfx_transformer.errors import InputError
from tfx_transformer.text import offsets
from tfx_transformer.text.conventions import Conventions
from tfx_transformer.text.tokenizer import SLICE, Tokenizer, to_bytes

_SPACE = "▁"  # stands for a space in the pieces of SentencePiece
_BYTE = re.compile("<0x([0-9A-F]{2})>")
# The letter or digit before a blank, in texts and as tokens spell it.
_CUT = re.compile("([0-9A-Za-z])(?= [0-9A-Za-z])")
_BEFORE_BLANK = re.compile("([0-9A-Za-z])(?=[ ▁Ġ])")


class HuggingFaceTokenizer(Tokenizer):
    """The tokenizer of a checkpoint, by the `tokenizers` package.

    No text can become a special id: in the runner the names of special tokens hold a space, which
    no piece of a text does.

    Args:
        tree: object of `tokenizer.json`.
        conventions: conventions of its tokens.
        text: the `tokenizer.json`, which is kept as it is.

    Raises:
        InputError: `tokenizers` cannot run it, or a text becomes a special id in it.
    """

    pattern = None
    is_plain = False

    def __init__(self, tree: dict[str, Any], conventions: Conventions, text: str) -> None:
        vocabulary = vocabulary_of(tree)
        self._tree = rename_special(tree, conventions.special_tokens, " {} ")
        self._runner = _runner(self._tree)
        self._later = self._runner
        later = _without_first_space(self._tree)
        if later is not None:
            self._later = _runner(later)
        self._text = text
        self._adopt(conventions, max(vocabulary.values()))
        self._ordinary = {
            index: name for name, index in vocabulary.items() if index not in self._special_ids
        }
        decoders = kinds(tree.get("decoder"))
        self._byte_level = "ByteLevel" in decoders
        self._continued = tree["decoder"].get("prefix") if "WordPiece" in decoders else None
        self.leading_space = self._has_leading_space()
        self._joined: set[str] | None = None
        self._check_hidden()

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; none is special, whatever it holds, but that of unknown pieces.

        A lone surrogate, which no UTF-8 file can hold, becomes U+FFFD.
        """
        return self._encode(text, self._runner)

    def encode_first(self, text: str, count: int) -> list[int]:
        """Return the first `count` ids of `encode(text)`; a long text is read to a safe place."""
        return self.encode(self.beginning(text, count))[: max(count, 0)]

    def beginning(self, text: str, count: int) -> str:
        """See `Tokenizer.beginning`; without a safe place to cut it is the whole text."""
        size = max(SLICE, 8 * count)
        while size < len(text):
            cut = self._safe_cut(text, size)
            if cut and len(self.encode(text[:cut])) > count:
                return text[:cut]
            size *= 4
        return text

    def ending(self, text: str, count: int) -> str:
        """Return the whole text: its beginning may change the ids of its end."""
        return text

    def _safe_cut(self, text: str, size: int) -> int | None:
        """Return a place before `size` that no token can cross, so that the text after it changes
        nothing before it: a blank between two ASCII letters or digits, if no token holds such a
        letter and a blank after it. No merge, sum of scores or normalization then crosses it. None
        if there is no such place."""
        if self._joined is None:
            names = [*self._ordinary.values()]
            self._joined = {pair for name in names for pair in _BEFORE_BLANK.findall(name)}
        for found in reversed(list(_CUT.finditer(text, size // 2, size))):
            if found[1] not in self._joined:
                return found.end(1)
        return None

    def encode_after(self, text: str) -> list[int]:
        """Return the ids of a text that follows a special token: some tokenizers put a space only
        before the beginning of a text (Metaspace, "first")."""
        return self._encode(text, self._later)

    def encode_with_offsets(self, text: str) -> tuple[list[int], offsets.Offsets]:
        """See `Tokenizer.encode_with_offsets`."""
        text = offsets.without_halves(text)
        found = self._runner.encode(text, add_special_tokens=False)
        return found.ids, offsets.trimmed(text, found.offsets)

    def _encode(self, text: str, runner) -> list[int]:
        return runner.encode(without_surrogates(text), add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids, without special ids and ids beyond the vocabulary; bytes that are not UTF-8
        become U+FFFD."""
        known = [int(index) for index in ids if int(index) in self._ordinary]
        return self._runner.decode(known, skip_special_tokens=False)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """UTF-8 bytes of ids as inside a text, without special ids: a token may hold part of a
        character, and the space before it even at the beginning (`leading_space`)."""
        return b"".join(map(self._piece, map(int, ids)))

    def byte_lengths(self) -> list[int]:
        """Return for each id the number of bytes that it stands for; 0 for special ids."""
        return [len(self._piece(index)) for index in range(self.vocabulary_size)]

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Return one readable text per id; WordPiece's pieces as they are, with their `##`."""
        ids = list(map(int, ids))
        if self._continued is None:
            return super().tokens(ids)
        names = self._ordinary | {index: name for name, index in self.special_tokens.items()}
        return [names.get(index, "") for index in ids]

    def begins_word(self, ids: Iterable[int]) -> list[bool]:
        """Return for each id True if its piece begins a word, by the mark of the piece."""
        if self._continued is not None:
            names = map(self._ordinary.get, map(int, ids))
            return [not (name or "").startswith(self._continued) for name in names]
        return [self._piece(int(index)).startswith(b" ") for index in ids]

    def to_json(self) -> str:
        """The `tokenizer.json` that was read."""
        return self._text

    def _piece(self, index: int) -> bytes:
        name = self._ordinary.get(index)
        if name is None:
            return b""
        if self._byte_level:
            with contextlib.suppress(ValueError):  # an added token is spelled as it is
                return to_bytes(name)
        if self._continued is not None:
            continues = name.startswith(self._continued)
            return (name.removeprefix(self._continued) if continues else f" {name}").encode()
        byte = _BYTE.fullmatch(name)
        return bytes.fromhex(byte[1]) if byte else name.replace(_SPACE, " ").encode()

    def _has_leading_space(self) -> bool:
        spaced = (index for index in self._ordinary if self._piece(index).startswith(b" "))
        index = next(spaced, None)
        return index is not None and self.decode([index]).encode() != self._piece(index)

    def _check_hidden(self) -> None:
        """Refuse a runner in which the name of a special token in a text becomes its id."""
        ids = self._special_ids - {self.special_tokens.get(self.names.get("unk_token"))}
        for name in self.special_tokens:
            if not ids.isdisjoint(self.encode(f"a{name}b {name}")):
                raise InputError(
                    f"the text {name!r} becomes a special token.\n"
                    "  Expected a tokenizer in which the names of special tokens are plain text."
                )


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for every lone surrogate."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def vocabulary_of(tree: Mapping[str, Any]) -> dict[str, int]:
    """Return token to id for all tokens of a `tokenizer.json`, added ones too."""
    pieces = tree["model"]["vocab"]
    if isinstance(pieces, list):  # of pieces with scores
        pieces = {piece: index for index, (piece, _) in enumerate(pieces)}
    added = {token["content"]: token["id"] for token in tree.get("added_tokens") or ()}
    ids = {**pieces, **added}
    if any(type(index) is not int or index < 0 for index in ids.values()):
        raise ValueError("an id is not a whole number")
    return ids


def rename_special(
    tree: Mapping[str, Any], special: Mapping[str, int], pattern: str
) -> dict[str, Any]:
    """Return the part of a `tokenizer.json` that encodes texts, with special tokens renamed.

    Args:
        tree: object of the file.
        special: names of its special tokens.
        pattern: the new name, with {} for the old one.
    """

    def hidden(name: str) -> str:
        return pattern.format(name) if name in special else name

    model = dict(tree["model"])
    if isinstance(model["vocab"], list):
        model["vocab"] = [[hidden(piece), score] for piece, score in model["vocab"]]
    else:
        model["vocab"] = {hidden(piece): index for piece, index in model["vocab"].items()}
    if model.get("unk_token") is not None:
        model["unk_token"] = hidden(model["unk_token"])
    if "merges" in model:
        pairs = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
        model["merges"] = [
            pair for pair in pairs if special.keys().isdisjoint((*pair, "".join(pair)))
        ]
    added = [
        token | {"content": hidden(token["content"])} for token in tree.get("added_tokens") or ()
    ]
    unused = dict.fromkeys(("truncation", "padding", "post_processor"))
    return {**tree, **unused, "model": model, "added_tokens": added}


def _without_first_space(tree: dict[str, Any]) -> dict[str, Any] | None:
    """Return the tree for a text that follows something; None if that makes no difference."""
    step = tree.get("pre_tokenizer")
    if step is None or step.get("prepend_scheme") != "first":
        return None
    return tree | {"pre_tokenizer": step | {"prepend_scheme": "never"}}


def _runner(tree: dict[str, Any]):
    import tokenizers

    try:
        runner = tokenizers.Tokenizer.from_str(json.dumps(tree))
    except Exception as error:  # what `tokenizers` raises is a plain Exception
        raise InputError(f"not a tokenizer.json that `tokenizers` reads: {error}.") from error
    runner.encode_special_tokens = True
    for token in tree["added_tokens"]:
        if runner.token_to_id(token["content"]) != token["id"]:
            raise InputError(
                f"the added token {token['content']!r} cannot have the id {token['id']}.\n"
                "  Added tokens follow the vocabulary without a gap, in the order of their ids."
            )
    return runner


def kinds(step: Mapping[str, Any] | None) -> set[str]:
    """Return the types of a decoder and of all its parts."""
    if step is None:
        return set()
    return {step["type"]}.union(*map(kinds, step.get("decoders", ())))
