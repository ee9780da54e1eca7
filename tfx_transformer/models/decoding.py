"""Generation by a Keras model: the whole decode loop compiled, or step by step for streaming."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from tfx_transformer.generation import loop
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.generation.text import TextGenerator


class KerasEngine:
    """Runs a `Seq2SeqLM`. Functions are compiled once, for all batch sizes and lengths.

    Args:
        model: the model; its weights may change between calls.
        jit_compile: compile with XLA, which is faster once compiled but compiles anew for every
            shape (TensorFlow only).
    """

    def __init__(self, model, jit_compile: bool = False) -> None:
        self.model = model
        self.jit_compile = jit_compile
        self._loops: dict[GenerationOptions, Callable] = {}
        self._prepare = self._step = None

    def generate_ids(
        self,
        source_ids: Sequence[Sequence[int]],
        options: GenerationOptions,
        on_ids: Callable[[np.ndarray], None] | None = None,
    ) -> np.ndarray:
        """See `generation.text.Engine`."""
        token_ids = pad_source(source_ids, self.model.config.padding_id)
        limit = loop.new_limit(options, self.model.config)
        draws = loop.uniforms(options, limit, len(token_ids))
        if on_ids is not None:
            return self._generate_by_steps(token_ids, options, draws, on_ids)
        # What only counts or feeds the loop is an argument; the rest shapes the graph.
        key = dataclasses.replace(options, seed=0, max_new_tokens=limit)
        if key not in self._loops:
            self._loops[key] = compiled(
                lambda ids, uniform: generate(self.model, ids, uniform, key),
                [("int32", 2), ("float32", 2)],
                self.jit_compile,
            )
        return np.asarray(self._loops[key](token_ids, draws))

    def _generate_by_steps(self, token_ids, options, draws, on_ids):
        model, beams = self.model, options.beams
        if self._step is None:
            self._prepare = compiled(lambda ids: prepare(model, ids, 1), [("int32", 2)])
            self._step = compiled(lambda *step: decode_one_token(model, *step), None)
        memory, mask = self._prepare(np.repeat(token_ids, beams, axis=0))

        def step(ids, position, cache):
            logits, cache = self._step(ids, np.int32(position), memory, mask, cache)
            return np.asarray(logits), cache

        cache = model.new_cache(len(token_ids) * beams, len(draws))
        return loop.decode(
            step, cache, len(token_ids), options, model.config, draws, reorder, on_ids
        )


def text_generator(model, tokenizer, jit_compile: bool = False) -> TextGenerator:
    """Strings in, strings out, by a Keras model; see `generation.text.TextGenerator`."""
    engine = KerasEngine(model, jit_compile)
    return TextGenerator(engine, tokenizer, model.config.max_sequence_length)


def cross_attention(model, source_ids: Sequence[int], target_ids: Sequence[int]) -> np.ndarray:
    """How much each target token looked at each source token while it was written.

    Args:
        source_ids: what the encoder read, end included.
        target_ids: what the decoder wrote, end included.

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


def pad_source(source_ids: Sequence[Sequence[int]], padding_id: int) -> np.ndarray:
    """int32 (batch, length): the rows side by side, filled up with `padding_id`."""
    length = max(map(len, source_ids))
    return np.array([[*ids, *[padding_id] * (length - len(ids))] for ids in source_ids], "int32")


def prepare(model, token_ids, rows_per_text: int):
    """What every decoding step reads of the source: projected memory and mask, each row repeated
    `rows_per_text` times (for the beams of a text)."""
    memory, mask = model.encode(token_ids, training=False)
    projected = model.project_memory(memory)
    pairs = [tuple(_repeat(x, rows_per_text) for x in pair) for pair in projected]
    return pairs, _repeat(mask, rows_per_text)


def decode_one_token(model, ids, position, memory, mask, cache):
    """float32 (rows, vocabulary_size) logits after ids int32 (rows,), and the new cache."""
    logits, cache = model.decode(
        ops.expand_dims(ids, 1),
        memory,
        cross_attention_mask=mask,
        cache=cache,
        position=position,
        training=False,
    )
    return ops.cast(logits[:, 0], "float32"), cache


def reorder(cache, rows):
    """The cache with row i taken from rows[i]."""
    return [tuple(ops.take(x, rows, axis=0) for x in pair) for pair in cache]


def generate(model, token_ids, uniform, options: GenerationOptions):
    """The decode loop as one graph; the same pieces as `generation.loop.decode`.

    Args:
        token_ids: int (batch, source_length), padded.
        uniform: float (limit, batch); the draws of sampling.

    Returns: int32 (batch, limit).
    """
    limit = options.max_new_tokens
    strategy = loop.new_strategy(ops, options, limit, model.config)
    batch = ops.shape(token_ids)[0]
    memory, mask = prepare(model, token_ids, strategy.rows_per_text)
    cache = model.new_cache(batch * strategy.rows_per_text, limit)

    def unfinished(index, state, cache):
        return ops.logical_not(ops.all(state["finished"]))

    def body(index, state, cache):
        if options.beams > 1:
            cache = reorder(cache, state["rows"])
        logits, cache = decode_one_token(model, state["ids"], index, memory, mask, cache)
        state = strategy.advance(state, index, logits, ops.take(uniform, index, axis=0))
        return index + 1, state, cache

    _, state, _ = ops.while_loop(
        unfinished,
        body,
        (ops.convert_to_tensor(0, "int32"), strategy.start(batch), cache),
        maximum_iterations=limit,
    )
    return strategy.result(state)


def compiled(function: Callable, arguments, jit_compile: bool = False) -> Callable:
    """The function as one graph where the backend has graphs.

    Args:
        arguments: (dtype, rank) of each argument, so that one graph serves all shapes; None lets
            shapes differ from call to call and relaxes them as they do.
        jit_compile: compile with XLA; then every shape is compiled on its own.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    if arguments is None or jit_compile:
        return tf.function(function, jit_compile=jit_compile, reduce_retracing=not jit_compile)
    signature = [tf.TensorSpec([None] * rank, dtype) for dtype, rank in arguments]
    return tf.function(function, input_signature=signature)


def _repeat(x, times: int):
    return x if times == 1 else ops.repeat(x, times, axis=0)
