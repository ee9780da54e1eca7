"""Our models as Keras models: what they take for inputs, exports, summaries and pictures."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from tiny_models import PATCHES, tiny_causal, tiny_encoder, tiny_model

import tfx_transformer as tfx

IDS = np.random.default_rng(0).integers(3, 23, (3, 7)).astype("int32")
ONE = {"num_layers": 1}
THREE = {**ONE, "num_classes": 3}
PIXELS = np.random.default_rng(0).uniform(0, 255, (3, 15, 15, 3)).astype("float32")

# name -> (makes the model, its inputs by name, labels, what an error names)
MODELS = {
    "causal": (lambda: tiny_causal(**ONE), {"token_ids": IDS}, IDS),
    "masked": (lambda: tiny_encoder(tfx.MaskedLM, **ONE), {"token_ids": IDS}, IDS),
    "classifier": (
        lambda: tiny_encoder(tfx.Classifier, **THREE),
        {"token_ids": IDS},
        np.array([0, 2, 1]),
    ),
    "images": (
        lambda: tiny_encoder(tfx.Classifier, **THREE, **PATCHES),
        {"images": PIXELS},
        np.eye(3, dtype="float32"),
    ),
    "embedder": (lambda: tiny_encoder(tfx.Embedder, **ONE), {"token_ids": IDS}, None),
    "seq2seq": (
        lambda: tiny_model(**ONE),
        {"encoder_token_ids": IDS, "decoder_token_ids": IDS[:, :5]},
        IDS[:, :5],
    ),
}


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    """A model, its inputs by name, labels, and its answer to them."""
    new_model, named, labels = MODELS[request.param]
    model = new_model()
    return model, named, labels, model(named)


def forms(named):
    """The same inputs as Keras users give them."""
    if len(named) == 2:
        source, target = named.values()
        yield from [(source, target), [source, target]]
        yield (source.tolist(), target.tolist())
        yield (tf.constant(source), tf.constant(target))
        return
    (array,) = named.values()
    yield from [array, array.tolist(), tf.constant(array), [array], {**named}, list(array)]
    yield array.astype("float32")


@pytest.mark.slow(but=["images", "seq2seq"])
def test_a_model_answers_whatever_holds_its_inputs(case):
    model, named, _, expected = case
    for form in forms(named):
        np.testing.assert_allclose(model(form), expected, atol=1e-5)
    symbols = tuple(keras.Input(array.shape[1:], dtype=array.dtype) for array in named.values())
    symbolic = keras.Model(symbols, model(symbols if len(symbols) > 1 else symbols[0]))
    np.testing.assert_allclose(symbolic(tuple(named.values())), expected, atol=1e-5)


@pytest.mark.slow(but=["embedder", "seq2seq"])
def test_keras_trains_and_predicts_with_plain_arrays(case):
    model, named, labels, expected = case
    model = type(model).from_config(model.get_config())
    model.set_weights(case[0].get_weights())
    model.compile("sgd", weighted_metrics=[], run_eagerly=True)  # nothing to trace: faster
    plain = tuple(named.values()) if len(named) > 1 else next(iter(named.values()))
    *_, lists, _ = forms(named)
    np.testing.assert_allclose(model.predict(lists, verbose=0), expected, atol=1e-5)
    dataset = tf.data.Dataset.from_tensor_slices((plain,) if len(named) > 1 else plain).batch(2)
    np.testing.assert_allclose(model.predict(dataset, verbose=0), expected, atol=1e-5)
    if labels is None:  # an embedder learns from pairs
        plain, labels = {**named, "pair_token_ids": IDS[::-1]}, np.zeros(3)
    losses = [
        model.test_on_batch(plain, labels.tolist()),
        model.fit(plain, labels, verbose=0, validation_data=(plain, labels)).history["loss"][0],
    ]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-4)
    dataset = tf.data.Dataset.from_tensor_slices((plain, labels)).batch(3)
    assert np.isfinite(model.evaluate(dataset, verbose=0))


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("causal", {"ids": IDS}, ["token_ids missing", "ids not known", "'segment_ids'"]),
        ("causal", {"token_ids": IDS, "attention_mask": IDS}, ["attention_mask not known"]),
        ("causal", IDS[0], ["token_ids has shape (7,)", "x[None]"]),
        ("causal", [[3, 4], [5]], ["1, 2 numbers", "pad_sequences"]),
        ("classifier", {}, ["token_ids missing"]),
        ("images", {"token_ids": IDS}, ["images missing", "token_ids not known"]),
        ("images", PIXELS[0], ["images has shape (15, 15, 3)", "4 axes"]),
        ("embedder", {"inputs": IDS}, ["token_ids missing", "'pair_token_ids'"]),
        ("seq2seq", IDS, ["reads 2 inputs", "(encoder_token_ids, decoder_token_ids)"]),
        ("seq2seq", {"token_ids": IDS}, ["encoder_token_ids, decoder_token_ids missing"]),
        ("seq2seq", (IDS, IDS, IDS), ["reads 2 inputs"]),
    ],
)
def test_inputs_that_are_not_those_of_the_model_are_refused_by_name(name, given, told):
    model = MODELS[name][0]()
    model.compile("sgd")
    calls = [model, model.predict, model.evaluate, model.fit, model.predict_on_batch]
    if isinstance(given, dict | np.ndarray) and len(given):
        dataset = tf.data.Dataset.from_tensors((given, np.zeros(3)))
        calls.append(lambda _: model.fit(dataset))
    for call in calls:
        with pytest.raises(tfx.InputError) as caught:
            call(given)
        assert all(text in str(caught.value) for text in told), caught.value


def test_ids_given_as_floats_to_a_model_in_half_precision_stay_apart():
    model = tfx.CausalLM(
        tfx.TransformerConfig.of_size("nano", 1000, num_layers=1), dtype="mixed_bfloat16"
    )
    ids = np.array([[999, 997, 513]])  # in bfloat16 1000, 996 and 512
    expected = keras.ops.cast(model(ids), "float32")
    found = keras.ops.cast(model(ids.astype("float32")), "float32")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow(but=["seq2seq"])
@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_answers_as_the_model_that_was_never_called(name, tmp_path):
    new_model, named, _ = MODELS[name]
    model = new_model()
    model.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(loaded.serve(named), model(named), atol=1e-5)


@pytest.mark.slow(but=["images"])
@pytest.mark.parametrize("name", MODELS)
def test_a_litert_file_of_keras_answers_as_the_model(name, tmp_path):
    new_model, named, _ = MODELS[name]
    model, one = new_model(), {key: array[:1] for key, array in named.items()}
    model.export(tmp_path / "model.tflite", format="litert", verbose=False)
    run = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner()
    (answer,) = run(**one).values()
    np.testing.assert_allclose(answer, model(one), atol=1e-5)


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """A terminal in which no row of a summary is cut."""
    monkeypatch.setenv("COLUMNS", "200")


def summary(model, **options):
    lines = []
    model.summary(print_fn=lines.append, line_length=160, **options)
    rows = [line.strip("│ ").split("│") for line in "\n".join(lines).splitlines() if "│" in line]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in rows}


def test_the_summary_tells_true_shapes_and_the_parameters_of_every_part():
    # 23 tokens, 24 wide, 13 between, 3 classes.
    model = tiny_encoder(tfx.Classifier, **THREE, pooling="attention", position="relative")
    before = {layer: dict(vars(layer)) for layer in model._flatten_layers()}
    short = summary(model)
    assert short["embedding (TokenEmbedding)"] == ["(None, None, 24)", str(23 * 24)]
    assert short["pooling (Pooling)"] == ["(None, 24)", "25"]
    assert short["logits (Linear)"] == ["(None, 3)", str(24 * 3 + 3)]
    assert not any("query" in name for name in short)
    long = summary(model, expand_nested=True)
    assert long["└ block_0 (TransformerBlock)"][0] == "(None, None, 24)"
    assert long["└ query (Linear)"] == ["(None, None, 24)", str(24 * 24 + 24)]
    assert long["└ expand (Linear)"] == ["(None, None, 13)", str(24 * 13 + 13)]
    assert long["└ positions (RelativePositions)"] == ["(None, 6, None, None)", str(32 * 6)]
    block = [int(cells[1].replace(",", "")) for name, cells in long.items() if "Linear" in name]
    assert sum(block) == 4 * (24 * 24 + 24) + (24 * 13 + 13) + (13 * 24 + 24) + (24 * 3 + 3)
    after = {layer: dict(vars(layer)) for layer in model._flatten_layers()}
    assert {k: v.keys() for k, v in after.items()} == {k: v.keys() for k, v in before.items()}
    assert model(IDS).shape == (3, 3)


@pytest.mark.slow(but=["seq2seq"])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_summary(name):
    assert not any("?" in cells for cells in summary(MODELS[name][0]()).values())


def test_keras_draws_a_model():
    pydot = pytest.importorskip("pydot", reason="Keras draws with pydot (pip install pydot)")
    for name in ("causal", "seq2seq"):
        model = MODELS[name][0]()
        dot = keras.utils.model_to_dot(model, show_shapes=True, show_trainable=True)
        assert isinstance(dot, pydot.Dot) and model.name in dot.to_string()
