"""The bag of tokens of an embedder."""

import itertools

import keras
import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import CountVectorizer
from tiny_models import perturbed, tiny_config, tiny_encoder

from tfx_transformer import config_for_fine_tuning
from tfx_transformer.data.sentence_pair import SentencePairs
from tfx_transformer.errors import InputError
from tfx_transformer.layers import TokenBag
from tfx_transformer.models.encoders import Embedder, MaskedLM, copy_weights
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training import EmbedderRun, begin_bag
from tfx_transformer.training.bags import token_parts, token_vectors

IDS = np.array([[1, 5, 9, 5, 2], [1, 7, 2, 0, 0], [1, 9, 8, 2, 0]], "int32")
TEXTS = ["a cat sees a dog", "the dogs saw cats", "nobody is here", "here is a cat"]


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    return perturbed(tiny_encoder(Embedder, bag_dim=7))


def test_a_bag_by_hand():
    bag = TokenBag(11, 3)
    bag.build((None, None))
    table = np.arange(33, dtype="float32").reshape(11, 3)
    bag.table.embeddings.assign(table)
    found = bag(IDS, IDS != 0)
    assert found.numpy().tolist() == [
        (table[1] + 2 * table[5] + table[9] + table[2]).tolist(),
        (table[1] + table[7] + table[2]).tolist(),
        (table[1] + table[9] + table[8] + table[2]).tolist(),
    ]


def test_training_drops_whole_tokens():
    bag = TokenBag(4, 2, dropout=0.5)
    bag.build((None, None))
    bag.table.embeddings.assign([[0, 0], [1, 10], [0, 0], [0, 0]])
    ids = np.ones((50, 1), "int32")
    found = bag(ids, ids != 0, training=True).numpy()
    assert {tuple(row) for row in found.tolist()} == {(0, 0), (2, 20)}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_cosine_is_shared(model, share):
    model.set_share(share)
    x, mask = model.encode({"token_ids": IDS})
    deep = np.asarray(model.pool_and_project(x, mask))
    bag = unit(model.bag.table.embeddings.numpy()[IDS].sum(1, where=(IDS != 0)[..., None]))
    found = np.asarray(model(IDS))
    assert found.shape == (3, 24 + 7) and model.config.vector_dim == 31
    expected = share * deep @ deep.T + (1 - share) * bag @ bag.T
    np.testing.assert_allclose(found @ found.T, expected, atol=1e-5)
    pairs = model({"token_ids": IDS, "pair_token_ids": IDS[::-1]})
    np.testing.assert_allclose(pairs, expected[:, ::-1], atol=1e-5)


@pytest.mark.parametrize(
    ("token", "parts"),
    [
        (" Cat", [" c", "ca", "at", "t ", " ca", "cat", "at ", "\0cat"]),
        ("ing", ["in", "ng", "ing", "\0ing"]),
        ("7", ["7 ", "\0" + "7"]),
        ("ｶﾞ犬", ["ガ", "犬", "ガ犬", "\0ガ犬"]),
        ("ကခ", ["က", "ခ", "ကခ", "\0ကခ"]),  # Burmese
        ("កខ", ["ក", "ខ", "កខ", "\0កខ"]),  # Khmer
        ("ཀཁ", ["ཀ", "ཁ", "ཀཁ", "\0ཀཁ"]),  # Tibetan
        (" ", []),
        ("", []),
    ],
)
def test_parts_of_tokens_by_hand(token, parts):
    assert token_parts(token) == parts


def test_cosines_begin_as_those_of_tf_idf_on_parts(monkeypatch):
    """The parts of a sign weigh 0.3 of what those of words do."""
    monkeypatch.setattr("tfx_transformer.training.bags._TEXTS", 3)  # texts of one block
    texts = [f"{text} ." for text in TEXTS]
    tokens = ["", *sorted({f" {word}" for text in texts for word in text.split()})]
    rows = [[tokens.index(f" {word}") for word in text.split()] for text in texts]
    counter = CountVectorizer(analyzer=lambda text: list(
        itertools.chain.from_iterable(token_parts(f" {word}") for word in text.split())
    ))  # fmt: skip
    counts = counter.fit_transform(texts).toarray()
    weights = np.log((1 + len(texts)) / (0.5 + (counts > 0).sum(0)))
    for part in set(token_parts(" .")):
        weights[counter.vocabulary_[part]] *= 0.3
    exact = unit(counts * weights)
    vectors = token_vectors(tokens, rows, 20_000)
    assert not vectors[0].any()
    assert np.linalg.norm(vectors[1:], axis=1).mean() == pytest.approx(1)
    found = unit(np.array([vectors[row].sum(0) for row in rows]))
    np.testing.assert_allclose(found @ found.T, exact @ exact.T, atol=0.03)


