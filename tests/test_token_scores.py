"""Scores of tokens: those of Keras's operations, and in chunks those of all logits at once."""

from __future__ import annotations

import contextlib
from unittest import mock

import keras
import numpy as np
import pytest
from on_jax import needs_jax, run_on_jax
from slow import ALL_TESTS
from tiny_models import VARIANTS, tiny_causal, tiny_encoder, tiny_model

from tfx_transformer import add_adapters
from tfx_transformer.data.batches import BatchPlan, tf_dataset
from tfx_transformer.models import token_scores
from tfx_transformer.models.encoders import MaskedLM
from tfx_transformer.models.losses import BitsPerByte, Perplexity, TokenAccuracy, TokenCrossentropy

RANDOM = np.random.default_rng(3)
TEXTS = RANDOM.integers(3, 23, (3, 8)).astype("int32")
IDS, NEXT = TEXTS[:, :-1], TEXTS[:, 1:]
WEIGHTS = RANDOM.integers(0, 3, (3, 7)).astype("float32") / 2
# 21 tokens of 23 logits: in 5 chunks, the last one not full.
SMALL = 5 * 23
METRICS = (TokenAccuracy, Perplexity, lambda: BitsPerByte(3.0))


@contextlib.contextmanager
def chunks_of(logits: int):
    """Chunks of so many logits, also where TensorFlow does not know the number of tokens."""
    with (
        mock.patch.object(token_scores, "CHUNK", logits),
        mock.patch.object(token_scores, "LARGE_VOCABULARY", 23),
    ):
        yield


def cases():
    """Models and their inputs: tied and other tables, all that may follow the table, and a frozen
    one in bfloat16."""
    causal = {"token_ids": IDS}
    if ALL_TESTS:
        yield tiny_causal(0.3, seed=8, num_layers=1), causal, TokenCrossentropy()
    settings = {"logits_bias": True, "logit_softcap": 3.0, "logit_scale": 0.7}
    model = tiny_causal(0.3, seed=8, num_layers=1, **VARIANTS["llama"] | settings)
    yield model, causal, TokenCrossentropy(0.1)
    pair = {"encoder_token_ids": IDS[:, :4], "decoder_token_ids": IDS}
    yield tiny_model(0.3, seed=8, num_layers=1), pair, TokenCrossentropy(0.1)
    masked = {"token_ids": TEXTS, "masked_positions": np.argsort(RANDOM.random((3, 8)))[:, :7]}
    yield tiny_encoder(MaskedLM, 0.3, seed=8, num_layers=1), masked, TokenCrossentropy()
    model = tiny_causal(0.3, seed=8, num_layers=1)
    add_adapters(model, rank=2, alpha=2.0, base_dtype="bfloat16")
    yield model, causal, TokenCrossentropy()


def step(model, inputs, loss, logits):
    """Return logs of an evaluation and of a step of gradient descent, and the weights after.

    Args:
        logits: size of a chunk; None: loss and metrics read all logits.
    """
    first = model.get_weights()
    eagerly = keras.backend.backend() == "tensorflow"  # tracing takes longer
    metrics = [metric() for metric in METRICS]
    model.compile(keras.optimizers.SGD(0.5), loss, metrics, run_eagerly=eagerly)
    batch = {"x": inputs, "y": NEXT, "sample_weight": WEIGHTS, "return_dict": True}
    model.scores_suffice = logits is not None
    with chunks_of(logits or 2**25):
        assert ("targets" in model.with_targets((inputs, NEXT))[0]) == (logits is not None)
        logs = [model.test_on_batch(**batch), model.train_on_batch(**batch)]
    found = model.get_weights()
    model.set_weights(first)
    return logs, found


def check_all():
    """Scores, in one chunk or in several, change nothing, on any backend."""
    for model, inputs, loss in cases():
        logs, weights = step(model, inputs, loss, None)
        for logits in (2**25, SMALL):
            found, theirs = step(model, inputs, loss, logits)
            for one, expected in zip(found, logs, strict=True):
                assert one.keys() == expected.keys() and len(one) == 4
                for name, value in expected.items():
                    np.testing.assert_allclose(one[name], value, rtol=2e-6, err_msg=name)
            for one, other, variable in zip(theirs, weights, model.weights, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-6, err_msg=variable.path)


