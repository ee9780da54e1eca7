"""Scores of tokens, which losses and metrics read, without holding all logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from tfx_transformer import devices
from tfx_transformer.annotations import Tensor
from tfx_transformer.planning import CHUNK, LARGE_VOCABULARY


class TokenScores(NamedTuple):
    """Numbers of each token that losses and metrics read, from the logits z of a token y.

    Attributes:
        losses: float32 (batch, length), -log p(y).
        gaps: float32 (batch, length), z_y - mean_v(z_v).
        hits: float32 (batch, length), 1 where z_y is the highest logit, else 0.
    """

    losses: Tensor
    gaps: Tensor
    hits: Tensor


def score(token_ids: Tensor, logits: Tensor) -> TokenScores:
    """Return the scores of tokens from all their logits.

    Args:
        token_ids: int (…).
        logits: float (…, vocabulary_size).
    """
    if keras.backend.backend() == "tensorflow":
        return _score_on_tensorflow(token_ids, logits)
    ids, best = ops.cast(token_ids, "int32"), ops.argmax(logits, axis=-1)
    hits = ops.cast(ops.equal(ids, ops.cast(best, "int32")), "float32")
    logits = ops.cast(logits, "float32")
    losses = ops.sparse_categorical_crossentropy(ids, logits, from_logits=True)
    own = ops.squeeze(ops.take_along_axis(logits, ops.expand_dims(ids, -1), axis=-1), -1)
    return TokenScores(losses, own - ops.mean(logits, axis=-1), hits)


def _score_on_tensorflow(token_ids: Tensor, logits: Tensor) -> TokenScores:
    """Return `score(token_ids, logits)`, with a gradient of its own:

    dz_v = a p_v - b / V + (b - a) [v = y]

    z are the V logits of a token y, p = softmax(z), and a and b the gradients of its loss and of
    its gap. TensorFlow's own gradient of one logit of many is, where it computes deterministically,
    a sum over all of them: benchmarks/README.md, "Training speed".

    Args:
        token_ids: int (…).
        logits: float (…, vocabulary_size).
    """
    tf = _tensorflow()
    ids = tf.cast(token_ids, tf.int32)

    @tf.custom_gradient
    def losses_and_gaps(logits):
        z = tf.cast(logits, tf.float32)
        own = tf.gather(z, ids, batch_dims=len(ids.shape))
        # Both are taken from the highest logit, so that a loss near 0 is exact.
        highest = tf.reduce_max(z, axis=-1)
        powers = tf.exp(z - highest[..., None])
        total = tf.reduce_sum(powers, axis=-1)
        losses = tf.math.log(total) - (own - highest)

        def gradient(a, b):
            size = tf.shape(powers)[-1]
            slopes = powers * (a / total)[..., None]
            slopes -= (b / tf.cast(size, tf.float32))[..., None]
            flat = tf.reshape(slopes, (-1, size))
            places = tf.stack([tf.range(tf.shape(flat)[0]), tf.reshape(ids, (-1,))], axis=1)
            flat = tf.tensor_scatter_nd_add(flat, places, tf.reshape(b - a, (-1,)))
            return tf.cast(tf.reshape(flat, tf.shape(powers)), logits.dtype)

        return (losses, own - tf.reduce_mean(z, axis=-1)), gradient

    hits = tf.cast(tf.equal(tf.argmax(logits, -1, output_type=tf.int32), ids), tf.float32)
    losses, gaps = losses_and_gaps(logits)
    return TokenScores(losses, gaps, hits)


def _tensorflow() -> Any:
    """TensorFlow, for gradients that Keras has no name for."""
    import tensorflow

    return tensorflow


def own_tokens(shape: Sequence[int | None]) -> int | None:
    """Return how many tokens of an array (batch, length, …) a device computes; None: not known."""
    rows, length = shape[:2]
    return None if rows is None or length is None else devices.own_rows(rows) * length


def count_chunks(tokens: int | None, vocabulary_size: int) -> int | None:
    """Return the number of chunks in which the logits of a step are computed; None: the number is
    known only when the step runs.

    Args:
        tokens: number of tokens of the step on one device; None: not known.
    """
    if keras.backend.backend() not in ("tensorflow", "jax"):
        return 1
    if tokens is None:
        return None if vocabulary_size >= LARGE_VOCABULARY else 1
    return min(math.ceil(tokens * vocabulary_size / CHUNK), tokens) or 1


def score_in_chunks(
    logits_of: Callable[[Tensor], Tensor],
    x: Tensor,
    token_ids: Tensor,
    variables: Sequence[keras.Variable],
    vocabulary_size: int,
) -> TokenScores:
    """Return `score(token_ids, logits_of(x))`. If there are more than `CHUNK` logits, they are
    computed in chunks of tokens, one after the other, and again for the gradient, so that memory
    holds one chunk of them.

    Args:
        logits_of: float (1, tokens, width) -> float (1, tokens, vocabulary_size).
        x: float (batch, length, width).
        token_ids: int (batch, length).
        variables: those that `logits_of` reads.
        vocabulary_size: number of logits of a token.
    """
    count = count_chunks(own_tokens(x.shape), vocabulary_size)
    if count == 1:
        return score(token_ids, logits_of(x))
    tokens = ops.shape(x)[0] * ops.shape(x)[1]
    if count is None:
        most = max(CHUNK // vocabulary_size, 1)
        count = ops.maximum((tokens + most - 1) // most, 1)
    vectors = _split(ops.reshape(x, (-1, x.shape[-1])), tokens, count)
    ids = _split(ops.reshape(ops.cast(token_ids, "int32"), (-1,)), tokens, count)

    def scores_of(x, ids):
        return ops.stack(score(ids, logits_of(x[None])[0]))

    if keras.backend.backend() == "jax":
        scores = _on_jax(scores_of, vectors, ids)
    else:
        scores = _on_tensorflow(scores_of, vectors, ids, variables)
    scores = ops.transpose(scores, (1, 2, 0))  # (3, size, count)
    scores = ops.reshape(scores, (3, -1))[:, :tokens]
    scores = ops.reshape(scores, (3, *ops.shape(token_ids)))
    return TokenScores(scores[0], scores[1], scores[2])


def _split(values: Tensor, tokens: Any, count: Any) -> Tensor:
    """Return (tokens, …) as (count, size, …); token t is in chunk t % count, so that each chunk has
    tokens of every device. Zeros fill up the last row."""
    size = (tokens + count - 1) // count
    rest = values.shape[1:]
    values = ops.pad(values, [[0, size * count - tokens], *[[0, 0] for _ in rest]])
    return ops.swapaxes(ops.reshape(values, (size, count, *rest)), 0, 1)


def _on_jax(scores_of, x, ids):
    """Return float32 (count, 3, size)."""
    again = keras.remat(scores_of)
    return ops.scan(lambda _, part: (None, again(*part)), None, (x, ids))[1]


def _on_tensorflow(scores_of, x, ids, variables):
    """Return float32 (count, 3, size). TensorFlow would keep what each pass of a loop computes for
    the gradient, so the gradient is a loop of its own."""
    tf = _tensorflow()
    trained = [variable for variable in variables if variable.trainable]
    fixed = [variable for variable in variables if not variable.trainable]
    fixed = [(variable, tf.identity(variable.value)) for variable in fixed]
    count, width = tf.shape(x)[0], x.shape[-1]

    def scores_at(part, index, values):
        with keras.StatelessScope(state_mapping=[*zip(trained, values, strict=True), *fixed]):
            return scores_of(part, ids[index])

    @tf.custom_gradient
    def all_scores(x, *values):
        def add(index, found):
            return index + 1, found.write(index, scores_at(x[index], index, values))

        found = tf.TensorArray(tf.float32, count, element_shape=(3, None))
        _, found = tf.while_loop(lambda index, _: index < count, add, (0, found))

        def gradient(slopes):
            def add(index, found, *sums):
                part = x[index]
                with tf.GradientTape() as tape:
                    tape.watch([part, *values])
                    scores = scores_at(part, index, values)
                own, *gradients = tape.gradient(
                    scores,
                    [part, *values],
                    output_gradients=slopes[index],
                    unconnected_gradients=tf.UnconnectedGradients.ZERO,
                )
                sums = [a + b for a, b in zip(sums, gradients, strict=True)]
                return (index + 1, found.write(index, own), *sums)

            found = tf.TensorArray(x.dtype, count, element_shape=(None, width))
            state = (0, found, *map(tf.zeros_like, values))
            _, found, *sums = tf.while_loop(lambda index, *_: index < count, add, state)
            return [found.stack(), *sums]

        return found.stack(), gradient

    # Tensors: TensorFlow would take a Keras variable for one, but find no gradient of it.
    return all_scores(x, *(tf.identity(variable.value) for variable in trained))
