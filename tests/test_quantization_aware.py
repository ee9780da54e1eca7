"""Training with weights as a quantized file holds them: the rounding, its gradients, what a file
then holds, and the last epochs of a run."""

import functools
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from litert_quantizer import qtyping
from litert_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor as litert
from on_jax import needs_jax, run_on_jax
from tiny_models import tiny_causal, tiny_encoder, tiny_model

from tfx_transformer import Classifier, Tagger, bundle, runtime
from tfx_transformer.cli.recipes import recipe_main
from tfx_transformer.data.batches import BatchPlan, tf_dataset
from tfx_transformer.evaluation.rounding import Choice
from tfx_transformer.export import four_bit_file
from tfx_transformer.export.compact import unpack
from tfx_transformer.export.converter import Converter
from tfx_transformer.export.rounding import nearest
from tfx_transformer.export.tasks import task_of
from tfx_transformer.export.to_litert import Conversion
from tfx_transformer.layers import Linear, TokenEmbedding
from tfx_transformer.layers.rounding import StraightThrough, round_to
from tfx_transformer.models.rounding import _rounded_layers, folded_norms, rounding
from tfx_transformer.models.saving import load, save
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training import Progress
from tfx_transformer.training.checkpoints import Checkpoints
from tfx_transformer.training.optimizers import adamw
from tfx_transformer.training.rounding import train_rounded

# The scale of scores, 32^-0.5, is not a power of 2, so a factor of it changes the rounding.
SIZE = {"hidden_dim": 64, "intermediate_dim": 96, "num_heads": 2, "num_layers": 1}
LLAMA = {
    "position": "rotary",
    "norm": "rms_norm",
    "gated": True,
    "activation": "silu",
    "use_bias": False,
}


def weights_of_all_sizes(rows=67, inputs=96, seed=3):
    """Rows of weights from 1e-9 to 1e3, so that scales are small in float16 too."""
    random = np.random.default_rng(seed)
    sizes = np.logspace(-9, 3, rows)[:, None]
    return (sizes * random.normal(size=(rows, inputs))).astype("float32")


def by_litert(weights, bits):
    """Weights as LiteRT's quantizer rounds them in blocks of 32 (4 bits) or rows (8 bits), and
    scales them back."""
    size = 32 if bits == 4 else weights.shape[1]
    blocks = weights.reshape(len(weights), -1, size)
    kinds = qtyping.QuantGranularity
    kind = kinds.BLOCKWISE_32 if bits == 4 else kinds.CHANNELWISE
    ends = blocks.min(-1), blocks.max(-1)
    _, scales = litert.tensor_zp_scale_from_min_max(*ends, bits, True, kind)
    parameters = qtyping.UniformQuantParams(
        num_bits=bits, quantized_dimension=None, scale=scales[..., None],
        zero_point=np.zeros_like(scales[..., None], "int32"), symmetric=True,
    )  # fmt: skip
    codes = litert.uniform_quantize(blocks, parameters)
    return (codes * scales[..., None]).reshape(weights.shape).astype("float32")


# One matrix


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_are_rounded_as_the_quantizer_of_litert_rounds_them(bits):
    weights = weights_of_all_sizes()[20:]  # it divides by scales of 0
    expected = by_litert(weights, bits)
    assert 0.001 < np.abs(expected - weights).max() / np.abs(weights).max() < 0.1
    np.testing.assert_array_equal(round_to(weights, -1, bits), expected)
    np.testing.assert_array_equal(round_to(np.ascontiguousarray(weights.T), 0, bits), expected.T)


def check_the_exporter():
    """Blocks of zeros and of weights smaller than any scale of float16 too."""
    weights = weights_of_all_sizes()
    weights[3], weights[:, 32:64] = 0, 0
    expected = nearest(weights).dequantized()
    compiled = round_to
    if keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(round_to, static_argnums=(1, 2))
    np.testing.assert_array_equal(compiled(weights, -1, 4), expected)
    np.testing.assert_array_equal(compiled(weights[20:], -1, 8), by_litert(weights[20:], 8))


