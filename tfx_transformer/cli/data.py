"""The verb that looks at data: check."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tfx_transformer.errors import InputError

KINDS = ("pairs", "instructions", "labels")


def check(chosen: argparse.Namespace) -> dict[str, Any]:
    """say what is in a file of pairs, instructions or labelled texts, and what is wrong where"""
    if chosen.max_length < 2:
        raise InputError(f"--max-length is {chosen.max_length}.\n  Expected 2 tokens or more.")
    kind = chosen.kind or _kind(Path(chosen.file), chosen)
    checks = dict(zip(KINDS, (_check_pairs, _check_instructions, _check_labels), strict=True))
    summary, bad_rows = checks[kind](chosen)
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


def _check_labels(chosen: argparse.Namespace):
    from tfx_transformer.data import describe_labelled_texts, label_names, read_labelled_texts
    from tfx_transformer.text.tokenizer import Tokenizer

    read = read_labelled_texts(
        chosen.file,
        chosen.text,
        chosen.label,
        separator=chosen.separator,
        skip_bad_rows=chosen.skip_bad_rows,
    )
    names = label_names(read.labels, read.path)
    bundle = chosen.bundle
    tokenizer = _tokenizer(bundle) if bundle else Tokenizer.train(read.flat_texts(), 8000)
    summary = describe_labelled_texts(read, None, tokenizer, names, chosen.max_length)[0]
    return summary, read.bad_rows


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
    names = {cell.strip().strip('"') for cell in header.split(",")}
    columns = {
        "instructions": {chosen.instruction, chosen.output},
        "pairs": {chosen.source, chosen.target},
        "labels": {*map(str.strip, chosen.text.split(",")), chosen.label},
    }
    return next((kind for kind, wanted in columns.items() if wanted <= names), "pairs")


def _tokenizer(path: str):
    from tfx_transformer import bundle

    bundle.read_config(path)
    return bundle.read_tokenizer(path)
