"""The verbs that look at data: check and tokens."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from tfx_transformer.errors import InputError

KINDS = ("pairs", "instructions")


def check(chosen: argparse.Namespace) -> dict[str, Any]:
    """read a file of pairs or instructions and say what is in it, and what is wrong and where"""
    if chosen.max_length < 2:
        raise InputError(f"--max-length is {chosen.max_length}.\n  Expected 2 tokens or more.")
    kind = chosen.kind or _kind(Path(chosen.file), chosen)
    summary, bad_rows = (_check_pairs if kind == "pairs" else _check_instructions)(chosen)
    print("\n".join([summary.path, *summary.lines()[1:]]))
    for bad in bad_rows:
        print(f"  row {bad.row}, column {bad.column}: {bad.reason}")
    return summary.to_dict() | {"bad_rows": [[b.row, b.column, b.reason] for b in bad_rows]}


def _check_pairs(chosen: argparse.Namespace):
    from tfx_transformer.data.pairs import read_pairs
    from tfx_transformer.data.summary import describe_pairs
    from tfx_transformer.text.tokenizer import Tokenizer

    pairs = read_pairs(
        chosen.file, chosen.source, chosen.target, skip_bad_rows=chosen.skip_bad_rows
    )
    bundle = chosen.bundle
    tokenizer = _tokenizer(bundle) if bundle else Tokenizer.train(pairs.texts(), 8000)
    return describe_pairs(pairs, None, tokenizer, chosen.max_length)[0], pairs.bad_rows


def _check_instructions(chosen: argparse.Namespace):
    from tfx_transformer.data import describe_instructions, read_instructions
    from tfx_transformer.text.prompts import ROLE_TOKENS, ChatTemplate
    from tfx_transformer.text.tokenizer import Tokenizer

    columns = (chosen.instruction, chosen.input, chosen.output)
    read = read_instructions(chosen.file, *columns, skip_bad_rows=chosen.skip_bad_rows)
    if chosen.bundle:
        tokenizer = _tokenizer(chosen.bundle)
    else:
        tokenizer = Tokenizer.train(read.texts(), 8000, ROLE_TOKENS)
    template = ChatTemplate.of(tokenizer)
    return describe_instructions(read, None, template, chosen.max_length)[0], read.bad_rows


def _kind(path: Path, chosen: argparse.Namespace) -> str:
    """What a file holds, by its ending and its first line; what cannot be told is pairs, whose
    reader then says what is wrong."""
    if path.suffix.lower() == ".jsonl":
        return "instructions"
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            header = file.readline(10_000)
    except OSError:
        return "pairs"
    names = [cell.strip().strip('"') for cell in header.split(",")]
    return "instructions" if {chosen.instruction, chosen.output} <= set(names) else "pairs"


def tokens(chosen: argparse.Namespace) -> dict[str, Any]:
    """count tokens of texts or files"""
    tokenizer = _tokenizer(chosen.bundle)
    rows = []
    for text in chosen.texts:
        is_file = os.path.isfile(text)  # False, not an error, for a text too long to be a name
        content = _read_text(Path(text)) if is_file else text
        ids = tokenizer.encode(content)
        row = {
            "text": text,
            "tokens": len(ids),
            "characters": len(content),
            "bytes": len(content.encode("utf-8", errors="replace")),
            "tokens_per_character": round(len(ids) / max(len(content), 1), 3),
        }
        rows.append(row)
        print(
            f"{row['tokens']:>7,} tokens  {row['characters']:>7,} characters  "
            f"{row['bytes']:>7,} bytes  {row['tokens_per_character']:.2f} tokens/character  "
            + (text if is_file else "|".join(tokenizer.tokens(ids)))
        )
    return {"texts": rows}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is not UTF-8.\n  Convert the file to UTF-8."
        ) from error


def _tokenizer(path: str):
    from tfx_transformer import bundle

    bundle.read_config(path)
    return bundle.read_tokenizer(path)