def test_scores_change_nothing():
    check_all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_is_that_of_kerass_operations(dtype):
    import tensorflow as tf

    logits = tf.cast(tf.constant(7 * RANDOM.standard_normal((3, 7, 23))), dtype)
    slopes = RANDOM.standard_normal((2, 3, 7)).astype("float32")

    def by_keras(logits):
        z = keras.ops.cast(logits, "float32")
        log_p = keras.ops.log_softmax(z)
        right = keras.ops.one_hot(NEXT, 23)
        return -keras.ops.sum(right * log_p, -1), keras.ops.sum(right * z, -1) - keras.ops.mean(
            z, -1
        )

    def by_scores(logits):
        return token_scores.score(NEXT, logits)[:2]

    results = []
    for function in (by_keras, by_scores):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            found = function(logits)
            total = sum(tf.reduce_sum(a * b) for a, b in zip(slopes, found, strict=True))
        results.append([*found, tf.cast(tape.gradient(total, logits), "float32")])
    for one, expected in zip(*results, strict=True):
        np.testing.assert_allclose(
            one, expected, rtol=1e-5 if dtype == "float32" else 1e-2, atol=1e-6
        )


def test_hit_is_the_first_of_equal_logits():
    logits = np.array([[[1.0, 5.0, 5.0], [2.0, 0.0, 2.0], [3.0, 3.0, 3.0]]], "float32")
    hits = token_scores.score(np.array([[1, 2, 0]]), logits).hits
    np.testing.assert_array_equal(hits, [[1, 0, 1]])


@needs_jax
@pytest.mark.slow
def test_scores_change_nothing_on_jax():
    run_on_jax("from test_token_scores import check_all\ncheck_all()")


@pytest.mark.slow(but=["graph"])
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "compiled"])
def test_the_number_of_tokens_need_not_be_known(jit_compile):
    def batch(indices):
        return {"token_ids": IDS[indices]}, NEXT[indices], WEIGHTS[indices]

    model = tiny_causal(0.3, seed=8, num_layers=1)
    first, found = model.get_weights(), []
    for logits in (2**25, SMALL):
        model.set_weights(first)
        model.compile(keras.optimizers.SGD(0.5), jit_compile=jit_compile)
        batches = tf_dataset(BatchPlan(np.full(3, 7), 2, shuffle=False), batch)
        with chunks_of(logits) if logits == SMALL else contextlib.nullcontext():
            history = model.fit(batches, epochs=2, validation_data=batches, verbose=0).history
        found.append((history, model.get_weights()))
    (history, weights), (other, theirs) = found
    for name, values in history.items():
        np.testing.assert_allclose(other[name], values, rtol=2e-6, err_msg=name)
    for one, expected in zip(theirs, weights, strict=True):
        np.testing.assert_allclose(one, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("tokens", "size", "expected"),
    [
        (5, 23, 1),
        (6, 23, 2),
        (21, 23, 5),
        (3, 1000, 3),
        (None, 23, None),
        (None, 22, 1),
        (0, 23, 1),
    ],
)
def test_chunks_are_counted(tokens, size, expected):
    with chunks_of(SMALL):
        assert token_scores.count_chunks(tokens, size) == expected


class Surprise(Perplexity):
    """A metric of one's own, which reads logits."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        assert y_pred.shape[-1] == 23
        super().update_state(y_true, y_pred, sample_weight)


def test_metrics_and_losses_of_ones_own_get_all_logits():
    model = tiny_causal(0.3, seed=8, num_layers=1)
    inputs = {"token_ids": IDS}
    own = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for options in ({"weighted_metrics": [Surprise()]}, {"loss": own}, {"metrics": ["accuracy"]}):
        model.compile("sgd", **options)
        with chunks_of(SMALL):
            assert "targets" not in model.with_targets((inputs, NEXT))[0]
    model.compile(weighted_metrics=[Surprise()], run_eagerly=True)
    with chunks_of(SMALL):
        assert model.test_on_batch(inputs, NEXT, return_dict=True)["perplexity"] > 1


@needs_jax
@pytest.mark.slow
def test_memory_does_not_hold_all_logits():
    run_on_jax(
        """
        import jax
        import numpy as np
        from test_token_scores import chunks_of
        from tiny_models import tiny_causal

        model = tiny_causal(num_layers=1, vocabulary_size=5003, max_sequence_length=512)
        ids = jax.ShapeDtypeStruct((8, 509), "int32")
        values = [variable.value for variable in model.trainable_variables]

        def needed(logits):
            model.compile("sgd")
            with chunks_of(logits):
                batch = model.with_targets(({"token_ids": ids}, ids, None))
                step = jax.value_and_grad(model.compute_loss_and_updates, has_aux=True)
                others = [variable.value for variable in model.non_trainable_variables]
                compiled = jax.jit(step).lower(values, others, [], *batch).compile()
            return compiled.memory_analysis().temp_size_in_bytes

        whole = 4 * 8 * 509 * 5003
        assert needed(2**25) > whole
        assert needed(2**18) < whole / 8
        """
    )
