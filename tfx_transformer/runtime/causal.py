"""Decoding of a decoder-only model by LiteRT."""

from __future__ import annotations

import dataclasses
import operator
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer import flags
from tfx_transformer.arguments import flag_for
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.generation import loop
from tfx_transformer.generation.drafting import Drafter, Hits
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.runtime import interface
from tfx_transformer.runtime.caches import Cache
from tfx_transformer.runtime.model_file import Interface
from tfx_transformer.runtime.signature import Signature, compile_file
from tfx_transformer.runtime.verifier import Verifier

# A step computes all rows, used or not. It takes as long as 3 (float32) to 8 (a small int8 model)
# steps of one row, or 4 for large models. Fewer texts than this run one after the other.
FEWEST_TOGETHER = 5

# Number of rows that take turns if the file computes one at a time.
TURNS = 4


class CausalReach(NamedTuple):
    """The signatures of a file with caches of the same number of slots.

    Attributes:
        slots: of the cache of each text.
        decoders: rows -> `decode` or `decode_<rows>`.
        prefills: length -> `prefill_<length>`.
        verifier: `verify_<length>`; None if this reach has none.
    """

    slots: int
    decoders: dict[int, Signature]
    prefills: dict[int, Signature]
    verifier: Signature | None = None


class CausalEngine:
    """Runs the signatures `prefill_<length>`, `decode` and, if the file has them, `decode_<rows>`,
    which runs several texts together, and `verify_<length>`, which reads several tokens of a text
    (see `generation.drafting`). A step takes longer the more slots its cache has, so a text that
    fits into fewer is run by `first_<slots>_decode` and so on, which have caches of so many.

    Args:
        file: a TFLite file that `export.litert` wrote.
        config: of the model.
        threads: threads of LiteRT; None: one per core that this process may use.

    Attributes:
        rows: how many texts run together; 1 if the file runs one at a time.
        reaches: from the fewest slots to the whole context.
        drafted: tokens that `verify_<length>` reads; 1 if the file does not have it.
        hits: the share of right drafts so far; None: nothing is drafted.
        beams: the numbers of beams that the file decodes with.
    """

    beams = (1,)

    def __init__(
        self, file: str | os.PathLike, config: TransformerConfig, threads: int | None = None
    ) -> None:
        self.model = compile_file(file, threads)
        # The file may have been exported with a shorter context than the model was made for.
        context = self._context(config.max_sequence_length)
        self.config = dataclasses.replace(config, max_sequence_length=context)
        heights = self.model.numbered("decode_")[:1]
        self.rows = heights[0] if heights else 1
        self.drafted = next((n for n in self.model.numbered("verify_") if n <= context), 1)
        self.hits: Hits | None = Hits(config.hidden_dim, self.model.has_four_bits)
        begins = self.model.beginnings(context).items()
        # Files of earlier versions have such signatures that read a part of the whole cache.
        names = {n: b for n, b in begins if n == context or self._slots(f"{b}decode") == n}
        lengths = {slots: self._lengths(slots, begin) for slots, begin in names.items()}
        # A prefill of one token must be there, for places where longer ones do not fit.
        lengths[context] |= {1}
        expected = {}
        for slots, begin in names.items():
            interfaces = self._interfaces(slots, lengths[slots], begin)
            expected |= {begin + name: one for name, one in interfaces.items()}
        interface.check(file, self.model.signatures, expected)
        with flags.silence():  # the first buffer starts LiteRT's buffer environment
            Signature(self.model, "decode").input_buffer("tokens")
        self.reaches = [self._reach(n, begin, lengths[n]) for n, begin in names.items()]

    def _lengths(self, slots: int, begin: str) -> set[int]:
        """Return the lengths of the prefills `<begin>prefill_<length>`, up to the slots."""
        return {length for length in self.model.numbered(f"{begin}prefill_") if length <= slots}

    def _interfaces(self, slots: int, lengths: set[int], begin: str) -> dict[str, Interface]:
        """Return the interfaces of the signatures of a reach with prefills of these lengths, by
        the ends of their names after `begin`."""
        found = interface.causal(self.config, slots, lengths)
        if self.rows > 1:
            found[f"decode_{self.rows}"] = interface.causal_rows(self.config, slots, self.rows)
        if begin + (name := f"verify_{self.drafted}") in self.model.signatures:
            found[name] = interface.verify(found["decode"], self.drafted)
        return found

    def _reach(self, slots: int, begin: str, lengths: set[int]) -> CausalReach:
        decoders = {1: Signature(self.model, f"{begin}decode")}
        if self.rows > 1:
            decoders[self.rows] = Signature(self.model, f"{begin}decode_{self.rows}")
        prefills = {n: Signature(self.model, f"{begin}prefill_{n}") for n in sorted(lengths)}
        verify = f"{begin}verify_{self.drafted}"
        has_verifier = verify in self.model.signatures
        verifier = Signature(self.model, verify) if has_verifier else None
        return CausalReach(slots, decoders, prefills, verifier)

    def _context(self, longest: int) -> int:
        """Return the slots of the file's cache, or `longest` if it has none or a wrong number."""
        slots = self._slots("decode")
        return slots if 2 <= slots <= longest else longest

    def _slots(self, name: str) -> int:
        """Return the slots of a signature's cache, 0 if it has none."""
        inputs = self.model.signatures[name].inputs if name in self.model.signatures else {}
        _, shape = inputs.get("kv_cache_k_0", ("", ()))
        return shape[2] if len(shape) == 4 else 0

    @staticmethod
    def check_beams(beams: int) -> None:
        """Raise an InputError if a text is to be searched for with several beams."""
        if beams > 1:
            flag = flag_for("engine")
            other = f", or use {flag} keras" if flag else ""
            raise InputError(
                f"beams is {beams}; a decoder-only TFLite file decodes without beams.\n"
                f"  Drop it{other}."
            )

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
        self.check_beams(options.beams)
        room = self.config.max_sequence_length
        limits = np.array([loop.new_limit(options, room - len(ids)) for ids in source_ids])
        draws = loop.uniforms(options, limits.max(), len(source_ids))
        if on_ids is None and self.rows > 1 and len(source_ids) >= FEWEST_TOGETHER:
            rows = CausalRows(self)
            return loop.decode_rows(rows, source_ids, limits, options, self.config, draws)
        found = np.full((len(source_ids), limits.max()), self.config.padding_id, "int32")
        session = self.session()  # reused: no text reads what an earlier one left in the cache
        for row, (ids, limit) in enumerate(zip(source_ids, limits, strict=True)):
            choices = (options, self.config, draws[:limit, row : row + 1])
            found[row, :limit] = loop.complete(session, ids, 0, *choices, on_ids)
        return found

    def session(
        self, rows: int = 1, fewest_slots: int = 0, cache: Cache | None = None
    ) -> LiteRTSession:
        """Return a session for one text or for `self.rows`.

        Args:
            fewest_slots: leave out the steps whose caches have fewer slots.
            cache: see `LiteRTSession`.
        """
        reaches = [reach for reach in self.reaches if reach.slots >= fewest_slots]
        return LiteRTSession(reaches, rows, cache, self.hits)


