"""The tables of docs/quality.md, from the kept results."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.commands import ROOT
from benchmarks.figures import FIGURES, SECTIONS, Figure

PAGE = ROOT / "docs" / "quality.md"
BEGIN = "<!-- written by `python -m benchmarks quality` -->"
END = "<!-- end of what is written -->"

_BASELINES = {
    "image_classification": "logistic regression on edges and colours",
    "text_classification": "TF-IDF + logistic regression",
}


def write(records: Sequence[dict[str, Any]], page: Path = PAGE) -> None:
    """Write the tables between the two marks of a page."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{tables(records)}\n{END}{after}", encoding="utf-8")


def tables(records: Sequence[dict[str, Any]]) -> str:
    """A table for each section, and the commands."""
    parts = []
    for section, title in SECTIONS.items():
        figures = [figure for figure in FIGURES if figure.section == section]
        parts.append("\n".join([f"### {title}", "", *_table(figures, records)]))
        notes = [
            textwrap.fill(
                f"- {figure.title}: {figure.note}",
                105,
                subsequent_indent="  ",
                break_on_hyphens=False,
            )
            for figure in figures
            if figure.note
        ]
        if notes:
            parts.append("\n".join(notes))
        commands = "\n".join(dict.fromkeys(_wrapped(figure) for figure in figures))
        parts.append(f"<!-- not run -->\n```bash\n{commands}\n```")
    return "\n\n".join(parts) + "\n"


def line(record: dict[str, Any]) -> str:
    """A record as a line of the terminal."""
    text = f"{record['figure']}, seed {record['seed']}: {record['score']:g}"
    if "difference" in record:
        difference, low, high = record["difference"]
        text += f" (baseline {record['baseline']:g}; {difference:+.1f}, {low:.1f} to {high:.1f})"
    return text


def _table(figures: Sequence[Figure], records: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The lines of a table: a row for each figure."""
    compared = figures[0].score == "accuracy"
    names = ["test rows, % right" if compared else "test"]
    names += ["ours, 95 % interval", "seeds", "int8"]
    if compared:
        names += [_BASELINES[figures[0].recipe], "difference, 95 % interval (paired)"]
    names += ["for scale", "MB, float32 and int8", "processor minutes"]
    yield _row(names)
    yield _row(["---"] * len(names), "")
    for figure in figures:
        found = [record for record in records if record["figure"] == figure.name]
        yield _row([figure.title, *_cells(figure, found, compared)])


def _row(cells: Sequence[str], space: str = " ") -> str:
    return "|" + "|".join(f"{space}{cell}{space}" for cell in cells) + "|"


def _cells(figure: Figure, found: Sequence[dict[str, Any]], compared: bool) -> list[str]:
    """The cells after the title."""
    scale = "; ".join(filter(None, [figure.aim and f"aim {figure.aim}", figure.peer]))
    if not found:
        missing = f"not measured; about {figure.minutes:g} minutes a seed"
        return [missing, "", "", *([""] * 2 * compared), scale, "", ""]
    if not compared and "baseline" in found[0]:
        scale = "; ".join(filter(None, [f"TF-IDF {_mean(found, 'baseline', 1)}", scale]))
    if "before" in found[0]:
        scale = "; ".join(filter(None, [f"base {_mean(found, 'before', 1)}", scale]))
    if "teacher" in found[0]:
        scale = f"{_teacher(found)}; {scale}"
    digits = 3 if figure.score == "loss" else 1
    ours = f"**{_mean(found, 'score', digits)}**"
    if all("interval" in record for record in found):
        ours += " ({} to {})".format(*_ends(found, "interval", digits))
    scores = [record["score"] for record in found]
    seeds = str(len(found))
    if len(found) > 1:
        seeds += f": {min(scores):.{digits}f} to {max(scores):.{digits}f}"
    cells = [ours, seeds, _mean(found, "int8", digits) if "int8" in found[0] else ""]
    if compared:
        difference, low, high = _ends(found, "difference", 1)
        sign = "" if difference.startswith("-") else "+"
        cells += [_mean(found, "baseline", 1), f"{sign}{difference} ({low} to {high})"]
    sizes = " and ".join(f"{size:.1f}" for size in found[0]["megabytes"] if size)
    spent = [one["processor_minutes"] for one in found if one["processor_minutes"] is not None]
    minutes = f"{statistics.mean(spent):.0f}" if spent else ""
    return [*cells, scale, sizes, minutes]


def _teacher(found: Sequence[dict[str, Any]]) -> str:
    """The size of the students, the score of the teachers, and the difference to it."""
    score, difference, low, high = _ends(found, "teacher", 1)
    size = f"{found[0]['parameters'] / 1e6:.1f} million parameters"
    return f"{size}; teacher {score}: {difference} ({low} to {high})"


def _mean(found: Sequence[dict[str, Any]], name: str, digits: int) -> str:
    return f"{statistics.mean(record[name] for record in found):.{digits}f}"


def _ends(found: Sequence[dict[str, Any]], name: str, digits: int) -> list[str]:
    """The means over the seeds of each number of a list."""
    columns = zip(*(record[name] for record in found), strict=True)
    return [f"{statistics.mean(column):.{digits}f}" for column in columns]


def _wrapped(figure: Figure) -> str:
    """The command of a figure, in lines of at most 100 characters that end before a flag."""
    lines = [""]
    for part in figure.command.replace(" --", "\n--").split("\n"):
        if len(lines[-1]) + len(part) > 96:
            lines.append("   ")
        lines[-1] += f" {part}" if lines[-1] else part
    return " \\\n".join(lines)
