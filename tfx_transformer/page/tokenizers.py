"""Tables of tokenizers for `app/tokenizers.js`, which gives the same ids."""

from __future__ import annotations

import functools
import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from tfx_transformer.page.patterns import literal, to_javascript
from tfx_transformer.page.pieces import pieces_spec
from tfx_transformer.text.byte_level import COMPOSED, byte_level
from tfx_transformer.text.tokenizer import Tokenizer

Spec = dict[str, Any]


def tokenizer_spec(tokenizer: Tokenizer) -> Spec:
    """Return the table by which a page turns texts into ids.

    It is for byte-level BPE (our own, and that of GPT-2, Llama 3, Qwen, RoBERTa), for BERT's
    WordPiece, and for SentencePiece's Unigram and BPE (T5, XLM-R, Llama 2, Mistral, Gemma).

    Raises:
        InputError: the tokenizer is of another kind.
    """
    tree = json.loads(tokenizer.to_json())
    if type(tokenizer) is Tokenizer:
        spec = _bytes(tokenizer.ranks, tokenizer.pattern, tokenizer.special_tokens)
        return spec | {"lower": _capitals() if tokenizer.lowercase else ""}
    bpe = byte_level(tree)
    if bpe is not None and bpe.pattern == tokenizer.pattern:
        reached = bpe.ids
        spec = _bytes(reached, bpe.pattern, tokenizer.special_tokens)
        spec["others"] = [
            [index, token.decode("latin-1")]
            for index, token in bpe.names.items()
            if reached.get(token) != index
        ]
        if bpe.added:
            cut = sorted({*bpe.added, *tokenizer.special_tokens}, key=len, reverse=True)
            spec |= {"added": bpe.added, "cut": "|".join(map(literal, cut))}
        if bpe.composed:
            spec["compose"] = to_javascript(COMPOSED.pattern)
        return spec | {"prefix": bpe.prefix_space}
    return _words(tree, tokenizer) or pieces_spec(tree, tokenizer)


def _bytes(ids: Mapping[bytes, int], pattern: str, special: Mapping[str, int]) -> Spec:
    tokens = list(ids)
    return {
        "kind": "bytes",
        "pattern": to_javascript(pattern),
        "tokens": [token.decode("latin-1") for token in tokens],
        "ids": [ids[token] for token in tokens],
        "special": dict(special),
        "others": [],
        "added": {},
        "cut": "",
        "compose": "",
        "prefix": False,
        "lower": "",
    }


@functools.cache
def _capitals() -> str:
    """Return the characters that have a lower case in Python; a browser may know newer ones."""
    return "".join(c for c in map(chr, range(sys.maxunicode + 1)) if c.lower() != c)


def _words(tree: Mapping[str, Any], tokenizer: Tokenizer) -> Spec | None:
    """Return the table of BERT's WordPiece; None if the tokenizer is another."""
    model, normalizer = tree["model"], tree.get("normalizer") or {}
    if model.get("type") != "WordPiece" or normalizer.get("type") != "BertNormalizer":
        return None
    if (tree.get("pre_tokenizer") or {}).get("type") != "BertPreTokenizer":
        return None
    if any(not token["special"] for token in tree.get("added_tokens") or ()):
        return None
    special = set(tokenizer.special_tokens)
    lower = bool(normalizer.get("lowercase", True))
    accents = normalizer.get("strip_accents")
    vocabulary = model["vocab"]
    return {
        "kind": "words",
        "vocabulary": {name: i for name, i in vocabulary.items() if name not in special},
        "unknown": vocabulary[model["unk_token"]],
        "continued": model.get("continuing_subword_prefix", "##"),
        "longest": model.get("max_input_chars_per_word", 100),
        "clean": bool(normalizer.get("clean_text", True)),
        "chinese": bool(normalizer.get("handle_chinese_chars", True)),
        "accents": lower if accents is None else bool(accents),
        "lower": lower,
        "special": dict(tokenizer.special_tokens),
        **_bert_characters(),
    }


@functools.cache
def _bert_characters() -> dict[str, str]:
    """Return the signs, marks and control characters of `tokenizers`, as classes of JavaScript.

    `tokenizers` has an older Unicode than browsers.
    """
    from tokenizers import normalizers, pre_tokenizers

    off = {"clean_text": False, "handle_chinese_chars": False, "lowercase": False}
    strip = normalizers.BertNormalizer(**off, strip_accents=True).normalize_str
    clean = normalizers.BertNormalizer(**off | {"clean_text": True}, strip_accents=False)
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    known: dict[str, list[int]] = {"P": [], "S": [], "M": [], "C": []}
    for code in range(0x110000):
        category = unicodedata.category(chr(code))
        if category[0] in known and category not in ("Cn", "Co", "Cs"):
            known[category[0]].append(code)
    signs = [c for c in known["P"] + known["S"] if len(split(f"a{chr(c)}a")) == 3]
    marks = [c for c in known["M"] if strip(chr(c)) == ""]
    controls = [c for c in known["C"] if clean.normalize_str(chr(c)) == ""]
    return {
        "signs": _ranges(signs),
        "marks": _ranges(marks),
        "controls": _ranges([*controls, 0xFFFD]) + r"\p{Co}",
    }


def _ranges(codes: Iterable[int]) -> str:
    """Return characters as the inside of a class of JavaScript."""
    parts: list[list[int]] = []
    for code in sorted(codes):
        if parts and code == parts[-1][1] + 1:
            parts[-1][1] = code
        else:
            parts.append([code, code])
    return "".join(
        f"\\u{{{first:x}}}" + (f"-\\u{{{last:x}}}" if last > first else "") for first, last in parts
    )
