"""The verb check, and the flags that name a table and its columns."""

from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tfx_transformer.arguments import is_image_name
from tfx_transformer.errors import InputError

Kind = Literal[
    "pairs", "instructions", "calls", "labels", "images", "numbers", "similar", "text", "spans"
]
# The columns of each kind of data, by their flags, and their default names.
COLUMNS: dict[str, dict[str, str]] = {
    "pairs": {"source": "source", "target": "target"},
    "instructions": {"instruction": "instruction", "input": "input", "output": "output"},
    "calls": {"utterance": "utterance", "tool": "tool", "arguments": "arguments"},
    "labels": {"text": "text", "label": "label", "separator": ""},
    "images": {"path": "path", "label": "label"},
    "numbers": {"text": "text", "target": "target", "decimal": ""},
    "similar": {"first": "sentence1", "second": "sentence2", "score": ""},
    "text": {"column": ""},
    "spans": {"text": "text", "spans": "", "sentence": "sentence", "token": "token", "tag": "tag"},
}
KINDS = tuple(COLUMNS)
# Columns that may be missing in the header.
_OPTIONAL = {"input", "separator", "score", "decimal", "spans"}
_TEXT_FILES = (".txt", ".md")
_CHAT_FILES = (".jsonl", ".json")
# Columns that make conversations of a table.
_CHATS, _COMPLETIONS = {"messages", "conversations"}, {"prompt", "completion"}


@dataclasses.dataclass(frozen=True)
class ScoredColumns:
    """The columns of a table, by their names in its header; None: the default in `COLUMNS`.

    Attributes:
        source (NAME): Column of the sources. [source]
        target (NAME): Column of the targets: texts, or numbers. [target]
        instruction (NAME): Column of the instructions. [instruction]
        input (NAME): Column of the inputs. [input]
        output (NAME): Column of the outputs. [output]
        utterance (NAME): Column of the requests to a model that calls tools. [utterance]
        tool (NAME): Column of the names of the called tools. [tool]
        arguments (NAME): Column of their arguments, as JSON. [arguments]
        text (NAME): Column of the texts; several are separated by commas. [text]
        label (NAME): Column of the labels. [label]
        separator: Sign between several labels in a cell.
        decimal (SIGN): Decimal sign, "." or ",". [a point, unless that is ambiguous]
        spans (NAME): Column of marked spans. [spans, entities, label or labels]
        sentence (NAME): Column that names the sentence of each token. [sentence]
        token (NAME): Column of tokens, in a table of tags. [token]
        tag (NAME): Column of their tags. [tag]
        path (NAME): Column of the paths of images. [path]
        column (NAME): Column of the documents of a corpus.
    """

    source: str | None = None
    target: str | None = None
    instruction: str | None = None
    input: str | None = None
    output: str | None = None
    utterance: str | None = None
    tool: str | None = None
    arguments: str | None = None
    text: str | None = None
    label: str | None = None
    separator: str | None = None
    decimal: Literal[".", ","] | None = None
    spans: str | None = None
    sentence: str | None = None
    token: str | None = None
    tag: str | None = None
    path: str | None = None
    column: str | None = None

    def given(self) -> set[str]:
        """Return the columns that were named."""
        return {name for name, value in vars(self).items() if value is not None}

    def of(self, kind: str) -> dict[str, str]:
        """Return the names of the columns of a kind."""
        named = vars(self)
        return {
            name: default if named[name] is None else named[name]
            for name, default in COLUMNS[kind].items()
        }


@dataclasses.dataclass(frozen=True)
class Columns(ScoredColumns):
    """The columns of data for training.

    Attributes:
        first (NAME): Column of one text of each pair. [sentence1]
        second (NAME): Column of the other text. [sentence2]
        score (NAME): Column of people's scores of their similarity.
    """

    first: str | None = None
    second: str | None = None
    score: str | None = None


