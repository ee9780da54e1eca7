"""The SavedModel of a model that writes: strings in, the greedy answers out, in core
TensorFlow operations."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfx_transformer.errors import InputError
from tfx_transformer.export.graph_tokenizer import GraphTokenizer
from tfx_transformer.generation import GenerationOptions
from tfx_transformer.generation.preprocessors import (
    ChatPreprocessor,
    ContinuationPreprocessor,
    Preprocessor,
    new_preprocessor,
)
from tfx_transformer.models.decoding import generate


def generator_serving(model, tokenizer, config: dict):
    """Return the endpoint of a model that writes, in the form of `serving.classifier_serving`:
    `texts` string (batch,) -> "texts" string (batch,)."""
    if not tokenizer.is_plain:
        return _id_serving(model)
    settings = model.config
    graph_tokenizer = GraphTokenizer(tokenizer)
    prompts = _prompts(new_preprocessor(model.task, tokenizer), settings.max_sequence_length)

    def serve(texts):
        prompt_ids = prompts(graph_tokenizer.encode(texts))
        lengths = tf.cast(prompt_ids.row_lengths(), tf.int32)
        token_ids = prompt_ids.to_tensor(settings.padding_id)
        return {"texts": graph_tokenizer.decode(_greedy(model, token_ids, lengths))}

    return [graph_tokenizer], serve, [tf.TensorSpec([None], tf.string, name="texts")]


def _id_serving(model):
    """Return the endpoint of a model whose texts are tokenized outside: `token_ids` int32
    (batch, length), padded, and `lengths` int32 (batch,) -> `token_ids` int32 (batch, limit), the
    greedy answers."""

    def serve(token_ids, lengths):
        return {"token_ids": _greedy(model, token_ids, lengths)}

    specs = [tf.TensorSpec([None, None], tf.int32, "token_ids")]
    return [], serve, [*specs, tf.TensorSpec([None], tf.int32, "lengths")]


def _greedy(model, token_ids, lengths):
    """Return the greedy answers to prompts of these lengths, int32 (batch, limit)."""
    limits = tf.zeros_like(lengths) + model.room(lengths)
    # An empty batch has no longest answer.
    longest = tf.maximum(tf.reduce_max(limits), 1)
    unused = tf.zeros([longest, tf.shape(lengths)[0]])
    rows = generate(model, token_ids, lengths, unused, GenerationOptions())
    # A long prompt leaves less room for its answer than the others.
    beyond = tf.range(tf.shape(rows)[1]) >= limits[:, None]
    return tf.where(beyond, model.config.padding_id, rows)


def _prompts(
    preprocessor: Preprocessor, context: int
) -> Callable[[tf.RaggedTensor], tf.RaggedTensor]:
    """Return `preprocessor.encode` as a function of ids in the graph, which cuts and frames them.

    Raises:
        InputError: the chat template does more than put tokens before and after a message.
    """
    if isinstance(preprocessor, ContinuationPreprocessor):

        def continuation(ids):
            # One slot is for the answer. The end of a text is kept: the answer depends most on it.
            ids = ids[:, -(context - 1) :]
            empty = ids.row_lengths()[:, None] == 0
            ends = tf.fill([ids.nrows(), 1], preprocessor.end_id)
            return tf.concat([tf.ragged.boolean_mask(ends, empty), ids], axis=1)

        return continuation
    before, after = _frame(preprocessor)
    longest = (
        context - before.shape[0] - after.shape[0] - isinstance(preprocessor, ChatPreprocessor)
    )

    def frame(ids):
        sides = [tf.tile([side], [ids.nrows(), 1]) for side in (before, after)]
        return tf.concat([sides[0], ids[:, :longest], sides[1]], axis=1)

    return frame


def _frame(preprocessor: Preprocessor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the ids before and after those of the text in every prompt."""
    probes = ("a", "b")
    a, b = (preprocessor.encode(probe) for probe in probes)
    place = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    before, after = a[:place], a[place + 1 :]
    for probe in (*probes, "Two words.", " x\n", "犬"):
        if preprocessor.encode(probe) != [*before, *preprocessor.tokenizer.encode(probe), *after]:
            raise InputError(
                "the chat template does more than put tokens before and after a message, which a "
                "SavedModel cannot do.\n  Export to litert instead."
            )
    return tuple(tf.constant(side, tf.int32, shape=[len(side)]) for side in (before, after))
