"""Texts that are generated at the same time in rows, and begin and end independently."""

from __future__ import annotations

from tfx_transformer.generation.loop import Rows
from tfx_transformer.runtime.causal import CausalEngine, CausalRows
from tfx_transformer.runtime.seq2seq import Seq2SeqEngine, Seq2SeqRows

# Engine of models that write text -> its rows.
KINDS = {CausalEngine: CausalRows, Seq2SeqEngine: Seq2SeqRows}


def new_rows(engine: CausalEngine | Seq2SeqEngine) -> Rows:
    """Return the rows of an engine, all free."""
    return KINDS[type(engine)](engine)
