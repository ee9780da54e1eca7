"""Generation by a Keras model: the whole decode loop compiled, or step by step for streaming."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfx_transformer.annotations import Tensor
from tfx_transformer.generation import loop
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.generation.preprocessors import new_preprocessor
from tfx_transformer.generation.text import TextGenerator
from tfx_transformer.text.tokenizer import Tokenizer

# Lengths that prompts are padded to for XLA; longer prompts keep their length.
BUCKETS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class KerasEngine:
    """Runs a `CausalLM` or a `Seq2SeqLM`. Functions are compiled once, for all batch sizes and
    lengths.

    Args:
        model: the model; its weights may change between calls.
        jit_compile: compile with XLA, which is faster once compiled but compiles anew for every
            shape (TensorFlow only); prompts are then padded to a few lengths.
    """

    def __init__(self, model: keras.Model, jit_compile: bool = False) -> None:
        self.model = model
        self.config = model.config
        self.jit_compile = jit_compile
        self._loops: dict[tuple, Callable] = {}
        self._begin: dict[tuple[int, int], Callable] = {}
        self._step = self._extend = None

    def generate_ids(
        self,
        source_ids: Sequence[Sequence[int]],
        options: GenerationOptions,
        on_ids: loop.OnIds | None = None,
    ) -> np.ndarray:
        """See `generation.text.Engine`."""
        model = self.model
        lengths = np.array([len(ids) for ids in source_ids], "int32")
        limits = [loop.new_limit(options, model.room(length)) for length in lengths.tolist()]
        most = model.config.max_sequence_length if self.jit_compile else 0
        token_ids = pad_source(source_ids, model.config.padding_id, most)
        if not model.prompt_in_cache or (lengths == lengths[0]).all():
            lengths = lengths[0]  # a scalar: all rows write the same slot, which is faster
        draws = loop.uniforms(options, max(limits), len(token_ids))
        if on_ids is None:
            rows = self._generate_compiled(token_ids, lengths, options, draws)
        else:
            rows = self._generate_by_steps(token_ids, lengths, options, draws, on_ids)
        # A long prompt leaves less room than its neighbours have.
        beyond = np.arange(rows.shape[1]) >= np.array(limits)[:, None]
        return np.where(beyond, model.config.padding_id, rows)

    def session(self) -> KerasSession:
        """An empty cache of the model's whole context, for one text; `CausalLM` only."""
        if self._extend is None:
            model = self.model
            self._extend = compile_function(model.prefill, None)
            self._decode = compile_function(
                lambda ids, position, cache: model.step(ids, 0, position, cache), None
            )
        return KerasSession(self.model, self._extend, self._decode)

    def _generate_compiled(self, token_ids, lengths, options, draws) -> np.ndarray:
        # Options that only count or feed the loop are left out: the others shape the graph.
        options = dataclasses.replace(options, seed=0, max_new_tokens=None, stop=(), free=False)
        key = (options, lengths.ndim)
        if key not in self._loops:
            self._loops[key] = compile_function(
                lambda ids, counts, uniforms: generate(self.model, ids, counts, uniforms, options),
                [("int32", 2), ("int32", lengths.ndim), ("float32", 2)],
                self.jit_compile,
            )
        return np.asarray(self._loops[key](token_ids, lengths, draws))

    def _generate_by_steps(self, token_ids, lengths, options, draws, on_ids) -> np.ndarray:
        model, key = self.model, (lengths.ndim, options.beams)
        if key not in self._begin:
            self._begin[key] = compile_function(
                lambda ids, lengths, limit: model.begin(ids, lengths, limit, options.beams),
                [("int32", 2), ("int32", lengths.ndim), ("int32", 0)],
            )
        if self._step is None:
            self._step = compile_function(model.step, None)
        first_ids, context, cache = self._begin[key](token_ids, lengths, np.int32(len(draws)))

        def step(ids, index, cache):
            logits, cache = self._step(ids, np.int32(index), context, cache)
            return np.asarray(logits), cache

        first_ids = np.asarray(first_ids)
        return loop.decode(step, cache, first_ids, options, model.config, draws, reorder, on_ids)


class KerasSession:
    """See `generation.loop.Session`."""

    def __init__(self, model: keras.Model, extend: Callable, step: Callable) -> None:
        self._run_extend, self._run_step = extend, step
        self._cache = model.new_cache(1, model.config.max_sequence_length)

    def extend(self, ids: Sequence[int], position: int) -> None:
        """Writes tokens into the cache."""
        token_ids = np.array([ids], "int32")
        self._cache = self._run_extend(token_ids, self._cache, np.int32(position))

    def step(self, ids: np.ndarray, position: int) -> np.ndarray:
        """Logits after one token."""
        logits, self._cache = self._run_step(ids, np.int32(position), self._cache)
        return np.asarray(logits)


