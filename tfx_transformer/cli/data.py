"""The verb that looks at data: check."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfx_transformer.arguments import is_image_name
from tfx_transformer.errors import InputError

# The flags by which a kind of data names its columns, and what they are called by default.
COLUMNS = {
    "pairs": {"source": "source", "target": "target"},
    "instructions": {"instruction": "instruction", "input": "input", "output": "output"},
    "labels": {"text": "text", "label": "label", "separator": ""},
    "images": {"path": "path", "label": "label"},
    "similar": {"first": "sentence1", "second": "sentence2", "score": ""},
    "text": {"column": ""},
}
KINDS = tuple(COLUMNS)
# How a table is read where that cannot be found; see `data.TableFile`.
TABLE_OPTIONS = {
    "encoding": "encoding of a CSV or TSV, such as cp932 [found]",
    "delimiter": "what separates its cells, such as ';' or tab [found]",
    "sheet": "sheet of a workbook [the only one]",
    "table": "table of a SQLite database [the only one]",
}
# A kind needs them to be in the header; the others may be missing.
_OPTIONAL = {"input", "separator", "score"}
_TEXT_FILES = (".txt", ".md")
_CHAT_FILES = (".jsonl", ".json")
# Columns that make conversations of a table.
_CHATS, _COMPLETIONS = {"messages", "conversations"}, {"prompt", "completion"}


def add_columns(verb: argparse.ArgumentParser, kinds: Sequence[str]) -> None:
    """Adds the flags that name columns. Those that are not given are None: see `fill_columns`."""
    defaults = {name: default for kind in kinds for name, default in COLUMNS[kind].items()}
    for name, default in defaults.items():
        if name == "separator":
            text = "between several labels in a cell"
        else:
            text = f"column of the {name}s" + (f" [{default}]" if default else "")
        verb.add_argument(f"--{name}", help=text, metavar="TEXT" if name == "separator" else "NAME")
    verb.add_argument("--skip-bad-rows", action="store_true", help="leave bad rows out, list them")


def add_table_options(verb: argparse.ArgumentParser) -> None:
    """Adds the flags that say how a table is read where that cannot be found."""
    for name, text in TABLE_OPTIONS.items():
        verb.add_argument(f"--{name}", default="", metavar="NAME", help=text)


def given_table(chosen: argparse.Namespace) -> str | os.PathLike[str]:
    """Return the file that was named, with how it is read."""
    from tfx_transformer.data.formats import table_files

    options = {name: getattr(chosen, name) for name in TABLE_OPTIONS}
    (file,) = table_files(chosen.file, **options)
    return file


def fill_columns(chosen: argparse.Namespace) -> set[str]:
    """Sets the flags of columns that were not given to their defaults; returns those that were."""
    defaults = {name: default for kind in COLUMNS.values() for name, default in kind.items()}
    given = {name for name in defaults if getattr(chosen, name, None) is not None}
    for name in defaults.keys() - given:
        setattr(chosen, name, defaults[name])
    return given


def check(chosen: argparse.Namespace) -> dict[str, Any]:
    """say what is in a file or folder of training data, what is wrong, and how to train on it"""
    if chosen.max_length < 2:
        raise InputError(f"--max-length is {chosen.max_length}.\n  Expected 2 tokens or more.")
    given = fill_columns(chosen)
    chosen.file = given_table(chosen)
    kind = chosen.kind or _kind(Path(chosen.file), given, chosen)
    if kind is None:
        from tfx_transformer.cli.propose import propose

        return propose(chosen.file)
    check_given(kind, given)
    summary, bad_rows = _CHECKS[kind](chosen)
    print("\n".join([summary.path, *summary.lines()[1:]]))
    for bad in bad_rows:
        print(f"  row {bad.row}, column {bad.column}: {bad.reason}")
    return summary.to_dict() | {"bad_rows": [[b.row, b.column, b.reason] for b in bad_rows]}


def _check_pairs(chosen: argparse.Namespace):
    from tfx_transformer.data.pairs_summary import describe_pairs
    from tfx_transformer.data.translation_pair import read_pairs

    pairs = read_pairs(
        chosen.file, chosen.source, chosen.target, skip_bad_rows=chosen.skip_bad_rows
    )
    tokenizer = _tokenizer(chosen, pairs.texts)
    return describe_pairs(pairs, None, tokenizer, chosen.max_length)[0], pairs.bad_rows


def _check_instructions(chosen: argparse.Namespace):
    from tfx_transformer.data import describe_instructions, read_instructions
    from tfx_transformer.text.prompts import ROLE_TOKENS, ChatTemplate

    columns = (chosen.instruction, chosen.input, chosen.output)
    read = read_instructions(chosen.file, *columns, skip_bad_rows=chosen.skip_bad_rows)
    template = ChatTemplate.of(_tokenizer(chosen, read.texts, ROLE_TOKENS))
    return describe_instructions(read, None, template, chosen.max_length)[0], read.bad_rows


def _check_labels(chosen: argparse.Namespace):
    from tfx_transformer.data import describe_labelled_texts, label_names, read_labelled_texts

    read = read_labelled_texts(
        chosen.file,
        chosen.text,
        chosen.label,
        separator=chosen.separator,
        skip_bad_rows=chosen.skip_bad_rows,
    )
    names = label_names(read.labels, read.path)
    tokenizer = _tokenizer(chosen, read.flat_texts)
    summary = describe_labelled_texts(read, None, tokenizer, names, chosen.max_length)[0]
    return summary, read.bad_rows


def _check_images(chosen: argparse.Namespace):
    from tfx_transformer.data import describe_labelled_images, label_names, read_labelled_images

    read = read_labelled_images(
        chosen.file, chosen.path, chosen.label, skip_bad_rows=chosen.skip_bad_rows
    )
    names = label_names(read.labels, read.path)
    return describe_labelled_images(read, None, names)[0], read.bad_rows


def _check_similar(chosen: argparse.Namespace):
    from tfx_transformer.data import describe_sentence_pairs, read_sentence_pairs

    columns = (chosen.first, chosen.second, chosen.score)
    read = read_sentence_pairs(chosen.file, *columns, skip_bad_rows=chosen.skip_bad_rows)
    tokenizer = _tokenizer(chosen, read.texts)
    return describe_sentence_pairs(read, None, tokenizer, chosen.max_length)[0], read.bad_rows


def _check_text(chosen: argparse.Namespace):
    from tfx_transformer.data import read_documents, sample_texts, write_tokens
    from tfx_transformer.data.corpus_summary import describe_corpus

    bad_rows: list = []
    options = {"column": chosen.column, "skip_bad_rows": chosen.skip_bad_rows}
    tokenizer = _tokenizer(chosen, lambda: sample_texts(chosen.file, **options))
    with tempfile.TemporaryDirectory() as folder:
        documents = read_documents(chosen.file, bad_rows=bad_rows, **options)
        tokens = write_tokens(documents, tokenizer, Path(folder, "tokens.bin"))
        summary = describe_corpus("training", tokens, chosen.max_length, batch_size=16)
    return summary, bad_rows


_CHECKS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "pairs": _check_pairs,
    "instructions": _check_instructions,
    "labels": _check_labels,
    "images": _check_images,
    "similar": _check_similar,
    "text": _check_text,
}


def check_given(kind: str, given: set[str]) -> None:
    """Refuses flags that the kind does not read."""
    if unread := sorted(given - COLUMNS[kind].keys()):
        raise InputError(
            f"--{unread[0]} names no column of {kind}.\n"
            f"  Those are: {', '.join('--' + name for name in COLUMNS[kind])}. "
            f"Kinds: {', '.join(KINDS)} (--kind)."
        )


def _kind(path: Path, given: set[str], chosen: argparse.Namespace) -> str | None:
    """Return the kind of a file or folder: by the flags that are given, its ending and its header;
    None if they leave it open."""
    from tfx_transformer.data.formats import is_table_folder
    from tfx_transformer.data.tables import read_header

    if path.is_dir() and not is_table_folder(path):
        return _kind_of_folder(path)
    suffix = path.suffix.lower()
    if suffix in _TEXT_FILES:
        return "text"
    possible = [kind for kind in KINDS if given <= COLUMNS[kind].keys()]
    if given and not possible:
        named = ", ".join(f"--{name}" for name in sorted(given))
        raise InputError(
            f"{named} name columns of different kinds of data.\n"
            f"  Choose one: {', '.join(KINDS)} (--kind)."
        )
    try:
        header = set(read_header(chosen.file))
    except InputError:  # whoever reads it says what is expected, too
        return "instructions" if suffix in _CHAT_FILES and not given else possible[0]
    if not given and (_CHATS & header or header >= _COMPLETIONS) and "instruction" not in header:
        return "instructions"
    whole = [kind for kind in possible if _needed(kind, header, chosen) <= header]
    whole = [kind for kind in whole if kind != "text" or "column" in given]
    if whole:
        return whole[0]
    if given:
        return possible[0]
    # Of a file that is not separated by commas the reader of pairs says so.
    return None if len(header) > 1 else "pairs"


def _needed(kind: str, header: set[str], chosen: argparse.Namespace) -> set[str]:
    """The columns without which a kind cannot be read."""
    from tfx_transformer.data.labelled_text import text_columns

    names = {getattr(chosen, flag) for flag in COLUMNS[kind] if flag not in _OPTIONAL}
    if kind == "labels":
        names = {chosen.label, *text_columns(chosen.text, header).values()}
    return names


def _kind_of_folder(path: Path) -> str:
    from tfx_transformer import bundle

    if (path / bundle.CONFIG).is_file():
        raise InputError(
            f"{path} is a model, not data.\n"
            f"  What it is: tfx-transformer info {path}\n"
            f"  How good it is: tfx-transformer evaluate {path} FILE"
        )
    for folder, _, files in os.walk(path):
        for name in files:
            if is_image_name(name) and Path(folder) != path:
                return "images"
            if name.lower().endswith(_TEXT_FILES):
                return "text"
    raise InputError(
        f"{path}: this is a folder. It holds nothing that a recipe takes whole.\n"
        "  Expected a folder of images for each label, or text files (.txt, .md). Name a table by\n"
        "  its file."
    )


def _tokenizer(chosen: argparse.Namespace, texts: Callable, special_tokens: Sequence[str] = ()):
    """The tokenizer of --bundle, or one that is trained on the texts."""
    from tfx_transformer import bundle
    from tfx_transformer.text.tokenizer import Tokenizer

    if chosen.bundle:
        bundle.read_config(chosen.bundle)
        return bundle.read_tokenizer(chosen.bundle)
    return Tokenizer.train(texts(), 8000, special_tokens)
