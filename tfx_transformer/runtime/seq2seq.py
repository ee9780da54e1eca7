"""Decoding of an encoder-decoder by LiteRT."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfx_transformer import flags
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.generation import loop
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.runtime import interface
from tfx_transformer.runtime.signature import Signature, compile_file


class Seq2SeqEngine:
    """Runs the signatures `encode_<length>`, `prefill`, `decode` and `decode_beams` of a TFLite
    file; texts run one after the other.

    The caches stay in LiteRT's buffers; only token ids and logits pass between Python and LiteRT.
    Without beams each buffer is the input and the output of a step, so nothing is copied; beams
    swap two sets of buffers.

    Args:
        file: a TFLite file that `export.litert` wrote.
        config: of the model.
        threads: threads of LiteRT; None: one per core that this process may use.
    """

    def __init__(
        self, file: str | os.PathLike, config: TransformerConfig, threads: int | None = None
    ) -> None:
        self.config = config
        self.model = compile_file(file, threads)
        longest = config.max_sequence_length
        lengths = [n for n in self.model.numbered("encode_") if n <= longest]
        beams = self._beams()
        expected = interface.seq2seq(config, {*lengths, longest}, beams)
        interface.check(file, self.model.signatures, expected)
        self.encoders = {length: Signature(self.model, f"encode_{length}") for length in lengths}
        self.prefill = Signature(self.model, "prefill")
        with flags.silence():  # the first buffer starts LiteRT's buffer environment
            self.prefill.input_buffer("memory")
        names = ["decode"] if beams is None else ["decode", "decode_beams"]
        decoders = (Signature(self.model, name) for name in names)
        self.decoders = {signature.rows: signature for signature in decoders}

    def _beams(self) -> int | None:
        """Return the rows of `decode_beams`; None if the file does not have it."""
        if "decode_beams" not in self.model.signatures:
            return None
        _, shape = self.model.signatures["decode_beams"].inputs.get("tokens", ("", ()))
        return shape[0] if shape else 0

    def generate_ids(
        self,
        source_ids: Sequence[Sequence[int]],
        options: GenerationOptions,
        on_ids: loop.OnIds | None = None,
    ) -> np.ndarray:
        """See `generation.text.Engine`."""
        limit = loop.new_limit(options, self.config.max_sequence_length)
        draws = loop.uniforms(options, limit, len(source_ids))
        rows = []
        for index, ids in enumerate(source_ids):
            steps = self.start(ids, options.beams)
            rows += list(
                loop.decode(
                    steps.step,
                    None,
                    np.full(options.beams, self.config.start_id, "int32"),
                    options,
                    self.config,
                    draws=draws[:, index : index + 1],
                    reorder=steps.reorder,
                    on_ids=on_ids,
                )
            )
        return np.array(rows)

    def start(self, source_ids: Sequence[int], rows: int = 1) -> Steps:
        """Encode a source, project it for cross-attention, and return its decoding steps.

        Raises:
            InputError: the file does not decode with so many rows (beams).
        """
        if rows not in self.decoders:
            raise InputError(
                f"this TFLite file decodes with {' or '.join(map(str, self.decoders))} beams, "
                f"not with {rows}.\n  Export again with --beams {rows}."
            )
        length = next(length for length in self.encoders if length >= len(source_ids))
        encoder = self.encoders[length]
        token_ids = np.full((1, length), self.config.padding_id, "int32")
        token_ids[0, : len(source_ids)] = source_ids
        memory = encoder.run({"encoder_token_ids": token_ids})
        return Steps(self.decoders[rows], self.prefill.run(memory), len(source_ids))


class Steps:
    """The decoding steps of one source.

    Args:
        signature: `decode` or `decode_beams`.
        memory: buffers of the cross-attention cache.
        source_length: number of source tokens.
    """

    def __init__(self, signature: Signature, memory: dict[str, Any], source_length: int) -> None:
        self.signature = signature
        self.rows = np.arange(signature.rows, dtype="int32")
        length = signature.input_buffer("source_length", np.array([source_length], "int32"))
        self.constant = {**memory, "source_length": length}
        self.inputs = {
            name: signature.input_buffer(name)
            for name in signature.inputs
            if name not in self.constant
        }
        self.outputs = {name: signature.output_buffer(name) for name in signature.outputs}
        self.caches = self.outputs.keys() & self.inputs.keys()
        if signature.rows == 1:  # written in place; beams read rows that other beams write
            self.outputs |= {name: self.inputs[name] for name in self.caches}
            self.caches = frozenset()

    def reorder(self, cache: None, rows: np.ndarray) -> None:
        """Let row i of the next step continue rows[i] of the last one."""
        self.rows = rows.astype("int32")

    def step(self, ids: np.ndarray, position: int, cache: None) -> tuple[np.ndarray, None]:
        """Return float32 (rows, vocabulary_size), logits after ids int32 (rows,), and None."""
        self.inputs["tokens"].write(ids.astype("int32")[:, None])
        self.inputs["input_pos"].write(np.array([position], "int32"))
        if "rows" in self.inputs:
            self.inputs["rows"].write(self.rows)
        self.signature.invoke(self.inputs | self.constant, self.outputs)
        for name in self.caches:  # the next step reads what this one wrote
            self.inputs[name], self.outputs[name] = self.outputs[name], self.inputs[name]
        self.rows = np.arange(len(ids), dtype="int32")
        return self.signature.read("logits", self.outputs["logits"])[:, 0], None
