"""Vectors of documents and words, against SciPy, scikit-learn and numbers by hand."""

import math

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import pairwise

from tfx_transformer import vectors
from tfx_transformer.data.tables import read_table
from tfx_transformer.errors import InputError
from tfx_transformer.text.tokenizer import Tokenizer

A = np.random.default_rng(1).normal(size=(5, 7))
B = np.random.default_rng(2).normal(size=(3, 7))


# Angle and distance


@pytest.mark.parametrize(
    ("name", "scipys"), [("euclidean", "euclidean"), ("manhattan", "cityblock")]
)
def test_distances_are_scipys(name, scipys):
    expected = scipy.spatial.distance.cdist(A, B, scipys)
    np.testing.assert_allclose(vectors.MEASURES[name](A, B), expected, rtol=0, atol=1e-12)


def test_cosine_is_scikit_learns_that_of_zeros_included():
    with_zeros = np.vstack([A, np.zeros(7)])
    expected = pairwise.cosine_similarity(with_zeros, B)
    np.testing.assert_allclose(vectors.cosine(with_zeros, B), expected, rtol=0, atol=1e-12)


def test_measures_by_hand():
    a, b = [[3.0, 4.0]], [[4.0, 3.0], [-3.0, -4.0], [-4.0, 3.0]]
    found = {name: measure(a, b)[0].tolist() for name, measure in vectors.MEASURES.items()}
    assert found["dot"] == [24, -25, 0]
    assert found["cosine"] == pytest.approx([24 / 25, -1, 0])
    assert found["angle"] == pytest.approx([math.degrees(math.acos(24 / 25)), 180, 90])
    assert found["euclidean"] == pytest.approx([math.sqrt(2), 10, math.sqrt(50)])
    assert found["manhattan"] == [2, 14, 8]


def test_close_vectors_far_from_zero_keep_their_digits():
    a = np.array([[1e8, 1.0]])
    assert vectors.euclidean(a, a + [[0, 1e-3]])[0, 0] == pytest.approx(1e-3, rel=1e-9)


def test_a_vector_and_itself_are_never_beyond_one():
    many = np.random.default_rng(3).normal(size=(101, 13)).astype("float32")
    assert vectors.cosine(many, many).max() <= 1
    assert not np.isnan(vectors.angle(many, many)).any()


def test_nearest_by_each_measure():
    corpus = np.array([[1.0, 0], [0, 5], [2, 0.1], [1, 0], [-1, 0]])
    query = np.array([[1.0, 0.0]])

    def order(measure):
        indices, values = vectors.nearest(query, corpus, 3, measure)
        np.testing.assert_array_equal(
            values, vectors.MEASURES[measure](query, corpus)[:, indices[0]]
        )
        return indices[0].tolist()

    assert order("cosine") == order("angle") == [0, 3, 2]  # of equal ones the earlier
    assert order("euclidean") == order("manhattan") == [0, 3, 2]
    assert order("dot") == [2, 0, 3]


def test_nearest_of_few():
    indices, values = vectors.nearest(A, B, 11)
    assert indices.shape == values.shape == (5, 3)
    assert (np.diff(values, axis=1) <= 0).all()


# Maps and ranks


@pytest.mark.parametrize("shape", [(11, 7), (7, 11), (2, 3), (13, 2)])
def test_components_are_scikit_learns(shape):
    x = np.random.default_rng(5).normal(size=shape) * np.arange(1, shape[1] + 1)
    points, share = vectors.principal_components(x)
    pca = PCA(2, svd_solver="full").fit(x)
    np.testing.assert_allclose(share, pca.explained_variance_ratio_, atol=1e-9)
    strong = share > 1e-12  # two vectors differ in one direction
    np.testing.assert_allclose(points[:, strong], pca.transform(x)[:, strong], atol=1e-9)


@pytest.mark.parametrize("x", [[[1.0, 2.0, 3.0]], [[2.0, 2.0]] * 3])
def test_vectors_without_difference_are_one_point(x):
    points, share = vectors.principal_components(x)
    assert points.tolist() == [[0, 0]] * len(x)
    assert share.tolist() == [0, 0]


def test_one_dimension_has_no_second_component():
    points, share = vectors.principal_components([[1.0], [2.0], [6.0]])
    assert points[:, 0].tolist() == pytest.approx([-2, -1, 3])
    assert points[:, 1].tolist() == [0, 0, 0]
    assert share.tolist() == [1, 0]


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=23))
def test_spearman_is_scipys(pairs):
    a, b = np.array(pairs, float).T
    found = vectors.spearman(a, b)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(scipy.stats.spearmanr(a, b).statistic, abs=1e-9)


def test_spearman_of_what_cannot_be_ranked():
    assert math.isnan(vectors.spearman([1, math.nan, 3], [1, 2, 3]))
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        vectors.spearman([1, 2, 3], [1, 2])


