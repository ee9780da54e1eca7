"""Neighbouring tokens as vectors, and as logits."""

import keras
import numpy as np
import pytest
from keras import ops

import tfx_transformer as tfx
from tfx_transformer.errors import InputError
from tfx_transformer.layers import NGramEmbedding, NGramLogits

BUCKETS = 10_007


def numbered(buckets):
    """A layer whose vectors are the numbers of their buckets."""
    layer = NGramEmbedding(buckets, 1)
    layer.build((None, None))
    layer.embeddings.assign(np.arange(buckets, dtype="float32")[:, None])
    return layer


def test_buckets_by_hand():
    # 1009 = 1 (mod 7): 0 + 5, 5 + 3, 3 + 4, 4 + 4
    buckets = numbered(7)(np.array([[5, 3, 4, 4]], "int32"))
    assert buckets[0, :, 0].numpy().tolist() == [5, 1, 0, 1]


def test_the_largest_ids_stay_within_int32():
    ids = np.array([[1_999_999, 1_999_999, 1_999_993, 3]], "int32")
    before = [0, *ids[0, :-1].tolist()]
    wanted = [(1009 * a + b) % BUCKETS for a, b in zip(before, ids[0].tolist(), strict=True)]
    assert numbered(BUCKETS)(ids)[0, :, 0].numpy().tolist() == wanted


def classifier(**settings):
    keras.utils.set_random_seed(3)
    return tfx.Classifier(tfx.TransformerConfig.of_size("nano", 97, num_classes=3, **settings))


def test_a_new_table_adds_nothing():
    model = classifier(ngram_buckets=BUCKETS)
    plain = classifier()
    for weight in plain.weights:
        weight.assign(next(w.value for w in model.weights if w.path == weight.path))
    ids = np.array([[1, 50, 60, 70, 2], [1, 80, 2, 0, 0]], "int32")
    np.testing.assert_array_equal(model({"token_ids": ids}), plain({"token_ids": ids}))


def test_padding_has_no_part_in_it():
    model = classifier(ngram_buckets=BUCKETS)
    model.ngrams.embeddings.assign(keras.random.normal((BUCKETS, 64), seed=5))
    short = model({"token_ids": np.array([[1, 50, 60, 2]], "int32")})
    padded = model({"token_ids": np.array([[1, 50, 60, 2, 0, 0, 0]], "int32")})
    np.testing.assert_allclose(short, padded, atol=1e-5)


def test_gradient_reaches_only_the_pairs_of_the_text():
    layer = NGramEmbedding(BUCKETS, 2)
    layer.build((None, None))
    tensorflow = pytest.importorskip("tensorflow")
    with tensorflow.GradientTape() as tape:
        total = ops.sum(layer(np.array([[5, 3]], "int32")))
    gradient = tensorflow.convert_to_tensor(tape.gradient(total, layer.embeddings.value))
    assert set(np.flatnonzero(gradient[:, 0].numpy())) == {5, (1009 * 5 + 3) % BUCKETS}


def test_a_bad_number_of_buckets_is_named():
    with pytest.raises(InputError, match="ngram_buckets is -1"):
        tfx.TransformerConfig.of_size("nano", 97, ngram_buckets=-1)


@pytest.mark.slow(but=["int8"])
@pytest.mark.parametrize(
    ("quantize", "tolerance"), [(None, 1e-4), ("int8", 0.1)], ids=["float32", "int8"]
)
def test_tflite_files_hold_the_table(tmp_path, quantize, tolerance):
    from ai_edge_litert.interpreter import Interpreter

    from tfx_transformer.export.to_litert import convert, operation_names

    longest = 2 if quantize else 3
    model = classifier(ngram_buckets=BUCKETS, linear_buckets=509, linear_longest=longest)
    model.ngrams.embeddings.assign(keras.random.normal((BUCKETS, 64), stddev=0.1, seed=5))
    model.linear.rarity.embeddings.assign(keras.random.uniform((509, 1), seed=6))
    model.linear.kernel.embeddings.assign(keras.random.normal((509, 3), seed=7))
    convert(model, tmp_path / "model.tflite", quantize)
    names = operation_names(tmp_path / "model.tflite")
    # By GATHER rows of int8 numbers are read, and by EMBEDDING_LOOKUP their scales.
    assert "EMBEDDING_LOOKUP" in names and ("GATHER" in names) == (quantize == "int8")
    # One byte a weight, where float32 has four: the table was not left out.
    size = (tmp_path / "model.tflite").stat().st_size / (BUCKETS * 64)
    assert (1 < size < 2) if quantize else (4 < size < 8)
    ids = np.full((1, 16), 0, "int32")
    ids[0, :5] = [1, 50, 60, 70, 2]
    run = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner("run_1x16")
    wanted = model({"token_ids": ids}).numpy()
    np.testing.assert_allclose(run(token_ids=ids)["output"], wanted, atol=tolerance)


# Of [5, 3, 4] in 7 buckets: 53 = 4 and 997 = 3 (mod 7), from 1, 2 and 3 on.
BY_HAND = [
    *(4 + 15, 4 + 9, 4 + 12),
    *(4 * 8 + 15, 4 * (8 + 15) + 9, 4 * (8 + 9) + 12),
    *(4 * 4 * 12 + 15, 4 * 4 * (12 + 0) + 4 * 15 + 9, 4 * (4 * (12 + 15) + 9) + 12),
]


def linear(buckets=7, classes=2, seed=3):
    """A linear classifier with tables at random, and the tables."""
    random = np.random.default_rng(seed)
    rarity, kernel = random.random(buckets), random.normal(size=(buckets, classes))
    layer = NGramLogits(buckets, classes)
    layer.build((None, None))
    layer.rarity.embeddings.assign(rarity[:, None])
    layer.kernel.embeddings.assign(kernel)
    return layer, rarity, kernel


def test_buckets_of_tokens_pairs_and_triples_by_hand():
    found = NGramLogits(7, 2).buckets(np.array([[5, 3, 4]], "int32"))
    assert np.asarray(found)[0].tolist() == [number % 7 for number in BY_HAND]


def test_a_layer_without_triples_has_the_same_tokens_and_pairs():
    ids = np.array([[5, 3, 4, 96, 0]], "int32")
    every = np.asarray(NGramLogits(101, 2).buckets(ids))[0]
    for longest in (1, 2):
        layer = NGramLogits(101, 2, longest)
        assert np.asarray(layer.buckets(ids))[0].tolist() == every[: 5 * longest].tolist()
        assert NGramLogits.from_config(layer.get_config()).longest == longest


def test_linear_logits_by_hand():
    layer, rarity, kernel = linear()
    ids = np.array([[5, 3, 4, 0, 0], [0, 0, 0, 0, 0]], "int32")
    buckets = [number % 7 for number in BY_HAND]
    wanted = rarity[buckets] @ kernel[buckets] / np.sqrt(np.sum(rarity[buckets] ** 2))
    np.testing.assert_allclose(layer(ids, ids != 0), [wanted, [0, 0]], rtol=1e-5, atol=1e-6)


def test_the_largest_ids_of_a_linear_classifier_stay_within_int32():
    ids, most = [1_999_999, 1_999_993, 1_999_979], 2**18
    triple = 3
    for number in ids:
        triple = (53 * triple + 997 * number) % most
    found = NGramLogits(most, 2).buckets(np.array([ids], "int32"))
    assert int(np.asarray(found)[0, -1]) == triple
