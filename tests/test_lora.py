"""Adapters: the layer against Keras, NumPy and numbers computed by hand; models adapted, trained,
saved and merged."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from layer_harness import random_vectors, run_layer_test
from on_jax import needs_jax, run_on_jax
from tiny_models import VARIANTS, perturbed, tiny_causal, tiny_config, tiny_model

from tfx_transformer.errors import InputError
from tfx_transformer.layers import Linear
from tfx_transformer.models import lora
from tfx_transformer.models.lora import (
    add_adapters,
    load_adapters,
    merge_adapters,
    save_adapters,
    trainable_summary,
)
from tfx_transformer.models.tasks import CausalLM, Seq2SeqLM
from tfx_transformer.training.optimizers import adamw

SOURCE = np.random.default_rng(0).integers(3, 23, (3, 7)).astype("int32")
INPUTS = {"encoder_token_ids": SOURCE, "decoder_token_ids": SOURCE[:, :5]}
LABELS = SOURCE[:, 1:6]
X = np.random.default_rng(1).normal(size=(5, 7)).astype("float32")
Y = np.random.default_rng(2).normal(size=(5, 3)).astype("float32")


def adapted_linear(units=3, rank=2, alpha=5.0, stored=None, **options):
    """A layer for X with an adapter, no weight of it trivial."""
    layer = Linear(units, **options)
    layer.build(X.shape)
    layer.bias.assign(np.arange(units))
    if stored is not None:
        layer.store_kernel(stored)
    layer.enable_lora(rank, lora_alpha=alpha)
    random = np.random.default_rng(3)
    for weight in layer.adapter_weights:
        weight.assign_add(random.normal(size=weight.shape))
    return layer


def as_arrays(layer):
    """x W and so on in NumPy: (kernel, bias, A, B)."""
    weights = (layer._kernel, layer.bias, layer.lora_kernel_a, layer.lora_kernel_b)
    return [np.asarray(weight, "float32") for weight in weights]


# The layer


def test_linear_is_a_keras_layer(tmp_path):
    run_layer_test(Linear, {"units": 5}, {"inputs": random_vectors(3, 11, 7)}, tmp_path)


def test_without_adapter_it_is_dense():
    for dtype in ("float32", "mixed_bfloat16"):
        options = {"activation": "relu", "name": "query", "dtype": dtype}
        linear, dense = Linear(3, **options), keras.layers.Dense(3, **options)
        dense(X)
        linear(X)
        linear.set_weights(dense.get_weights())
        assert [w.path for w in linear.weights] == [w.path for w in dense.weights]
        np.testing.assert_array_equal(
            ops.convert_to_numpy(linear(X)), ops.convert_to_numpy(dense(X))
        )
        assert linear.kernel is linear.weights[0]


# s = 2; V = W + 2 A B = [[3, 0, 6], [4, 2, 8]], its columns 5, 2 and 10 long; m / |V| = 2, 2, 1/2.
@pytest.mark.parametrize(
    ("dora", "kernel", "answer"),
    [
        (False, [[3, 0, 6], [4, 2, 8]], [9, 18, 28]),
        (True, [[6, 0, 3], [8, 4, 4]], [8, 16, 29]),
    ],
)
def test_by_hand(dora, kernel, answer):
    layer = Linear(3, dora=dora)
    layer.build((1, 2))
    layer.set_weights([np.array([[1, 0, 8], [2, 2, 10]]), np.array([10, 20, 30])])
    layer.enable_lora(1, lora_alpha=2)
    layer.lora_kernel_a.assign([[1], [1]])
    layer.lora_kernel_b.assign([[1, 0, -1]])
    if dora:
        np.testing.assert_allclose(layer.lora_magnitude, np.sqrt([5, 4, 164]), rtol=1e-6)
        layer.lora_magnitude.assign([10, 4, 5])
    np.testing.assert_allclose(layer(np.array([[1.0, -1.0]])), [answer], rtol=1e-6)
    np.testing.assert_allclose(layer.kernel, kernel, rtol=1e-6)


def sgd_step(layer):
    model = keras.Sequential([layer])
    model.compile(keras.optimizers.SGD(0.5), "mse", run_eagerly=True)
    model.train_on_batch(X, Y)


def test_lora_is_keras_lora_and_learns_the_same():
    linear = adapted_linear()
    dense = keras.layers.Dense(3)
    dense.build(X.shape)
    dense.enable_lora(2, lora_alpha=5.0)
    dense.set_weights(linear.get_weights())
    np.testing.assert_allclose(linear(X), dense(X), atol=1e-5)
    np.testing.assert_allclose(linear.kernel, dense.kernel, atol=1e-5)
    sgd_step(linear)
    sgd_step(dense)
    for ours, keras_own in zip(linear.weights, dense.weights, strict=True):
        np.testing.assert_allclose(ours, keras_own, atol=1e-4, err_msg=ours.path)


def test_dora_learns_as_its_formula_says():
    layer = adapted_linear(dora=True)
    kernel, bias, a, b = as_arrays(layer)
    m = np.asarray(layer.lora_magnitude)
    v = kernel + 2.5 * a @ b
    norms = np.linalg.norm(v, axis=0)
    answer = X @ v * (m / norms) + bias
    np.testing.assert_allclose(layer(X), answer, atol=1e-5)

    slope = 2 * (answer - Y) / answer.size  # of the mean squared error; norms are constants
    slope_v = slope * (m / norms)
    expected = {
        "lora_kernel_a": a - 0.5 * 2.5 * X.T @ slope_v @ b.T,
        "lora_kernel_b": b - 0.5 * 2.5 * (X @ a).T @ slope_v,
        "lora_magnitude": m - 0.5 * (slope * (X @ v) / norms).sum(0),
        "kernel": kernel,
    }
    sgd_step(layer)
    for weight in (layer._kernel, *layer.adapter_weights):
        np.testing.assert_allclose(weight, expected[weight.name], atol=1e-4, err_msg=weight.name)


def test_dora_of_a_column_of_zeros_is_finite():
    layer = Linear(3, dora=True, kernel_initializer="zeros")
    layer.build(X.shape)
    layer.enable_lora(2)
    sgd_step(layer)
    assert all(np.isfinite(weight).all() for weight in layer.get_weights())


@pytest.mark.slow(but=["True"])
@pytest.mark.parametrize("adapter", [False, True])
def test_int8_is_keras_int8_without_quantized_activations(adapter):
    linear = Linear(3, name="query")
    dense = keras.layers.Dense(3, name="query")
    linear.build(X.shape)
    dense.build(X.shape)
    dense.set_weights(linear.get_weights())
    plain = np.asarray(linear.kernel)
    linear.store_kernel("int8")
    dense.quantize(config=keras.quantizers.Int8QuantizationConfig(activation_quantizer=None))
    if adapter:
        linear.enable_lora(2)
        dense.enable_lora(2)
        for weight in linear.adapter_weights:
            weight.assign(np.random.default_rng(4).normal(size=weight.shape))
            getattr(dense, weight.name).assign(weight)
    np.testing.assert_allclose(linear(X), dense(X), atol=1e-5)
    assert {(w.path, w.dtype) for w in linear.weights} == {(w.path, w.dtype) for w in dense.weights}
    step = np.abs(plain).max(0) / 127
    assert (np.abs(linear._base_kernel() - plain) < 0.501 * step).all()


def test_small_changes_of_magnitude_count_in_bfloat16():
    layer = Linear(1, dora=True, kernel_initializer="ones", use_bias=False, dtype="mixed_bfloat16")
    layer.build((None, 1))
    layer.enable_lora(1)
    layer.lora_magnitude.assign([1.003])
    x = np.random.default_rng(5).uniform(1, 2, (4099, 1)).astype("float32")
    answer = layer(x)
    assert keras.backend.standardize_dtype(answer.dtype) == "bfloat16"
    assert np.mean(ops.cast(answer, "float32")) / np.mean(x) == pytest.approx(1.003, abs=1e-3)


def test_configuration_builds_the_adapter_again():
    config = adapted_linear(dora=True, name="query").get_config()
    copy = Linear.from_config(json.loads(json.dumps(config)))
    copy.build(X.shape)
    assert copy.get_config() == config
    assert (copy.dora, copy.lora_rank, copy.lora_alpha) == (True, 2, 5.0)
    paths = [weight.path for weight in copy.adapter_weights]
    assert paths == ["query/lora_kernel_a", "query/lora_kernel_b", "query/lora_magnitude"]


@pytest.mark.slow(but=["False-bfloat16", "True-int8"])
@pytest.mark.parametrize("stored", [None, "bfloat16", "int8"])
@pytest.mark.parametrize("dora", [False, True])
def test_keras_files_hold_the_kernel_and_its_adapter(dora, stored, tmp_path):
    inputs = keras.Input(X.shape[1:])
    layer = adapted_linear(dora=dora, stored=stored)
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(X), layer(X), atol=1e-5)

    expected, file = np.asarray(layer(X)), tmp_path / "model.weights.h5"
    model.save_weights(file)
    for weight in model.weights:
        weight.assign(np.ones(weight.shape))
    model.load_weights(file)
    np.testing.assert_array_equal(layer(X), expected)
    if stored == "int8":
        plain = keras.Sequential([keras.Input(X.shape[1:]), Linear(3)])
        plain.save_weights(file)
        with pytest.raises(ValueError, match="before the kernel is stored as int8"):
            model.load_weights(file)


# Models


@pytest.fixture(scope="module")
def plain():
    """For tests that leave it plain."""
    return tiny_model(num_layers=1)


def perturb_adapters(model, scale=0.1):
    """Adapters moved at random, so that they change the answer; they are all that is trainable."""
    return perturbed(model, scale, seed=6)


def logits_of(model, inputs=INPUTS):
    return np.asarray(ops.cast(model(inputs), "float32"))


@pytest.mark.slow(but=["llama-dora"])
@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("variant", ["default", "llama"])
def test_adapters_change_nothing_at_first(variant, kind):
    model = tiny_model(num_layers=1, **VARIANTS[variant])
    expected, plain = logits_of(model), {w.path: np.asarray(w) for w in model.weights}
    add_adapters(model, rank=3, kind=kind)
    np.testing.assert_allclose(logits_of(model), expected, atol=1e-6)

    frozen = {w.path: np.asarray(w) for w in model.non_trainable_weights}
    assert frozen.keys() == plain.keys()
    assert all(np.array_equal(frozen[path], plain[path]) for path in plain)
    names = {"lora_kernel_a", "lora_kernel_b"} | ({"lora_magnitude"} if kind == "dora" else set())
    kernels = {path.removesuffix("/kernel") for path in plain if path.endswith("/kernel")}
    trained = {w.path: w.dtype for w in model.trainable_weights}
    assert trained == {f"{path}/{name}": "float32" for path in kernels for name in names}

    perturb_adapters(model)
    assert np.abs(logits_of(model) - expected).max() > 0.1


def test_targets_and_counts():
    model = tiny_model(num_layers=1)
    plain = sum(w.size for w in model.get_weights())
    add_adapters(model, rank=5, targets=["query", "contract"], kind="dora")
    # Three attentions (24 -> 24) and two feed-forward layers (13 -> 24): A, B and m of each.
    trained = 3 * (24 * 5 + 5 * 24 + 24) + 2 * (13 * 5 + 5 * 24 + 24)
    assert trainable_summary(model) == {
        "trained": trained,
        "trained_bytes": 4 * trained,
        "frozen": plain,
        "frozen_bytes": 4 * plain,
    }


@pytest.mark.slow(but=["default-int8-3.0"])
@pytest.mark.parametrize(
    ("variant", "base_dtype", "factor"), [("untied", "bfloat16", 1.8), ("default", "int8", 3.0)]
)
def test_a_stored_base_is_smaller_and_answers_nearly_the_same(variant, base_dtype, factor):
    def kernel_bytes():
        held = [w for w in model.weights if w.name in ("kernel", "kernel_scale")]
        return sum(np.asarray(w).nbytes for w in held)

    model = tiny_model(num_layers=1, **VARIANTS[variant])
    expected, before, plain = logits_of(model), kernel_bytes(), trainable_summary(model)
    paths = {w.path for w in model.weights}
    add_adapters(model, rank=1, base_dtype=base_dtype)
    assert before / kernel_bytes() >= factor
    assert paths <= {w.path for w in model.weights}
    dtypes = {w.name: w.dtype for w in model.non_trainable_weights}
    assert dtypes["kernel"] == base_dtype
    tables = {dtypes[name] for name in dtypes if name.endswith("embeddings")}
    assert tables == {"bfloat16"}
    assert plain["trained_bytes"] / trainable_summary(model)["frozen_bytes"] > 1.7
    # Logits of these models are of the size of 5.
    difference = logits_of(model) - expected
    assert 0 < np.sqrt(np.mean(difference**2)) < 0.05 * np.std(expected)


@pytest.mark.slow(but=["CausalLM-dora-int8-mixed_bfloat16"])
@pytest.mark.parametrize(
    ("task", "kind", "base_dtype", "dtype"),
    [
        (Seq2SeqLM, "lora", None, "float32"),
        (CausalLM, "dora", "int8", "mixed_bfloat16"),
        (CausalLM, "dora", "bfloat16", "float32"),
    ],
)
def test_fit_changes_adapters_only(task, kind, base_dtype, dtype):
    inputs = INPUTS if task is Seq2SeqLM else {"token_ids": INPUTS["decoder_token_ids"]}
    batches = {name: np.tile(ids, (5, 1)) for name, ids in inputs.items()}
    model = task(tiny_config(num_layers=1, dropout=0.1), dtype=dtype)
    add_adapters(model, kind=kind, base_dtype=base_dtype)
    model.compile(adamw(2e-2), jit_compile=False)  # nothing worth compiling
    before = {w.path: ops.convert_to_numpy(w) for w in model.weights}
    labels = np.tile(LABELS, (5, 1))
    history = model.fit(batches, labels, batch_size=3, epochs=2, verbose=0).history
    assert history["loss"][1] < 0.9 * history["loss"][0]
    for weight in model.weights:
        same = np.array_equal(before[weight.path], ops.convert_to_numpy(weight))
        assert same != ("/lora_" in weight.path), weight.path


def test_what_was_traced_without_adapters_is_traced_again():
    model = tiny_causal(num_layers=1)
    model.compile(jit_compile=False)
    before = model.predict({"token_ids": SOURCE}, verbose=0)
    add_adapters(model)
    perturb_adapters(model)
    after = model.predict({"token_ids": SOURCE}, verbose=0)
    np.testing.assert_allclose(after, logits_of(model, {"token_ids": SOURCE}), atol=1e-5)
    assert np.abs(after - before).max() > 0.1


@pytest.mark.slow(but=["tiny_model-dora-int8"])
@pytest.mark.parametrize(
    ("new_model", "kind", "base_dtype"),
    [
        (tiny_model, "lora", None),
        (tiny_model, "dora", "int8"),
        (tiny_causal, "lora", "int8"),
        (tiny_causal, "lora", "bfloat16"),
        (tiny_causal, "dora", None),
    ],
)
def test_merged_answers_as_adapted(new_model, kind, base_dtype):
    inputs = INPUTS if new_model is tiny_model else {"token_ids": SOURCE}
    model = new_model(num_layers=1, **VARIANTS["llama"])
    paths = [w.path for w in model.weights]
    add_adapters(model, rank=3, kind=kind, base_dtype=base_dtype)
    perturb_adapters(model)
    plain = merge_adapters(model)
    assert type(plain) is type(model) and plain.config == model.config
    assert [w.path for w in plain.trainable_weights] == paths
    assert {w.dtype for w in plain.weights} == {"float32"}
    np.testing.assert_allclose(logits_of(plain, inputs), logits_of(model, inputs), atol=1e-5)


def test_merged_of_a_mixed_model_is_float32():
    model = Seq2SeqLM(tiny_config(num_layers=1), dtype="mixed_bfloat16")
    add_adapters(model, base_dtype="int8")
    plain = merge_adapters(model)
    assert plain.dtype_policy.name == "float32"
    np.testing.assert_allclose(logits_of(plain), logits_of(model), atol=0.1)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"rank": 2.0}, "rank is 2.0"),
        ({"rank": True}, "rank is True"),
        ({"alpha": 0}, "alpha is 0"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"kind": "qlora"}, "kind is 'qlora'"),
        ({"base_dtype": "int4"}, "base_dtype is 'int4'"),
        ({"targets": ()}, r"targets is \[\]"),
        ({"targets": ("gate",)}, "no layer 'gate'"),
        ({"targets": ("query", "kye")}, "no layer 'kye'.\n  Targets of this model: contract, exp"),
    ],
)
def test_refused_arguments(argument, message, plain):
    with pytest.raises(InputError, match=message):
        add_adapters(plain, **argument)
    assert len(plain.trainable_weights) == len(plain.weights), "nothing has been frozen"


def test_adapters_are_added_once():
    model = tiny_model(num_layers=1)
    add_adapters(model)
    with pytest.raises(InputError, match="adapters already"):
        add_adapters(model, targets=["key"])


# Files


def adapted(new_model=tiny_model, **arguments):
    model = new_model(num_layers=1)
    add_adapters(model, **{"rank": 3, "kind": "dora", **arguments})
    return perturb_adapters(model)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """Of a file of adapters for `plain`."""
    path = tmp_path_factory.mktemp("content") / "adapters.safetensors"
    save_adapters(path, adapted())
    return path.read_bytes()


@pytest.fixture
def file(content, tmp_path):
    path = tmp_path / "adapters.safetensors"
    path.write_bytes(content)
    return path


@pytest.mark.slow(but=["dora-tiny_causal"])
@pytest.mark.parametrize(("kind", "new_model"), [("lora", tiny_model), ("dora", tiny_causal)])
def test_saved_adapters_load_into_a_fresh_model(kind, new_model, tmp_path):
    inputs = INPUTS if new_model is tiny_model else {"token_ids": SOURCE}
    model = adapted(new_model, kind=kind, targets=["query", "contract"], alpha=7.0)
    path = tmp_path / "new" / "adapters.safetensors"
    save_adapters(path, model)
    assert [*path.parent.iterdir()] == [path]
    tensors = safetensors.numpy.load_file(path)
    assert tensors.keys() == {w.path for w in model.trainable_weights}
    assert "decoder/block_0/attention/query/lora_kernel_a" in tensors

    again = new_model(num_layers=1)
    fresh = new_model(num_layers=1, dropout=0.3)  # which changes the random state
    fresh.set_weights(again.get_weights())
    load_adapters(path, fresh)
    np.testing.assert_allclose(logits_of(fresh, inputs), logits_of(model, inputs), atol=1e-6)
    assert {w.path for w in fresh.trainable_weights} == tensors.keys()

    add_adapters(again, 3, 7.0, ["query", "contract"], kind)
    load_adapters(str(path), again)
    np.testing.assert_allclose(logits_of(again, inputs), logits_of(model, inputs), atol=1e-6)


def test_a_file_is_replaced_at_once(tmp_path, monkeypatch):
    path, model = tmp_path / "adapters.safetensors", adapted()
    save_adapters(path, model)
    before = path.read_bytes()
    perturb_adapters(model)

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(InputError, match="No space left"):
        patch.setattr("os.fsync", no_space)
        save_adapters(path, model)
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]
    save_adapters(path, model)
    assert path.read_bytes() != before
    with pytest.raises(InputError, match="cannot be written"):
        save_adapters(path / "below_a_file", model)


def test_a_plain_model_has_nothing_to_save(plain, tmp_path):
    with pytest.raises(InputError, match="no adapters to save"):
        save_adapters(tmp_path / "adapters.safetensors", plain)


@pytest.mark.parametrize(
    ("new_model", "changes", "message"),
    [
        (tiny_model, {"num_layers": 2}, "num_layers is 1, expected 2"),
        (tiny_model, {"hidden_dim": 30}, "query/lora_kernel_a is (24, 3), expected (30, 3)"),
        (tiny_causal, {}, "model is Seq2SeqLM, expected CausalLM"),
    ],
    ids=["deeper", "wider", "causal"],
)
def test_adapters_of_another_model_are_refused(new_model, changes, message, file):
    other = new_model(**{"num_layers": 1, **changes})
    with pytest.raises(InputError) as error:
        load_adapters(file, other)
    assert str(error.value).startswith(f"{file} does not fit the model:\n  ")
    assert message in str(error.value)
    assert len(other.trainable_weights) == len(other.weights), "the model is as before"


def test_other_settings_are_refused(file):
    model = adapted(rank=5, alpha=8.0, kind="lora", targets=["query"])
    with pytest.raises(InputError) as error:
        load_adapters(file, model)
    for problem in ("kind is dora, expected lora", "rank is 3, expected 5", "alpha is 16.0, expec"):
        assert problem in str(error.value)


def rewrite(path, tensors=None, facts=None):
    """The file with other contents, under a checksum that fits."""
    with safetensors.safe_open(path, "numpy") as opened:
        old = json.loads(opened.metadata()["adapters"])
    tensors = safetensors.numpy.load_file(path) if tensors is None else tensors
    text = facts if isinstance(facts, str) else json.dumps(old | (facts or {}))
    metadata = {"adapters": text, "sha256": lora._digest(text, tensors)}
    safetensors.numpy.save_file(tensors, path, metadata)


def test_tensors_that_do_not_fit_are_named(file, plain):
    tensors = safetensors.numpy.load_file(file)
    a = "encoder/block_0/attention/query/lora_kernel_a"
    b, m = a.replace("_a", "_b"), a.replace("kernel_a", "magnitude")
    tensors["head/lora_kernel_a"] = tensors.pop(a)
    rewrite(file, {**tensors, b: np.zeros((24, 3)), m: np.zeros(7)})
    with pytest.raises(InputError) as error:
        load_adapters(file, plain)
    assert str(error.value).splitlines()[1:] == [
        f"  {a} is missing",
        f"  {b} is (24, 3), expected (3, 24)",
        f"  {m} is (7,), expected (24,)",
        "  head/lora_kernel_a is not part of it",
    ]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"rank": 10**9}, "expected (24, 1000000000)"),
        ({"rank": "3"}, "rank is '3'"),
        ({"targets": ["query", ["key"]]}, "targets is"),
        ({"targets": ["gate"]}, "is not part of it"),
        ({"alpha": None}, "alpha is None"),
        ({"kind": []}, "kind is []"),
        ("[" * 100_000, "cannot be read"),
        ('"text"', "holds no adapters"),
    ],
)
def test_hostile_facts_are_refused(facts, message, file, plain):
    rewrite(file, facts=facts)
    with pytest.raises(InputError) as error:
        load_adapters(file, plain)
    assert str(file) in str(error.value) and message in str(error.value)


def test_what_is_no_file_of_adapters(plain, tmp_path):
    (tmp_path / "text").write_text("query,key\n")
    (tmp_path / "empty").touch()
    safetensors.numpy.save_file({"a": np.ones(3)}, tmp_path / "weights")
    for name in ("text", "empty", "absent", "."):
        with pytest.raises(InputError, match="cannot be read"):
            load_adapters(tmp_path / name, plain)
    with pytest.raises(InputError, match="holds no adapters"):
        load_adapters(tmp_path / "weights", plain)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path, model = tmp_path_factory.mktemp("small") / "file", adapted(targets=["query"])
    save_adapters(path, model)
    return path, path.read_bytes(), model


@settings(max_examples=60)
@given(data=st.data())
def test_no_damage_goes_unnoticed(small, data):
    path, content, model = small
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        damaged = content[:at]
    else:
        flipped = content[at] ^ data.draw(st.integers(1, 255))
        damaged = content[:at] + bytes([flipped]) + content[at + 1 :]
    path.write_bytes(damaged)
    before = model.get_weights()
    try:
        load_adapters(path, model)
    except InputError as error:
        assert str(path) in str(error)
    # What is accepted is what was saved: blanks of the header may be of another kind.
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@needs_jax
def test_adapters_on_jax(plain, tmp_path):
    model = adapted(base_dtype="int8")
    save_adapters(tmp_path / "adapters.safetensors", model)
    weights = {str(i): weight for i, weight in enumerate(plain.get_weights())}
    np.savez(tmp_path / "plain.npz", logits=logits_of(model), **weights)
    run_on_jax(
        """
        import sys
        import numpy as np
        from test_lora import INPUTS, LABELS
        from tiny_models import tiny_config
        from tfx_transformer.models.lora import add_adapters, load_adapters, merged
        from tfx_transformer.models.tasks import Seq2SeqLM
        from tfx_transformer.training.optimizers import adamw

        model = Seq2SeqLM(tiny_config(num_layers=1))
        arrays = np.load(sys.argv[1] + "/plain.npz")
        model.set_weights([arrays[str(i)] for i in range(len(model.weights))])
        add_adapters(model, rank=3, kind="dora", base_dtype="int8")
        load_adapters(sys.argv[1] + "/adapters.safetensors", model)
        np.testing.assert_allclose(model(INPUTS), arrays["logits"], atol=1e-4)
        np.testing.assert_allclose(merged(model)(INPUTS), arrays["logits"], atol=1e-4)

        model.compile(adamw(1e-2))
        frozen = [np.asarray(weight) for weight in model.non_trainable_weights]
        losses = model.fit(INPUTS, LABELS, epochs=6, verbose=0).history["loss"]
        assert losses[-1] < losses[0], losses
        for old, weight in zip(frozen, model.non_trainable_weights, strict=True):
            np.testing.assert_array_equal(old, weight)
        """,
        str(tmp_path),
    )
