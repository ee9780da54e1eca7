"""The columns of a table, and the commands that train on them."""

from __future__ import annotations

import dataclasses
import os
import shlex
import unicodedata
from typing import Any

from tfx_transformer.cli.data import Columns
from tfx_transformer.console import shorten

# Rows that are read.
_ROWS = 1_000
_EXAMPLE = 30  # columns of a terminal
# Most distinct values of a column of labels: this number, or this share of the rows.
_LABELS, _LABEL_SHARE = 20, 0.1
_LONGEST_LABEL = 40

# Usual names of columns, by role.
_NAMES = {
    "label": {"label", "labels", "class", "category", "categorie", "kategorie", "topic", "tag",
              "sentiment", "intent", "ラベル", "分類", "カテゴリ", "類別"},
    "instruction": {"instruction", "prompt", "question", "query", "質問", "指示", "frage"},
    "output": {"output", "completion", "answer", "response", "回答", "答え", "応答", "antwort"},
    "input": {"input", "context"},
    "utterance": {"utterance", "request", "command"},
    "tool": {"tool", "function", "tool_name", "function_name"},
    "arguments": {"arguments", "args", "parameters"},
    "chosen": {"chosen"},
    "rejected": {"rejected"},
    "score": {"score", "similarity", "similarity_score", "rating"},
    "number": {"target", "price", "rating", "stars", "points", "value", "amount", "cost", "preis",
               "bewertung", "価格", "値段", "金額", "評価", "点数", "数値"},
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Column:
    """A summary of one column of a table, by its first rows.

    Attributes:
        name: in the header.
        rows: number of rows read; filled: number of cells that are not blank.
        distinct: number of different values.
        length: mean number of characters of filled cells.
        numbers: True if every value is a number.
        wide: share of the letters that are Chinese, Japanese or Korean, from 0 to 1.
        examples: the first two different values.
    """

    name: str
    rows: int
    filled: int
    distinct: int
    length: float
    numbers: bool
    wide: float
    examples: list[str]

    @property
    def is_label(self) -> bool:
        """True if the column has few, short values in many rows."""
        most = max(_LABELS, _LABEL_SHARE * self.rows)
        return 2 <= self.distinct <= min(most, self.rows / 2) and self.length <= _LONGEST_LABEL

    @property
    def is_text(self) -> bool:
        """True if the values are texts: not numbers or labels, 3 characters or more on average."""
        return not self.numbers and not self.is_label and self.length >= 3


def propose(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Print the columns of a table and the commands that train on them.

    Returns: "columns", a dictionary of the fields of `Column` for each; "commands", a list.
    """
    columns = describe_columns(path)
    found = commands(path, columns)
    print(f"{path}\n  columns, in the first {columns[0].rows:,} rows:")
    for column in columns:
        examples = [shorten(" ".join(text.split()), _EXAMPLE) for text in column.examples]
        counts = f"{column.distinct:,} different, {column.filled:,} filled"
        print(f"  {column.name!r}: {counts}: {' | '.join(examples)}")
    if found:
        if checked := _check_command(path, found[0]):
            print(f"To check its rows:\n  {checked}")
        print("To train on it:")
        print("\n".join(f"  {command}" for command in found))
    else:
        print("No column looks right to train on. Name columns: tfx-transformer check --help")
    return {"columns": [dataclasses.asdict(column) for column in columns], "commands": found}


def _check_command(path: str | os.PathLike[str], command: str) -> str:
    """Return the command that checks the rows which a training reads; "" if the verb has no flags
    for its columns.

    Args:
        path: path of the table.
        command: one of `commands`.
    """
    first, _, *flags = shlex.split(command)[3:]  # without `tfx-transformer run RECIPE`
    names = {flag.removeprefix("--") for flag in flags[::2]}
    if first == "--csv" and names <= {field.name for field in dataclasses.fields(Columns)}:
        return f"tfx-transformer check {shlex.join([str(path), *flags])}"
    return ""


def describe_columns(path: str | os.PathLike[str]) -> list[Column]:
    """Return a summary of each column of a table, by its first rows.

    Raises:
        InputError: see `tables.stream_table`.
    """
    from tfx_transformer.data.tables import read_header, stream_table

    # Two columns of one name are ambiguous, so neither is proposed.
    header = read_header(path)
    names = [name for name in dict.fromkeys(header) if header.count(name) == 1]
    roles = {str(number): name for number, name in enumerate(names)}
    tables = stream_table(path, roles, skip_bad_rows=True, allow_empty=roles, chunk_rows=_ROWS)
    table = next(tables)
    return [_describe(roles[role], list(cells)) for role, cells in table.columns.items()]


def commands(path: str | os.PathLike[str], columns: list[Column]) -> list[str]:
    """Return the commands that train on a table, the likeliest first."""
    found: list[str] = []

    def add(recipe: str, **flags: str) -> None:
        words = [f"--{name} {shlex.quote(value)}" for name, value in flags.items()]
        found.append(f"tfx-transformer run {recipe} {' '.join(words)}")

    file = str(path)
    texts = sorted((c for c in columns if c.is_text), key=lambda c: -c.length)
    labels = [c for c in columns if c.is_label or _is_named(c, "label")]
    labels.sort(key=lambda c: (not _is_named(c, "label"), c.numbers, c.distinct))
    named = {role: next((c for c in columns if _is_named(c, role)), None) for role in _NAMES}
    if named["instruction"] and named["output"]:
        more = {"input": named["input"].name} if named["input"] else {}
        columns_of = {"instruction": named["instruction"].name, "output": named["output"].name}
        add("instruction_finetuning", csv=file, **columns_of, **more)
    if named["instruction"] and named["chosen"] and named["rejected"]:
        columns_of = {
            "prompt": named["instruction"].name,
            "chosen": named["chosen"].name,
            "rejected": named["rejected"].name,
        }
        add("preference_finetuning", base="saved_models/assistant", csv=file, **columns_of)
    asked = named["utterance"] or named["instruction"]
    if asked and named["tool"] and named["arguments"]:
        columns_of = {
            "utterance": asked.name,
            "tool": named["tool"].name,
            "arguments": named["arguments"].name,
        }
        add("tool_calling", csv=file, tools="tools.json", **columns_of)
    if labels and texts:
        text = next((c for c in texts if c is not labels[0]), None)
        if text is not None:
            add("text_classification", csv=file, text=text.name, label=labels[0].name)
    # Numbers that are all different may identify rows or orders.
    numbers = [c for c in columns if c.numbers and (_is_named(c, "number") or _is_measured(c))]
    if numbers and texts and not (len(texts) >= 2 and named["score"]):
        number = min(numbers, key=lambda c: not _is_named(c, "number"))
        add("text_regression", csv=file, text=texts[0].name, target=number.name)
    if len(texts) >= 2:
        pair = sorted(texts[:2], key=columns.index)
        if named["score"] and named["score"].numbers:
            flags = {"first": pair[0].name, "second": pair[1].name, "score": named["score"].name}
            add("embedding", csv=file, **flags)
        elif abs(pair[0].wide - pair[1].wide) > 0.5 or (not labels and not found):
            add("translation", csv=file, source=pair[0].name, target=pair[1].name)
        if not found:
            add("instruction_finetuning", csv=file, instruction=pair[0].name, output=pair[1].name)
    if texts and not found:
        add("pretraining", text=file, column=texts[0].name)
    return found


def _is_measured(column: Column) -> bool:
    return not column.is_label and column.distinct < column.filled


def _is_named(column: Column, role: str) -> bool:
    return column.name.strip().casefold() in _NAMES[role]


def _describe(name: str, cells: list[str]) -> Column:
    filled = [cell for cell in cells if cell.strip()]
    values = dict.fromkeys(filled)
    letters = [c for cell in filled[:100] for c in cell if c.isalpha()]
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in letters)
    return Column(
        name=name,
        rows=len(cells),
        filled=len(filled),
        distinct=len(values),
        length=sum(map(len, filled)) / max(len(filled), 1),
        numbers=bool(filled) and all(map(_is_number, filled)),
        wide=wide / max(len(letters), 1),
        examples=list(values)[:2],
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