def test_a_new_bag_ranks_pairs_by_what_their_words_share():
    pairs = SentencePairs(TEXTS * 2, [*TEXTS[1:], TEXTS[0], *TEXTS], None, list(range(8)))
    tokenizer = Tokenizer.train(pairs.texts() * 3, 400)
    # The model has room for more tokens than there are.
    model = tiny_encoder(Embedder, bag_dim=512, vocabulary_size=tokenizer.vocabulary_size + 3)
    begin_bag(model, tokenizer, pairs, 1)
    model.set_share(0)
    ids = [tokenizer.encode(text) for text in ("the cat saw dogs", "dogs saw cats", "nobody")]
    rows = np.array([row + [0] * (19 - len(row)) for row in ids], "int32")
    found = np.asarray(model(rows))
    assert found[0] @ found[1] > 0.15 + found[0] @ found[2]


def test_the_share_is_the_best_on_held_out_pairs(model, tmp_path, monkeypatch):
    """The encoder knows half of the score, the bag of tokens the other half."""
    random = np.random.default_rng(5)
    halves = random.uniform(-1, 1, (2, 40))
    scores = list(halves.sum(axis=0))
    pairs = SentencePairs(["a"] * 40, ["b"] * 40, scores, list(range(40)))
    run = EmbedderRun("r", {}, root=tmp_path)
    run.held_out, run.measure = pairs, "spearman"

    def vectors():
        """Vectors of (bag, encoder), whose cosines are the halves."""
        share = float(np.squeeze(model.share.numpy()))
        angles = np.arccos(halves)
        first = np.tile([1.0, 0.0, 1.0, 0.0], (40, 1))
        second = np.stack([f(a) for a in angles for f in (np.cos, np.sin)], axis=1)
        weights = np.sqrt([1 - share, 1 - share, share, share])
        return first * weights, second * weights

    monkeypatch.setattr(run, "_vectors", vectors)
    run.choose_share(model)
    first, second = vectors()
    assert float(np.squeeze(model.share.numpy())) == pytest.approx(0.5)
    assert spearmanr((first * second).sum(1), scores).statistic == pytest.approx(1)
    run.held_out = pairs.take(range(29))
    model.set_share(0.25)
    run.choose_share(model)
    assert float(np.squeeze(model.share.numpy())) == 0.25, "too few to choose"


def test_only_an_embedder_gives_its_bag_to_another(model):
    plain = config_for_fine_tuning(model.config)
    assert plain.bag_dim == 0
    again = Embedder(config_for_fine_tuning(model.config, bag_dim=7))
    model.set_share(0.25)
    copy_weights(again, model)
    np.testing.assert_allclose(again(IDS), model(IDS), atol=1e-6)
    copy_weights(again, tiny_encoder(MaskedLM))
    np.testing.assert_array_equal(again.bag.table.embeddings, model.bag.table.embeddings)


def test_what_a_bag_cannot_be():
    with pytest.raises(InputError, match="bag_dim is 7 and normalize is false"):
        tiny_config(bag_dim=7, normalize=False)
    with pytest.raises(InputError, match="bag_dim is -1"):
        tiny_config(bag_dim=-1)
    with pytest.raises(ValueError, match="the share is"):
        tiny_encoder(Embedder).set_share(0.5)


def test_tf_idf_finds_no_text_without_a_common_word(tmp_path):
    """All cosines of the first pair are 0, so its own second text is not nearer than another."""
    pairs = SentencePairs(["a cat", "a dog"], ["猫", "dog a"], None, [0, 1])
    run = EmbedderRun("r", {}, root=tmp_path)
    run.held_out = pairs
    assert run._tfidf(pairs).tolist() == [False, True]
