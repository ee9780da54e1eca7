"""Decoding of an encoder-decoder by LiteRT."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer import flags
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.generation import loop
from tfx_transformer.generation.drafting import Hits
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.runtime import interface
from tfx_transformer.runtime.seq2seq_steps import Seq2SeqReach, Steps
from tfx_transformer.runtime.signature import Signature, compile_file
from tfx_transformer.runtime.together import Together
from tfx_transformer.runtime.verifier import Verifier

# Fewer texts than this run one after the other, each by steps of its own. A common step computes
# the rows of all texts, used or not: see benchmarks/README.md.
_FEWEST, _FEWEST_IF_WIDE = 9, 6
_WIDE = 512

# Most bytes of the caches of several texts that stay allocated while no text runs. Those of small
# models stay, for the next texts; those of 12 layers of 1,024, 800 MB, are freed.
MOST_KEPT = 64 * 2**20

# Number of texts that take turns if the file answers one at a time.
TURNS = 4


class Several(NamedTuple):
    """The signatures of a file that answer several texts at a time.

    decoder: name of the step; texts: how many; slots: of their caches; lengths: of the sources that
    the prefills read.
    """

    decoder: str
    texts: int
    slots: int
    lengths: list[int]


class Seq2SeqEngine:
    """Runs the signatures `encode_<length>`, `prefill`, `decode` and `decode_beams` of a TFLite
    file and, if the file has them, `prefill_<texts>x<length>`, `decode_<texts>` and
    `decode_<texts>x<beams>`, which answer several texts at a time, and `verify_<length>`, which
    reads several tokens of a text (see `generation.drafting`). A step takes longer the more of the
    caches it reads. So a short source is projected by `first_<slots>_prefill`, and the text is
    continued by `first_<slots>_decode` as far as it fits into these slots too.

    The caches stay in LiteRT's buffers; only token ids and logits pass between Python and LiteRT.
    Without beams each buffer is the input and the output of a step, so nothing is copied; the beams
    of a single text swap two sets of buffers.

    Args:
        file: a TFLite file that `export.litert` wrote.
        config: of the model.
        threads: threads of LiteRT; None: one per core that this process may use.

    Attributes:
        reaches: from the fewest slots to the whole context.
        several: number of beams -> the signatures for several texts.
        fewest: number of texts from which on they are answered together.
        verifier: of `verify_<length>`; None if the file does not have it.
        drafted: tokens that it reads; 1 without it.
        hits: the share of right drafts so far; None: nothing is drafted.
    """

    def __init__(
        self, file: str | os.PathLike, config: TransformerConfig, threads: int | None = None
    ) -> None:
        self.config = config
        self.fewest = _FEWEST_IF_WIDE if config.hidden_dim >= _WIDE else _FEWEST
        self.model = compile_file(file, threads)
        longest = config.max_sequence_length
        lengths = [n for n in self.model.numbered("encode_") if n <= longest]
        beams = self._beams()
        expected = interface.seq2seq(config, {*lengths, longest}, beams)
        self.several: dict[int, Several] = {}
        for width in {1, beams or 1}:
            if (found := self._find_several(width)) is not None:
                texts = found.texts
                expected |= interface.together(config, texts, width, found.slots, found.lengths)
                self.several[width] = found
        self.drafted = next((n for n in self.model.numbered("verify_") if n <= longest), 1)
        verify = f"verify_{self.drafted}"
        if has_verifier := verify in self.model.signatures:
            expected[verify] = interface.verify(expected["decode"], self.drafted)
        steps = ["prefill", "decode", *[verify] * has_verifier]
        begins = self.model.beginnings(longest)
        expected |= {begin + name: expected[name] for begin in begins.values() for name in steps}
        interface.check(file, self.model.signatures, expected)
        self.encoders = {length: Signature(self.model, f"encode_{length}") for length in lengths}
        with flags.silence():  # the first buffer starts LiteRT's buffer environment
            Signature(self.model, "prefill").input_buffer("memory")
        self.reaches = []
        for slots, begin in begins.items():
            prefill, decoder, *verifiers = (Signature(self.model, begin + n) for n in steps)
            self.reaches.append(Seq2SeqReach(slots, prefill, decoder, next(iter(verifiers), None)))
        names = ["decode"] if beams is None else ["decode", "decode_beams"]
        decoders = (Signature(self.model, name) for name in names)
        self.decoders = {signature.rows: signature for signature in decoders}
        whole = self.reaches[-1].verifier
        self.verifier = None if whole is None else Verifier(whole)
        self.hits: Hits | None = Hits(config.hidden_dim, self.model.has_four_bits)
        self._kept: dict[int, Together] = {}

    @property
    def beams(self) -> tuple[int, ...]:
        """The numbers of beams that the file decodes with."""
        return tuple(self.decoders)

    def _beams(self) -> int | None:
        """Return the rows of `decode_beams`; None if the file does not have it."""
        if "decode_beams" not in self.model.signatures:
            return None
        _, shape = self.model.signatures["decode_beams"].inputs.get("tokens", ("", ()))
        return shape[0] if shape else 0

    def _find_several(self, beams: int) -> Several | None:
        """Return the signatures for several texts with so many beams; None if there are none."""
        end = "" if beams == 1 else f"x{beams}"
        counts = self.model.numbered("decode_", end)
        if not counts:
            return None
        texts = counts[0]
        name = f"decode_{texts}{end}"
        _, shape = self.model.signatures[name].inputs.get("visible", ("", ()))
        slots = min(shape[-1] // beams if shape else 0, self.config.max_sequence_length)
        lengths = [n for n in self.model.numbered(f"prefill_{texts}x") if n <= slots]
        return Several(name, texts, slots, sorted({*lengths, slots}))

    def together(self, beams: int) -> Together:
        """Return the caches of several texts with so many beams, which the engine keeps; empty."""
        if beams not in self._kept:
            found = self.several[beams]
            names = {n: f"prefill_{found.texts}x{n}" for n in found.lengths}
            prefills = {n: Signature(self.model, name) for n, name in names.items()}
            self._kept[beams] = Together(Signature(self.model, found.decoder), prefills)
        self._kept[beams].clear()
        return self._kept[beams]

    def release(self, beams: int) -> None:
        """Free the caches of `together` if they are large: all texts in them have ended."""
        if beams in self._kept and self._kept[beams].bytes > MOST_KEPT:
            del self._kept[beams]

    def generate_ids(
        self,
        source_ids: Sequence[Sequence[int]],
        options: GenerationOptions,
        on_ids: loop.OnIds | None = None,
    ) -> np.ndarray:
        """See `generation.text.Engine`.

        Raises:
            InputError: the file does not decode with so many beams.
        """
        limit = loop.new_limit(options, self.config.max_sequence_length)
        draws = loop.uniforms(options, limit, len(source_ids))
        beams = options.beams
        if on_ids is None and beams in self.several and len(source_ids) >= self.fewest:
            rows = Seq2SeqRows(self, beams, fewest=1)
            limits = np.full(len(source_ids), limit)
            found = loop.decode_rows(rows, source_ids, limits, options, self.config, draws)
            self.release(beams)
            return found
        rows = []
        for index, ids in enumerate(source_ids):
            steps = self.start(ids, beams)
            rows += list(
                loop.decode(
                    steps.step,
                    None,
                    np.full(beams, self.config.start_id, "int32"),
                    options,
                    self.config,
                    draws=draws[:, index : index + 1],
                    reorder=steps.reorder,
                    on_ids=on_ids,
                )
            )
        return np.array(rows)

    def encode(self, source_ids: Sequence[int]) -> dict[str, Any]:
        """Return the buffer of the encoder's memory of a source, by its name."""
        length = next(length for length in self.encoders if length >= len(source_ids))
        token_ids = np.full((1, length), self.config.padding_id, "int32")
        token_ids[0, : len(source_ids)] = source_ids
        return self.encoders[length].run({"encoder_token_ids": token_ids})

    def start(self, source_ids: Sequence[int], rows: int = 1, fewest_slots: int = 0) -> Steps:
        """Encode a source, project it for cross-attention, and return its decoding steps.

        Args:
            rows: 1, or the number of rows of `decode_beams`, which reads the whole caches.
            fewest_slots: leave out the steps that read fewer slots.

        Raises:
            InputError: the file does not decode with so many rows (beams).
        """
        if rows not in self.decoders:
            raise InputError(
                f"this TFLite file decodes with {' or '.join(map(str, self.decoders))} beams, "
                f"not with {rows}.\n  Export again with --beams {rows}."
            )
        fewest = max(len(source_ids), fewest_slots)
        reaches = [reach for reach in self.reaches if reach.slots >= fewest]
        memory = reaches[0].prefill.run(self.encode(source_ids))
        verifier = self.verifier if rows == 1 else None
        return Steps(self.decoders[rows], reaches, memory, source_ids, verifier, self.hits)


