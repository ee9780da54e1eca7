"""The list of all runs: runs/index.html."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path

from tfx_transformer import files
from tfx_transformer.report.html import Html, page, table, tag, user_text
from tfx_transformer.report.measures import (
    best_baseline,
    first_measure,
    interval_text,
    scores_of,
    value_text,
)
from tfx_transformer.report.page import (
    REPORT,
    date_of,
    is_ours,
    megabytes,
    seconds_of,
    smallest_file,
    stylesheet,
)
from tfx_transformer.report.records import Records
from tfx_transformer.report.texts import Say, speaker

INDEX = "index.html"


def write_index(root: str | os.PathLike, language: str = "en") -> Path | None:
    """Write index.html into the folder of all runs, and return its path.

    If another program wrote a file of that name, it stays as it is and None is returned. Folders
    without a run are left out; a damaged run is shown as far as it can be read.

    Args:
        root: the folder of all runs, such as `runs`.
        language: language of the fixed texts, "en" or "ja".
    """
    root = Path(root)
    path = root / INDEX
    if path.exists() and not is_ours(path):
        return None
    files.write(path, index_page(_runs(root), language))
    return path


def index_page(runs: list[Records], language: str) -> str:
    """Return the list of runs as HTML.

    Args:
        runs: newest first.
        language: "en" or "ja".
    """
    say = speaker(language)
    header = ["name", "recipe", "date", "score", "interval column", "baseline"]
    header += ["smallest", "minutes"]
    body: Html = tag("p", say("no runs"))
    if runs:
        rows = [_row(run, say) for run in runs]
        body = table(say("runs caption"), list(map(say, header)), rows, numbers=False)
    title = say("runs")
    return page(title, language, stylesheet(), tag("header", tag("h1", title)), tag("main", body))


def _row(run: Records, say: Say) -> list[object]:
    name: Html = user_text(run.name)
    if (run.folder / REPORT).is_file():
        link = f"{urllib.parse.quote(run.folder.name)}/{REPORT}"
        name = tag("a", name, href=f"./{link}")
    measure = first_measure(run)
    score, interval, baseline = "–", "–", ""
    if measure is not None:
        found = scores_of(run)[measure]
        score = f"{say(measure)} {value_text(measure, found['value'])}"
        interval = interval_text(measure, found, say) or "–"
        if best := best_baseline(run, measure):
            baseline = f"{value_text(measure, best[1])} ({say(best[0])})"
    size, seconds = smallest_file(run), seconds_of(run)
    return [
        name,
        user_text(str(run.run.get("recipe", "–"))),
        user_text(date_of(run) or "–"),
        score,
        interval,
        baseline or "–",
        megabytes(size) if size else "–",
        f"{seconds / 60:.1f}" if seconds is not None else "–",
    ]


def _runs(root: Path) -> list[Records]:
    """Return the records of all runs in a folder, the newest first."""
    found = []
    for folder in sorted(root.iterdir()):
        try:
            if folder.is_dir() and (folder / "settings.json").is_file():
                found.append(Records(folder))
        except OSError:  # a folder that may not be read
            continue
    return sorted(found, key=date_of, reverse=True)
