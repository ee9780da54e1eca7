"""Tables of SentencePiece's tokenizers for `app/pieces.js`, which gives the same ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfx_transformer.errors import InputError
from tfx_transformer.page.patterns import literal, to_javascript
from tfx_transformer.text.hugging_face import kinds
from tfx_transformer.text.tokenizer import Tokenizer

Step = Mapping[str, Any]

# Steps that `app/pieces.js` has, each with the keys that it reads.
_NORMALIZERS = {
    "Precompiled": {"precompiled_charsmap"},
    "Replace": {"pattern", "content"},
    "Prepend": {"prepend"},
    "Strip": {"strip_left", "strip_right"},
    **{name: set() for name in ("Lowercase", "NFC", "NFD", "NFKC", "NFKD")},
}
_SPLITTERS = {
    "WhitespaceSplit": set(),
    "Metaspace": {"replacement", "prepend_scheme", "split"},
}


def pieces_spec(tree: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the table of a tokenizer with the model Unigram, or BPE over characters.

    Args:
        tree: object of `tokenizer.json`.
        tokenizer: the tokenizer that was made of it.

    Raises:
        InputError: the tokenizer has a part that a page lacks.
    """
    model = tree["model"]
    kind = model.get("type") or ("Unigram" if "unk_id" in model else "BPE")
    if kind == "Unigram":
        spec = _unigram(model, tokenizer)
    elif kind == "BPE":
        spec = _pairs(model, tokenizer)
    else:
        others = " with other steps than BERT's" if kind == "WordPiece" else ""
        raise _refusal(f"the model {kind}{others}")
    splitters = _steps(tree.get("pre_tokenizer"), "pretokenizers", _SPLITTERS)
    if len(splitters) > 1 and any(step.get("prepend_scheme") == "first" for step in splitters):
        raise _refusal("a Metaspace that is not alone")
    added = {}
    for token in tree.get("added_tokens") or ():
        if token["content"] in tokenizer.special_tokens:
            continue
        if any(token.get(flag) for flag in ("normalized", "lstrip", "rstrip", "single_word")):
            raise _refusal(f"the added token {token['content']!r}")
        added[token["content"]] = token["id"]
    return spec | {
        "kind": "pieces",
        "normalizers": _steps(tree.get("normalizer"), "normalizers", _NORMALIZERS),
        "splitters": splitters,
        "added": added,
        "cut": "|".join(map(literal, sorted(added, key=len, reverse=True))),
        "leadingSpace": tokenizer.leading_space,
        "namesBytes": "ByteFallback" in kinds(tree.get("decoder")),
        "special": dict(tokenizer.special_tokens),
    }


def _unigram(model: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the part of a Unigram model; special tokens count only for `lowest`, the lowest
    score."""
    special = tokenizer.special_tokens
    listed = [(n, i, score) for i, (n, score) in enumerate(model["vocab"]) if n not in special]
    if model.get("unk_id") is None:
        raise _refusal("a Unigram model without an unknown piece")
    return {
        "model": "unigram",
        "pieces": [[name, index] for name, index, _ in listed],
        "scores": [score for *_, score in listed],
        "lowest": min(score for _, score in model["vocab"]),
        "unknown": model["unk_id"],
        "bytes": _bytes(model, {name: index for name, index, _ in listed}),
    }


def _pairs(model: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the part of a BPE model."""
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        if model.get(name):
            raise _refusal(f"a BPE model with {name}")
    special = tokenizer.special_tokens
    ids = {name: index for name, index in model["vocab"].items() if name not in special}
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    merges = [
        [ids[left], ids[right], ids[left + right]]
        for left, right in pairs
        if left in ids and right in ids and left + right in ids
    ]
    unknown = model.get("unk_token")
    return {
        "model": "pairs",
        "pieces": list(map(list, ids.items())),
        "merges": merges,
        "unknown": None if unknown is None else model["vocab"][unknown],
        "fuse": bool(model.get("fuse_unk")),
        "bytes": _bytes(model, ids),
    }


def _bytes(model: Mapping[str, Any], ids: Mapping[str, int]) -> list[int | None] | None:
    """Return the ids of the 256 bytes, if the model has them for unknown characters."""
    if not model.get("byte_fallback"):
        return None
    return [ids.get(f"<0x{byte:02X}>") for byte in range(256)]


def _steps(step: Step | None, inner: str, known: Mapping[str, set[str]]) -> list[dict[str, Any]]:
    """Return the steps of a normalizer or pre-tokenizer as one list; sequences are unfolded."""
    if step is None:
        return []
    if step["type"] == "Sequence":
        return [one for part in step[inner] for one in _steps(part, inner, known)]
    if step["type"] not in known:
        raise _refusal(f"the step {step['type']}")
    kept = {key: step[key] for key in known[step["type"]] if key in step}
    if step["type"] == "Metaspace":
        prepends = step.get("add_prefix_space", True)
        kept.setdefault("prepend_scheme", "always" if prepends else "never")
        kept.setdefault("split", True)
    if "Regex" in (kept.get("pattern") or ()):
        kept["pattern"] = {"Regex": to_javascript(kept["pattern"]["Regex"])}
    return [{"type": step["type"], **kept}]


def _refusal(what: str) -> InputError:
    return InputError(
        f"the bundle's tokenizer has {what}, which a page does not have yet.\n"
        "  Run the bundle by tfx-transformer or run.pyz."
    )
