"""Encoder-only models: against keras-hub's BERT and NumPy, and trained."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from by_numpy import softmax
from encoder_cases import BERT, CASES, IDS, LENGTHS, MASKED, PAIRS, POSITIONS, TEXTS, values
from keras import ops
from layer_harness import copy_block
from tiny_models import (
    PATCHES,
    perturbed,
    tiny_config,
    tiny_encoder,
)

from tfx_transformer.config import STYLES, TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.layers import TransformerBlock
from tfx_transformer.models.encoders import Classifier, Embedder, MaskedLM
from tfx_transformer.models.losses import disagreement
from tfx_transformer.models.transformer import TransformerStack
from tfx_transformer.training.optimizers import adamw


def normalized(x, layer, epsilon=1e-5):
    """Layer normalization in NumPy."""
    gamma, beta = map(np.asarray, layer.get_weights())
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


# The stack


def test_equals_the_bert_of_keras_hub():
    import keras_hub

    sizes = {"num_layers": 3, "num_heads": 2, "hidden_dim": 14, "intermediate_dim": 11}
    keras.utils.set_random_seed(0)
    hub = keras_hub.models.BertBackbone(23, max_sequence_length=19, dropout=0.0, **sizes)
    perturbed(hub, 0.3)
    # keras-hub approximates GELU as Google's code does; "bert" has the exact one.
    ours = MaskedLM(tiny_config(**sizes, **BERT))
    ours.embedding.embeddings.assign(hub.token_embedding.embeddings)
    # All tokens are of segment 0 here, so its vector is a part of every position's.
    positions = hub.position_embedding.position_embeddings + hub.segment_embedding.embeddings[0]
    ours.encoder.positions.embeddings.assign(positions)
    ours.encoder.embedding_norm.set_weights(hub.embeddings_layer_norm.get_weights())
    for block, theirs in zip(ours.encoder.blocks, hub.transformer_layers, strict=True):
        copy_block(theirs, block)
    inputs = {**TEXTS, "padding_mask": IDS != 0, "segment_ids": np.zeros_like(IDS)}
    expected = hub(inputs, training=False)["sequence_output"]
    vectors, mask = ours.encode(TEXTS, training=False)
    np.testing.assert_array_equal(mask, IDS != 0)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_bert_is_a_style():
    config = TransformerConfig.of_size("nano", 300, style="bert")
    assert (config.position, config.norm_first, config.embedding_norm) == ("learned", False, True)
    assert (config.norm_epsilon, config.activation) == (1e-12, "gelu")
    model = MaskedLM(config)
    assert model.encoder.final_norm is None
    assert model.encoder.embedding_norm.epsilon == model.transform_norm.epsilon == 1e-12


@pytest.mark.slow(but=["labels", "convolutions"])
@pytest.mark.parametrize("name", ["texts", "labels", "patches", "convolutions"])
def test_hidden_states_lead_to_what_encode_returns(name):
    task, settings, inputs, _ = CASES[name]
    model = tiny_encoder(task, **settings)
    vectors, mask, states = model.encode(inputs, return_hidden_states=True)
    plain, same_mask = model.encode(inputs)
    np.testing.assert_array_equal(vectors, plain)
    assert [tuple(state.shape) for state in states] == [tuple(vectors.shape)] * 3
    last = np.asarray(states[-1])
    if model.config.norm_first:
        last = normalized(last, model.encoder.final_norm)
    np.testing.assert_allclose(vectors, last, atol=1e-5)
    assert np.abs(states[1] - states[0]).max() > 0.1 < np.abs(states[2] - states[1]).max()
    if "images" in inputs:
        assert mask is None and same_mask is None
        assert vectors.shape == (3, 9, 24)
    else:
        np.testing.assert_array_equal(mask, IDS != 0)


def test_embeddings_are_normalized_with_their_positions():
    model = tiny_encoder(MaskedLM, position="learned", embedding_norm=True, scale_embedding=False)
    tables = [np.asarray(layer.embeddings) for layer in (model.embedding, model.encoder.positions)]
    expected = normalized(tables[0][IDS] + tables[1][:11], model.encoder.embedding_norm)
    *_, states = model.encode(TEXTS, return_hidden_states=True)
    np.testing.assert_allclose(states[0], expected, atol=1e-5)


def silent_block(**options):
    """A block whose sub-layers give 1 and 10, whatever they read; signs alternate, or a norm behind
    them would make them 0."""
    block = TransformerBlock(6, 2, 3, **options)
    block.build((None, None, 6))
    for weight in block.weights:
        if weight.trainable and not weight.path.endswith("gamma"):
            weight.assign(ops.zeros_like(weight))
    block.attention.output_projection.bias.assign(SIGNS)
    block.feed_forward.contract.bias.assign(10 * SIGNS)
    return block


SIGNS = np.array([1, -1, 1, -1, 1, -1], "float32")


def test_stochastic_depth_leaves_out_whole_examples():
    block = silent_block(stochastic_depth=0.375)
    x = np.zeros((2003, 5, 6), "float32")
    np.testing.assert_array_equal(block(x) * SIGNS, np.full_like(x, 11))
    result = np.asarray(block(x, training=True)) * SIGNS
    assert (result == result[:, :1, :1]).all(), "an example is treated as one"
    # What is kept counts 1 / (1 - 3/8) = 1.6 times.
    kept, counts = np.unique(result[:, 0, 0].round(4), return_counts=True)
    np.testing.assert_allclose(kept, [0, 1.6, 16, 17.6], rtol=1e-5)
    shares = np.array([3 * 3, 5 * 3, 3 * 5, 5 * 5]) / 64
    np.testing.assert_allclose(counts / 2003, shares, atol=0.045)  # four standard deviations


def test_what_is_left_out_is_normalized_all_the_same():
    block = silent_block(stochastic_depth=0.9, norm_first=False)
    x = np.random.default_rng(5).normal(size=(31, 5, 6)).astype("float32")
    expected = normalized(normalized(x, block.attention_norm), block.feed_forward_norm)
    result = np.asarray(block(x, training=True))
    untouched = np.abs(result - expected).max(axis=(1, 2)) < 1e-5
    assert 0 < untouched.sum() < 31


def test_stochastic_depth_grows_from_block_to_block():
    def rates(num_layers):
        stack = TransformerStack(tiny_config(stochastic_depth=0.3), num_layers)
        return [block.settings["stochastic_depth"] for block in stack.blocks]

    assert rates(4) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert rates(1) == [0]
    assert TransformerStack(tiny_config(), 2).blocks[1].depth_dropout is None


# Read-outs


def test_the_pooled_vector_is_normalized_instead_of_each():
    model = tiny_encoder(Classifier, num_classes=5, **STYLES["classifier"])
    plain = tiny_encoder(Classifier, num_classes=5)
    assert model.encoder.final_norm is None and plain.encoder.final_norm is not None
    x, mask = (np.asarray(part) for part in model.encode(TEXTS))
    mean = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
    pooled = normalized(mean, model.pooled_norm)
    expected = pooled @ np.asarray(model.logits.kernel) + np.asarray(model.logits.bias)
    np.testing.assert_allclose(np.asarray(model(TEXTS)), expected, atol=1e-5)


def test_embedded_tokens_begin_as_small_as_told():
    config = TransformerConfig.of_size("nano", 997, "classifier", num_classes=5)
    vectors = Classifier(config).embedding(np.arange(997)[None])
    assert np.asarray(vectors).std() == pytest.approx(0.02, rel=0.02)
    unit = Classifier(TransformerConfig.of_size("nano", 997, num_classes=5))
    assert np.asarray(unit.embedding(np.arange(997)[None])).std() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("tied", [True, False])
def test_masked_tokens_are_read_out_by_hand(tied):
    model = tiny_encoder(MaskedLM, tie_embeddings=tied, activation="gelu")
    x = np.asarray(model.encode(TEXTS)[0], "float64")
    kernel, bias = model.transform.get_weights()
    x = x @ kernel + bias
    x = 0.5 * x * (1 + np.vectorize(math.erf)(x / 2**0.5))
    table = np.asarray(model.embedding.embeddings).T
    if not tied:
        table = np.asarray(model.embedding.reverse_embeddings)
    every = normalized(x, model.transform_norm) @ table + np.asarray(model.bias)
    logits = model(MASKED)
    assert logits.shape == (3, 2, 23)
    np.testing.assert_allclose(logits, every[np.arange(3)[:, None], POSITIONS], atol=1e-4)


@pytest.mark.slow(but=["texts"])
@pytest.mark.parametrize("name", ["texts", "patches"])
def test_classes_are_read_out_by_hand(name):
    task, settings, inputs, _ = CASES[name]
    model = tiny_encoder(task, **settings)
    x, mask = model.encode(inputs)
    rows = [x[i][mask[i]] if mask is not None else x[i] for i in range(3)]
    pooled = np.stack([np.mean(row, axis=0) for row in rows])
    kernel, bias = model.logits.get_weights()
    np.testing.assert_allclose(model(inputs), pooled @ kernel + bias, atol=1e-5)


@pytest.mark.slow(but=["texts"])
@pytest.mark.parametrize("name", ["texts", "labels"])
def test_padding_changes_no_class(name):
    task, settings, *_ = CASES[name]
    model = tiny_encoder(task, **settings)
    together = np.asarray(model(TEXTS))
    assert np.ptp(together, axis=0).min() > 0.01, "texts differ"
    for ids, length, expected in zip(IDS, LENGTHS[:, 0], together, strict=True):
        alone = model({"token_ids": ids[None, :length]})
        np.testing.assert_allclose(alone[0], expected, atol=1e-5)


@pytest.mark.slow(but=["last"])  # test_keras_masks.py pads before every pooling
@pytest.mark.parametrize("pooling", ["mean", "first", "last", "attention"])
def test_embeddings_are_of_length_one_whatever_the_padding(pooling):
    model = tiny_encoder(Embedder, pooling=pooling)
    vectors = np.asarray(model(TEXTS))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert (vectors @ vectors.T)[np.triu_indices(3, 1)].max() < 0.99, "texts differ"
    for ids, length, expected in zip(IDS, LENGTHS[:, 0], vectors, strict=True):
        np.testing.assert_allclose(model.embed(ids[None, :length])[0], expected, atol=1e-5)


def test_pairs_are_compared_each_with_each():
    model = tiny_encoder(Embedder)
    cosines = model({**TEXTS, "pair_token_ids": PAIRS[:2]})
    expected = np.asarray(model(TEXTS)) @ np.asarray(model({"token_ids": PAIRS[:2]})).T
    assert cosines.shape == (3, 2)
    np.testing.assert_allclose(cosines, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "least"),
    [({}, 2), ({"num_classes": 1}, 2), ({"num_classes": 0, "multi_label": True}, 1), (PATCHES, 2)],
)
def test_too_few_classes_are_refused_with_the_least_number(settings, least):
    with pytest.raises(InputError, match=rf"num_classes is \d\.\n.* {least} or more"):
        Classifier(tiny_config(**settings))
    assert Classifier(tiny_config(num_classes=1, multi_label=True)).logits.units == 1


# Training


def smooth(y, smoothing):
    return (1 - smoothing) * y + smoothing / y.shape[-1]


def test_default_loss_and_metrics_are_numpy():
    right = np.array([4, 0, 2])
    weights = np.array([1.0, 0.5, 2.0], "float32")

    def evaluate(name, y, weights=None):
        task, settings, inputs, _ = CASES[name]
        model = tiny_encoder(task, **settings)
        model.compile("sgd", label_smoothing=0.1, run_eagerly=True)
        found = model.evaluate(inputs, y, sample_weight=weights, verbose=0, return_dict=True)
        assert set(found) == {"loss", "accuracy"}
        return np.asarray(model(inputs), "float64"), found["loss"], found["accuracy"]

    logits, loss, accuracy = evaluate("texts", right, weights)
    losses = -(smooth(np.eye(5)[right], 0.1) * np.log(softmax(logits))).sum(-1)
    assert loss == pytest.approx((losses * weights).sum() / weights.sum(), rel=1e-4)
    hits = logits.argmax(-1) == right
    assert accuracy == pytest.approx((hits * weights).sum() / weights.sum(), rel=1e-5)

    mixed = 0.7 * np.eye(5)[right] + 0.3 * np.eye(5)[[0, 1, 1]]
    logits, loss, accuracy = evaluate("patches", mixed)
    losses = -(smooth(mixed, 0.1) * np.log(softmax(logits))).sum(-1)
    assert loss == pytest.approx(losses.mean(), rel=1e-4)
    assert accuracy == pytest.approx((logits.argmax(-1) == right).mean(), rel=1e-5)

    several = CASES["labels"][3]
    logits, loss, accuracy = evaluate("labels", several)
    wanted, probabilities = 0.9 * several + 0.05, 1 / (1 + np.exp(-logits))
    losses = -(wanted * np.log(probabilities) + (1 - wanted) * np.log(1 - probabilities))
    assert loss == pytest.approx(losses.mean(), rel=1e-4)
    assert accuracy == pytest.approx(((probabilities > 0.5) == several).mean(), rel=1e-5)


@pytest.mark.slow(
    but=["masked", "untied", "labels", "pairs", "convolutions", "segments", "class_tokens"]
)
@pytest.mark.parametrize("name", CASES)
def test_gradients_reach_every_weight(name):
    task, settings, inputs, _ = CASES[name]
    model = tiny_encoder(task, **settings)
    with tf.GradientTape() as tape:
        result = model(inputs, training=True)
        loss = ops.sum(result * np.random.default_rng(2).normal(size=result.shape))
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None, weight.path
        # A softmax cancels what is added to all scores.
        if not weight.path.endswith(("key/bias", "score/bias")):
            assert np.abs(tf.convert_to_tensor(gradient)).max() > 1e-6, weight.path


@pytest.mark.slow(but=["pairs"])
@pytest.mark.parametrize("name", CASES)
def test_a_saved_model_goes_on_learning(name, tmp_path):
    task, settings, inputs, y = CASES[name]
    model = tiny_encoder(task, **settings)
    model.compile(adamw(3e-3, layer_decay=0.9), run_eagerly=True)
    before = model.train_on_batch(inputs, y, return_dict=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is task and loaded.config == model.config
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    # The second step shows whether moments, rates of the layers and the loss came back.
    first, second = (each.train_on_batch(inputs, y, return_dict=True) for each in (model, loaded))
    assert set(first) == set(second) == set(before)
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-5)
    assert first["loss"] < before["loss"]
    for path, value in values(model).items():
        np.testing.assert_allclose(values(loaded)[path], value, atol=1e-5, err_msg=path)


@pytest.mark.slow(but=["True"])
@pytest.mark.parametrize("reload", [False, True])
def test_lower_layers_learn_more_slowly(reload):
    model = tiny_encoder(
        Classifier, num_classes=5, position="learned", embedding_norm=True, pooling="attention"
    )
    weights = [keras.Variable(w, name=w.name) for w in model.trainable_weights]
    settings = {"learning_rate": 0.1, "weight_decay": 0.0, "beta_2": 0.98, "epsilon": 1e-9}
    plain = keras.optimizers.AdamW(**settings)
    ours = adamw(0.1, weight_decay=0.0, clip_norm=None, layer_decay=0.5)
    if reload:
        ours = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(ours))
        assert ours.get_config()["layer_decay"] == 0.5
    before, random = [np.asarray(w) for w in weights], np.random.default_rng(3)
    for _ in range(3):
        gradients = [random.normal(size=w.shape).astype("float32") for w in weights]
        plain.apply(gradients, weights)
        ours.apply(gradients, model.trainable_weights)
    factors = {"embedding": 1 / 8, "positions": 1 / 8, "embedding_norm": 1 / 8}
    factors |= {"block_0": 1 / 4, "block_1": 1 / 2, "final_norm": 1, "pooling": 1, "logits": 1}
    seen = set()
    for old, reference, weight in zip(before, weights, model.trainable_weights, strict=True):
        part = weight.path.removeprefix("encoder/").split("/")[0]
        step, full_step = np.asarray(weight) - old, np.asarray(reference) - old
        np.testing.assert_allclose(step, factors[part] * full_step, atol=1e-6, err_msg=weight.path)
        seen.add(part)
    assert seen == set(factors)


def test_training_ends_with_the_average_of_the_weights():
    rows = np.random.default_rng(4).integers(3, 23, (10, 5)).astype("int32")
    x, y = {"token_ids": rows}, np.arange(10) % 3

    def new(average):
        model = tiny_encoder(Classifier, num_classes=3, num_layers=1)
        model.compile(adamw(1e-2, average=average), run_eagerly=True)
        return model

    averaged, stepped = new(0.3), new(0.0)
    averaged.fit(x, y, batch_size=2, shuffle=False, verbose=0)
    mean = None
    # The momentum t / (9 + t) of the steps t = 0, 1, 2, 3, 4, below 0.3 for the last of them.
    for start, kept in zip(range(0, 10, 2), (0, 1 / 10, 2 / 11, 3 / 12, 0.3), strict=True):
        stepped.train_on_batch({"token_ids": rows[start : start + 2]}, y[start : start + 2])
        now = values(stepped)
        mean = now if mean is None else {p: kept * mean[p] + (1 - kept) * now[p] for p in now}
    for path, value in values(averaged).items():
        np.testing.assert_allclose(value, mean[path], atol=1e-5, err_msg=path)
    kernel = "logits/kernel"
    assert np.abs(values(stepped)[kernel] - mean[kernel]).max() > 1e-3


@pytest.mark.parametrize(
    "settings",
    [{"layer_decay": 0}, {"layer_decay": 1.5}, {"average": 1.0}, {"average": -0.1}],
)
def test_impossible_decays_and_averages_are_refused(settings):
    (name, value), *_ = settings.items()
    with pytest.raises(InputError, match=f"{name} is {value}.*\n.* Expected a factor above 0"):
        adamw(**settings)


# Consistency: every batch answered twice


@pytest.mark.slow(but=["labels"])
@pytest.mark.parametrize("name", ["texts", "labels", "patches"])
def test_without_dropout_both_answers_agree(name):
    task, settings, x, y = CASES[name]

    def trained(consistency):
        model = tiny_encoder(task, seed=1, **settings, dropout=0.0)
        model.compile(keras.optimizers.SGD(0.1), consistency=consistency, run_eagerly=True)
        logs = model.train_on_batch(x, y, np.array([1, 0.5, 2], "float32"), return_dict=True)
        return model, logs

    (once, expected), (twice, logs) = trained(0.0), trained(3.0)
    assert logs == pytest.approx(expected, rel=1e-5)
    for path, value in values(once).items():
        np.testing.assert_allclose(values(twice)[path], value, atol=1e-5, err_msg=path)


@pytest.mark.slow(but=["weights1-texts", "weights1-labels"])
@pytest.mark.parametrize("name", ["texts", "labels"])
@pytest.mark.parametrize("weights", [None, np.array([1, 0, 2] * 2, "float32")])
def test_disagreement_is_added_in_training_alone(name, weights):
    task, settings, _, y = CASES[name]
    several = settings.get("multi_label", False)
    model = tiny_encoder(task, **settings)
    model.compile(consistency=3.0)
    y, logits = np.concatenate([y, y]), np.random.default_rng(5).normal(size=(6, 5)).astype("f")
    plain = model.compute_loss(None, y, logits, weights, training=False)
    apart = np.array(disagreement(logits[:3], logits[3:], several))
    added = 3 * np.average(apart, weights=None if weights is None else weights[:3])
    loss = model.compute_loss(None, y, logits, weights, training=True)
    assert float(loss - plain) == pytest.approx(added, rel=1e-4) and added > 0.1
    nothing = np.zeros(6, "float32")
    assert float(model.compute_loss(None, y, logits, nothing, training=True)) == 0


def test_consistency_trains_and_is_saved(tmp_path):
    task, settings, x, y = CASES["texts"]
    model = tiny_encoder(task, **settings, num_layers=1, dropout=0.3)
    model.compile(adamw(1e-2), consistency=2.0, jit_compile=False)
    first, *_, last = model.fit(x, y, epochs=30, verbose=0).history["loss"]
    assert last < first / 2
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").consistency == 2.0


@pytest.mark.parametrize("consistency", [-0.1, float("inf"), float("nan")])
def test_impossible_consistency_is_refused(consistency):
    task, settings, *_ = CASES["texts"]
    with pytest.raises(InputError, match=f"consistency is {consistency}.\n  Expected 0 or more"):
        tiny_encoder(task, **settings).compile(consistency=consistency)
