"""Vocabulary files older than `tokenizer.json`, as the tree of one.

Each function returns the tree that `transformers` makes of the same files.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfx_transformer.text import sentencepiece
from tfx_transformer.text.conventions import ROLES, text_of

# The pattern of Qwen2, which its vocab.json and merges.txt do not hold.
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def word_piece(lines: Iterable[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of BERT's `vocab.txt`: one piece per line, whose number is its id."""
    vocabulary = {line: number for number, line in enumerate(lines)}
    cls, sep = _name(settings, "cls_token", "[CLS]"), _name(settings, "sep_token", "[SEP]")
    frame = [token_part(cls), text_part("A"), token_part(sep)]
    return _tree(
        {
            "type": "WordPiece",
            "unk_token": _name(settings, "unk_token", "[UNK]"),
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
        settings,
        special=[cls, sep, "[PAD]", "[UNK]", "[MASK]"],
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
            "strip_accents": settings.get("strip_accents"),
            "lowercase": settings.get("do_lower_case", True),
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=_template(
            vocabulary, [cls, sep], frame, [*frame, text_part("B", 1), token_part(sep, 1)]
        ),
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
    )


def byte_pairs(
    vocabulary: dict[str, int], merges: Iterable[str], settings: Mapping[str, Any], family: str
) -> dict[str, Any]:
    """Return the tree of `vocab.json` and `merges.txt` of GPT-2, RoBERTa or Qwen2.

    Args:
        vocabulary: token to id.
        merges: lines; the first may be a comment.
        settings: object of `tokenizer_config.json`.
        family: name of the class or of the kind of model; any but RoBERTa and Qwen counts as GPT-2.
    """
    family = family.lower()
    prefix = bool(settings.get("add_prefix_space", False))
    step = {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True}
    normalizer = processor = None
    pre_tokenizer: dict[str, Any] = step | {"use_regex": True}
    special = ["<|endoftext|>"]
    if "roberta" in family:
        special = ["<s>", "</s>", "<pad>", "<unk>", "<mask>"]
        cls, sep = _name(settings, "cls_token", "<s>"), _name(settings, "sep_token", "</s>")
        processor = {
            "type": "RobertaProcessing",
            "sep": [sep, vocabulary[sep]],
            "cls": [cls, vocabulary[cls]],
            "trim_offsets": True,
            "add_prefix_space": prefix,
        }
    elif "qwen" in family:
        split = {"type": "Split", "pattern": {"Regex": _QWEN2}, "behavior": "Isolated"}
        steps = [split | {"invert": False}, step | {"use_regex": False}]
        normalizer = {"type": "NFC"}
        pre_tokenizer = {"type": "Sequence", "pretokenizers": steps}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": vocabulary,
        "merges": [line for line in merges if line and not line.startswith("#version")],
    }
    decoder = step | {"use_regex": True}
    parts = (normalizer, pre_tokenizer, processor, decoder)
    return _tree(model, settings, special, *parts)


def unigram(
    model: sentencepiece.Model, settings: Mapping[str, Any], multilingual: bool = False
) -> dict[str, Any]:
    """Return the tree of a Unigram model of SentencePiece, as in T5.

    multilingual: True for XLM-RoBERTa's, where the first pieces and ids are fairseq's.
    """
    pieces = [[piece.text, piece.score] for piece in model.pieces]
    special = [piece.text for piece in model.pieces if piece.kind == sentencepiece.CONTROL]
    special.append(model.pieces[model.unknown_id].text)
    unknown, end, start = model.unknown_id, "</s>", "<s>"
    if multilingual:
        first = ["<s>", "<pad>", "</s>", "<unk>"]
        pieces = [[name, 0.0] for name in first] + pieces[3:] + [["<mask>", 0.0]]
        special, unknown = [*first, "<mask>"], 3
    else:
        count = 100 if "T5" in settings.get("tokenizer_class", "T5") else 0
        count = settings.get("extra_ids", count)
        extra = [f"<extra_id_{number}>" for number in reversed(range(count))]
        pieces += [[name, 0.0] for name in extra]
        special += extra
    vocabulary = {piece: index for index, (piece, _) in enumerate(pieces)}
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    one = [text_part("A"), token_part(end)]
    two = [*one, text_part("B"), token_part(end)]
    if multilingual:
        one = [token_part(start), *one]
        two = [*one, token_part(end), *two[2:]]
    return _tree(
        {"type": "Unigram", "unk_id": unknown, "vocab": pieces, "byte_fallback": False},
        settings,
        special,
        normalizer=_precompiled(model),
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace],
        },
        post_processor=_template(vocabulary, [start, end] if multilingual else [end], one, two),
        decoder=metaspace,
    )