@dataclasses.dataclass(frozen=True)
class TableReading:
    """Settings of reading a table, where they cannot be detected; see `data.TableFile`.

    Attributes:
        encoding (NAME): Encoding of a CSV or TSV, such as cp932. [detected]
        delimiter (SIGN): Separator of its cells, such as ';' or tab. [detected]
        sheet (NAME): Sheet of a workbook. [the only one]
        table (NAME): Table of a SQLite database. [the only one]
    """

    encoding: str = ""
    delimiter: str = ""
    sheet: str = ""
    table: str = ""

    def file(self, path: Path) -> str | os.PathLike[str]:
        """Return a file with these settings."""
        from tfx_transformer.data.formats import table_files

        (found,) = table_files(path, **vars(self))
        return found

    def given_file(self, path: Path | None, flag: str = "--csv") -> str | os.PathLike[str] | None:
        """Return the table that a flag names, with these settings; None if it names none.

        Raises:
            InputError: a setting is given without a table.
        """
        given = [name for name, value in vars(self).items() if value]
        if path is None and given:
            raise InputError(
                f"--{given[0]} is for a table, and no table is given.\n"
                f"  Name one with {flag}, or drop --{given[0]}."
            )
        return path and self.file(path)


class _Checked(NamedTuple):
    """The file that is checked, the names of its columns, and the flags of `check`."""

    file: str | os.PathLike[str]
    columns: dict[str, str]
    skip_bad_rows: bool
    bundle: Path | None
    tools: Path | None
    max_length: int

    def tokenizer(self, texts: Callable, special_tokens: Sequence[str] = (), **options: str):
        """Return the tokenizer of the bundle, or a new one, trained on the texts."""
        from tfx_transformer import bundle
        from tfx_transformer.text.tokenizer import Tokenizer

        if self.bundle:
            bundle.read_config(self.bundle)
            return bundle.read_tokenizer(self.bundle)
        return Tokenizer.train(texts(), 8000, special_tokens, **options)


def check(
    file: Path,
    /,
    *,
    kind: Kind | None = None,
    columns: Columns,
    skip_bad_rows: bool = False,
    reading: TableReading,
    bundle: Path | None = None,
    tools: Path | None = None,
    max_length: int = 128,
) -> dict[str, Any]:
    """Show what is in training data, what is wrong with it, and how to train on it.

    Args:
        file (FILE|FOLDER): Training data, as a recipe takes it.
        kind: Kind of data. Default: detected by the named columns, or the header.
        columns: Names of columns, where they differ from the defaults.
        skip_bad_rows: Skip rows that cannot be used, and list them.
        reading: How to read the table, where that cannot be detected.
        bundle (BUNDLE): Bundle whose tokenizer counts. Default: a new one is trained.
        tools (FILE.json): Declarations of the called tools. Default: tools.json in the bundle, or
            beside the table.
        max_length: Most tokens that the model would read.
    """
    if max_length < 2:
        raise InputError(f"--max-length is {max_length}.\n  Expected 2 tokens or more.")
    table = reading.file(file)
    found = kind or _kind(table, columns)
    if found is None:
        from tfx_transformer.cli.propose import propose

        return propose(table)
    check_given(found, columns.given())
    if tools and found != "calls":
        raise InputError(f"--tools is for calls, and {file} has {found}.\n  Drop it.")
    checked = _Checked(table, columns.of(found), skip_bad_rows, bundle, tools, max_length)
    summary, bad_rows = _CHECKS[found](checked)
    print("\n".join([summary.path, *summary.lines()[1:]]))
    for bad in bad_rows:
        print(f"  row {bad.row}, column {bad.column}: {bad.reason}")
    return summary.to_dict() | {"bad_rows": [[b.row, b.column, b.reason] for b in bad_rows]}


def _check_pairs(checked: _Checked):
    from tfx_transformer.data.pairs_summary import describe_pairs
    from tfx_transformer.data.translation_pair import read_pairs

    pairs = read_pairs(checked.file, **checked.columns, skip_bad_rows=checked.skip_bad_rows)
    tokenizer = checked.tokenizer(pairs.texts)
    return describe_pairs(pairs, None, tokenizer, checked.max_length)[0], pairs.bad_rows


