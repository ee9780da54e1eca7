"""States, caches and weights of small models, against the models' own outputs and NumPy."""

import numpy as np
import pytest
from tiny_models import perturbed, tiny_causal, tiny_config, tiny_model

from tfx_transformer.errors import InputError
from tfx_transformer.models import states
from tfx_transformer.models.encoders import Classifier, MaskedLM
from tfx_transformer.text.tokenizer import Tokenizer

IDS = [5, 3, 11, 7, 2]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the cat sees a cat"] * 5, 270)


def masked(**settings):
    return perturbed(MaskedLM(tiny_config(norm_first=False, **settings)))


# Hidden states


@pytest.mark.parametrize("new_model", [tiny_causal, tiny_model, masked])
def test_there_is_one_array_more_than_layers(new_model):
    model = new_model(num_layers=3)
    found = states.hidden_states(model, IDS)
    assert [state.shape for state in found] == [(5, 24)] * 4
    assert all(state.dtype == np.float32 for state in found)
    moved = [np.abs(a - b).max() for a, b in zip(found, found[1:], strict=False)]
    assert min(moved) > 0.01


def test_the_first_is_embeddings_and_positions():
    model = tiny_causal(position="learned", scale_embedding=False)
    weights = {w.path: np.asarray(w.value) for w in model.weights}
    positions = next(value for path, value in weights.items() if "positions" in path)
    expected = weights["embedding/embeddings"][IDS] + positions[: len(IDS)]
    np.testing.assert_allclose(states.hidden_states(model, IDS)[0], expected, atol=1e-6)


def test_from_the_last_the_logits_follow():
    model = tiny_causal(tie_embeddings=False)
    last = states.hidden_states(model, IDS)[-1]
    normal = (last - last.mean(axis=1, keepdims=True)) / np.sqrt(
        last.var(axis=1, keepdims=True) + model.config.norm_epsilon
    )
    norm = model.decoder.final_norm
    x = normal * np.asarray(norm.gamma) + np.asarray(norm.beta)
    logits = model({"token_ids": np.array([IDS])})[0]
    np.testing.assert_allclose(
        x @ np.asarray(model.embedding.reverse_embeddings), logits, atol=1e-4
    )


def test_an_images_regions_have_states():
    config = tiny_config(vocabulary_size=0, image_size=12, patch_size=4, num_classes=3)
    model = perturbed(Classifier(config))
    images = np.random.default_rng(3).uniform(0, 255, (5, 12, 12, 3)).astype("float32")
    found = states.hidden_states(model, images[2])
    assert [state.shape for state in found] == [(9, 24)] * 3
    vectors = states.image_states(model, images, batch_size=2)
    assert vectors.shape == (5, 24)
    expected = np.asarray(model.encode({"images": images})[0]).mean(axis=1)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


@pytest.mark.parametrize("new_model", [tiny_causal, tiny_model, masked])
def test_attention_is_where_each_token_looks(new_model):
    model = new_model(num_layers=3)
    found = states.self_attention(model, IDS)
    assert (found.shape, found.dtype) == ((3, 6, 5, 5), np.float32)
    np.testing.assert_allclose(found.sum(axis=3), 1, atol=1e-5)
    sees_ahead = new_model is not tiny_causal
    assert (found[..., 0, 1:].max() > 0.01) == sees_ahead
    assert np.abs(found[0] - found[1]).max() > 0.01, "each layer and head its own"
    assert np.abs(found[:, 0] - found[:, 1]).max() > 0.01


def test_attention_of_the_first_layer_by_hand():
    model = masked(embedding_norm=False)  # norms stand after the sub-layers
    weights = {w.path: np.asarray(w.value) for w in model.weights}
    x = states.hidden_states(model, IDS)[0]
    part = "encoder/block_0/attention/"
    query, key = (
        (x @ weights[f"{part}{n}/kernel"] + weights[f"{part}{n}/bias"]).reshape(5, 6, 4)
        for n in ("query", "key")
    )
    scores = np.einsum("qhd,khd->hqk", query, key) / 2  # the root of 4
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    expected = powers / powers.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(states.self_attention(model, IDS)[0], expected, atol=1e-5)


def test_pairs_of_tokens_are_part_of_what_is_read():
    model = masked(ngram_buckets=13)
    plain = masked(ngram_buckets=13)
    plain.ngrams.embeddings.assign(np.zeros((13, 24)))
    for read in (states.hidden_states, states.self_attention):
        assert np.abs(np.array(read(model, IDS)) - np.array(read(plain, IDS))).max() > 0.01
    expected = np.asarray(model.encode({"token_ids": np.array([IDS])})[0])[0].mean(axis=0)
    np.testing.assert_allclose(states.mean_states(model, [IDS])[0], expected, atol=1e-5)


# One vector for a text


@pytest.mark.slow(but=["tiny_model", "masked"])
@pytest.mark.parametrize("new_model", [tiny_causal, tiny_model, masked])
def test_the_mean_of_a_batch_is_that_of_each_text_alone(new_model):
    model = new_model()
    rows = [[5, 3, 11], [7], [2, 13, 17, 19, 11, 5, 3], [4, 6]]
    together = states.mean_states(model, rows, batch_size=3)
    assert (together.shape, together.dtype) == ((4, 24), np.float32)
    alone = states.mean_states(model, rows, batch_size=1)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    stack = model.decoder if model.task == "causal" else model.encoder
    expected = np.asarray(stack(model.embedding(np.array(rows[2:3])), training=False))[0]
    np.testing.assert_allclose(together[2], expected.mean(axis=0), atol=1e-5)