class CausalRows:
    """Rows of a decoder-only model; see `generation.loop.Rows`.

    Each row has its own key/value cache. `FEWEST_TOGETHER` rows or more are computed by one call of
    `decode_<rows>`, if the file has it; fewer rows one after the other by `decode`, with the same
    caches.
    """

    def __init__(self, engine: CausalEngine) -> None:
        self._context = engine.config.max_sequence_length
        self._together = None
        if engine.rows == 1:
            self._single = [engine.session() for _ in range(TURNS)]
        else:
            self._together = engine.session(engine.rows)
            self._single = [engine.session(cache=cache) for cache in self._together.caches]
        self.count = len(self._single)
        self._positions = np.zeros(self.count, "int32")

    def begin(self, row: int, ids: Sequence[int]) -> int:
        """See `Rows`."""
        *before, last = ids
        self._single[row].extend(before, 0)
        self._positions[row] = len(before)
        return last

    def end(self, row: int) -> None:
        """See `Rows`."""

    def room(self, ids: Sequence[int]) -> int:
        """See `Rows`."""
        return self._context - len(ids)

    def step(
        self, rows: Sequence[int], ids: np.ndarray, origins: np.ndarray | None = None
    ) -> np.ndarray:
        """See `Rows`; without beams."""
        positions = self._positions[list(rows)]
        self._positions[list(rows)] += 1
        if self._together is not None and len(rows) >= FEWEST_TOGETHER:
            tokens = np.zeros(self.count, "int32")
            tokens[list(rows)] = ids
            # Rows without a text write into slot 0, which the next prompt overwrites.
            places = np.zeros(self.count, "int32")
            places[list(rows)] = positions
            for row, index, position in zip(rows, ids, positions, strict=True):
                self._single[row].note(int(index), int(position))
            return self._together.step(tokens, places)[list(rows)]
        logits = [
            self._single[row].step(np.array([index], "int32"), position)
            for row, index, position in zip(rows, ids, positions, strict=True)
        ]
        return np.concatenate(logits)