def test_weights_are_rounded_as_the_exporter_rounds_them():
    check_the_exporter()


def test_rows_without_blocks_have_eight_bits():
    weights = weights_of_all_sizes(inputs=40)[20:]
    np.testing.assert_array_equal(round_to(weights, -1, 4), by_litert(weights, 8))


def test_gradients_pass_straight_through_a_kernel():
    random = np.random.default_rng(5)
    layer = Linear(3)
    layer.build((None, 64))
    x, slopes = (random.normal(size=(7, n)).astype("float32") for n in (64, 3))
    kernel = np.asarray(layer.kernel)
    rounded = nearest(kernel.T).dequantized().T
    layer.rounding = StraightThrough(4)
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(y * slopes)
    of_x, of_kernel = tape.gradient(loss, [x, layer.kernel.value])
    np.testing.assert_allclose(y, x @ rounded, rtol=1e-5, atol=1e-5)
    assert np.abs(x @ rounded - x @ kernel).max() > 0.01
    np.testing.assert_allclose(of_kernel, np.transpose(x) @ slopes, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(of_x, slopes @ rounded.T, rtol=1e-5, atol=1e-5)


def test_gradients_pass_straight_through_a_tied_table():
    random = np.random.default_rng(5)
    layer = TokenEmbedding(11, 32, scale=2.0)
    layer.build()
    x, slopes = (random.normal(size=(1, 5, n)).astype("float32") for n in (32, 11))
    rounded = nearest(np.asarray(layer.embeddings)).dequantized()
    layer.rounding = StraightThrough(4)
    ids = np.array([[7, 3, 7]])
    with tf.GradientTape() as tape:
        vectors = layer(ids)
        loss = tf.reduce_sum(layer(x, reverse=True) * slopes) + tf.reduce_sum(vectors)
    (found,) = tape.gradient(loss, [layer.embeddings.value])
    np.testing.assert_array_equal(vectors[0], 2 * rounded[ids[0]])
    expected = slopes[0].T @ x[0]
    expected[7] += 2 * 2
    expected[3] += 2
    np.testing.assert_allclose(tf.convert_to_tensor(found), expected, rtol=1e-5, atol=1e-5)


def test_the_factor_of_the_converter_is_in_the_weights_that_are_rounded():
    weights = weights_of_all_sizes(inputs=64)[30:]
    factor = np.float32(16**-0.3)
    found = StraightThrough(4, float(factor))(weights, -1)
    np.testing.assert_allclose(found * factor, nearest(weights * factor).dequantized(), rtol=1e-6)


def test_weights_are_rounded_before_a_policy_casts_them():
    layer = Linear(3, use_bias=False, dtype="mixed_bfloat16")
    layer.build((None, 32))
    layer.rounding = StraightThrough(4)
    expected = nearest(np.asarray(layer._kernel.value).T).dequantized().T
    found = layer(np.eye(32, dtype="float32"))
    assert found.dtype == "bfloat16"
    np.testing.assert_array_equal(found, tf.cast(expected, "bfloat16"))


# A model


def test_layers_are_rounded_in_the_block_only():
    model = tiny_encoder(Classifier, num_classes=3, ngram_buckets=37, **SIZE)
    ids = {"token_ids": np.array([[5, 7, 11, 3]])}
    plain = np.asarray(model(ids, training=False))
    with rounding(model, "int4"):
        rounded = np.asarray(model(ids, training=False))
    np.testing.assert_array_equal(model(ids, training=False), plain)
    factors = {id(model.encoder.blocks[0].attention.query): np.float32(32**-0.5)}
    for layer in model._flatten_layers():
        if isinstance(layer, Linear):
            factor = factors.get(id(layer), np.float32(1))
            numbers = np.asarray(layer._kernel).T
            layer._kernel.assign(nearest(numbers * factor).dequantized().T / factor)
        elif isinstance(layer, TokenEmbedding):
            layer.embeddings.assign(nearest(np.asarray(layer.embeddings)).dequantized())
    np.testing.assert_allclose(model(ids, training=False), rounded, rtol=1e-5, atol=1e-5)
    assert np.abs(rounded - plain).max() > 0.01


def of_tags(**settings):
    return tiny_encoder(Tagger, num_classes=3, **settings)


KINDS = {
    "encoder": functools.partial(tiny_encoder, Classifier, num_classes=3, ngram_buckets=37),
    "llama": functools.partial(tiny_causal, num_key_value_heads=1, **LLAMA),
    "untied": functools.partial(tiny_causal, tie_embeddings=False, norm="rms_norm"),
    "encoder_decoder": functools.partial(tiny_model, norm="rms_norm", num_decoder_layers=2),
    "tagger": functools.partial(of_tags, **LLAMA),
}


def inputs_of(model):
    random = np.random.default_rng(3)
    return {name: random.integers(3, 53, (3, 7)) for name in model.reads}


@pytest.mark.slow(but=["untied"])
@pytest.mark.parametrize("kind", ["untied", "encoder_decoder", "tagger"])
def test_folded_norms_change_nothing(kind):
    model = KINDS[kind](vocabulary_size=53, **SIZE)
    before = np.asarray(model(inputs_of(model), training=False))
    count = len(model.trainable_variables)
    with folded_norms(model):
        scales = [one for one in model.weights if one.path.endswith("norm/scale")]
        folded = [one for one in scales if not one.trainable]
        assert folded and all((np.asarray(one) == 1).all() for one in folded)
        # The scale of a tied read-out's norm stays.
        assert len(scales) - len(folded) == (1 if kind == "encoder_decoder" else 0)
        assert len(model.trainable_variables) == count - len(folded)
    assert len(model.trainable_variables) == count
    np.testing.assert_allclose(model(inputs_of(model), training=False), before, atol=2e-4)


def matrices(file, kind):
    """All matrices of a TFLite file that have a type of integers, in float32, by shape."""
    model = unpack(file.read_bytes())
    found = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            if tensor.type != kind or data is None:
                continue
            quantized = tensor.quantization
            if kind == schema.TensorType.INT4:
                bytes_ = np.asarray(data, "uint8")
                codes = np.stack([bytes_ & 15, bytes_ >> 4], -1).astype("int8").ravel()
                codes = np.where(codes > 7, codes - 16, codes)
                place = graph.tensors[quantized.details.scales].buffer
                scales = np.asarray(model.buffers[place].data, "uint8").view("float16")
                numbers = codes.reshape(-1, 32) * scales.astype("float32")[:, None]
            else:
                codes = np.asarray(data, "uint8").view("int8").reshape(tensor.shape)
                numbers = codes * np.asarray(quantized.scale, "float32")[:, None]
            shape = tuple(tensor.shape)
            found.setdefault(shape, []).append(numbers.reshape(shape).astype("float32"))
    return found


def convert(model, file, form):
    table = task_of(model).signatures(model)
    wanted = ("run_1x19", "encode_19", "prefill", "decode")
    few = {name: table[name] for name in wanted if name in table}
    model.trained_format = form
    inputs = inputs_of(model)
    with (
        Converter() as converter,
        Conversion(model, {form: file}, converter, table=few, inputs=inputs) as conversion,
    ):
        pass
    return conversion.choice


@pytest.mark.slow(but=["llama"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_holds_what_was_trained_to_the_bit(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(four_bit_file, "choose", None)
    model = KINDS[kind](vocabulary_size=53, **SIZE)
    with folded_norms(model):
        pass
    choice = convert(model, tmp_path / "model.tflite", "int4")
    assert choice == Choice("trained", {}, 0, 0)
    found = matrices(tmp_path / "model.tflite", schema.TensorType.INT4)
    layers = list(_rounded_layers(model, 4))
    assert len(layers) > 6
    for layer, straight in layers:
        trained = layer._kernel if isinstance(layer, Linear) else layer._embeddings
        rows = np.asarray(trained).T if isinstance(layer, Linear) else np.asarray(trained)
        expected = np.asarray(round_to(rows * np.float32(straight.factor), -1, 4))
        same = [np.array_equal(one, expected) for one in found[expected.shape]]
        assert any(same), layer.path


@pytest.mark.slow
def test_a_file_of_eight_bits_holds_what_was_trained(tmp_path):
    model = KINDS["llama"](vocabulary_size=53, **SIZE)
    with folded_norms(model):
        pass
    convert(model, tmp_path / "model.tflite", "int8")
    found = matrices(tmp_path / "model.tflite", schema.TensorType.INT8)
    for layer, straight in _rounded_layers(model, 8):
        if isinstance(layer, Linear):
            expected = np.asarray(straight(layer._kernel, 0)).T
            assert any(np.array_equal(one, expected) for one in found[expected.shape]), layer.path


# The last epochs


def alphabet(rows):
    """Rows of tokens that count up by 1 or by 2."""
    rows = np.asarray(rows)
    ids = 3 + (rows[:, None] + np.arange(8) * (1 + rows % 2)[:, None]) % 40
    return {"token_ids": ids[:, :-1]}, ids[:, 1:], np.ones((len(rows), 7), "float32")


def trained_further(folder, rate, eagerly=True):
    """A model, its validation batches, its weights before, and what the last epochs changed."""
    model = tiny_causal(0.3, seed=8, vocabulary_size=43, **SIZE, **LLAMA)
    model.compile(adamw(1e-3), run_eagerly=eagerly)  # nothing to trace: faster
    batches = tf_dataset(BatchPlan(np.full(30, 7), 10, seed=1), alphabet)
    checks = tf_dataset(BatchPlan(np.full(12, 7), 12, shuffle=False), alphabet)
    model.history = "of the epochs before"
    # It is folded into kernels, trained or not.
    model.decoder.blocks[0].attention_norm.scale.trainable = False
    before = {one.path: np.asarray(one) for one in model.weights}
    places = {"steps": 3, "checkpoints": Checkpoints(folder)}
    found = train_rounded(model, batches, checks, 2, [], form="int4", rate=rate, **places)
    assert model.history == "of the epochs before"
    return model, checks, before, found


def check_training(folder, eagerly=True):
    """The loss falls, and is that of the model with rounded weights; return what was changed."""
    model, checks, before, found = trained_further(folder, 3e-3, eagerly)
    assert found["format"] == "int4" and found["epochs"] == 2
    assert found["val_loss"] < found["val_loss_before"]
    for one in model.trainable_variables:
        assert not np.array_equal(one, before[one.path]), one.path
        if one.path.endswith("kernel"):
            one.assign(nearest(np.asarray(one).T).dequantized().T)
        elif one.path.endswith("embeddings"):
            one.assign(nearest(np.asarray(one)).dequantized())
    loss = model.evaluate(checks, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(found["val_loss"], rel=1e-4)
    return found


def test_the_loss_of_the_rounded_model_falls(tmp_path, capsys):
    found = check_training(tmp_path)
    out = " ".join(capsys.readouterr().out.split())
    assert "weights are rounded as in the int4 file, for at most 2 more epochs." in out
    assert f"{found['val_loss_before']:.4f} before, {found['val_loss']:.4f} now." in out


def test_without_a_lower_loss_all_weights_stay(tmp_path, capsys):
    model, _, before, found = trained_further(tmp_path, 3.0)
    assert found is None
    assert "did not fall, so all weights are as before" in " ".join(capsys.readouterr().out.split())
    for one in model.weights:
        np.testing.assert_array_equal(one, before[one.path])


class Dies(Progress):
    """An error after some steps of the last epochs, in which nothing but progress is called."""

    def __init__(self, steps):
        super().__init__(1)
        self.left, self.fits = steps, 0

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.fits += 1

    def on_train_batch_end(self, batch, logs=None):
        self.left -= self.fits == 2
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["causal", "classifier"])
def test_an_interrupted_run_ends_with_the_same_weights(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parent / "faults")
    small_runs = __import__("small_runs")
    monkeypatch.setattr(small_runs, "EPOCHS", 2)
    train = functools.partial(
        small_runs.train, kind, save_minutes=0.0, quantization_aware="int4", learning_rate=3e-2
    )
    for name in "ab":
        (tmp_path / name).mkdir()
    straight = train(tmp_path / "a")
    assert "now." in capsys.readouterr().out
    assert len(straight["history"]["loss"]) == 2, "the history is that of the epochs before"
    rounded = tmp_path / "b/run/checkpoints/rounded"
    for left in (17, 30):  # epochs have 20 or 14 steps
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "b", [Dies(left)])
        assert list(rounded.glob("step_*"))
    assert train(tmp_path / "b") == straight
    assert "rounded/step_" in capsys.readouterr().out
    assert not (tmp_path / "b/run/checkpoints").exists()


# Bundles


def test_a_bundle_says_how_its_file_is_rounded(tmp_path):
    words = Tokenizer.train(["a cat and a dog"], 270)
    model = tiny_encoder(Classifier, vocabulary_size=words.vocabulary_size, num_classes=2)
    facts = {"format": "int4", "epochs": 3, "val_loss_before": 0.5, "val_loss": 0.25}
    save(tmp_path / "a", model, words, labels=["x", "y"], quantization_aware=facts)
    save(tmp_path / "b", model, words, labels=["x", "y"])
    assert [load(tmp_path / name)[0].trained_format for name in "ab"] == ["int4", ""]
    sentence = Choice.from_dict(Choice("trained", {}, 0, 0).to_dict()).sentence("en")
    assert (
        sentence == "4-bit weights are rounded to nearest, as in the last epochs of the training."
    )


@pytest.mark.slow
def test_a_recipe_exports_what_it_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"{word} {end},{place % 2}" for place, word in enumerate("abcdefgh") for end in "xyz"]
    (tmp_path / "my.csv").write_text("\n".join(["text,label", *rows]), "utf-8")
    settings = {
        "csv": "my.csv", "name": "mine", "size": "nano", "vocabulary_size": 290, "share": 0.3,
        "max_length": 13, "epochs": 2, "linear_buckets": 0, "quantize": "int4",
        "quantization_aware": "int4", "quantization_epochs": 4,
    }  # fmt: skip
    recipe_main("text_classification")(**settings)
    path = tmp_path / "saved_models/mine"
    config = bundle.read_config(path)
    assert config["quantization_aware"]["epochs"] == 4
    assert config["int4"]["way"] == "trained"
    assert "as in the last epochs of the training" in (path / "README.md").read_text("utf-8")
    exports = json.loads((tmp_path / "runs/mine/exports.json").read_text("utf-8"))
    (row,) = [one for one in exports if one["name"] == "TFLite int4"]
    assert row["rounded"]["way"] == "trained" and len(row["change"]["difference"]) == 2
    answers = runtime.load(path, "int4").classify(["a x", "b y"])
    assert {one.label for one in answers} <= {"0", "1"}


# On JAX


@needs_jax
@pytest.mark.slow
def test_all_of_it_on_jax(tmp_path):
    run_on_jax(
        """
        import sys
        import jax
        from pathlib import Path
        import test_quantization_aware as tests
        tests.check_the_exporter()
        straight = tests.StraightThrough(4)
        weights = tests.weights_of_all_sizes()
        slopes = jax.grad(lambda w: (straight(w, -1) * weights).sum())(weights)
        tests.np.testing.assert_array_equal(slopes, weights)
        tests.check_training(Path(sys.argv[1]), eagerly=False)
        """,
        str(tmp_path),
    )
