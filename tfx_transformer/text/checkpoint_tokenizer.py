"""The tokenizer of a checkpoint, from the files in its folder."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tfx_transformer.errors import InputError
from tfx_transformer.json_files import parse, read_object
from tfx_transformer.text import checkpoint_files, sentencepiece
from tfx_transformer.text.byte_level import ByteLevelTokenizer, byte_level
from tfx_transformer.text.conventions import conventions
from tfx_transformer.text.hugging_face import HuggingFaceTokenizer, vocabulary_of
from tfx_transformer.text.marian import (
    SOURCE,
    TARGET,
    VOCABULARY,
    MarianFiles,
    MarianTokenizer,
    marian_conventions,
)
from tfx_transformer.text.tokenizer import (
    MAX_ENTRIES,
    SETTINGS,
    Tokenizer,
    check_sizes,
    read_text,
)

TOKENIZER = "tokenizer.json"
# In the order of the search, after tokenizer.json and Marian's files.
_SENTENCEPIECE = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
# Beginnings of names of tokenizers whose sentencepiece.bpe.model does not hold all ids.
_OTHER_IDS = ("m2m", "mbart", "nllb", "camembert")
_MALFORMED = (LookupError, TypeError, AttributeError, ValueError, RecursionError)


def read_folder(source: str | os.PathLike) -> Tokenizer:
    """See `Tokenizer.from_pretrained`."""
    folder = Path(source)
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder.\n  Expected one with the files of a tokenizer."
        )
    settings = _settings(folder)
    architecture = _json(folder / "config.json")
    # sentence-transformers may ask for lower case, whatever the tokenizer itself does.
    lower = _json(folder / "sentence_bert_config.json").get("do_lower_case") is True
    if (folder / TOKENIZER).is_file():
        # As in `transformers` 5: tokenizer.json defines the frame of a text, not these flags.
        for flag in ("add_bos_token", "add_eos_token"):
            settings.pop(flag, None)
        tokenizer = _from_tree_file(folder / TOKENIZER, settings, architecture, lower)
    elif (folder / SOURCE).is_file():
        tokenizer = _marian(folder, settings, architecture)
    else:
        path, tree = _old_files(folder, settings, architecture)
        tree = _add_lower_case(tree) if lower else tree
        text = json.dumps(tree, ensure_ascii=False)
        tokenizer = _check(path, lambda: _build(tree, text, settings, architecture))
    tokenizer.chat_template, tokenizer.chat_template_file = _chat_template(folder, settings)
    return tokenizer


def read_tokenizer(path: Path) -> Tokenizer:
    """A `tokenizer.json`, or Marian's files, with the `tokenizer_config.json` beside it, as
    `Tokenizer.save` writes them; its chat template is left to the bundle."""
    if not path.is_file() and path.with_name(SOURCE).is_file():
        return _marian(path.parent, _settings(path.parent), {})
    return _from_tree_file(path, _settings(path.parent), {})


def _from_tree_file(
    path: Path, settings: Mapping[str, Any], architecture: Mapping[str, Any], lower: bool = False
) -> Tokenizer:
    text = read_text(path)
    if lower:
        text = _check(
            path, lambda: json.dumps(_add_lower_case(parse(text, path)), ensure_ascii=False)
        )
    if not path.with_name(SETTINGS).is_file():
        try:
            return Tokenizer.from_json(text)  # one of ours has no settings
        except InputError:
            pass

    return _check(path, lambda: _build(parse(text, path), text, settings, architecture))


def _add_lower_case(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json that makes texts lower case first, if it does not do so already."""
    normalizer = tree.get("normalizer")
    parts = [] if normalizer is None else normalizer.get("normalizers", [normalizer])
    if any(p["type"] == "Lowercase" or p.get("lowercase") is True for p in parts):
        return tree
    parts = [{"type": "Lowercase"}, *parts]
    return tree | {"normalizer": {"type": "Sequence", "normalizers": parts}}


def _build(
    tree: dict[str, Any], text: str, settings: Mapping[str, Any], architecture: Mapping[str, Any]
) -> Tokenizer:
    check_sizes(tree["model"])
    vocabulary = vocabulary_of(tree)
    tokens = conventions(tree, vocabulary, settings, architecture)
    bpe = byte_level(tree)
    if bpe is not None:
        return ByteLevelTokenizer(bpe, tokens, text)
    return HuggingFaceTokenizer(tree, tokens, text)


def _check(path: Path, build: Callable[[], Any]) -> Any:
    """Return the result of `build`; an error in it names the file."""
    try:
        return build()
    except InputError as error:
        error.in_file(path)
        raise
    except _MALFORMED as error:
        raise InputError(
            f"not a tokenizer of a checkpoint ({type(error).__name__}: {error}).\n"
            "  Expected the file as `transformers` saves it; copy the checkpoint again.",
            path,
        ) from error


