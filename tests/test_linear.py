"""A linear classifier of n-grams: how it is fitted, its share, and the model it becomes part of."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from tiny_models import CONVOLUTIONS, tiny_encoder

import tfx_transformer as tfx
from tfx_transformer.data import read_labelled_texts
from tfx_transformer.data.labelled_image import decode_images
from tfx_transformer.evaluation import linear
from tfx_transformer.evaluation.blending import blend
from tfx_transformer.evaluation.linear import (
    NGramSettings,
    choose_settings,
    choose_strength,
    fit_ngrams,
    ngram_keys,
    used_keys,
)
from tfx_transformer.text.tokenizer import FINE_PATTERN, PATTERN, Tokenizer
from tfx_transformer.training import classifier_defaults, defaults, fill_in, pieces_pattern
from tfx_transformer.training.linear import (
    bucket_count,
    edge_colors,
    edge_colors_of_files,
    fit_linear,
    hash_ngrams,
    join,
    join_edges,
    ngram_part,
)

CLASSES, BUCKETS = 3, 53
# Left by version 0.1.
INTERRUPTED = Path(__file__).parent / "faults" / "interrupted" / "old"


@pytest.fixture(scope="module")
def texts():
    """Buckets of texts, and their classes, which the buckets say something of."""
    random = np.random.default_rng(5)
    ids = random.integers(0, CLASSES, 41)
    rows = [random.integers(0, 20, 7) + 11 * random.integers(0, 2, 7) * label for label in ids]
    return rows, ids


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_rarity_by_hand():
    weights = fit_ngrams([np.array([1, 1, 4]), np.array([4, 6])], np.array([0, 1]), 2, 7)
    wanted = np.zeros(7)
    wanted[[1, 4, 6]] = np.log(3 / 1.5), np.log(3 / 2.5), np.log(3 / 1.5)
    np.testing.assert_allclose(weights.rarity, wanted, rtol=1e-6)


def test_equal_keys_are_equal_n_grams():
    random = np.random.default_rng(2)
    rows = [random.choice([0, 1, 2, 7, 2**20 - 1], size) for size in (1, 2, 5, 11, 30)]
    named = {}
    for row in rows:
        keys = ngram_keys(row)
        assert keys.shape == (3, len(row))
        filled = [0, 0, *row.tolist()]
        for size in (1, 2, 3):
            for end, key in enumerate(keys[size - 1].tolist()):
                ngram = (size, *filled[end + 3 - size : end + 3])
                assert named.setdefault(key, ngram) == ngram
    assert len(set(named.values())) == len(named)


def test_n_grams_of_too_few_texts_are_not_used():
    keys = [ngram_keys(ids) for ids in ([5, 3, 5], [5, 3], [3])]
    tokens, pairs = keys[0][0], keys[0][1]
    wanted = sorted({tokens[0], tokens[1], pairs[0], pairs[1]})
    found = used_keys(keys, NGramSettings(longest=2, fewest=2))
    assert found.tolist() == wanted, "5 and 3, 5 at the beginning, 3 after 5"
    assert used_keys(keys, NGramSettings(longest=1, fewest=3)).tolist() == [tokens[1]]
    assert len(used_keys(keys, NGramSettings())) > 5


def test_the_features_are_those_of_scikit_learn():
    """With floor 1 the rarity is scikit-learn's idf, but for 1/2 instead of 1 below the line; its
    counts and the norm of a text without a repeated n-gram are the same."""
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(13)
    rows = [np.unique(random.integers(0, 23, 7)) for _ in range(60)]
    ids = np.array([len(row) % 2 for row in rows])
    counts = np.array([np.bincount(row, minlength=23) for row in rows])
    used = counts.sum(axis=0) >= 9
    weights = np.where(used, np.log(61 / (0.5 + counts.sum(axis=0))) + 1, 0)
    wanted = counts * weights / np.linalg.norm(counts * weights, axis=1, keepdims=True)
    model = LogisticRegression(C=3).fit(wanted, ids)
    settings = NGramSettings(fewest=9, floor=1.0, strength=3.0)
    for given in (None, np.flatnonzero(used)):
        found = fit_ngrams(rows, ids, 2, 31, settings, given).logits(rows)
        difference = found[:, 1] - found[:, 0]
        np.testing.assert_allclose(difference, model.decision_function(wanted), atol=0.02)


def words(random, kinds, count, longest):
    """Texts of words at random, and their classes, which a word or pair of words gives away."""
    rows, ids = [], random.integers(0, kinds, count)
    for label in ids.tolist():
        row = random.integers(20, 60, 9)
        place = random.integers(0, 8)
        row[place] = 3 + label if longest == 1 else 3
        row[place + 1] = 10 if longest == 1 else 4 + label
        if longest == 2:  # each of the two words is in texts of all classes, only not as a pair
            row = np.concatenate([row, [4 + (label + 1) % kinds, 70, 3]])
        rows.append(row)
    return rows, ids


def test_settings_are_chosen_for_texts_that_were_not_fitted(monkeypatch):
    random = np.random.default_rng(11)
    rows, ids = words(random, 3, 90, 2)
    keys = [ngram_keys(row) for row in rows]
    settings, loss = choose_settings(keys, ids)
    assert loss < 0.7 * np.log(3)
    assert (settings, loss) == choose_settings(keys, ids), "the same at every call"
    monkeypatch.setattr(linear, "_CHOICES", {})
    assert (settings, loss) == choose_settings(keys, ids), "computed again"
    noise, nothing = choose_settings(keys, random.permutation(ids))
    assert nothing > 0.95 * np.log(3) and noise.strength == 3, "the strongest penalty"
    assert choose_settings(keys[:29], ids[:29]) == (NGramSettings(), 0.0), "too few to choose"
    single = np.zeros(90, int)
    single[7] = 1
    assert np.isfinite(choose_settings(keys, single)[1]), "a class of one text"
    assert choose_settings(keys, np.arange(len(keys))) == (NGramSettings(), 0.0), "one text each"
    pairs = np.arange(len(keys))
    pairs[1] = 0
    assert np.isfinite(choose_settings(keys, pairs)[1]), "two texts of one class, others alone"


def test_a_class_whose_texts_were_not_drawn_chooses_nothing(monkeypatch):
    monkeypatch.setattr("tfx_transformer.evaluation.linear.MOST_TEXTS", 40)
    rows, _ = words(np.random.default_rng(2), 2, 60, 1)
    ids = np.zeros(60, int)
    ids[np.random.default_rng(0).permutation(60)[-1]] = 1
    assert choose_settings([ngram_keys(row) for row in rows], ids) == (NGramSettings(), 0.0)


def test_a_table_keeps_only_n_grams_that_are_used():
    random = np.random.default_rng(4)
    rows, ids = words(random, 3, 60, 1)
    weights, used = fit_linear(rows, ids, 3, 0)
    settings, _ = choose_settings([ngram_keys(row) for row in rows], ids)
    assert used == len(used_keys([ngram_keys(row) for row in rows], settings))
    assert 0 < np.count_nonzero(weights.rarity) <= used
    hashed = hash_ngrams(rows, len(weights.rarity), 0, weights.longest)
    assert np.mean(weights.logits(hashed).argmax(axis=1) == ids) == 1
    fresh, truth = words(np.random.default_rng(5), 3, 60, 1)
    hashed = hash_ngrams(fresh, len(weights.rarity), 0, weights.longest)
    assert np.mean(weights.logits(hashed).argmax(axis=1) == truth) > 0.9


@pytest.mark.parametrize("classes", [2, CLASSES])
def test_the_penalized_likelihood_has_no_slope(texts, classes):
    rows, ids = texts[0], texts[1] % classes
    weights = fit_ngrams(rows, ids, classes, BUCKETS)
    features = np.zeros((len(rows), BUCKETS))
    for feature, row in zip(features, rows, strict=True):
        np.add.at(feature, row, weights.rarity[row])
        feature /= np.sqrt(np.sum(weights.rarity[row] ** 2))
    logits = features @ weights.kernel + weights.bias
    np.testing.assert_allclose(weights.logits(rows), logits, atol=1e-5)
    errors = softmax(logits) - np.eye(classes)[ids]
    assert np.abs(errors.sum(axis=0)).max() < 0.01
    # Of two classes scikit-learn's penalty is on the difference of the two columns.
    penalty = weights.kernel / 10 * (2 if classes == 2 else 1)
    np.testing.assert_allclose(features.T @ errors, -penalty, atol=0.01)


def test_a_class_without_texts_is_never_the_answer(texts):
    rows, ids = texts
    weights = fit_ngrams(rows, np.where(ids == 1, 2, ids), CLASSES, BUCKETS)
    assert set(weights.logits(rows).argmax(axis=1)) == {0, 2}


def test_factors_are_those_of_another_optimizer():
    random = np.random.default_rng(7)
    truth = random.integers(0, CLASSES, 211)
    hint = np.eye(CLASSES)[truth]
    deep, linear = (2 * hint + random.normal(size=hint.shape) for _ in range(2))
    soft = hint * (1 - 1 / 213 - 1 / 426) + 1 / 426

    def loss(shares):
        return -np.mean(np.sum(soft * np.log(softmax(shares[0] * deep + shares[1] * linear)), 1))

    wanted = minimize(loss, [1, 1], method="Nelder-Mead", options={"xatol": 1e-6}).x
    np.testing.assert_allclose(blend(deep, linear, truth), wanted, rtol=1e-3)


def test_what_does_not_help_has_the_factor_0():
    random = np.random.default_rng(3)
    truth = random.integers(0, CLASSES, 101)
    linear = 2 * np.eye(CLASSES)[truth] + random.normal(size=(101, CLASSES))
    noise = random.normal(size=linear.shape)
    assert blend(noise, linear, truth)[0] == 0 < blend(noise, linear, truth)[1]
    assert blend(-linear, linear, truth)[0] == 0
    assert blend(linear[:29], noise[:29], truth[:29]) == (0, 1), "too few to choose"


def test_a_linear_part_that_harms_has_the_factor_0():
    random = np.random.default_rng(4)
    truth = random.integers(0, CLASSES, 211)
    sure = 2 * np.eye(CLASSES)[truth] + random.normal(size=(211, CLASSES))
    wrong = random.normal(size=sure.shape) - np.eye(CLASSES)[truth]
    deep, linear = blend(sure, wrong, truth)
    assert deep > 0 == linear
    soft = np.eye(CLASSES)[truth] * (1 - 1 / 213 - 1 / 426) + 1 / 426

    def loss(share):
        return -np.mean(np.sum(soft * np.log(softmax(share * sure)), 1))

    smallest: Any = minimize_scalar(loss)
    assert deep == pytest.approx(smallest.x, rel=1e-3)
    # By -1.5 * wrong the labels are more probable than by the deep logits; no factor is negative.
    wrong = random.normal(size=sure.shape) - 5 * np.eye(CLASSES)[truth]
    assert blend(sure, wrong, truth) == (pytest.approx(deep, rel=1e-6), 0)
    assert blend(wrong, wrong, truth) == (0, 0)


def test_factors_are_equal_unless_others_are_clearly_better():
    random = np.random.default_rng(5)
    truth = random.integers(0, CLASSES, 135)
    hint = np.eye(CLASSES)[truth]
    deep, linear = (2 * hint + 1.5 * random.normal(size=hint.shape) for _ in range(2))
    share, same = blend(deep, linear, truth, even=True)
    assert share == same and blend(deep, linear, truth)[0] != blend(deep, linear, truth)[1]
    soft = hint * (1 - 1 / 137 - 1 / 274) + 1 / 274

    def loss(factor):
        return -np.mean(np.sum(soft * np.log(softmax(factor * (deep + linear))), 1))

    smallest: Any = minimize_scalar(loss)
    assert share == pytest.approx(smallest.x, rel=1e-3)
    noise = 3 * random.normal(size=hint.shape)
    for parts in ((noise, linear), (deep, noise), (-deep, linear), (noise[:29], linear[:29])):
        ids = truth[: len(parts[0])]
        assert blend(*parts, ids, even=True) == blend(*parts, ids)


def test_mirrored_images_are_used_where_they_help():
    """In one set only the first number depends on the class, and a mirror turns its sign. In the
    other set the mirror turns the sign of noise, which has more numbers than there are images."""
    random = np.random.default_rng(2)
    ids = np.arange(60) % 2
    vectors = random.normal(size=(60, 81))
    vectors[:, 0] = 6 * ids - 3
    for turned, expected in ((slice(0, 1), False), (slice(1, None), True)):
        mirrored = vectors.copy()
        mirrored[:, turned] *= -1
        assert choose_strength(vectors, mirrored, ids)[1] == expected


def test_the_strength_is_that_of_another_cross_validation():
    random = np.random.default_rng(6)
    ids = np.arange(90) % 3
    vectors = 0.7 * np.eye(3, 11)[ids] + random.normal(size=(90, 11))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    strength, both = choose_strength(vectors, vectors, ids)
    losses = {
        C: -cross_val_score(
            LogisticRegression(C=C * (1 + both)), vectors, ids, cv=9, scoring="neg_log_loss"
        ).mean()
        for C in (1, 3, 10, 30, 100)
    }
    assert losses[strength] < 1.02 * min(losses.values())
    assert max(losses.values()) > 1.1 * min(losses.values()), "the strength matters"
    assert choose_strength(vectors[:29], vectors[:29], ids[:29]) == (3.0, True), "too few"


def test_a_joined_classifier_of_images_adds_both_logits():
    model = tiny_encoder(tfx.Classifier, num_classes=CLASSES, **CONVOLUTIONS)
    random = np.random.default_rng(9)
    images = random.integers(0, 256, (5, 11, 11, 3)).astype("float32")
    kernel, bias = random.normal(size=(384, CLASSES)), random.normal(size=CLASSES)
    joined = join_edges(model, kernel, bias, 3, 0.25, 3.0)
    assert fewest(joined) == fewest(model) + kernel.size
    wanted = 0.25 * model(images).numpy() + 3 * (edge_colors(images, 3) @ kernel + bias)
    np.testing.assert_allclose(joined(images), wanted, atol=1e-3)
    assert not any("linear" in weight.path for weight in joined.trainable_weights)
    joined.divide_logits(2.0)
    np.testing.assert_allclose(joined(images), wanted / 2, atol=1e-3)
    assert tfx.config_for_fine_tuning(joined.config).linear_cells == 0


def test_few_images_are_decoded_at_a_time(monkeypatch):
    random = np.random.default_rng(8)
    images = [random.integers(0, 256, (9, 13, 3)).astype("uint8") for _ in range(5)]
    reader = SimpleNamespace(image_size=11, image_resize=None)
    whole = decode_images(images, 11)
    decoded = []

    def decode(files, *size):
        decoded.append(len(files))
        return decode_images(files, *size)

    monkeypatch.setattr("tfx_transformer.training.linear._DECODED", 2)
    monkeypatch.setattr("tfx_transformer.training.linear.decode_images", decode)
    vectors, mirrored = edge_colors_of_files(images, reader, 3, mirror=True)
    assert decoded == [2, 2, 1]
    np.testing.assert_allclose(vectors, edge_colors(whole, 3), atol=1e-5)
    np.testing.assert_allclose(mirrored, edge_colors(whole[:, :, ::-1], 3), atol=1e-5)


def fewest(model):
    return type(model).fewest_parameters(model.config)


@pytest.mark.parametrize("longest", [2, 3])
def test_a_joined_model_adds_both_logits(longest):
    model = tiny_encoder(tfx.Classifier, num_classes=CLASSES, vocabulary_size=97)
    random = np.random.default_rng(9)
    read = [[1, *random.integers(4, 97, size), 2] for size in (3, 5, 11, 2)]
    hashed = hash_ngrams(read, 1024, 0, longest)
    assert [len(row) for row in hashed] == [longest * len(row) for row in read]
    settings = NGramSettings(longest)
    weights = fit_ngrams(hashed, np.array([0, 2, 1, 0]), CLASSES, 1024, settings)
    ids = np.zeros((4, 13), "int32")
    for row, numbers in zip(ids, read, strict=True):
        row[: len(numbers)] = numbers
    joined = join(model, weights, 0.25, 3.0)
    wanted = 0.25 * model(ids).numpy() + 3 * weights.logits(hashed)
    np.testing.assert_allclose(joined(ids), wanted, atol=1e-5)
    assert not any("linear" in weight.path for weight in joined.trainable_weights)
    joined.divide_logits(2.0)
    np.testing.assert_allclose(joined(ids), wanted / 2, atol=1e-5)
    assert tfx.config_for_fine_tuning(joined.config).linear_buckets == 0


def test_buckets_are_four_times_the_n_grams():
    assert [bucket_count(used, 2) for used in (3, 256, 257, 10**6)] == [1024, 1024, 2048, 2**18]
    assert bucket_count(10**6, 77) == 2**15, "2^22 / 77 = 54,471"
    assert bucket_count(10**6, 77, 100) == 64


def test_a_vocabulary_grows_with_the_rows():
    found = [classifier_defaults(rows, ["a cat"])["vocabulary_size"] for rows in (61, 1001)]
    assert found == [530, 1000]
    words = {"pieces": "words", "max_length": 128, "vocabulary_size": 1000}
    assert classifier_defaults(1001, ["a cat"]) == words


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("猫がいます。", "characters"),
        ("我们在这里", "characters"),
        ("ﾈｺﾃﾞｽ", "characters"),
        ("ฉันรักแมว", "characters"),
        ("ខ្ញុំស្រលាញ់ឆ្មា", "characters"),
        ("ကြောင်ကိုချစ်တယ်", "characters"),
        ("a cat", "words"),
        ("кошка", "words"),
        ("고양이를 좋아해요", "words"),
        ("मुझे बिल्ली पसंद है", "words"),
        ("猫 が います", "words"),  # somebody has put spaces between the words
    ],
)
def test_texts_without_spaces_have_tokens_of_one_character(text, pieces):
    found = classifier_defaults(99, [text] * 6 + ["a cat"] * 94)
    assert found["pieces"] == pieces, "6 % of the texts"
    assert found["max_length"] == (256 if pieces == "characters" else 128)
    assert pieces_pattern(pieces) == (FINE_PATTERN if pieces == "characters" else PATTERN)
    few = classifier_defaults(99, [text] * 4 + ["a cat"] * 96)
    assert few["pieces"] == "words", "4 % of the texts"
    given = {"pieces": "words" if pieces == "characters" else "characters", "max_length": 31}
    found = classifier_defaults(99, [text], None, given)
    assert (found["pieces"], found["max_length"]) == (given["pieces"], 31)


def test_a_base_keeps_its_length():
    given = {"base": "a", "max_length": None}
    assert classifier_defaults(99, ["猫がいます。"], None, given)["max_length"] == 128


def test_a_vocabulary_is_chosen_by_what_it_tells(tmp_path, monkeypatch):
    """Each class has its own ending, in words that are all different: only short tokens tell it."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(6)
    letters = np.array(list("bcdfglmnprst"))
    ends = ("ua", "ei", "oo")
    rows = [
        (" ".join("".join(random.choice(letters, 5)) + ends[n % 3] for _ in range(2)), ends[n % 3])
        for n in range(120)
    ]
    examples = read_labelled_texts(rows)
    assert classifier_defaults(1001, examples.flat_texts())["vocabulary_size"] == 1000
    found = classifier_defaults(1001, examples.flat_texts(), examples)
    assert found["vocabulary_size"] == 400
    for given in ({"vocabulary_size": 300}, {"base": "a"}, {"separator": "|"}):
        monkeypatch.setattr(defaults, "choose_settings", None)
        found = classifier_defaults(1001, examples.flat_texts(), examples, given)
        assert found["vocabulary_size"] == 1000, "not chosen"