# Documents


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Cats and dogs.", ["cats", "and", "dogs"]),
        ("It's 3 o'clock", ["it", "s", "3", "o", "clock"]),
        ("猫が", ["猫", "が", "猫が"]),
        ("猫です。", ["猫", "で", "す", "猫で", "です", "猫です"]),
        ("猫 が", ["猫", "が"]),
        ("私のiPhoneと", ["私", "の", "私の", "iphone", "と"]),
        ("ＡＢＣ ｶﾞ", ["abc", "ガ"]),  # widths made alike
        ("ひと・コーヒ", [*"ひと", "ひと", *"コーヒ", "コー", "ーヒ", "コーヒ"]),
        ("Ünï été", ["ünï", "été"]),
        ("!? 。、", []),
        ("", []),
    ],
)
def test_terms(text, found):
    assert vectors.terms(text) == found


@given(st.text())
def test_any_text_has_terms_without_blanks(text):
    assert not any(character.isspace() for term in vectors.terms(text) for character in term)


def test_a_bag_of_words_by_hand():
    made = vectors.DocumentVectors.fit(["the cat the dog", "a cat"])
    assert made.words == ["a", "cat", "dog", "the"]
    found = made.transform(["the the cat", "bird", "A dog"])
    assert found.dtype == np.float32
    assert found.tolist() == [[0, 1, 0, 2], [0, 0, 0, 0], [1, 0, 1, 0]]


def test_tf_idf_by_hand():
    made = vectors.DocumentVectors.fit(["x y", "x x", "x"], "tf_idf")
    weights = np.array([2 * (1 + math.log(4 / 4)), 1 + math.log(4 / 2)])
    found = made.transform(["x x y"])[0]
    np.testing.assert_allclose(found, weights / np.linalg.norm(weights), rtol=1e-6)


def test_tf_idf_of_english_is_scikit_learns_own_reading_of_words():
    texts = ["The cat sat.", "Dogs bark at a cat!", "the the dog"]
    plain = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b").fit(texts)
    made = vectors.DocumentVectors.fit(texts, "tf_idf", "words")
    assert made.words == plain.get_feature_names_out().tolist()
    np.testing.assert_allclose(made.transform(texts), plain.transform(texts).toarray(), atol=1e-6)


def test_japanese_texts_are_alike_without_a_space_between_words():
    texts = ["猫が好きです", "猫が嫌いです", "雨が降る"]
    made = vectors.DocumentVectors.fit(texts, "tf_idf")
    near, far = made.cosines(texts[:1] * 2, texts[1:])
    assert near > 2 * far > 0


def test_cosines_are_those_of_the_vectors():
    texts = ["a b c", "b c d", "e", "猫が"]
    made = vectors.DocumentVectors.fit(texts)
    others = ["c b", "a a d", "z", "猫"]
    dense = vectors.cosine(made.transform(texts), made.transform(others))
    np.testing.assert_allclose(made.cosines(texts, others), np.diagonal(dense), atol=1e-7)
    assert made.cosines(texts, others)[2] == 0


def test_only_the_most_frequent_words_are_kept():
    made = vectors.DocumentVectors.fit(["a a a b", "b c"], max_words=2)
    assert made.words == ["a", "b"]


def test_texts_without_a_word():
    with pytest.raises(InputError, match="no word in 2 texts"):
        vectors.DocumentVectors.fit(["!", ""])


@pytest.mark.parametrize(
    ("file", "names", "least"),
    [
        # Just below what was measured; a broken analyzer is far below.
        ("stsb_en/test.csv", ("sentence1", "sentence2"), (0.48, 0.68)),
        ("stsb_ja/test.csv", ("sentence1", "sentence2"), (0.49, 0.56)),
        ("wordsim353.csv", ("word1", "word2"), (0.08, 0.08)),
    ],
)
def test_correlation_with_people(shared_data, file, names, least):
    roles = dict(zip(("a", "b", "score"), (*names, "score"), strict=True))
    columns = read_table(shared_data / "vectors" / file, roles).columns
    scores = [float(score) for score in columns["score"]]
    for weighting, lowest in zip(("count", "tf_idf"), least, strict=True):
        made = vectors.DocumentVectors.fit(columns["a"] + columns["b"], weighting)
        assert vectors.spearman(made.cosines(columns["a"], columns["b"]), scores) > lowest


# Words


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the cat sees a cat", "a cat and the cat", "猫と猫が猫"] * 5, 290)


def test_a_words_vector_is_the_mean_of_its_tokens_rows(tokenizer):
    table = np.random.default_rng(7).normal(size=(tokenizer.vocabulary_size, 11))
    words = ["cat", "zebra", "猫"]
    inside = vectors.word_vectors(table, tokenizer, words)
    assert (inside.shape, inside.dtype) == ((3, 11), np.float32)
    for row, text in zip(inside, [" cat", " zebra", "猫"], strict=True):
        expected = np.mean([table[i] for i in tokenizer.encode(text)], axis=0)
        np.testing.assert_allclose(row, expected, rtol=1e-5)
    beginning = vectors.word_vectors(table, tokenizer, words, leading_space=False)
    assert (np.abs(beginning - inside).max(axis=1) > 0).tolist() == [True, True, False]
    np.testing.assert_array_equal(vectors.word_vectors(table, tokenizer, [" cat "]), inside[:1])


def test_an_empty_word(tokenizer):
    with pytest.raises(InputError, match="word 2 is empty"):
        vectors.word_vectors(np.eye(tokenizer.vocabulary_size), tokenizer, ["cat", " "])