class LiteRTSession:
    """Key/value caches in LiteRT's buffers, one for each row; see `generation.loop.Session`.

    Each buffer is the input and the output of a step, which writes only the slots of its tokens, so
    nothing is copied until a text needs more slots. Only token ids and logits pass between Python
    and LiteRT. The text of a single row is drafted (see `generation.drafting`): slots of drafted
    tokens that turn out wrong are written again before anything reads them.

    Args:
        reaches: from the fewest slots to the whole context.
        rows: 1, or the rows of `decode_<rows>`; the cache of a row is the same in both.
        cache: of a row of another session, to share; None: its own.
        hits: of the drafts; None: nothing is drafted.

    Attributes:
        caches: of each row.
    """

    def __init__(
        self,
        reaches: Sequence[CausalReach],
        rows: int = 1,
        cache: Cache | None = None,
        hits: Hits | None = None,
    ) -> None:
        self._reaches, self._rows = reaches, rows
        self._context = reaches[-1].slots
        singles = {reach.slots: reach.decoders[1] for reach in reaches}
        self.caches = [cache] if cache else [Cache(singles) for _ in range(rows)]
        decoder = reaches[-1].decoders[rows]
        self._tokens = decoder.input_buffer("tokens")
        self._input_pos = decoder.input_buffer("input_pos")
        self._logits = decoder.output_buffer("logits")
        # The caches of the last step, each row's, then its inputs and its outputs.
        self._each: list[dict[str, Any]] = []
        self._joined: tuple[dict[str, Any], dict[str, Any]] = {}, {}
        self._drafter: Drafter | None = None
        verifiers = [reach.verifier for reach in reaches if reach.verifier is not None]
        if rows == 1 and verifiers:
            self._verifier = Verifier(verifiers[0])
            self._drafter = None if hits is None else Drafter(hits)

    def note(self, index: int, position: int) -> None:
        """Take a token that another session writes into the same cache: later drafts use it."""
        if self._drafter is not None:
            self._drafter.note(index, position)

    def extend(self, ids: Sequence[int], position: int, row: int = 0) -> None:
        """Write tokens into the cache of a row, many at a time.

        The shortest prefill that holds them all is padded; later tokens overwrite the padding in
        the cache before anything reads it.
        """
        if self._drafter is not None:
            self._drafter.read(ids, position)
        left = np.asarray(ids, "int32")
        while len(left):
            fitting = [n for n in self._reaches[-1].prefills if position + n <= self._context]
            length = min((n for n in fitting if n >= len(left)), default=max(fitting))
            tokens = np.zeros((1, length), "int32")
            count = min(length, len(left))
            tokens[0, :count] = left[:count]
            end = position + length
            reach = next(r for r in self._reaches if r.slots >= end and length in r.prefills)
            prefill, cache = reach.prefills[length], self.caches[row].of(reach.slots, position)
            inputs = {
                "tokens": prefill.input_buffer("tokens", tokens),
                "input_pos": prefill.input_buffer(
                    "input_pos", np.arange(position, position + length, dtype="int32")
                ),
            }
            prefill.invoke(inputs | cache, cache)
            left, position = left[count:], position + count

    def step(self, ids: np.ndarray, position: int | np.ndarray) -> np.ndarray:
        """Return float32 (batch, vocabulary_size), logits after ids int32 (batch,) of the first
        rows.

        Args:
            position: of all rows, or int (batch,). A row without room may continue while others do:
                it writes into its last slot, and its logits must not be used.
        """
        if self._drafter is None:
            return self._step(ids, position)
        place = min(int(np.max(position)), self._context - 1)
        if self._drafter.passes(int(ids[0]), place):
            return self._step(ids, place)
        reach = self._reach_at(place)
        # A draft that does not fit into the cache of the next token is not made.
        can = reach.verifier is not None and reach.slots >= place + self._verifier.length

        def run(tokens: Sequence[int]) -> np.ndarray:
            if len(tokens) == 1:
                return self._step(np.array(tokens, "int32"), place)
            return self._verify(tokens, place, reach)

        return self._drafter.step(int(ids[0]), place, run, self._verifier.length if can else 1)

    def verify(self, ids: Sequence[int], position: int) -> np.ndarray:
        """Return float32 (tokens, vocabulary_size), the logits after each of at most `drafted`
        tokens, read at once."""
        for reach in self._reaches:
            if reach.verifier is not None and reach.slots >= position + self._verifier.length:
                return self._verify(ids, position, reach)
        raise ValueError(f"no signature verifies tokens at position {position}.")

    def _verify(self, ids: Sequence[int], position: int, reach: CausalReach) -> np.ndarray:
        cache = self.caches[0].of(reach.slots, position)
        return self._verifier.run(ids, position, cache, reach.verifier)

    def _reach_at(self, position: int) -> CausalReach:
        """Return the reach with the fewest slots that has one for a position."""
        return next(reach for reach in self._reaches if reach.slots > position)

    def _step(self, ids: np.ndarray, position: int | np.ndarray) -> np.ndarray:
        """Return the logits after one more token of each row, not drafted."""
        tokens, positions = np.zeros((2, self._rows), "int32")
        tokens[: len(ids)] = ids
        positions[: len(ids)] = np.minimum(position, self._context - 1)
        self._tokens.write(tokens[:, None])
        self._input_pos.write(positions)
        reach = self._reach_at(positions.max())
        inputs, outputs = self._buffers(reach.slots, positions)
        decoder = reach.decoders[self._rows]
        decoder.invoke(inputs, outputs)
        return decoder.read("logits", self._logits)[: len(ids), 0]

    def _buffers(self, slots: int, positions: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return all inputs and outputs of a step with this number of slots; the texts of the rows
        are so long, and their caches get so many slots."""
        each = [
            cache.of(slots, int(position))
            for cache, position in zip(self.caches, positions, strict=True)
        ]
        # A cache that was freed meanwhile has other buffers.
        if not self._each or any(map(operator.is_not, each, self._each)):
            caches = each[0]
            if self._rows > 1:
                caches = {
                    f"{name}_{row}": buffer
                    for row, buffers in enumerate(each)
                    for name, buffer in buffers.items()
                }
            inputs = {"tokens": self._tokens, "input_pos": self._input_pos}
            self._each, self._joined = each, (inputs | caches, {"logits": self._logits} | caches)
        return self._joined