def _check_instructions(checked: _Checked):
    from tfx_transformer.data import describe_instructions, read_instructions
    from tfx_transformer.text.prompts import ROLE_TOKENS, ChatTemplate

    columns = checked.columns.values()
    read = read_instructions(checked.file, *columns, skip_bad_rows=checked.skip_bad_rows)
    template = ChatTemplate.of(checked.tokenizer(read.texts, ROLE_TOKENS))
    return describe_instructions(read, None, template, checked.max_length)[0], read.bad_rows


def _check_calls(checked: _Checked):
    from tfx_transformer.bundle import TOOLS
    from tfx_transformer.data import (
        describe_tool_calls,
        read_tool_calls,
        read_tools,
        texts_without_values,
    )
    from tfx_transformer.text.prompts import ROLE_TOKENS, ChatTemplate
    from tfx_transformer.text.tokenizer import CALL_PATTERN

    file = Path(checked.file).with_name(TOOLS)
    if checked.bundle and (checked.bundle / TOOLS).is_file():
        file = checked.bundle / TOOLS
    tools = read_tools(checked.tools or file)
    columns = checked.columns.values()
    read = read_tool_calls(checked.file, tools, *columns, skip_bad_rows=checked.skip_bad_rows)
    texts = functools.partial(texts_without_values, read)
    tokenizer = checked.tokenizer(texts, ROLE_TOKENS, pattern=CALL_PATTERN)
    tokenizer.tools = tools
    template = ChatTemplate.of(tokenizer)
    return describe_tool_calls(read, None, template, checked.max_length)[0], read.bad_rows


def _check_labels(checked: _Checked):
    from tfx_transformer.data import describe_labelled_texts, label_names, read_labelled_texts

    columns = checked.columns.values()
    read = read_labelled_texts(checked.file, *columns, skip_bad_rows=checked.skip_bad_rows)
    names = label_names(read.labels, read.path)
    tokenizer = checked.tokenizer(read.flat_texts)
    summary = describe_labelled_texts(read, None, tokenizer, names, checked.max_length)[0]
    return summary, read.bad_rows


def _check_images(checked: _Checked):
    from tfx_transformer.data import describe_labelled_images, label_names, read_labelled_images

    columns = checked.columns.values()
    read = read_labelled_images(checked.file, *columns, skip_bad_rows=checked.skip_bad_rows)
    names = label_names(read.labels, read.path)
    return describe_labelled_images(read, None, names)[0], read.bad_rows


def _check_numbers(checked: _Checked):
    from tfx_transformer.data import describe_scored_texts, read_scored_texts

    columns = checked.columns.values()
    read = read_scored_texts(checked.file, *columns, skip_bad_rows=checked.skip_bad_rows)
    tokenizer = checked.tokenizer(read.flat_texts)
    return describe_scored_texts(read, None, tokenizer, checked.max_length)[0], read.bad_rows


def _check_similar(checked: _Checked):
    from tfx_transformer.data import describe_sentence_pairs, read_sentence_pairs

    columns = checked.columns.values()
    read = read_sentence_pairs(checked.file, *columns, skip_bad_rows=checked.skip_bad_rows)
    tokenizer = checked.tokenizer(read.texts)
    return describe_sentence_pairs(read, None, tokenizer, checked.max_length)[0], read.bad_rows


def _check_spans(checked: _Checked):
    from tfx_transformer.data import describe_tagged_texts, read_tagged_texts
    from tfx_transformer.text.tokenizer import FINE_PATTERN

    columns = checked.columns.values()
    read = read_tagged_texts(checked.file, *columns, skip_bad_rows=checked.skip_bad_rows)
    tokenizer = checked.tokenizer(read.flat_texts, pattern=FINE_PATTERN)
    labels = read.labels()
    summary = describe_tagged_texts(read, None, tokenizer, labels, checked.max_length)[0]
    return summary, read.bad_rows


