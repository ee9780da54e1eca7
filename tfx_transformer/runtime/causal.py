"""Decoding of a decoder-only model by LiteRT."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from tfx_transformer import flags
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.generation import loop
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.runtime.signature import Signature, compile_file


class CausalEngine:
    """Runs the signatures `prefill_<length>` and `decode` of a TFLite file; texts run one after
    the other.

    Args:
        file: a TFLite file that `export.litert` wrote.
        config: of the model.
        threads: of LiteRT; None: one per core that this process may use.
    """

    def __init__(
        self, file: str | os.PathLike, config: TransformerConfig, threads: int | None = None
    ) -> None:
        self.model = compile_file(file, threads)
        self.decoder = Signature(self.model, "decode")
        # The file may have been exported with a shorter context than the model was made for.
        context = int(self.decoder.inputs["kv_cache_k_0"]["shape"][2])
        self.config = dataclasses.replace(config, max_sequence_length=context)
        with flags.muted():  # the first buffer starts LiteRT's buffer environment
            self.decoder.input_buffer("tokens")
        names = [n for n in self.model.get_signature_list() if n.startswith("prefill_")]
        lengths = sorted(int(name.removeprefix("prefill_")) for name in names)
        self.prefills = {length: Signature(self.model, f"prefill_{length}") for length in lengths}

    def generate_ids(
        self,
        source_ids: Sequence[Sequence[int]],
        options: GenerationOptions,
        on_ids: loop.OnIds | None = None,
    ) -> np.ndarray:
        """See `generation.text.Engine`.

        Raises:
            InputError: the options ask for beams.
        """
        if options.beams > 1:
            raise InputError(
                f"beams is {options.beams}; a decoder-only TFLite file decodes without.\n"
                "  Drop it, or use --engine keras."
            )
        room = self.config.max_sequence_length
        limits = [loop.new_limit(options, room - len(ids)) for ids in source_ids]
        draws = loop.uniforms(options, max(limits), len(source_ids))
        rows = np.full((len(source_ids), max(limits)), self.config.padding_id, "int32")
        session = self.session()  # one for all: what an earlier text left is out of sight
        for index, (ids, limit) in enumerate(zip(source_ids, limits, strict=True)):
            own = draws[:limit, index : index + 1]
            rows[index, :limit] = loop.complete(session, ids, 0, options, self.config, own, on_ids)
        return rows

    def session(self) -> LiteRTSession:
        """An empty cache of the model's whole context, for one text."""
        return LiteRTSession(self.decoder, self.prefills)


class LiteRTSession:
    """A key/value cache in LiteRT's buffers; see `generation.loop.Session`.

    Each buffer is a step's input and its output: a step writes the slots of its tokens, and nothing
    is copied. Nothing but token ids and logits crosses into Python.
    """

    def __init__(self, decoder: Signature, prefills: dict[int, Signature]) -> None:
        self._decoder = decoder
        self._prefills = prefills
        caches = [name for name in decoder.inputs if name.startswith("kv_cache_")]
        self._cache = {name: decoder.input_buffer(name) for name in caches}
        self._context = int(decoder.inputs[caches[0]]["shape"][2])
        self._tokens = decoder.input_buffer("tokens")
        self._input_pos = decoder.input_buffer("input_pos")
        self._logits = decoder.output_buffer("logits")
        self._inputs = {"tokens": self._tokens, "input_pos": self._input_pos} | self._cache
        self._outputs = {"logits": self._logits} | self._cache

    def extend(self, ids: Sequence[int], position: int) -> None:
        """Writes tokens into the cache, many at a time.

        The shortest prefill that holds them all is padded; what it writes behind them is written
        over by the tokens that follow, before anything may look there.
        """
        ids = np.asarray(ids, "int32")
        while len(ids):
            fitting = [n for n in self._prefills if position + n <= self._context]
            length = min((n for n in fitting if n >= len(ids)), default=max(fitting))
            tokens = np.zeros((1, length), "int32")
            count = min(length, len(ids))
            tokens[0, :count] = ids[:count]
            prefill = self._prefills[length]
            inputs = {
                "tokens": prefill.input_buffer("tokens", tokens),
                "input_pos": prefill.input_buffer(
                    "input_pos", np.arange(position, position + length, dtype="int32")
                ),
            }
            prefill.invoke(inputs | self._cache, self._cache)
            ids, position = ids[count:], position + count

    def step(self, ids: np.ndarray, position: int) -> np.ndarray:
        """float32 (1, vocabulary_size) logits after ids int32 (1,)."""
        self._tokens.write(ids.astype("int32")[:, None])
        self._input_pos.write(np.array([position], "int32"))
        self._decoder.invoke(self._inputs, self._outputs)
        return self._decoder.read("logits", self._logits)[:, 0]
