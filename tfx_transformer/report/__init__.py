"""Pages for when a run has ended: report.html of each run, and index.html of all.

Both are one file each that loads nothing and runs nothing. A report holds rows of the user's data,
so it stays in the run's folder and never goes into a bundle.
"""

from tfx_transformer.report.index import INDEX, write_index
from tfx_transformer.report.page import REPORT, is_ours, write_report

__all__ = ["INDEX", "REPORT", "is_ours", "write_index", "write_report"]