def _settings(folder: Path) -> dict[str, Any]:
    """Return `tokenizer_config.json`, with the settings of older files beside it."""
    settings = _json(folder / SETTINGS)
    settings = {**_json(folder / "special_tokens_map.json"), **settings}
    added = _json(folder / "added_tokens.json")
    if added and "added_tokens_decoder" not in settings:
        listed = {index: {"content": token} for token, index in added.items()}
        settings["added_tokens_decoder"] = listed
    return settings


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one if there is no such file."""
    return read_object(path) if path.is_file() else {}


def _chat_template(
    folder: Path, settings: Mapping[str, Any]
) -> tuple[str, Path] | tuple[None, None]:
    """Return Jinja text and its file; of several templates the one named "default"."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return read_text(file), file
    file = folder / SETTINGS
    template = settings.get("chat_template")
    if not template:
        file = folder / "chat_template.json"
        template = _json(file).get("chat_template")
    if isinstance(template, list):
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, Mapping)}
        template = named.get("default")
    return (template, file) if isinstance(template, str) else (None, None)


def _old_files(
    folder: Path, settings: dict[str, Any], architecture: Mapping[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """Return the main one of the older files, and the tree of a `tokenizer.json` made from them."""
    family = str(settings.get("tokenizer_class") or architecture.get("model_type") or "")
    readers = {
        "merges.txt": lambda path: checkpoint_files.byte_pairs(
            _ids(path.with_name(VOCABULARY)), _lines(path), settings, family
        ),
        "vocab.txt": lambda path: checkpoint_files.word_piece(_lines(path), settings),
        **dict.fromkeys(_SENTENCEPIECE, lambda path: _sentencepiece(path, settings)),
    }
    for name, read in readers.items():
        path = folder / name
        if path.is_file():
            if name == _SENTENCEPIECE[0] and family.lower().startswith(_OTHER_IDS):
                raise InputError(
                    f"the ids of a {family} are not those of this file.\n"
                    "  Expected tokenizer.json beside it, which save_pretrained of transformers "
                    "writes.",
                    path,
                )
            return path, _check(path, functools.partial(read, path))
    raise InputError(
        f"{folder} has no tokenizer.\n"
        "  Looked for tokenizer.json; vocab.txt; vocab.json and merges.txt; "
        f"{', '.join(_SENTENCEPIECE)};\n"
        "  source.spm, target.spm and vocab.json. Copy these files of the checkpoint too."
    )


def _sentencepiece(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    model = sentencepiece.read_model(_data(path))
    if model.kind == sentencepiece.BPE:
        return checkpoint_files.byte_fallback(model, settings)
    if model.kind == sentencepiece.UNIGRAM:
        return checkpoint_files.unigram(model, settings, path.name == _SENTENCEPIECE[0])
    raise ValueError("the model is neither Unigram nor BPE")


def _data(path: Path) -> bytes:
    try:
        if path.stat().st_size > sentencepiece.MAX_BYTES:
            raise InputError(
                "the file is larger than any SentencePiece model.\n"
                f"  Expected {sentencepiece.MAX_BYTES >> 20} MiB at most. Copy the file again.",
                path,
            )
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read as a tokenizer: {error}", path) from error


def _lines(path: Path) -> Iterable[str]:
    r"""Return the lines, split only at \n as in Python's text files: a token may hold other line
    ends."""
    text = read_text(path)
    if text.count("\n") > MAX_ENTRIES:
        raise InputError(
            "it has more lines than the vocabulary of any tokenizer.\n"
            f"  Expected {MAX_ENTRIES:,} at most. Copy the file again.",
            path,
        )
    return text.removesuffix("\n").split("\n")


def _ids(path: Path) -> dict[str, int]:
    ids = _json(path)
    if any(type(index) is not int or index < 0 for index in ids.values()):
        raise ValueError("an id is not a whole number")
    return ids


def _marian(
    folder: Path, settings: Mapping[str, Any], architecture: Mapping[str, Any]
) -> MarianTokenizer:
    words = folder / VOCABULARY
    if settings.get("separate_vocabs"):
        raise InputError(
            f"{folder}: source and target have separate vocabularies, which is not supported.\n"
            "  Expected a checkpoint with one vocab.json for both."
        )

    def build() -> MarianTokenizer:
        files = MarianFiles(_data(folder / SOURCE), _data(folder / TARGET), _ids(words))
        tokens = marian_conventions(files.vocabulary, settings, architecture)
        return MarianTokenizer(files, tokens)

    return _check(folder / SOURCE, build)
