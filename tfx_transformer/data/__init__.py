"""Files to batches: the guarded CSV reader, pairs of texts, and what was read in one table."""

from tfx_transformer.data.pairs import Pairs, pairs, read_pairs, split_pairs
from tfx_transformer.data.summary import describe_pairs
from tfx_transformer.data.tables import read_table, stream_table, write_bad_rows

__all__ = [
    "Pairs",
    "describe_pairs",
    "pairs",
    "read_pairs",
    "read_table",
    "split_pairs",
    "stream_table",
    "write_bad_rows",
]
