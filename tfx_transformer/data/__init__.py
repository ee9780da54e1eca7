"""Files to batches: guarded readers, pairs, instructions, corpora, and what was read in a table."""

from tfx_transformer.data.conversations import (
    Conversations,
    add_turns,
    read_instructions,
    split_conversations,
)
from tfx_transformer.data.corpus import (
    TokenFile,
    beginnings,
    blocks,
    describe_corpora,
    hold_out,
    read_corpus,
    read_documents,
    sample_texts,
    write_tokens,
)
from tfx_transformer.data.instructions import instructions
from tfx_transformer.data.instructions_summary import describe_instructions
from tfx_transformer.data.pairs import Pairs, pairs, read_pairs, split_pairs
from tfx_transformer.data.summary import describe_pairs
from tfx_transformer.data.tables import read_table, stream_table, write_bad_rows

__all__ = [
    "Conversations",
    "Pairs",
    "TokenFile",
    "add_turns",
    "beginnings",
    "blocks",
    "describe_corpora",
    "describe_instructions",
    "describe_pairs",
    "hold_out",
    "instructions",
    "pairs",
    "read_corpus",
    "read_documents",
    "read_instructions",
    "read_pairs",
    "read_table",
    "sample_texts",
    "split_conversations",
    "split_pairs",
    "stream_table",
    "write_bad_rows",
    "write_tokens",
]