def text_generator(
    model: keras.Model, tokenizer: Tokenizer, jit_compile: bool = False
) -> TextGenerator:
    """Strings in, strings out, by a Keras model; see `generation.text.TextGenerator`."""
    return TextGenerator(KerasEngine(model, jit_compile), new_preprocessor(model.task, tokenizer))


def cross_attention(
    model: keras.Model, source_ids: Sequence[int], target_ids: Sequence[int]
) -> np.ndarray:
    """Return the attention of each target token to each source token while it was written.

    Args:
        source_ids: ids that the encoder read, end included.
        target_ids: ids that the decoder wrote, end included.

    Returns: float (target_length, source_length), the mean over heads and blocks; rows sum to 1.
    """
    memory, mask = model.encode(np.array([source_ids], "int32"), training=False)
    written = np.array([[model.config.start_id, *target_ids[:-1]]], "int32")
    _, scores = model.decode(
        written,
        memory,
        cross_attention_mask=mask,
        return_attention_scores=True,
        training=False,
    )
    return np.mean([np.asarray(s)[0] for s in scores], axis=(0, 1))


def pad_source(source_ids: Sequence[Sequence[int]], padding_id: int, most: int = 0) -> np.ndarray:
    """int32 (batch, length): the rows, filled up with `padding_id` to the longest row, or to the
    next of `BUCKETS` below `most`."""
    length = max(map(len, source_ids))
    if most:
        length = next((bucket for bucket in BUCKETS if length <= bucket <= most), length)
    return np.array([[*ids, *[padding_id] * (length - len(ids))] for ids in source_ids], "int32")


def forced_inputs(
    model: Any, written: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> dict[str, np.ndarray]:
    """Return the inputs with which a model scores every token of answers in one pass.

    Args:
        model: a model that writes.
        written: the ids of each prompt and of its answer.
    """
    longest, padding_id = model.config.max_sequence_length, model.config.padding_id
    if model.prompt_in_cache:
        rows = [[*prompt, *answer][:longest] for prompt, answer in written]
        return {"token_ids": pad_source(rows, padding_id)}
    rows = [[model.config.start_id, *answer][:longest] for _, answer in written]
    prompts = [prompt for prompt, _ in written]
    texts = (pad_source(ids, padding_id) for ids in (prompts, rows))
    return dict(zip(("encoder_token_ids", "decoder_token_ids"), texts, strict=True))


def reorder(cache: Any, rows: Tensor) -> Any:
    """The cache with row i taken from rows[i]."""
    return [tuple(ops.take(x, rows, axis=0) for x in pair) for pair in cache]


def generate(
    model: keras.Model,
    token_ids: Tensor,
    lengths: Tensor,
    uniform: Tensor,
    options: GenerationOptions,
) -> Any:
    """The decode loop as one graph; the same pieces as `generation.loop.decode`.

    Args:
        token_ids: int (batch, length), padded.
        lengths: int, scalar or (batch,); see the model's `begin`.
        uniform: float (limit, batch); the draws of sampling.

    Returns: int32 (batch, limit).
    """
    limit = ops.shape(uniform)[0]
    strategy = loop.new_strategy(ops, options, limit, model.config)
    first_ids, context, cache = model.begin(token_ids, lengths, limit, strategy.rows_per_text)

    def unfinished(index, state, cache):
        return ops.logical_not(ops.all(state["finished"]))

    def body(index, state, cache):
        if options.beams > 1:
            cache = reorder(cache, state["rows"])
        logits, cache = model.step(state["ids"], index, context, cache)
        state = strategy.advance(state, index, logits, ops.take(uniform, index, axis=0))
        return index + 1, state, cache

    _, state, _ = ops.while_loop(  # pyright: ignore
        unfinished,
        body,
        (ops.convert_to_tensor(0, "int32"), strategy.start(first_ids), cache),
        maximum_iterations=limit,
    )
    return strategy.result(state)


def compile_function(function: Callable, arguments: Any, jit_compile: bool = False) -> Callable:
    """The function as one graph where the backend has graphs.

    AutoGraph is off: the functions have no Python branches on tensors, and its temporary files
    would stay if the process is killed.

    Args:
        arguments: (dtype, rank) of each argument, so that one graph serves all shapes; None: shapes
            are relaxed as they change from call to call.
        jit_compile: compile with XLA; then every shape is compiled on its own.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    graph = functools.partial(tf.function, function, autograph=False)
    if arguments is None or jit_compile:
        return graph(jit_compile=jit_compile, reduce_retracing=not jit_compile)
    return graph(input_signature=[tf.TensorSpec([None] * rank, dtype) for dtype, rank in arguments])