def test_what_each_model_reads_of_a_text(tokenizer):
    size = tokenizer.vocabulary_size
    ids = tokenizer.encode("the cat sees")
    start, end = tokenizer.start_id, tokenizer.end_id
    read = {
        new.__name__: states.text_ids(new(vocabulary_size=size), tokenizer, "the cat sees")
        for new in (tiny_causal, tiny_model, masked)
    }
    assert read["tiny_causal"] == ids
    assert read["tiny_model"] == [*ids, end]
    assert read["masked"] == [start, *ids, end]
    short = masked(vocabulary_size=size, max_sequence_length=5)
    assert len(states.text_ids(short, tokenizer, "a cat " * 50)) == 5


# Caches


def test_a_cache_grows_by_a_slot_a_step(tokenizer):
    model = tiny_causal(vocabulary_size=tokenizer.vocabulary_size, num_key_value_heads=2)
    prompt = "the cat"
    found = states.cache_states(model, tokenizer, prompt, steps=5)
    length, steps = len(tokenizer.encode(prompt)), len(found.keys)
    assert 1 <= steps <= 5
    assert found.keys.shape == found.values.shape == (steps, 2, length - 1 + steps)
    assert len(found.tokens) == length - 1 + steps
    assert "".join(found.tokens).startswith(prompt)
    for norms in (found.keys, found.values):
        filled = norms > 0
        for step in range(steps):
            assert filled[step, :, : length + step].all()
            assert not filled[step, :, length + step :].any()
        # What stands in a slot stays.
        last = norms[-1][None].repeat(steps, axis=0)
        np.testing.assert_allclose(norms[filled], last[filled], atol=1e-6)


def test_the_norms_are_those_of_keys_computed_in_one_pass(tokenizer):
    model = tiny_causal(vocabulary_size=tokenizer.vocabulary_size)
    prompt = "the cat sees a cat"
    ids = tokenizer.encode(prompt)
    found = states.cache_states(model, tokenizer, prompt, steps=1)
    cache = model.prefill(np.array([ids]), model.new_cache(1, len(ids)))
    for layer, (key, value) in enumerate(cache):
        for norms, x in ((found.keys, key), (found.values, value)):
            expected = np.sqrt((np.asarray(x)[0] ** 2).sum(axis=(0, 2)))
            np.testing.assert_allclose(norms[0, layer], expected, atol=1e-5)


def test_an_encoder_decoder_caches_what_it_writes(tokenizer):
    model = tiny_model(vocabulary_size=tokenizer.vocabulary_size, num_decoder_layers=3)
    found = states.cache_states(model, tokenizer, "the cat sees", steps=4)
    steps = len(found.keys)
    assert found.keys.shape == (steps, 3, steps)
    assert found.tokens[0] == "<s>"
    assert (found.keys[-1] > 0).all()


def test_what_has_no_cache(tokenizer):
    with pytest.raises(InputError, match="'masked' writes nothing"):
        states.cache_states(masked(), tokenizer, "cat")
    model = tiny_causal(vocabulary_size=tokenizer.vocabulary_size, max_sequence_length=3)
    with pytest.raises(InputError, match=r"the prompt has \d+ tokens, the model holds 3"):
        states.cache_states(model, tokenizer, "the cat sees a cat")
    with pytest.raises(InputError, match="steps is 0"):
        states.cache_states(model, tokenizer, "cat", steps=0)


# Weights


def test_norms_are_numpys():
    model = tiny_causal()
    rows = states.weight_norms(model)
    assert {row["path"] for row in rows} == {w.path for w in model.weights if "seed" not in w.path}
    (row,) = [r for r in rows if r["path"] == "decoder/block_1/feed_forward/expand/kernel"]
    kernel = np.asarray(
        next(w.value for w in model.weights if w.path == row["path"]), dtype="float64"
    )
    assert row["shape"] == [24, 13]
    assert row["norm"] == pytest.approx(np.sqrt((kernel**2).sum()))
    assert row["mean"] == pytest.approx(kernel.sum() / kernel.size)
    assert row["std"] == pytest.approx(kernel.std())


def test_distance_by_hand():
    before, after = tiny_causal(), tiny_causal()
    path = "decoder/block_0/attention/query/kernel"
    weights = {model: {w.path: w for w in model.weights} for model in (before, after)}
    weights[after][path].assign(-3 * weights[before][path])
    zeros = "decoder/block_0/attention/query/bias"
    weights[before][zeros].assign(np.zeros(24))
    weights[after][zeros].assign(np.full(24, 0.5))
    rows = {row.pop("path"): row for row in states.weight_distance(before, after)}
    norm = np.linalg.norm(np.asarray(weights[before][path], "float64"))
    assert rows.pop(path) == pytest.approx(
        {"norm": norm, "cosine": -1, "euclidean": 4 * norm, "relative_change": 4}
    )
    assert rows.pop(zeros) == {
        "norm": 0,
        "cosine": None,
        "euclidean": pytest.approx(np.sqrt(24 * 0.25)),
        "relative_change": None,
    }
    for row in rows.values():
        assert (row["euclidean"], row["relative_change"]) == (0, 0)
        assert row["cosine"] == pytest.approx(1)


def test_models_of_two_architectures():
    with pytest.raises(InputError, match=r"(?s)not of one architecture.*is in one of them only"):
        states.weight_distance(tiny_causal(), tiny_causal(num_layers=3))
    with pytest.raises(InputError, match=r"kernel has shape \(24, 13\) and \(24, 17\)"):
        states.weight_distance(tiny_causal(), tiny_causal(intermediate_dim=17))
