"""The pages of ended runs: report.html of each run, and index.html of all.

Each page is one file that loads nothing and runs no script. A report has rows of the user's data,
so it stays in the run's folder and never goes into a bundle.
"""

from tfx_transformer.report.index import INDEX, write_index
from tfx_transformer.report.page import REPORT, is_ours, write_report

__all__ = ["INDEX", "REPORT", "is_ours", "write_index", "write_report"]