def test_texts_that_chose_a_vocabulary_are_not_compared_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compared, compare = [], linear._compare_settings
    monkeypatch.setattr(linear, "_CHOICES", {})
    monkeypatch.setattr(
        linear, "_compare_settings", lambda *given: compared.append(given) or compare(*given)
    )
    random, letters = np.random.default_rng(3), np.array(list("bcdfglmnprst"))
    rows = [
        ("".join(random.choice(letters, 7)) + (" red", " blue")[n % 2], "ab"[n % 2])
        for n in range(60)
    ]
    examples = read_labelled_texts(rows)
    found = classifier_defaults(60, examples.flat_texts(), examples)
    assert len(compared) == 2, "400 and 530 tokens"
    pattern = pieces_pattern(found["pieces"])
    tokenizer = Tokenizer.train(examples.flat_texts(), found["vocabulary_size"], pattern=pattern)
    config = SimpleNamespace(max_sequence_length=found["max_length"], padding_id=0)
    names = SimpleNamespace(names=["a", "b"])
    reader: Any = SimpleNamespace(tokenizer=tokenizer, labels=names)
    model: Any = SimpleNamespace(config=config)
    part = ngram_part(model, reader, examples, examples.inputs, 4096)
    assert len(compared) == 2
    assert (part.logits.argmax(axis=1) == examples.targets(names.names)).all()
    ngram_part(model, reader, examples, examples.inputs, 4096, balanced=True)
    assert len(compared) == 3, "other weights, another choice"


def test_settings_that_are_missing_are_those_of_the_interrupted_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = {"vocabulary_size": 7}
    shutil.copytree(INTERRUPTED, "runs/old")
    before = json.loads(Path("runs/old/settings.json").read_text("utf-8"))
    given = {"name": "old", "vocabulary_size": None, "epochs": 3}
    found = fill_in(given, known)
    assert found == given | {"vocabulary_size": before["vocabulary_size"]}
    assert fill_in({**given, "bag_width": None}, {"bag_width": 5})["bag_width"] is None
    assert fill_in(given | {"vocabulary_size": 11}, known)["vocabulary_size"] == 11
    for other in ({"name": "new"}, {"overwrite": True}):
        assert fill_in(given | other, known) == given | other | known
    # The run was begun by a version without this setting, and goes on as it was.
    given["pieces"] = ""
    assert fill_in(given, {"pieces": "characters"})["pieces"] == ""
    assert fill_in(given | {"name": "new"}, {"pieces": "characters"})["pieces"] == "characters"
