"""Texts that are generated at the same time in rows, and begin and end independently."""

from __future__ import annotations

from tfx_transformer.generation.loop import Rows
from tfx_transformer.runtime.causal import CausalEngine, CausalRows
from tfx_transformer.runtime.seq2seq import Seq2SeqEngine, Seq2SeqRows


def new_rows(engine: CausalEngine | Seq2SeqEngine, beams: int = 1) -> Rows:
    """Return the rows of an engine, all free.

    Args:
        beams: of each text.

    Raises:
        InputError: the model is decoder-only, and `beams` is not 1. A number of beams that the file
            of an encoder-decoder does not have is refused when a text begins.
    """
    if isinstance(engine, Seq2SeqEngine):
        return Seq2SeqRows(engine, beams)
    engine.check_beams(beams)
    return CausalRows(engine)
