"""Frozen kernels in 4 bits: the format against NumPy written anew, gradients against those through
the dequantized kernel, models trained, saved, merged and read one tensor at a time."""

from __future__ import annotations

import re
import sys
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from on_jax import needs_jax, run_on_jax
from tiny_models import VARIANTS, perturbed, tiny_causal

from tfx_transformer.errors import InputError
from tfx_transformer.layers import Linear, four_bit
from tfx_transformer.models.lora import (
    add_adapters,
    merge_adapters,
    settings_of,
    trainable_summary,
)
from tfx_transformer.models.pretrained import from_pretrained
from tfx_transformer.models.pretrained.checkpoint import StoredTensor
from tfx_transformer.models.pretrained.describing import describe_source
from tfx_transformer.models.saving import load, save
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training.optimizers import adamw

sys.path.insert(0, str(Path(__file__).parent / "conformance"))
from fixtures import fixture_of  # noqa: E402
from weights import write_checkpoint  # noqa: E402

IDS = np.random.default_rng(0).integers(3, 23, (3, 7)).astype("int32")


def kernel_of(inputs, units, seed=1):
    return np.random.default_rng(seed).normal(0, 0.3, (inputs, units)).astype("float32")


def by_numpy(codes, scales, ranges, inputs, units):
    """The matrix, one weight at a time, as the docstring of `quantize` describes the format."""
    kernel = np.empty((inputs, units))
    for place in range(inputs * units):
        byte, block = int(codes[place // 2]), place // 64
        low, step = ranges[block // 256]
        level = four_bit.LEVELS[byte >> 4 if place % 2 else byte & 15]
        kernel[place % inputs, place // inputs] = level * (low + step * float(scales[block]))
    return kernel


@pytest.mark.parametrize("shape", [(7, 3), (1, 1), (67, 5), (131, 257)])
def test_the_format_is_what_its_description_says(shape):
    kernel = kernel_of(*shape)
    parts = four_bit.quantize(kernel)
    assert sum(part.nbytes for part in parts) == four_bit.stored_bytes(*shape)
    assert [str(part.dtype) for part in parts] == ["uint8", "uint8", "float32"]
    expected = by_numpy(*parts, *shape)
    found = ops.convert_to_numpy(four_bit.dequantize(*parts, shape))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # The widest gap of levels is 0.304, and a scale is off by 1/510 of its range at most.
    assert np.abs(expected - kernel).max() <= (0.152 + 1 / 510) * np.abs(kernel).max() + 1e-6


def test_each_weight_becomes_the_nearest_level():
    flat = kernel_of(64, 3).T.reshape(3, 64)
    codes, scales, ranges = four_bit.quantize(flat.T)
    scale = ranges[0, 0] + ranges[0, 1] * scales.astype("float32")
    distances = np.abs(flat[..., None] - scale[:, None, None] * four_bit.LEVELS)
    found = np.stack([codes & 15, codes >> 4], -1).reshape(3, 64)
    np.testing.assert_array_equal(found, distances.argmin(-1))


def test_zeros_and_levels_are_kept():
    kernel = np.zeros((64, 3), "float32")
    kernel[:16, 1] = 5 * four_bit.LEVELS
    found = four_bit.dequantize(*four_bit.quantize(kernel), kernel.shape)
    np.testing.assert_allclose(found, kernel, atol=1e-6)


@pytest.mark.parametrize("dora", [False, True])
def test_gradients_are_those_through_the_dequantized_kernel(dora):
    x = np.random.default_rng(2).normal(size=(5, 11)).astype("float32")
    layers = [Linear(7, dora=dora), Linear(7, dora=dora)]
    for layer in layers:
        layer.build(x.shape)
        layer._kernel.assign(kernel_of(11, 7))
    layers[0].store_kernel("nf4")
    parts = [np.asarray(w) for w in layers[0].weights if w.name.startswith("kernel")]
    codes = next(p for p in parts if p.dtype == np.uint8 and p.size > 2)
    scales, ranges = np.asarray(layers[0].kernel_scale), np.asarray(layers[0].kernel_range)
    layers[1]._kernel.assign(by_numpy(codes, scales, ranges, 11, 7))
    for layer in layers:
        layer.enable_lora(3)
        for seed, weight in enumerate(layer.adapter_weights):
            weight.assign(1 + kernel_of(*weight.shape[:1], int(weight.shape[-1]), seed).reshape(-1)[
                : int(np.prod(weight.shape))].reshape(weight.shape))  # fmt: skip
    np.testing.assert_allclose(layers[0](x), layers[1](x), atol=1e-5)
    np.testing.assert_allclose(layers[0].kernel, layers[1].kernel, atol=1e-6)

    import tensorflow as tf

    gradients = []
    for layer in layers:
        value = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(value)
            loss = ops.mean(ops.square(layer(value)))
        weights = [weight.value for weight in layer.adapter_weights]
        gradients.append(tape.gradient(loss, [value, *weights]))
    for ours, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def adapted(kind="dora", **changes):
    model = tiny_causal(num_layers=1, **VARIANTS["llama"], **changes)
    plain = {w.path: np.asarray(w) for w in model.weights}
    add_adapters(model, rank=3, kind=kind, base_dtype="nf4")
    return model, plain


def test_a_batch_may_be_empty():
    layer = Linear(7)
    layer.build((None, 11))
    layer.store_kernel("nf4")
    assert layer(np.empty((0, 11), "float32")).shape == (0, 7)
    assert layer(np.empty((3, 0, 11), "float32")).shape == (3, 0, 7)


def test_only_adapters_change_and_merged_it_answers_the_same():
    model, plain = adapted()
    count = sum(weight.size for weight in plain.values())
    assert trainable_summary(model)["frozen"] == count
    assert settings_of(model)["base_dtype"] == "nf4"
    model.compile(adamw(2e-2), run_eagerly=True)
    before = {w.path: ops.convert_to_numpy(w) for w in model.weights}
    labels = np.tile(IDS[:, :5], (5, 1))
    history = model.fit({"token_ids": labels}, labels, batch_size=3, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    for weight in model.weights:
        same = np.array_equal(before[weight.path], ops.convert_to_numpy(weight))
        assert same != ("/lora_" in weight.path), weight.path
    merged = merge_adapters(model)
    assert {w.path for w in merged.trainable_weights} == plain.keys()
    inputs = {"token_ids": IDS}
    np.testing.assert_allclose(merged(inputs), model(inputs), atol=1e-4)


@pytest.mark.slow(but=["True"])
@pytest.mark.parametrize("dora", [False, True])
def test_keras_files_hold_it(dora, tmp_path):
    x = kernel_of(5, 11)
    layer = Linear(7, dora=dora)
    layer.build(x.shape)
    layer.store_kernel("nf4")
    layer.enable_lora(2)
    for weight in layer.adapter_weights:
        weight.assign_add(kernel_of(1, int(np.prod(weight.shape))).reshape(weight.shape))
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(x), layer(x), atol=1e-5)
    expected = np.asarray(layer(x))
    model.save_weights(tmp_path / "model.weights.h5")
    for weight in model.weights:
        weight.assign(np.ones(weight.shape))
    model.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(layer(x), expected)


@pytest.mark.slow(but=["nf4"])
@pytest.mark.parametrize("base_dtype", ["nf4", "int8"])
def test_a_bundle_is_read_as_it_would_be_stored(base_dtype, tmp_path):
    model = tiny_causal(num_layers=1, vocabulary_size=259)
    save(tmp_path / "base", model, Tokenizer.train([], 259))
    loaded, _ = load(tmp_path / "base", base_dtype=base_dtype)
    for each in (model, loaded):
        keras.utils.set_random_seed(3)
        add_adapters(each, rank=3, base_dtype=base_dtype)
        perturbed(each, 0.1, seed=6)
    expected = {w.path: w for w in model.weights}
    assert expected.keys() == {w.path for w in loaded.weights}
    for weight in loaded.weights:
        assert weight.dtype == expected[weight.path].dtype
        if "seed_generator" not in weight.path:
            np.testing.assert_array_equal(
                ops.cast(weight, "float32"), ops.cast(expected[weight.path], "float32")
            )


class Reader:
    """Counts the bytes of tensors of a checkpoint that are alive at a time."""

    def __init__(self, monkeypatch) -> None:
        self.alive, self.most, self.largest, read = 0, 0, 0, StoredTensor.read

        def counted(tensor, *part):
            array = read(tensor, *part)
            held = array if array.base is None else array.base
            self.alive += held.nbytes
            self.most, self.largest = max(self.most, self.alive), max(self.largest, held.nbytes)
            weakref.finalize(held, self.drop, held.nbytes)
            return array

        monkeypatch.setattr(StoredTensor, "read", counted)

    def drop(self, size: int) -> None:
        self.alive -= size


def test_a_checkpoint_is_read_one_tensor_at_a_time(tmp_path, monkeypatch):
    folder = write_checkpoint(tmp_path / "llama", fixture_of("llama")[0])
    plain, _ = from_pretrained(folder)
    reader = Reader(monkeypatch)
    from_pretrained(folder, base_dtype="nf4")
    assert reader.largest == max(4 * int(np.prod(w.shape)) for w in plain.weights)
    # TensorFlow lets an array go when it takes the next one.
    assert reader.most <= 2 * reader.largest


@pytest.mark.slow(but=["int8-nf4"])
@pytest.mark.parametrize(("stored", "wanted"), [("int8", "nf4"), ("nf4", "bfloat16")])
def test_a_stored_base_keeps_its_form(stored, wanted, tmp_path):
    base = tiny_causal(num_layers=1, vocabulary_size=259)
    save(tmp_path / "base", base, Tokenizer.train([], 259))
    model, tokenizer = load(tmp_path / "base", base_dtype=stored)
    expected = np.asarray(model({"token_ids": IDS}))
    with pytest.raises(InputError, match=f"stored as {stored}.\n  Expected {stored}, or None"):
        add_adapters(model, base_dtype=wanted)
    with pytest.raises(InputError, match="Save what `merge_adapters` returns"):
        save(tmp_path / "stored", model, tokenizer)
    assert not (tmp_path / "stored").exists()
    add_adapters(model)
    np.testing.assert_array_equal(model({"token_ids": IDS}), expected)
    save(tmp_path / "merged", merge_adapters(model), tokenizer)
    merged, _ = load(tmp_path / "merged")
    np.testing.assert_allclose(merged({"token_ids": IDS}), expected, atol=1e-4)


@pytest.mark.parametrize("base_dtype", ["int4", "", "NF4", 4])
def test_other_forms_of_a_base_are_refused(base_dtype, tmp_path):
    expected = f"base_dtype is {base_dtype!r}.\n  Expected bfloat16, int8 or nf4."
    for read in (load, from_pretrained):
        with pytest.raises(InputError, match=re.escape(f"{read.__name__}: {expected}")):
            read(tmp_path, base_dtype=base_dtype)


@pytest.mark.slow(but=["t5-nf4", "vit-int8"])
@pytest.mark.parametrize(
    ("name", "base_dtype"), [("llama", "nf4"), ("qwen2", "int8"), ("t5", "nf4"), ("vit", "int8")]
)
def test_info_counts_the_bytes_of_a_stored_base(name, base_dtype, tmp_path):
    folder = write_checkpoint(tmp_path / name, fixture_of(name)[0])
    memory = describe_source(str(folder)).memory
    for form, key in (("float32", "to run in float32"), (base_dtype, f"--base-dtype {base_dtype}")):
        model, _ = from_pretrained(folder, base_dtype=None if form == "float32" else form)
        expected = sum(np.asarray(w).nbytes for w in model.weights)
        (told,) = (size for use, size in memory.items() if use.endswith(key))
        assert told == expected


@needs_jax
def test_on_jax(tmp_path):
    x, kernel = kernel_of(5, 11), kernel_of(11, 7)
    parts = four_bit.quantize(kernel)
    np.savez(tmp_path / "kernel.npz", x=x, kernel=kernel, dequantized=by_numpy(*parts, 11, 7))
    run_on_jax(
        """
        import sys
        import jax
        import numpy as np
        from tfx_transformer.layers import four_bit

        arrays = np.load(sys.argv[1] + "/kernel.npz")
        x, plain = arrays["x"], arrays["dequantized"].astype("float32")
        parts = four_bit.quantize(arrays["kernel"])

        def ours(x, a, parts):
            return ((four_bit.multiply(x, *parts, (11, 7)) + x @ a) ** 2).mean()

        def expected(x, a):
            return ((x @ plain + x @ a) ** 2).mean()

        a = plain / 3
        found = jax.jit(jax.value_and_grad(ours, (0, 1)))(x, a, parts)
        for one, other in zip(
            jax.tree.leaves(found),
            jax.tree.leaves(jax.value_and_grad(expected, (0, 1))(x, a)),
            strict=True,
        ):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        """,
        str(tmp_path),
    )


@needs_jax
@pytest.mark.slow
def test_no_more_than_one_float_kernel_is_kept():
    """The memory that XLA plans, without weights, adapters and moments, does not grow with the
    layers."""
    run_on_jax(
        """
        from benchmarks.four_bit_memory import step

        settings = {"width": 512, "length": 8, "remat": False}
        two, four = (step("nf4", settings | {"layers": n})["besides, MB"] for n in (2, 4))
        assert four < 1.2 * two, (two, four)
        assert step("nf4-once", settings | {"layers": 4})["besides, MB"] > 3 * four
        """
    )
