"""The verb tokens: what texts cost in tokens, per language and by several tokenizers."""

from __future__ import annotations

import argparse
import collections
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tfx_transformer import files
from tfx_transformer.console import write_as_is
from tfx_transformer.errors import InputError

if TYPE_CHECKING:
    from tfx_transformer.text.counting import Comparison, Tally
    from tfx_transformer.text.splitters import Splitter
    from tfx_transformer.text.token_page import Sample

# Texts whose tokens are shown: of those given, of a CSV's rows, and in a picture.
SHOWN_TEXTS, SHOWN_ROWS, DRAWN_TEXTS = 20, 3, 4
# Tokens of each of them: in the terminal, and on the page.
SHOWN_TOKENS, KEPT_TOKENS = 100, 2_000


def add_tokens_verb(
    verb: Callable[[str, Callable[[argparse.Namespace], Any]], argparse.ArgumentParser],
) -> None:
    """Adds the verb; `verb` makes the parser of a name and an action."""
    one = verb("tokens", tokens)
    one.add_argument("texts", nargs="*", metavar="TEXT|FILE", help="texts or files to count")
    one.add_argument("--csv", metavar="FILE.csv", help="count a column of it instead")
    one.add_argument("--column", default="text", help="of the texts in --csv [text]")
    one.add_argument("--parallel", metavar="COLUMN", help="that says the same: tells the ratio")
    one.add_argument("--skip-bad-rows", action="store_true", help="leave bad rows out, list them")
    for kind, text in (
        ("bundle", "count with its tokenizer"),
        ("tokenizer", "count with this tokenizer.json of Hugging Face"),
        ("encoding", "count with this one of tiktoken, or by 'bytes' [bytes]"),
    ):
        one.add_argument(
            f"--{kind}",
            dest="tokenizers",
            action="append",
            type=lambda value, kind=kind: (kind, value),
            metavar=kind.upper(),
            help=f"{text}; may repeat",
        )
    one.add_argument("--html", metavar="FILE.html", help="write the tokens as a page")
    one.add_argument("--png", metavar="FILE.png", help=f"draw those of {DRAWN_TEXTS} texts")


def tokens(chosen: argparse.Namespace) -> dict[str, Any]:
    """count tokens of texts, files or a CSV column: per language, by one tokenizer or several"""
    from tfx_transformer.text.counting import table

    _check_arguments(chosen)
    splitters = _splitters(chosen.tokenizers or [("encoding", "bytes")])
    counted = (_count_column if chosen.csv else _count_texts)(chosen, splitters)
    notes = counted.comparison.sentences() if counted.comparison else []
    if not chosen.tokenizers:
        notes.append("No tokenizer is named, so each byte counts as one token.")
    rows = table(counted.tally)
    names = [splitter.name for splitter in splitters]
    _print(names, counted.samples, rows, notes)
    if chosen.html:
        _write_page(Path(chosen.html), names, counted.samples, rows, notes)
    if chosen.png:
        _draw(chosen.png, names, counted.samples)
    compared = {"comparison": counted.comparison.to_dict()} if counted.comparison else {}
    return {"tokenizers": counted.tally.to_dict()} | counted.figures | compared


def _check_arguments(chosen: argparse.Namespace) -> None:
    if not chosen.texts and not chosen.csv:
        raise InputError("There is nothing to count.\n  Give texts, files, or --csv FILE.csv.")
    if chosen.texts and chosen.csv:
        raise InputError("There are texts and --csv.\n  Give one or the other.")
    if chosen.parallel and not chosen.csv:
        raise InputError("--parallel is a column of --csv.\n  Give --csv FILE.csv --column NAME.")
    for flag in ("html", "png"):
        path = getattr(chosen, flag) and Path(getattr(chosen, flag))
        if path and (path.is_dir() or not path.parent.is_dir()):
            raise InputError(f"--{flag} {path} cannot be written.\n  Name a file in a folder.")


def _splitters(named: Iterable[tuple[str, str]]) -> list[Splitter]:
    """Return what the flags name, in their order; named by its path where a short name would
    repeat."""
    named = list(dict.fromkeys(named))
    short = [_short_name(value) if kind != "encoding" else value for kind, value in named]
    repeated = {name for name, times in collections.Counter(short).items() if times > 1}
    return [
        _splitter(kind, value, value if name in repeated else name)
        for (kind, value), name in zip(named, short, strict=True)
    ]


def _short_name(value: str) -> str:
    """A bundle's folder, or a file; the folder of a file that is named as every tokenizer is."""
    path = Path(value).absolute()
    return path.parent.name if path.name == "tokenizer.json" else path.stem