def byte_fallback(model: sentencepiece.Model, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of a BPE model of SentencePiece, as in Llama 2 and Mistral; by the model also
    without a space before each text, as in Gemma."""
    vocabulary = {piece.text: index for index, piece in enumerate(model.pieces)}
    control = [p.text for p in model.pieces if p.kind == sentencepiece.CONTROL]
    unknown = model.pieces[model.unknown_id].text
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if model.dummy_prefix:
        normalizer = None
        pre_tokenizer = {"type": "Metaspace", "replacement": "▁", "split": False}
        pre_tokenizer["prepend_scheme"] = "first"
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    else:
        normalizer = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        pre_tokenizer = {"type": "Split", "pattern": {"String": " "}, "invert": False}
        pre_tokenizer["behavior"] = "MergedWithPrevious"
    begins = [] if settings.get("add_bos_token", True) is False else control[:1]
    one = [*map(token_part, begins), text_part("A")]
    return _tree(
        {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": model.byte_fallback,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": _merges(vocabulary, {*control, unknown}),
        },
        settings,
        [*control, unknown],
        normalizer,
        pre_tokenizer,
        _template(
            vocabulary, begins, one, [*one, *(token_part(b, 1) for b in begins), text_part("B", 1)]
        ),
        {"type": "Sequence", "decoders": decoders},
        user_defined=[p.text for p in model.pieces if p.kind == sentencepiece.USER_DEFINED],
    )


def marian(model: sentencepiece.Model, vocabulary: Mapping[str, int]) -> dict[str, Any]:
    """Return the tree of one side of Marian: pieces of SentencePiece with the ids of `vocab.json`,
    for texts that its own `sentencepiece.normalizer` has normalized.

    Pieces of the model that `vocab.json` lacks get ids after those of the vocabulary; they mean the
    unknown token. Tokens that are not pieces get a name with a space, which no text becomes.
    """
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ValueError("ids are not 0, 1, 2, … without gap or repetition")
    kinds = (sentencepiece.NORMAL, sentencepiece.USER_DEFINED)
    scores = {piece.text: piece.score for piece in model.pieces if piece.kind in kinds}
    pieces = [
        [name, scores[name]] if name in scores else [f" {name}", 0.0]
        for name in sorted(vocabulary, key=vocabulary.__getitem__)
    ]
    pieces += [[name, score] for name, score in scores.items() if name not in vocabulary]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": vocabulary["<unk>"],
            "vocab": pieces,
            "byte_fallback": False,
        },
    }


def _name(settings: Mapping[str, Any], role: str, default: str) -> str:
    return text_of(settings.get(role)) or default


def token_part(name: str, segment: int = 0) -> dict[str, Any]:
    """Return a special token in a template of `post_processor`."""
    return {"SpecialToken": {"id": name, "type_id": segment}}


def text_part(which: str, segment: int = 0) -> dict[str, Any]:
    """Return a text, "A" or "B", in a template of `post_processor`."""
    return {"Sequence": {"id": which, "type_id": segment}}


def _template(
    vocabulary: Mapping[str, int], names: Sequence[str], single: list, pair: list
) -> dict[str, Any]:
    tokens = {n: {"id": n, "ids": [vocabulary[n]], "tokens": [n]} for n in names}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}


def _precompiled(model: sentencepiece.Model) -> dict[str, Any] | None:
    if not model.charsmap:
        return None
    charsmap = base64.b64encode(model.charsmap).decode("ascii")
    return {"type": "Precompiled", "precompiled_charsmap": charsmap}


def _merges(vocabulary: Mapping[str, int], special: set[str]) -> list[list[str]]:
    """Return the pairs of pieces that SentencePiece merges: those that make a third, by its id."""
    merges = []
    for piece in sorted(vocabulary, key=vocabulary.__getitem__):
        cuts = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        pairs = [list(p) for p in cuts if p[0] in vocabulary and p[1] in vocabulary]
        if piece not in special:
            pairs = [pair for pair in pairs if special.isdisjoint(pair)]
            merges += sorted(pairs, key=lambda p: (len(p[0]), len(p[1])))
    return merges


def _tree(
    model: dict[str, Any],
    settings: Mapping[str, Any],
    special: Iterable[str],
    normalizer: dict[str, Any] | None,
    pre_tokenizer: dict[str, Any] | None,
    post_processor: dict[str, Any] | None,
    decoder: dict[str, Any] | None,
    user_defined: Iterable[str] = (),
) -> dict[str, Any]:
    """Return a `tokenizer.json`. Its added tokens are those of the family that are in the
    vocabulary, those that the settings name for a role, and those that they list with ids."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):
        vocabulary = {piece: index for index, (piece, _) in enumerate(vocabulary)}
    named = filter(None, (text_of(settings.get(role)) for role in ROLES))
    flags = {name: False for name in user_defined}
    flags |= {name: True for name in (*special, *named) if name in vocabulary}
    added = {vocabulary[name]: _added(name, flag) for name, flag in flags.items()}
    for index, token in (settings.get("added_tokens_decoder") or {}).items():
        added[int(index)] = _added(token["content"], True) | token
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index} | added[index] for index in sorted(added)],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    }


def _added(name: str, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"content": name} | flags | {"special": special}
