"""A folder with the token ids of a corpus, written once and read by several runs.

`token_writer` writes it; `read_token_folder` returns its training and its validation part.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from tfx_transformer.data.corpus import TokenFile, hold_out
from tfx_transformer.errors import InputError
from tfx_transformer.json_files import read_object
from tfx_transformer.text.tokenizer import Tokenizer

INDEX, TOKENIZER = "tokens.json", "tokenizer.json"
TRAINING, VALIDATION = "training.bin", "validation.bin"
# The record of an unfinished folder.
PROGRESS = ".progress.json"
# Ids that are checked at a time.
_CHUNK_IDS = 1 << 20


def identity(tokenizer: Tokenizer) -> str:
    """Return the SHA-256 of a tokenizer: equal tokenizers write the same ids."""
    return hashlib.sha256(tokenizer.to_json().encode()).hexdigest()


def read_token_folder(
    folder: str | os.PathLike[str], tokenizer: Tokenizer, share: float = 0.1
) -> tuple[TokenFile, TokenFile]:
    """Return the training and the validation part of a folder of tokens.

    `tfx-transformer tokenize` writes such a folder.

    Args:
        folder: the folder.
        tokenizer: the tokenizer of the model.
        share: share of the ids to hold out, if the folder was written without --validation.

    Raises:
        InputError: it is not such a folder, is unfinished, was cut short, has the ids of another
            tokenizer, or an id that is not in the vocabulary.
    """
    index = _read_index(Path(folder))
    try:
        training = _part(Path(folder, TRAINING), index, index["training"])
        held_out = index.get("validation")
        validation = _part(Path(folder, VALIDATION), index, held_out) if held_out else None
        written_by = index["settings"]["tokenizer"]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{Path(folder, INDEX)}: not an index of tokens.\n  Write the folder again."
        ) from error
    if written_by != identity(tokenizer):
        raise InputError(
            f"{folder}: its ids are those of another tokenizer than the model's.\n"
            "  Write it with the tokenizer of the base, or begin a new model: without --base and "
            "--tokenizer it takes the tokenizer of the folder."
        )
    for part in (training, validation):
        if part:
            _check_ids(part, tokenizer.vocabulary_size)
    return (training, validation) if validation else hold_out(training, share, tokenizer)


def _part(path: Path, index: dict[str, Any], counts: dict[str, Any]) -> TokenFile:
    """Return one file of ids.

    Raises:
        InputError: it has no tokens, or was cut short.
        KeyError, TypeError: the index is damaged.
    """
    if index["dtype"] not in ("uint16", "uint32"):
        raise TypeError(index["dtype"])
    for name in ("tokens", "bytes", "documents"):
        if type(counts[name]) is not int or counts[name] < 0:
            raise TypeError(counts[name])
    tokens = TokenFile(
        path,
        index["dtype"],
        counts["tokens"],
        counts["bytes"],
        counts["documents"],
        tuple(index["sources"]),
    )
    if not tokens.tokens:
        raise InputError(f"{path}: there are no tokens.\n  Write the folder from more text.")
    tokens.array()  # raises if the file was cut short
    return tokens


def _check_ids(tokens: TokenFile, vocabulary_size: int) -> None:
    """Raise if an id is not in the vocabulary. All ids are read, a stretch at a time.

    Raises:
        InputError: an id is too large; the message names the file and the place of the first.
    """
    ids = tokens.array()
    if np.iinfo(tokens.dtype).max < vocabulary_size:
        return
    for start in range(0, len(ids), _CHUNK_IDS):
        part = ids[start : start + _CHUNK_IDS]
        if part.max() >= vocabulary_size:
            place = int(np.argmax(part >= vocabulary_size))
            raise InputError(
                f"{tokens.path}: the id at place {start + place:,}, from 0, is {part[place]:,}, "
                f"but the tokenizer has ids from 0 to {vocabulary_size - 1:,}.\n"
                "  The file is damaged or of another tokenizer: write the folder again."
            )


def check_token_folder(
    folder: str | os.PathLike[str], text: object = None, validation: object = None
) -> None:
    """Raise if a folder of tokens is not finished, or if other text is given too.

    Args:
        folder: the folder.
        text, validation: text that a run was given besides the folder.
    """
    if text or validation:
        raise InputError(
            f"text is given besides the tokens of {folder}.\n  Give one or the other: a folder of "
            "tokens has its own validation part."
        )
    _read_index(Path(folder))


def _read_index(folder: Path) -> dict[str, Any]:
    if not (folder / INDEX).is_file():
        unfinished = (folder / PROGRESS).is_file()
        what = "its writing was interrupted" if unfinished else f"it has no {INDEX}"
        remedy = "Repeat the command" if unfinished else "Write one: `tfx-transformer tokenize`"
        raise InputError(f"{folder}: not a finished folder of tokens: {what}.\n  {remedy}.")
    return read_object(folder / INDEX)
