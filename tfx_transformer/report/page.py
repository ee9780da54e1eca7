"""The report of one run, made of the records in its folder."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

from tfx_transformer import files
from tfx_transformer.errors import InputError
from tfx_transformer.report.about_data import data_section, training_section
from tfx_transformer.report.about_examples import mistakes_section, samples_section
from tfx_transformer.report.about_numbers import errors_section
from tfx_transformer.report.about_scores import conclusion_section, scores_section
from tfx_transformer.report.about_use import (
    attention_figure,
    exports_section,
    megabytes,
    settings_section,
    use_section,
)
from tfx_transformer.report.html import GENERATOR, Html, join, page, tag
from tfx_transformer.report.measures import (
    best_baseline,
    duration_text,
    first_measure,
    interval_text,
    scores_of,
    value_text,
)
from tfx_transformer.report.records import Records, number
from tfx_transformer.report.texts import LANGUAGES, Say, speaker

REPORT = "report.html"
_MARK = f'name="generator" content="{GENERATOR}"'


def write_report(folder: str | os.PathLike, language: str = "en") -> Path:
    """Write report.html into the folder of a run, and return its path.

    Args:
        folder: folder of the run, such as `runs/en_ja`.
        language: language of the fixed texts, "en" or "ja".

    Raises:
        InputError: the folder is not that of a run; it has a report.html that no run wrote; or the
            language is another one.
    """
    folder = Path(folder)
    if language not in LANGUAGES:
        raise InputError(f"language is {language!r}.\n  Expected one of: {', '.join(LANGUAGES)}.")
    records = Records(folder)
    if not (records.settings or records.run or records.result):
        raise InputError(
            f"{folder} is not the folder of a run: it has no settings.json.\n"
            "  Name a folder that a recipe has written, such as runs/en_ja."
        )
    path = folder / REPORT
    if path.exists() and not is_ours(path):
        raise InputError(f"{path} was not written by a run.\n  Move it, then repeat the command.")
    files.write(path, report_page(records, language))
    return path


def report_page(records: Records, language: str) -> str:
    """Return the report of a run as HTML.

    Args:
        records: records of the run.
        language: "en" or "ja".
    """
    say = speaker(language)
    sections: dict[str, Html | None] = {
        "conclusion": conclusion_section(records, say, language),
        "scores": scores_section(records, say),
        "mistakes": mistakes_section(records, say),
        "errors": errors_section(records, say),
        "samples": samples_section(records, say),
        "data": data_section(records, say),
        "training": _training(records, say),
        "exports": exports_section(records, say, language),
        "settings": settings_section(records, say),
        "use": use_section(records, say),
    }
    shown = {name: section for name, section in sections.items() if section}
    links = [tag("li", tag("a", say(name), href=f"#{name}")) for name in shown]
    title = say("report", name=records.name)
    return page(
        title,
        language,
        stylesheet(),
        tag(
            "header",
            tag("h1", title),
            tag("p", _made(records, say), class_="quiet"),
            _facts(records, say),
            tag("p", say("private"), class_="quiet"),
            tag("nav", tag("ul", *links), aria_label=say("contents")),
        ),
        tag(
            "main",
            *(
                tag("section", tag("h2", say(name)), section, id=name)
                for name, section in shown.items()
            ),
        ),
        tag("footer", tag("p", say("footer"))),
    )


def is_ours(path: Path) -> bool:
    """Return True if a file is a page of this package, which may be replaced."""
    try:
        with path.open("rb") as file:
            return _MARK.encode() in file.read(4096)
    except OSError:
        return False


@functools.cache
def stylesheet() -> str:
    """Return the style of our pages."""
    return Path(__file__).with_name("style.css").read_text(encoding="utf-8")


def date_of(records: Records) -> str:
    """Return the day and minute when a run began, in universal time; "" if unknown."""
    began = records.run.get("began")
    return began[:16].replace("T", " ") + " UTC" if isinstance(began, str) and began else ""


def seconds_of(records: Records) -> float | None:
    """Return the seconds that a run took, or only its training; None if unknown."""
    return number(records.run.get("seconds", records.result.get("seconds")))


def smallest_file(records: Records) -> float | None:
    """Return the bytes of the smallest exported file that was kept; None if unknown."""
    sizes = [
        number(row.get("bytes"))
        for row in records.rows("exports.json")
        if row.get("file") != "model.safetensors" and not row.get("removed")
    ]
    return min((size for size in sizes if size), default=None)


def _made(records: Records, say: Say) -> str:
    recipe, date = str(records.run.get("recipe", "")), date_of(records)
    if recipe and date:
        return say("made", recipe=recipe, date=date)
    return recipe or date


def _facts(records: Records, say: Say) -> Html:
    facts: list[tuple[str, str, str]] = []
    measure = first_measure(records)
    if measure is not None:
        score = scores_of(records)[measure]
        interval = interval_text(measure, score, say)
        note = say("interval", ends=interval) if interval else ""
        facts.append((say(measure), value_text(measure, score["value"]), note))
        if best := best_baseline(records, measure):
            facts.append((say("baseline"), value_text(measure, best[1]), say(best[0])))
    counts: dict[str, Callable[[], tuple[float | None, Callable[[float], str]]]] = {
        "held out": lambda: (number(records.evaluation.get("examples")), _whole),
        "parameters": lambda: (number(records.run.get("parameters")), _whole),
        "smallest": lambda: (smallest_file(records), megabytes),
        "time": lambda: (seconds_of(records), lambda seconds: duration_text(seconds, say)),
    }
    for name, find in counts.items():
        value, form = find()
        if value:
            facts.append((say(name), form(value), ""))
    items = [
        tag("li", tag("span", name), tag("strong", value), tag("span", note) if note else None)
        for name, value, note in facts
    ]
    return tag("ul", *items, class_="facts")


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _training(records: Records, say: Say) -> Html | None:
    found = [training_section(records, say), attention_figure(records, say)]
    return join(*found) if any(found) else None