def _splitter(kind: str, value: str, name: str) -> Splitter:
    from tfx_transformer import bundle
    from tfx_transformer.text import splitters

    if kind == "bundle":
        bundle.read_config(value)
        return splitters.tokenizer_splitter(name, bundle.read_tokenizer(value))
    if kind == "tokenizer":
        return splitters.hugging_face_splitter(name, value)
    if value == splitters.BYTES:
        return splitters.byte_splitter()
    return splitters.tiktoken_splitter(name, splitters.offline_encoding(value))


class _Counted(NamedTuple):
    """All that was counted; figures: of single texts or of the file, as JSON values."""

    tally: Tally
    samples: list[Sample]
    figures: dict[str, Any]
    comparison: Comparison | None


def _count_texts(chosen: argparse.Namespace, splitters: list[Splitter]) -> _Counted:
    from tfx_transformer.text.counting import Tally, sample
    from tfx_transformer.text.splitters import clean

    total, samples, rows = Tally(splitters), [], []
    for text in chosen.texts:
        shown, tally = sample(clean(text), _pieces(text), splitters, KEPT_TOKENS)
        total.include(tally)
        samples += [shown] if len(samples) < SHOWN_TEXTS else []
        counts = zip((splitter.name for splitter in splitters), shown.counts, strict=True)
        row = {"text": shown.label, "language": shown.language, "characters": shown.characters}
        rows.append(row | {"bytes": shown.bytes, "tokens": dict(counts)})
    return _Counted(total, samples, {"texts": rows}, None)


def _pieces(text: str) -> Iterable[str]:
    """A text, or what a file of that name holds."""
    from tfx_transformer.data.corpus import read_documents
    from tfx_transformer.text.splitters import clean

    if not os.path.isfile(text):  # False, not an error, for a text too long to be a name
        return [clean(text)]
    if text.lower().endswith(".csv"):
        raise InputError(f"{text}: which column?\n  Give --csv {text} --column NAME.")
    return (piece.text for piece in read_documents([text]))


def _count_column(chosen: argparse.Namespace, splitters: list[Splitter]) -> _Counted:
    from tfx_transformer.data.tables import stream_table
    from tfx_transformer.text.counting import Tally, compare, sample

    columns = {"column": chosen.column}
    columns |= {"parallel": chosen.parallel} if chosen.parallel else {}
    # An empty cell is a text of no tokens; but beside a text it does not say the same.
    empty = () if chosen.parallel else ("column",)
    tables = stream_table(
        chosen.csv, columns, skip_bad_rows=chosen.skip_bad_rows, allow_empty=empty
    )
    total, sides = Tally(splitters), {role: Tally(splitters) for role in columns}
    samples, bad, rows = [], [], 0
    for table in tables:
        bad += [[row.row, row.column, row.reason] for row in table.bad_rows]
        for number, *cells in zip(table.rows, *table.columns.values(), strict=True):
            rows += 1
            for role, cell in zip(columns, cells, strict=True):
                label = f"row {number}, {columns[role]!r}"
                shown, tally = sample(label, [cell], splitters, KEPT_TOKENS)
                sides[role].include(tally)
                samples += [shown] if rows <= SHOWN_ROWS else []
    for side in sides.values():
        total.include(side)
    names = (chosen.column, chosen.parallel)
    comparison = None
    if chosen.parallel:
        first, second = sides.values()
        comparison = compare(first, second, names, rows)
    return _Counted(total, samples, {"rows": rows, "bad_rows": bad}, comparison)


def _print(
    names: list[str], samples: list[Sample], rows: list[list[str]], notes: list[str]
) -> None:
    from tfx_transformer.cli.terminal import align, has_colours, sample_lines

    colours = has_colours()
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for sample in samples:
        lines = sample_lines(names, sample, SHOWN_TOKENS, colours, columns)
        write_as_is("\n".join(lines) + "\n\n", sys.stdout)
    print("\n".join(align(rows, words=2)))
    for note in notes:
        print(note)


def _write_page(
    path: Path, names: list[str], samples: list[Sample], rows: list[list[str]], notes: list[str]
) -> None:
    from tfx_transformer.text.token_page import token_page

    files.write(path, token_page("Tokens", names, samples, rows, notes))


def _draw(path: str, names: list[str], samples: list[Sample]) -> None:
    from tfx_transformer.pictures import token_picture

    samples = samples[:DRAWN_TEXTS]
    rows = {
        name: [([token.data for token in s.tokens[n]], s.counts[n]) for s in samples]
        for n, name in enumerate(names)
    }
    token_picture(path, rows)
