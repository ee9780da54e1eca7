"""Seq2SeqLM: one forward pass for training and decoding; loss, metrics, optimizer, saving."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from tiny_models import VARIANTS, perturbed, tiny_config, tiny_model

from tfx_transformer.models.losses import Perplexity, TokenAccuracy, TokenCrossentropy
from tfx_transformer.models.tasks import Seq2SeqLM
from tfx_transformer.training.optimizers import AdamW, InverseSquareRoot, adamw

VOCABULARY = 23
SOURCE = np.random.default_rng(0).integers(3, VOCABULARY, (3, 11)).astype("int32")
SOURCE[1, 7:] = SOURCE[2, 2:] = 0
TARGET = np.random.default_rng(1).integers(3, VOCABULARY, (3, 7)).astype("int32")
TARGET[:, 0] = 1


def logits_of(model, source=SOURCE, target=TARGET, **options):
    inputs = {"encoder_token_ids": source, "decoder_token_ids": target}
    return np.asarray(model(inputs, **options))


@pytest.fixture(scope="module")
def model():
    return tiny_model()


# One forward pass


@pytest.mark.slow(  # test_causal.py has "learned" and "rms_post_norm"
    but=["default", "shallow_decoder", "llama"]
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_cached_logits_are_the_uncached(variant):
    model = tiny_model(**VARIANTS[variant])
    expected = logits_of(model)
    assert expected.shape == (3, 7, VOCABULARY)
    assert np.std(expected) > 0.5, "logits differ, so that equality says something"

    encoded, mask = model.encode(SOURCE)
    memory = model.project_memory(encoded)
    cache = model.new_cache(3, 13)
    prefill, cache = model.decode(TARGET[:, :2], memory, mask, cache=cache, position=0)
    np.testing.assert_allclose(prefill, expected[:, :2], atol=1e-5)
    for at, position in enumerate([2, ops.array(3, "int32"), np.full(3, 4, "int32"), 5], 2):
        logits, cache = model.decode(
            TARGET[:, at : at + 1], memory, mask, cache=cache, position=position
        )
        np.testing.assert_allclose(logits[:, 0], expected[:, at], atol=1e-5)


@pytest.mark.slow(but=["llama"])
@pytest.mark.parametrize("variant", ["default", "learned", "llama"])
def test_rows_of_a_cache_stand_at_different_positions(variant):
    model = tiny_model(**VARIANTS[variant])
    expected = logits_of(model)
    encoded, mask = model.encode(SOURCE)
    positions = np.array([1, 5, 3], "int32")
    # What a row has not reached is filled with another token, to be overwritten.
    prompt = np.where(np.arange(7) < positions[:, None], TARGET, 3)
    _, cache = model.decode(prompt, encoded, mask, cache=model.new_cache(3, 13))
    rows = np.arange(3)
    for _ in range(2):
        logits, cache = model.decode(
            TARGET[rows, positions][:, None], encoded, mask, cache=cache, position=positions
        )
        np.testing.assert_allclose(logits[:, 0], expected[rows, positions], atol=1e-5)
        positions += 1


def test_padding_of_the_source_changes_nothing(model):
    expected = logits_of(model)
    longer = np.pad(SOURCE, [(0, 0), (0, 6)])
    np.testing.assert_allclose(logits_of(model, longer), expected, atol=1e-5)
    alone = logits_of(model, SOURCE[2:, :2], TARGET[2:])
    np.testing.assert_allclose(alone, expected[2:], atol=1e-5)


def test_decoding_sees_no_later_token(model):
    changed = TARGET.copy()
    changed[:, 4:] = 5
    difference = np.abs(logits_of(model, target=changed) - logits_of(model)).max(axis=(0, 2))
    assert (difference[:4] == 0).all() and (difference[4:] > 1e-3).all()


def test_every_source_token_counts(model):
    changed = SOURCE.copy()
    changed[0, 10] = 3 + (changed[0, 10] - 2) % 20
    difference = np.abs(logits_of(model, changed) - logits_of(model)).max(axis=(1, 2))
    assert difference[0] > 1e-3 and difference[1:].max() == 0


def test_attention_scores_of_every_block(model):
    encoded, mask = model.encode(SOURCE)
    logits, scores = model.decode(TARGET, encoded, mask, return_attention_scores=True)
    np.testing.assert_allclose(logits, logits_of(model), atol=1e-6)
    assert [score.shape for score in scores] == [(3, 6, 7, 11)] * 2
    for score in scores:
        np.testing.assert_allclose(ops.sum(score, axis=-1), 1, atol=1e-5)
        assert not np.any(np.asarray(score)[2, :, :, 2:]), "none on padding"


@pytest.mark.slow(but=["mixed_bfloat16"])
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision(dtype):
    half, full = Seq2SeqLM(tiny_config(), dtype=dtype), tiny_model()
    half.set_weights(full.get_weights())
    logits = half({"encoder_token_ids": SOURCE, "decoder_token_ids": TARGET})
    assert logits.dtype == dtype.removeprefix("mixed_")
    difference = np.asarray(ops.cast(logits, "float32")) - logits_of(full)
    assert np.abs(difference).max() < 0.1 * np.abs(logits_of(full)).max()
    assert half.new_cache(1, 2)[0][0].dtype == logits.dtype


@pytest.mark.slow(but=["learned", "shallow_decoder", "llama"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_are_as_many_as_the_configuration_says(variant):
    config = tiny_config(**VARIANTS[variant])
    d, inner, bias = config.hidden_dim, config.intermediate_dim, int(config.use_bias)
    key_dim = config.num_key_value_heads * config.head_dim
    norm = d * (2 if config.norm == "layer_norm" else 1)
    attention = 2 * (d * d + bias * d) + 2 * (d * key_dim + bias * key_dim) + norm
    projections = 2 if config.gated else 1
    feed_forward = projections * (d * inner + bias * inner) + inner * d + bias * d + norm
    stacks = config.num_layers * (attention + feed_forward)
    stacks += config.num_decoder_layers * (2 * attention + feed_forward)
    stacks += 2 * norm * int(config.norm_first)
    learned = 2 * config.max_sequence_length * d * int(config.position == "learned")
    tables = config.vocabulary_size * d * (1 if config.tie_embeddings else 2)
    assert Seq2SeqLM(config).count_params() == stacks + learned + tables


# Training


def copy_task(rows=512):
    """Targets equal to their sources, three to five tokens of eight."""
    random = np.random.default_rng(0)
    labels = np.zeros((rows, 6), "int32")
    for row in labels:
        length = random.integers(3, 6)
        row[: length + 1] = [*random.integers(3, 11, length), 2]
    decoder = np.concatenate([np.ones((rows, 1), "int32"), labels[:, :-1]], axis=1)
    inputs = {"encoder_token_ids": labels, "decoder_token_ids": np.where(decoder == 2, 0, decoder)}
    return inputs, labels, (labels != 0).astype("float32")


@pytest.mark.slow  # the recipes learn
def test_fit_learns_to_copy():
    inputs, labels, weights = copy_task()
    # One head each looks where the decoder stands: learned in a hundred steps.
    model = Seq2SeqLM(
        tiny_config(vocabulary_size=11, num_layers=1, num_heads=2, hidden_dim=32, norm_first=True)
    )
    model.compile(adamw(1e-2, warmup_steps=20), jit_compile=False)
    before = model.evaluate(inputs, labels, sample_weight=weights, verbose=0, return_dict=True)
    assert before["token_accuracy"] < 0.4
    model.fit(inputs, labels, sample_weight=weights, epochs=20, batch_size=64, verbose=0)
    after = model.evaluate(inputs, labels, sample_weight=weights, verbose=0, return_dict=True)
    assert set(after) == {"loss", "token_accuracy", "perplexity"}
    assert after["loss"] < before["loss"] / 2
    assert after["perplexity"] < 2 and after["token_accuracy"] > 0.9
    predicted = logits_of(model, *inputs.values())
    right = (predicted.argmax(-1) == labels)[weights == 1].mean()
    assert after["token_accuracy"] == pytest.approx(right, abs=1e-5)


def test_evaluate_is_numpy(model):
    inputs, labels, weights = copy_task(50)
    model.compile("sgd", TokenCrossentropy(label_smoothing=0.2), run_eagerly=True)
    result = model.evaluate(
        inputs, labels, sample_weight=weights, batch_size=17, verbose=0, return_dict=True
    )
    logits = logits_of(model, *inputs.values()).astype("float64")
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nll = -np.take_along_axis(log_p, labels[..., None], -1)[..., 0]
    mean_nll = (nll * weights).sum() / weights.sum()
    assert result["perplexity"] == pytest.approx(np.exp(mean_nll), rel=1e-4)
    right = ((log_p.argmax(-1) == labels) * weights).sum() / weights.sum()
    assert result["token_accuracy"] == pytest.approx(right, abs=1e-6)


@pytest.mark.slow(but=["mixed_float16"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_saved_model_goes_on_as_if_nothing_had_happened(dtype, tmp_path):
    inputs, labels, weights = copy_task(8)
    model = perturbed(Seq2SeqLM(tiny_config(num_layers=1), dtype=dtype))
    model.compile(adamw(1e-2, warmup_steps=3, weight_decay=0.5), run_eagerly=True)
    model.train_on_batch(inputs, labels, sample_weight=weights)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.config == model.config
    assert loaded.dtype_policy == model.dtype_policy
    np.testing.assert_array_equal(logits_of(loaded), logits_of(model))
    # The second step shows whether moments, schedule, decay and loss came back.
    first, second = (
        each.train_on_batch(inputs, labels, sample_weight=weights, return_dict=True)
        for each in (model, loaded)
    )
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-5)
    assert set(first) == set(second) == {"loss", "token_accuracy", "perplexity"}
    for one, other in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, err_msg=one.path)


# Loss and metrics


def random_logits(*shape, scale=3.0):
    return (scale * np.random.default_rng(2).normal(size=shape)).astype("float32")


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_loss_is_keras_dense_crossentropy(smoothing):
    logits, labels = random_logits(3, 5, 7), np.arange(15).reshape(3, 5) % 7
    dense = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=smoothing, reduction=None
    )
    expected = dense(np.eye(7, dtype="float32")[labels], logits)
    losses = TokenCrossentropy(smoothing, reduction=None)(labels, logits)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    weights = np.random.default_rng(3).integers(0, 2, (3, 5)).astype("float32")
    mean = float(TokenCrossentropy(smoothing)(labels, logits, sample_weight=weights))
    assert mean == pytest.approx((expected * weights).numpy().sum() / weights.sum(), rel=1e-5)


def test_what_weighs_nothing_does_not_matter():
    logits, labels = random_logits(2, 4, 7), np.array([[3, 4, 2, 0], [5, 2, 0, 0]])
    weights = (labels != 0).astype("float32")
    changed, others = logits.copy(), np.where(weights == 1, labels, 6)
    changed[weights == 0] = 1e4
    wide = [np.concatenate([a, a], axis=1) for a in (labels, logits, weights)]
    wide[2][:, 4:] = 0
    for measure in (TokenCrossentropy(0.1), Perplexity(), TokenAccuracy()):
        results = []
        for y, x, w in [(labels, logits, weights), (others, changed, weights), wide]:
            if isinstance(measure, keras.Metric):
                measure.reset_state()
            results.append(float(measure(y, x, sample_weight=w)))
        assert results == pytest.approx([results[0]] * 3, rel=1e-6)


def test_loss_of_half_precision_logits_is_computed_in_float32():
    # log(70,000) of equal logits: a sum that float16 cannot hold.
    logits = ops.zeros((1, 1, 70_000), "float16")
    for smoothing in (0.0, 0.1):
        loss = TokenCrossentropy(smoothing)(np.array([[7]]), logits)
        assert float(loss) == pytest.approx(np.log(70_000), rel=1e-5)


def test_perplexity_by_hand():
    # p = 1/2 and 1/8: exp((ln 2 + ln 8) / 2) = sqrt(16) = 4; over two calls as over one.
    perplexity = Perplexity()
    perplexity.update_state(np.array([[0]]), np.log([[[0.5, 0.5]]]))
    assert float(perplexity.result()) == pytest.approx(2)
    perplexity.update_state(np.array([[1]]), np.log([[[0.875, 0.125]]]))
    assert float(perplexity.result()) == pytest.approx(4)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_impossible_smoothing_is_refused(smoothing):
    with pytest.raises(ValueError, match="label_smoothing"):
        TokenCrossentropy(smoothing)


# Optimizer


def rates(optimizer, steps):
    rate = optimizer.get_config()["learning_rate"]
    if isinstance(rate, float):
        return [rate] * len(steps)
    schedule = keras.saving.deserialize_keras_object(rate)
    return [float(schedule(step)) for step in steps]


@pytest.mark.parametrize(
    ("arguments", "steps", "expected"),
    [
        # 0.8 (s + 1) / 4 up to s = 3, then 0.8 sqrt(4 / (s + 1)).
        (
            {"warmup_steps": 4, "decay": "inverse_square_root"},
            [0, 1, 3, 15, 399],
            [0.2, 0.4, 0.8, 0.4, 0.08],
        ),
        ({"decay": "inverse_square_root"}, [0, 100], [0.8, 0.8]),
        ({"decay": "constant"}, [0, 100], [0.8, 0.8]),
        ({"warmup_steps": 4, "decay": "constant"}, [0, 1, 2, 4, 100], [0, 0.2, 0.4, 0.8, 0.8]),
        # 0.08 + 0.72 (1 + cos(pi s / 10)) / 2; after a warm-up of 2, (s - 2) / 8.
        ({"decay": "cosine", "total_steps": 10}, [0, 5, 10, 20], [0.8, 0.44, 0.08, 0.08]),
        (
            {"warmup_steps": 2, "decay": "cosine", "total_steps": 10},
            [0, 1, 2, 6, 10, 20],
            [0, 0.4, 0.8, 0.44, 0.08, 0.08],
        ),
    ],
)
def test_learning_rate_by_hand(arguments, steps, expected):
    assert rates(adamw(0.8, **arguments), steps) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_peak_of_vaswani():
    # Equation 3 with d = 512 and 4000 steps of warm-up: 512^-0.5 min(s^-0.5, s 4000^-1.5).
    schedule = InverseSquareRoot(512**-0.5 * 4000**-0.5, 4000)
    for step in (1, 100, 4000, 100_000):
        expected = 512**-0.5 * min(step**-0.5, step * 4000**-1.5)
        assert float(schedule(step - 1)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("arguments", [{"decay": "linear"}, {"decay": "cosine"}])
def test_unknown_schedules_are_refused(arguments):
    with pytest.raises(ValueError, match="adamw: .*"):
        adamw(**arguments)


@pytest.mark.slow(but=["llama-True"])
@pytest.mark.parametrize("reload", [False, True])
@pytest.mark.parametrize("variant", ["default", "llama", "learned"])
def test_only_matrices_decay(variant, reload):
    model = tiny_model(num_layers=1, **VARIANTS[variant])
    optimizer = adamw(0.5, weight_decay=0.1)
    if reload:
        tree = keras.saving.serialize_keras_object(optimizer)
        optimizer = keras.saving.deserialize_keras_object(tree)
    before = [np.asarray(weight) for weight in model.trainable_weights]
    # Without a gradient Adam moves nothing: what changes has decayed by rate times decay.
    optimizer.apply([ops.zeros_like(w) for w in model.trainable_weights], model.trainable_weights)
    decayed = set()
    for old, weight in zip(before, model.trainable_weights, strict=True):
        if not np.array_equal(old, weight):
            np.testing.assert_allclose(weight, 0.95 * old, rtol=1e-5)
            decayed.add(weight.path)
    assert decayed == {w.path for w in model.trainable_weights if w.path.endswith("kernel")}


def test_gradients_are_clipped_by_their_common_norm():
    weights = [keras.Variable([0.0]), keras.Variable([0.0])]
    optimizer = adamw(1.0, clip_norm=1.0, weight_decay=0.0)
    optimizer.apply([np.array([30.0]), np.array([40.0])], weights)
    # Norm 50 becomes 1: the gradients become 0.6 and 0.8, a tenth of which enters the moment.
    moments = [float(v.numpy()[0]) for v in optimizer.variables if "momentum" in v.path]
    assert moments == pytest.approx([0.06, 0.08], rel=1e-5)


def test_all_lookups_of_a_row_are_clipped_as_one():
    """Row 1 was looked up twice; 3 and 4 make 7, and norm 7 becomes 1."""
    weight = keras.Variable([[0.0], [0.0]])
    optimizer = adamw(1.0, clip_norm=1.0, weight_decay=0.0)
    rows = tf.IndexedSlices(tf.constant([[3.0], [4.0]]), tf.constant([1, 1]), tf.constant([2, 1]))
    optimizer.apply([rows], [weight])
    [moment] = [v.numpy() for v in optimizer.variables if "momentum" in v.path]
    np.testing.assert_allclose(moment, [[0.0], [0.1]], rtol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"global_clipnorm": 3.0},
        {"global_clipnorm": 0.7, "loss_scale_factor": 4.0},
        {"amsgrad": True},
        {"gradient_accumulation_steps": 2},
    ],
)
def test_steps_are_those_of_keras(settings):
    """Keras gets the sum of all lookups of a row; the kernel decays, the bias does not.

    1 - beta is exact for these betas: `fused_steps` computes it in float32, Keras in float64.
    """
    random = np.random.default_rng(4)
    values = [random.normal(size=shape).astype("float32") for shape in [(7, 5), (5, 3), (3,)]]
    steps = [
        [random.normal(size=value.shape).astype("float32") for value in values] for _ in "1234"
    ]
    weights, states = [], []
    for optimizer_class in (AdamW, keras.optimizers.AdamW):
        names = ["table", "kernel", "bias"]
        variables = [keras.Variable(v, name=n) for v, n in zip(values, names, strict=True)]
        rates = {"beta_1": 0.875, "beta_2": 0.984375, "weight_decay": 0.2}
        optimizer = optimizer_class(InverseSquareRoot(0.1, 3), **rates, **settings)
        if optimizer_class is not AdamW:
            optimizer.exclude_from_weight_decay(var_names=["bias"])
        for rows, *gradients in steps:
            table = tf.IndexedSlices(rows[[1, 1, 4]], [1, 1, 4], rows.shape)
            if optimizer_class is not AdamW:
                table = tf.convert_to_tensor(table)
            optimizer.apply([table, *map(tf.constant, gradients)], variables)
        weights.append(variables)
        states.append(optimizer.variables)
    for ours, theirs in [*zip(*weights, strict=True), *zip(*states, strict=False)]:
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7, err_msg=theirs.path)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_step_without_a_finite_gradient_changes_nothing(wrong):
    random = np.random.default_rng(5)
    weights = [
        keras.Variable(random.normal(size=shape).astype("float32"), name=name)
        for name, shape in (("kernel", (5, 3)), ("bias", (3,)))
    ]
    optimizer = adamw(0.1, weight_decay=0.2, average=0.9)
    good = [tf.ones(weight.shape) for weight in weights]
    optimizer.apply(good, weights)
    states = [v for v in optimizer.variables if v is not optimizer.bad_steps]
    before = [np.array(v) for v in [*weights, *states]]
    optimizer.apply([good[0], tf.constant([1.0, wrong, 1.0])], weights)
    assert int(optimizer.bad_steps) == 1
    for old, variable in zip(before, [*weights, *states], strict=True):
        np.testing.assert_array_equal(variable, old, err_msg=variable.path)
    optimizer.apply(good, weights)
    assert int(optimizer.bad_steps) == 0
    assert all(np.all(weight != old) for weight, old in zip(weights, before[:2], strict=True))