def _check_text(checked: _Checked):
    from tfx_transformer.data import read_documents, sample_texts, write_tokens
    from tfx_transformer.data.corpus_summary import describe_corpus

    bad_rows: list = []
    options = {**checked.columns, "skip_bad_rows": checked.skip_bad_rows}
    tokenizer = checked.tokenizer(lambda: sample_texts(checked.file, **options))
    with tempfile.TemporaryDirectory() as folder:
        documents = read_documents(checked.file, bad_rows=bad_rows, **options)
        tokens = write_tokens(documents, tokenizer, Path(folder, "tokens.bin"))
        summary = describe_corpus("training", tokens, checked.max_length, batch_size=16)
    return summary, bad_rows


_CHECKS: dict[str, Callable[[_Checked], Any]] = {
    "pairs": _check_pairs,
    "instructions": _check_instructions,
    "calls": _check_calls,
    "labels": _check_labels,
    "images": _check_images,
    "numbers": _check_numbers,
    "similar": _check_similar,
    "text": _check_text,
    "spans": _check_spans,
}


def check_given(kind: str, given: set[str]) -> None:
    """Raise an InputError if a named column is not of this kind of data."""
    if unread := sorted(given - COLUMNS[kind].keys()):
        raise InputError(
            f"--{unread[0]} names no column of {kind}.\n"
            f"  Those are: {', '.join('--' + name for name in COLUMNS[kind])}. "
            f"Kinds: {', '.join(KINDS)} (--kind)."
        )


def _kind(file: str | os.PathLike[str], columns: Columns) -> str | None:
    """Return the kind of a file or folder by the named columns, its ending and its header; None if
    these do not decide."""
    from tfx_transformer.data.formats import is_table_folder
    from tfx_transformer.data.tables import read_header
    from tfx_transformer.data.tagged_reader import is_column_file, is_tagged

    path, given = Path(file), columns.given()
    if path.is_dir() and not is_table_folder(path):
        return _kind_of_folder(path)
    suffix = path.suffix.lower()
    if suffix in _TEXT_FILES:
        return "text"
    if is_column_file(path):
        return "spans"
    possible = [kind for kind in KINDS if given <= COLUMNS[kind].keys()]
    if given and not possible:
        named = ", ".join(f"--{name}" for name in sorted(given))
        raise InputError(
            f"{named} name columns of different kinds of data.\n"
            f"  Choose one: {', '.join(KINDS)} (--kind)."
        )
    try:
        header = set(read_header(file))
    except InputError:  # the reader of the kind raises it again, with what it expects
        return "instructions" if suffix in _CHAT_FILES and not given else possible[0]
    if not given and (_CHATS & header or header >= _COMPLETIONS) and "instruction" not in header:
        return "instructions"
    if "spans" in possible and is_tagged(header, columns.text or "text"):
        return "spans"
    whole = [kind for kind in possible if kind != "spans"]
    whole = [kind for kind in whole if _needed(kind, header, columns) <= header]
    whole = [kind for kind in whole if kind != "text" or "column" in given]
    if whole:
        return whole[0]
    if given:
        return possible[0]
    # If the separator was not found, the reader of pairs says so.
    return None if len(header) > 1 else "pairs"


def _needed(kind: str, header: set[str], columns: Columns) -> set[str]:
    """Return the columns without which a kind cannot be read."""
    from tfx_transformer.data.labelled_text import text_columns

    named = columns.of(kind)
    names = {name for flag, name in named.items() if flag not in _OPTIONAL}
    if "text" in named:
        target = named.get("label", named.get("target"))
        names = {target, *text_columns(named["text"], header).values()}
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
        f"{path}: this is a folder. It has no data that a recipe reads as a folder.\n"
        "  Expected a folder of images for each label, or text files (.txt, .md). Name a table by\n"
        "  its file."
    )