class Seq2SeqRows:
    """Rows of an encoder-decoder; see `generation.loop.Rows`.

    The first `fewest` - 1 texts take turns, each with steps of its own. Texts that begin while
    these run are answered together, if the file can do that. A text that is too long for the common
    caches takes turns.

    Args:
        engine: of the file.
        beams: of each text.
        fewest: number of running texts, from which on new ones are answered together; None: that of
            the engine.
    """

    def __init__(self, engine: Seq2SeqEngine, beams: int = 1, fewest: int | None = None) -> None:
        self._engine, self._beams, self._fewest = engine, beams, fewest or engine.fewest
        several = engine.several.get(beams)
        self.count, self._slots = (several.texts, several.slots) if several else (TURNS, 0)
        self._sources: dict[int, Sequence[int]] = {}
        self._alone: dict[int, Steps] = {}
        self._joined: Together | None = None
        self._positions = np.zeros(self.count, "int32")

    def begin(self, row: int, ids: Sequence[int]) -> int:
        """See `Rows`."""
        self.end(row)
        together = len(self._sources) > len(self._alone)
        if len(ids) <= self._slots and (together or len(self._alone) + 1 >= self._fewest):
            if not together or self._joined is None:
                self._joined = self._engine.together(self._beams)
            self._joined.begin(row, self._engine.encode(ids), len(ids))
        else:
            self._alone[row] = self._engine.start(ids, self._beams)
        self._sources[row], self._positions[row] = ids, 0
        return self._engine.config.start_id

    def end(self, row: int) -> None:
        """See `Rows`."""
        self._sources.pop(row, None)
        self._alone.pop(row, None)
        if self._joined is not None and len(self._sources) == len(self._alone):
            self._joined = None
            self._engine.release(self._beams)

    def room(self, ids: Sequence[int]) -> int:
        """See `Rows`."""
        return self._engine.config.max_sequence_length

    def step(
        self, rows: Sequence[int], ids: np.ndarray, origins: np.ndarray | None = None
    ) -> np.ndarray:
        """See `Rows`."""
        tokens = np.asarray(ids, "int32").reshape(len(rows), self._beams)
        joined = [index for index, row in enumerate(rows) if self._is_joined(row)]
        logits: list[Any] = [None] * len(rows)
        if joined and self._joined is not None:
            before = None if origins is None else origins[joined]
            found = self._joined.step([rows[i] for i in joined], tokens[joined], before)
            if len(joined) == len(rows):
                self._positions[list(rows)] += 1
                return found.reshape(-1, found.shape[-1])
            for index, values in zip(joined, found, strict=True):
                logits[index] = values
        for index, row in enumerate(rows):
            if (steps := self._alone.get(row)) is not None:
                if origins is not None:
                    steps.reorder(None, origins[index])
                logits[index], _ = steps.step(tokens[index], int(self._positions[row]), None)
        self._positions[list(rows)] += 1
        return np.concatenate(logits)

    def _is_joined(self, row: int) -> bool:
        """Return True if a text is answered with others. If the common caches are too short for its
        next token, it leaves them and takes turns."""
        if row in self._alone or self._joined is None:
            return False
        if self._positions[row] < self._slots:
            return True
        self._alone[row] = self._engine.start(self._sources[row], self._beams)
        self._alone[row].load(self._joined.take(row))
        return False
