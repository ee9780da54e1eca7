"""The verb that makes the report of a run again: report."""

from __future__ import annotations

import argparse
from pathlib import Path


def write_report(chosen: argparse.Namespace) -> dict[str, str]:
    """make report.html of a run again, from what is in its folder"""
    from tfx_transformer import report, wording

    folder = Path(chosen.run)
    path = report.write_report(folder, wording.language())
    print(path)
    if report.is_ours(folder.parent / report.INDEX):
        report.write_index(folder.parent, wording.language())
    return {"file": str(path)}


def add_report_verb(verb) -> None:
    """Add the verb; verb: makes the parser of a name and an action."""
    one = verb("report", write_report)
    one.add_argument("run", metavar="RUN", help="folder of a run, such as runs/en_ja")
