"""The verb that makes the report of a run again: report."""

from __future__ import annotations

from pathlib import Path


def write_report(run: Path, /) -> dict[str, str]:
    """Write report.html of a run again, from the records in its folder.

    Args:
        run: Folder of a run, such as runs/en_ja.
    """
    from tfx_transformer import report, wording

    path = report.write_report(run, wording.language())
    print(path)
    if report.is_ours(run.parent / report.INDEX):
        report.write_index(run.parent, wording.language())
    return {"file": str(path)}
